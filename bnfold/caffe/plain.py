"""Layers that are another layer with other weights, read as that one.

    SqueezeConvolution, SqueezeDeconvolution, SqueezeInnerProduct (Synopsys)
                      the layer of that name with weight*mask and bias*mask
    CConvolution, CInnerProduct (Dynamic Network Surgery)
                      likewise
    InnerProduct with `normalize` (OpenVINO's training Caffe)
                      an InnerProduct whose rows are divided by sqrt(sum w^2 + 1e-6); without 1e-6 where
                      `margin_inner_product_param` says that it was SphereFace's (see `deploy`)
    MatMul by one learned matrix (Synopsys)
                      an InnerProduct along the last axis, without a bias
    Pooling with `global_pooling` beside a kernel or a stride
                      the same without these, at which BVLC's Caffe stops (pooling_layer.cpp, LayerSetUp)

So they fold, export and are written like the plain ones. The new weights are computed when they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.descriptors import put
from bnfold.caffe.layers import LAYERS
from bnfold.net import Array, Blobs, DType, Layer, LazyArray, Shape, pieces_of, values_of

SMALLEST_SQUARE = 1e-6
"""Added to the sum of squares of a row before the root (inner_product_layer.cpp of OpenVINO's training Caffe)."""


@dataclass(frozen=True, eq=False, slots=True)
class Derived:
    """An array of the shape of `stored` that is computed when it is read: a `LazyArray`.

    Attributes:
        stored: the weight of the file.
        compute: makes the values of it and of `other`.
        other: what else they are made of.
    """

    stored: Array | LazyArray
    compute: Callable[[Array, Any], Array]
    other: Any

    @property
    def shape(self) -> Shape:
        """The true shape."""
        return tuple(self.stored.shape)

    @property
    def dtype(self) -> DType:
        """The type that is stored."""
        return self.stored.dtype

    def array(self) -> Array:
        """The values."""
        return self.compute(values_of(self.stored), self.other)

    def chunks(self) -> Iterator[Array]:
        """The same values in flat pieces."""
        return pieces_of(self.array())


def masked(weight: Array, mask: Array | LazyArray) -> Array:
    """`weight*mask`."""
    return weight * values_of(mask).reshape(weight.shape)


def normalised(weight: Array, axis: int, smallest: float = SMALLEST_SQUARE) -> Array:
    """Each output's weights divided by `sqrt(sum w^2 + 1e-6)`, the sum along `axis`."""
    exact = weight.astype(np.float64)
    norm = np.sqrt((exact**2).sum(axis=axis, keepdims=True) + smallest)
    return np.asarray(exact / norm, weight.dtype)


def make_plain(layers: Iterable[Layer]) -> list[str]:
    """Turn such layers into plain ones, in place, and say so."""
    notes = []
    for layer in layers:
        if layer.opaque:
            continue
        before = str(layer)
        if layer.type in SQUEEZED:
            if _unmask(layer):
                notes.append(
                    f"{before}: read as the {layer.type} that it is at inference, its weights times their masks"
                )
        elif layer.type == "InnerProduct" and layer.param.inner_product_param.normalize and len(layer.bottoms) == 1:
            _normalise(layer)
            notes.append(f"{before}: its weights are normalised once, where the layer does it in every run")
        elif layer.type == "MatMul" and len(layer.bottoms) == 1:
            shapes = layer.blobs.shapes or (tuple(layer.param.matmul_param.blob_shape),)
            if len(shapes) == 1 and (param := product_by(layer, shapes[0])) is not None:
                layer.type, layer.param = param.type, param
                notes.append(f"{before}: read as the InnerProduct that it is")
        elif layer.type == "Pooling" and (idle := _without_window(layer)):
            notes.append(
                f"{before}: global_pooling takes the whole plane; it is read without {', '.join(idle)} beside it, at "
                "which BVLC's Caffe stops"
            )
    return notes


def _unmask(layer: Layer) -> bool:
    """Whether a layer was made plain: not with other blobs than weights and as many masks."""
    layer_type = SQUEEZED[layer.type]
    (source, *others), (target, *_) = (list(LAYERS[one].reads) for one in (layer.type, layer_type))
    squeezed, stored = getattr(layer.param, source), layer.blobs.stored
    count = 2 if squeezed.bias_term else 1
    if 0 < len(stored) < 2 * count:
        return False
    param: LayerParameter = deepcopy(layer.param)
    param.type = layer_type
    for field in (source, *others):
        param.ClearField(field)
    plain = getattr(param, target)
    for field, value in squeezed.ListFields():
        if field.name not in TRAINED and field.name in plain.DESCRIPTOR.fields_by_name:
            put(plain, field.name, value)
    del param.param[count:]
    masks = [Derived(stored[index], masked, stored[count + index]) for index in range(count)] if stored else []
    layer.type, layer.param, layer.blobs = layer_type, param, Blobs(masks)
    return True


def product_by(layer: Layer, matrix: Shape) -> LayerParameter | None:
    """A MatMul of data by one matrix as an InnerProduct; None where it is none."""
    matmul = layer.param.matmul_param
    if matmul.transpose_a or len(matrix) != 2:
        return None
    return inner_product(layer.param, matrix, transposed=matmul.transpose_b)


def inner_product(present: LayerParameter, matrix: Shape, *, transposed: bool, biased: bool = False) -> LayerParameter:
    """An InnerProduct along the last axis by a matrix (inputs, outputs), or transposed, at the place of a layer."""
    param = retyped(present, "InnerProduct")
    put(param, "param", present.param)
    product = param.inner_product_param
    product.num_output, product.axis = matrix[0 if transposed else 1], -1
    product.transpose, product.bias_term = not transposed, biased
    return param


def retyped(present: LayerParameter, layer_type: str) -> LayerParameter:
    """The parameters of a layer of another type at the same place."""
    param = LayerParameter()
    for descriptor, value in present.ListFields():
        if descriptor.name in KEPT:
            put(param, descriptor.name, value)
    param.type = layer_type
    return param


def _normalise(layer: Layer) -> None:
    param: LayerParameter = deepcopy(layer.param)
    param.inner_product_param.ClearField("normalize")
    smallest = 0.0 if param.HasField("margin_inner_product_param") else SMALLEST_SQUARE
    param.ClearField("margin_inner_product_param")
    layer.param = param
    if len(layer.blobs):
        first, *rest = layer.blobs.stored
        axis = 0 if param.inner_product_param.transpose else 1
        layer.blobs = Blobs([Derived(first, partial(normalised, smallest=smallest), axis), *rest])


def _without_window(layer: Layer) -> list[str]:
    """The fields of a window that were taken from a global pooling; a stride of 1 alone may stay."""
    if not layer.param.pooling_param.global_pooling:
        return []
    param: LayerParameter = deepcopy(layer.param)
    pool = param.pooling_param
    said = [field.name for field, _ in pool.ListFields() if field.name.startswith(("kernel", "stride"))]
    if all(name.startswith("stride") and getattr(pool, name) == 1 for name in said):
        return []
    for name in said:
        pool.ClearField(name)
    layer.param = param
    return said


KEPT = frozenset({"bottom", "exclude", "include", "name", "phase", "top"})
"""The fields of a layer that stay when it becomes one of another type."""

TRAINED = frozenset({"c_rate", "dynamicsplicing", "engine", "gamma", "iter_stop", "power", "splicing_rate"})
"""Fields of the masked layers that are about how the masks were found, or that have other values there."""

SQUEEZED = {
    "CConvolution": "Convolution",
    "CInnerProduct": "InnerProduct",
    "SqueezeConvolution": "Convolution",
    "SqueezeDeconvolution": "Deconvolution",
    "SqueezeInnerProduct": "InnerProduct",
}
"""Masked type -> the plain type."""
