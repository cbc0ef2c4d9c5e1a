"""What can go wrong, as sentences that a user can act on.

    BnfoldError                 anything that this package raises on purpose
    ├── UsageError              the call itself is wrong (an option, a combination, an output path)
    ├── ModelError              a model cannot be read or makes no sense as a network
    │   ├── ParseError          a file is not what its name promises; carries file, line and column
    │   └── WeightsError        the weights do not fit the network
    ├── UnsupportedError        a network is sound, but what was asked of it cannot be done exactly
    └── WriteError              an output could not be written; the old file is as it was

Each message names the file or the layer, says what is wrong and, where there is a way out, what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class BnfoldError(Exception):
    """The root of every error that bnfold raises on purpose; `str(error)` is one sentence for the user."""


class UsageError(BnfoldError):
    """The call is wrong: an unknown blob, two options that exclude each other, an output onto an input."""


class ModelError(BnfoldError):
    """A model cannot be read, or what it says is not a network."""


class ParseError(ModelError):
    """A file is malformed at a known place.

    Args:
        message: what is wrong there, without the place.
        file: the file, or None for text that came from memory.
        line: 1-based line, or None where lines mean nothing (a binary file).
        column: 1-based column, or None.
    """

    def __init__(
        self, message: str, file: Path | None = None, line: int | None = None, column: int | None = None
    ) -> None:
        self.file, self.line, self.column = file, line, column
        place = ":".join(str(part) for part in (file, line, column) if part is not None)
        super().__init__(f"{place}: {message}" if place else message)


class WeightsError(ModelError):
    """The caffemodel does not give the network what it needs: missing, misshapen or not finite."""


class UnsupportedError(BnfoldError):
    """Something sound that cannot be done exactly; lists every case at once.

    Args:
        message: the sentence that introduces the cases.
        cases: one sentence for each layer concerned.
    """

    def __init__(self, message: str, cases: Sequence[str] = ()) -> None:
        self.cases = tuple(cases)
        super().__init__("\n  ".join((message, *self.cases)))


class WriteError(BnfoldError):
    """An output could not be written whole; what stood there before is untouched."""
