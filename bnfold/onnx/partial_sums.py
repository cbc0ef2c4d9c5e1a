"""How much rounding a sum of products collects on its way: each of its partial sums is rounded at its own size.

With the partial sums `S_k` of K products, in the order in which they are stored, rounding by chance moves the sum by

    sqrt(sum_k S_k^2)  =  sqrt(K * mean of S_k^2)

times what it moves a value of 1 by. A sum may end near 0 whose partial sums are far from it. The mean is taken at the
ends of PARTS equal parts of the products.

An InstanceNormalization is a sum of two terms, as onnxruntime computes it (instance_norm.cc). With
a = scale/sqrt(variance + epsilon)

    y = x*a + (bias - mean*a)

Either term is rounded at its own size. In a plane of one value, x = mean, their sum is the bias, however x is moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from bnfold.net import Array

PARTS = 16


class _Products(NamedTuple):
    """How many products a sum has, and a function that gives the sum of those from one place to another."""

    terms: int
    between: Callable[[int, int], Array]


def size_of_partial_sums(node: Any, read: Sequence[Any]) -> Array | None:
    """`sqrt(K * mean of S_k^2)` of each value of a sum of products; None of other operators, and of whole numbers.

    Args:
        node: an operator of onnx's reference arithmetic.
        read: what it reads.
    """
    is_real = node.op_type in PRODUCTS and all(values.dtype.kind == "f" for values in read[:2])
    products = PRODUCTS[node.op_type](node, read) if is_real else None
    if products is None or products.terms < 2:
        return None
    places = np.unique(np.linspace(0, products.terms, PARTS + 1).astype(int)).tolist()
    squares: Any = 0.0
    for total in _running(products.between(*ends) for ends in pairwise(places)):
        squares = squares + np.square(total)
    return np.asarray(np.sqrt(products.terms / (len(places) - 1) * squares))


def rounded_terms(node: Any, read: Sequence[Any]) -> tuple[Array, Array] | None:
    """The two terms of an InstanceNormalization, which are rounded before they are added; None of other operators."""
    if node.op_type != "InstanceNormalization" or read[0].dtype.kind != "f":
        return None
    x, scale, bias = read
    plane, along = tuple(range(2, x.ndim)), (-1, *[1] * (x.ndim - 2))
    a = scale.reshape(along) / np.sqrt(x.var(axis=plane, keepdims=True) + node.epsilon)
    return x * a, bias.reshape(along) - x.mean(axis=plane, keepdims=True) * a


def _running(parts: Iterator[Array]) -> Iterator[Array]:
    """The sums of the first parts."""
    total: Any = 0.0
    for part in parts:
        total = total + part
        yield total


def _of_conv(node: Any, read: Sequence[Any]) -> _Products:
    """A part of them are those of some channels, the same of each group; the places of a window are one term."""
    x, weight = read[0], read[1]
    channels = weight.shape[1]
    groups = x.shape[1] // channels
    grouped = x.reshape(len(x), groups, channels, *x.shape[2:])

    def between(start: int, end: int) -> Array:
        some = grouped[:, :, start:end].reshape(len(x), groups * (end - start), *x.shape[2:])
        return np.asarray(node.run(some, weight[:, start:end])[0])

    return _Products(channels, between)


def _of_gemm(node: Any, read: Sequence[Any]) -> _Products | None:
    """A and B transposed or not over the last two axes, and a factor: a FusedMatMul may have a batch, too."""
    said = {attribute.name: attribute for attribute in node.onnx_node.attribute}
    if min(read[0].ndim, read[1].ndim) < 2:
        return None
    a, b = (
        np.swapaxes(values, -1, -2) if name in said and said[name].i else values
        for values, name in zip(read[:2], ("transA", "transB"), strict=True)
    )
    alpha = said["alpha"].f if "alpha" in said else 1.0
    return _Products(a.shape[-1], lambda start, end: alpha * (a[..., start:end] @ b[..., start:end, :]))


def _of_matmul(_: Any, read: Sequence[Any]) -> _Products | None:
    a, b = read
    if a.ndim < 2 or b.ndim < 2:
        return None
    return _Products(a.shape[-1], lambda start, end: a[..., start:end] @ b[..., start:end, :])


PRODUCTS: Mapping[str, Callable[[Any, Sequence[Any]], _Products | None]] = {
    "Conv": _of_conv,
    "FusedMatMul": _of_gemm,
    "Gemm": _of_gemm,
    "MatMul": _of_matmul,
}
