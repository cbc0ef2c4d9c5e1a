"""Reading numpy's files, from whoever they come: never a pickle, and numbers only."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bnfold.errors import ParseError
from bnfold.io.mapping import open_regular
from bnfold.net import Array

NUMBERS = "biuf"


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of an `.npz` by name; that of an `.npy` is called "".

    Raises:
        ParseError: the file cannot be read, is damaged, or holds something else than real numbers.
    """
    try:
        # numpy leaves a file open that it cannot read, so the file is ours.
        with open_regular(path) as stream:
            loaded = np.load(stream, allow_pickle=False)
            arrays = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except OSError as error:
        raise ParseError(f"cannot be read: {error.strerror or error}", path) from None
    except ParseError:
        raise
    except MemoryError:
        raise ParseError("says that it holds more than there is memory for", path) from None
    except Exception:
        # zipfile, zlib and numpy have each exceptions of their own, and what numpy says is advice about pickles.
        raise ParseError("is damaged, or is no array in numpy's format", path) from None
    for array in arrays.values():
        if array.dtype.kind not in NUMBERS:
            raise ParseError(f"holds {array.dtype} and not real numbers", path)
    return arrays
