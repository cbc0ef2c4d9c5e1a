"""A client with a name that bnfold has not got. A type checker has to say so, or finds nothing to ignore."""

import bnfold

print(bnfold.flod)  # type: ignore[attr-defined]
