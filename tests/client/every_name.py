"""A client that imports all public names at once, which a type checker can follow where they are written out."""

from bnfold import *  # noqa: F403

print(fold, compare, Comparison)  # noqa: F405
