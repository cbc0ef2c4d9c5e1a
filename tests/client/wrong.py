"""A client with a name that bnfold has not got: a type checker has to say so."""

import bnfold

print(bnfold.flod)
