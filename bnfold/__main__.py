"""`python -m bnfold`."""

from bnfold.cli import main

main()
