"""An initialiser on its way into a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper

from bnfold.errors import UnsupportedError
from bnfold.net import Array, DType, LazyArray, Shape, pieces_of

ONNX_TYPES = {"bool": 9, "float16": 10, "float32": 1, "float64": 11, "int32": 6, "int64": 7}


@dataclass(frozen=True, eq=False, slots=True)
class Weight:
    """An initialiser: the values as they are stored, and the shape and type that the model gives them."""

    name: str
    stored: Array | LazyArray
    shape: Shape
    dtype: DType

    @classmethod
    def of(cls, name: str, stored: Array | LazyArray) -> Weight:
        """Values as they are stored."""
        return cls(name, stored, tuple(stored.shape), stored.dtype)

    @property
    def element(self) -> int:
        """ONNX's number of the type."""
        return int(helper.np_dtype_to_tensor_dtype(self.dtype))

    def header(self) -> TensorProto:
        """The message of the initialiser, without its values."""
        return TensorProto(dims=self.shape, data_type=self.element, name=self.name)

    def port(self) -> ValueInfoProto:
        """What an input says of itself that stands for the initialiser."""
        return helper.make_tensor_value_info(self.name, self.element, self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the model."""
        return prod(self.shape) * self.dtype.itemsize

    def pieces(self) -> Iterable[memoryview]:
        """The little-endian bytes, in pieces that are small where the values are lazy or of another type.

        Text, which no file holds so, is told apart by them alone.

        Raises:
            UnsupportedError: a value is beyond the range of the type.
        """
        if self.dtype == object:
            yield memoryview(repr(np.asarray(self.stored).tolist()).encode())
            return
        target = little_endian(self.dtype)
        for chunk in pieces_of(self.stored):
            with np.errstate(over="raise"):
                try:
                    piece = np.ascontiguousarray(chunk, target).reshape(-1).view(np.uint8).data
                except FloatingPointError:
                    raise UnsupportedError(f"'{self.name}' holds a number beyond what {self.dtype} can") from None
            yield piece

    def array(self) -> Array:
        """All values at once."""
        return np.frombuffer(b"".join(self.pieces()), little_endian(self.dtype)).reshape(self.shape)


def little_endian(dtype: DType) -> DType:
    """The type as files have it; what numpy does not know itself has no order that could be told."""
    return dtype if dtype.kind == "V" else dtype.newbyteorder("<")
