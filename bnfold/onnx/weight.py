"""An initialiser on its way into a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from bnfold.errors import UnsupportedError
from bnfold.net import Array, LazyArray, Shape

ONNX_TYPES = {"bool": 9, "float16": 10, "float32": 1, "float64": 11, "int32": 6, "int64": 7}


@dataclass(frozen=True, eq=False, slots=True)
class Weight:
    """An initialiser: the values as they are stored, and the shape and type that the model gives them."""

    name: str
    stored: Array | LazyArray
    shape: Shape
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes in the model."""
        return prod(self.shape) * self.dtype.itemsize

    def pieces(self) -> Iterable[memoryview]:
        """The little-endian bytes, in pieces that are small where the values are lazy or of another type."""
        target = self.dtype if self.dtype.kind == "V" else self.dtype.newbyteorder("<")
        if isinstance(self.stored, np.ndarray):
            flat = np.ascontiguousarray(self.stored).reshape(-1)
            step = 1 << 20
            chunks: Iterable[Array] = (flat[start : start + step] for start in range(0, len(flat), step))
        else:
            chunks = self.stored.chunks()
        for chunk in chunks:
            with np.errstate(over="raise"):
                try:
                    piece = np.ascontiguousarray(chunk, target).reshape(-1).view(np.uint8).data
                except FloatingPointError:
                    raise UnsupportedError(f"'{self.name}' holds a number beyond what {self.dtype} can") from None
            yield piece
