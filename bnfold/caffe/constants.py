"""What a net computes from Parameters alone, evaluated once, and learned by the layers that read it beside data.

    Given:   variance -> Eltwise(+ eps) -> Power(-0.5) -> Eltwise(* gamma) -> c,   Mul(x, c) -> y
    Result:  Scale(x) -> y, whose scale is c

So a BatchNorm comes out of TensorFlow where a converter knew no better, and as a Scale and a Bias it is an affine.
Each layer is evaluated in float64 and rounded once, as Caffe rounds what it hands on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from math import prod

import numpy as np

from bnfold.algebra.affine import MAX_VALUES
from bnfold.algebra.frontend import FoldContext
from bnfold.algebra.scaled import loses_digits
from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.layers import Eltwise, canonical_axis, parameter_shape
from bnfold.caffe.layers.infer import possible_shapes
from bnfold.caffe.layers.python_code import layer_type_of
from bnfold.caffe.operators.shapes import known_shapes
from bnfold.caffe.plain import inner_product, product_by, retyped
from bnfold.errors import counted
from bnfold.net import Array, Blobs, Layer, Net, Shape

Learned = tuple[LayerParameter, Sequence[Array]]
"""A layer's parameters and blobs, where it has learned what it read."""

ARITHMETIC: Mapping[str, np.ufunc] = {
    "Add": np.add,
    "Div": np.divide,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Mul": np.multiply,
    "Pow": np.power,
    "Sub": np.subtract,
}
OPERATIONS = {"DIV": "Div", "MAX": "Maximum", "MIN": "Minimum", "PROD": "Mul", "SUM": "Add"}
"""An Eltwise's operation -> the layer that computes the same of two bottoms."""


def fix_constants(context: FoldContext) -> None:
    """Evaluate what depends on Parameters alone, and have layers learn what they read of it beside data."""
    net, values, shapes = context.net, dict[str, Array](), dict[str, Shape | None]()
    evaluated: list[str] = []
    for layer in list(net.layers):
        if id(layer) in context.excluded or len(layer.tops) != 1 or layer.opaque:
            continue
        constant = [bottom in values for bottom in layer.bottoms]
        if all(constant):
            value = _learned(layer) if layer.type == "Parameter" else _evaluated(layer, values)
            if value is not None:
                values[layer.tops[0]] = value
                if layer.type != "Parameter":
                    evaluated.append(layer.name)
                    _become_parameter(net, layer, value)
        elif constant.count(False) == 1 < len(constant) and not len(layer.blobs):
            shapes = shapes or dict(known_shapes(net))
            _learn(net, layer, constant.index(False), values, shapes)
    if not values:
        return
    kept = {*net.outputs, *context.keep}
    for layer in [layer for layer in net.layers if values.keys() >= set(layer.tops) != set()]:
        if not net.uses(layer.tops[0]) and layer.tops[0] not in kept:
            net.remove(layer)
    if evaluated:
        context.notes.append(
            f"{counted(len(evaluated), 'layer')} computed constants from Parameters alone, '{evaluated[0]}' first: "
            "what they give is written where it is read"
        )


def _learned(layer: Layer) -> Array | None:
    """What a Parameter gives; None where it has no values, or more than an affine has."""
    shape = parameter_shape(layer)
    return layer.blobs[0] if layer.blobs.shapes == (shape,) and prod(shape) <= MAX_VALUES else None


def _evaluated(layer: Layer, values: Mapping[str, Array]) -> Array | None:
    """What a layer of constants gives; None where that is not known here, not finite, or below the normal numbers."""
    layer_type = layer_type_of(layer)
    if layer_type not in (*ARITHMETIC, "Eltwise", "Power"):
        return None
    operands = [*(values[bottom] for bottom in layer.bottoms), *layer.blobs]
    wide = [np.asarray(operand, np.float64) for operand in operands]
    shapes = possible_shapes(layer, [operand.shape for operand in operands[: len(layer.bottoms)]])
    if shapes is None:
        return None
    if layer_type == "Power":
        power = layer.param.power_param
        value = np.power(power.scale * wide[0] + power.shift, power.power)
    elif layer_type == "Eltwise":
        view = Eltwise.of(layer, len(wide))
        wide[1:2] = [one.reshape(view.laid(layer, wide[0].shape, one.shape)) for one in wide[1:2]]
        value = reduce(
            ARITHMETIC[OPERATIONS[view.operation]], [c * one for c, one in zip(view.coeff, wide, strict=True)]
        )
    else:
        value = ARITHMETIC[layer_type](*wide)
    rounded = np.asarray(value, np.result_type(np.float32, *operands))
    sound = np.isfinite(rounded).all() and not loses_digits(float(np.abs(value).max(initial=0.0)), rounded.dtype)
    return rounded if rounded.shape == shapes[0] and sound else None


def _become_parameter(net: Net, layer: Layer, value: Array) -> None:
    net.reads(layer, [])
    layer.param = retyped(layer.param, "Parameter")
    layer.param.parameter_param.shape.dim.extend(value.shape)
    layer.type, layer.blobs = "Parameter", Blobs([value])


def _learn(net: Net, layer: Layer, index: int, values: Mapping[str, Array], shapes: Mapping[str, Shape | None]) -> None:
    """Make a layer of data, its bottom `place`, and constants one that has learned them, if there is one."""
    bottoms = [shapes[bottom] for bottom in layer.bottoms]
    tops = None if None in bottoms else possible_shapes(layer, [one or () for one in bottoms])
    constants = [values[bottom] for bottom in layer.bottoms if bottom in values]
    data = shapes[layer.bottoms[index]]
    if tops is None or data is None:
        return
    learned = _as_product(layer, index, constants)
    if learned is None and tops == [data]:
        learned = _as_affine(layer, index == 0, constants[0], data)
    if learned is not None:
        net.reads(layer, [layer.bottoms[index]])
        layer.param, blobs = learned
        layer.type, layer.blobs = layer.param.type, Blobs(blobs)


def _as_product(layer: Layer, index: int, constants: Sequence[Array]) -> Learned | None:
    """A MatMul, or a Gemm without factors, as an InnerProduct."""
    if layer.type == "MatMul" and index == 0:
        param = product_by(layer, constants[0].shape)
        return (param, constants) if param is not None else None
    gemm = layer.param.gemm_param
    if layer.type != "Gemm" or index != 0 or gemm.transA or (gemm.alpha, gemm.beta) != (1.0, 1.0):
        return None
    matrix, added = constants
    param = inner_product(layer.param, matrix.shape, transposed=bool(gemm.transB), biased=True)
    outputs = param.inner_product_param.num_output
    if added.size not in (1, outputs) or added.shape[0] != 1:
        return None  # it has a value for each sample
    return param, [matrix, np.broadcast_to(added.reshape(-1), (outputs,))]


def _as_affine(layer: Layer, data_first: bool, value: Array, data: Shape) -> Learned | None:
    """What multiplies or adds a constant that lies along one axis, as a Scale or a Bias.

    What divides is neither, since its inverse would be rounded.
    """
    layer_type, rank = layer_type_of(layer), len(data)
    shape = value.shape
    if len(layer.bottoms) != 2:
        return None
    if layer_type == "Eltwise":
        view = Eltwise.of(layer, 2)
        layer_type = OPERATIONS[view.operation] if view.coeff == (1.0, 1.0) else ""
        shape = view.laid(layer, data, shape)
    elif layer_type in ("Bias", "Scale"):
        own = layer.param.scale_param if layer_type == "Scale" else layer.param.bias_param
        shape += (1,) * (rank - canonical_axis(own.axis, rank) - len(shape)) if shape else ()
    kind = {"Add": "Bias", "Bias": "Bias", "Mul": "Scale", "Scale": "Scale", "Sub": "Bias"}.get(layer_type)
    laid = (1,) * (rank - len(shape)) + shape
    axes = [axis for axis, size in enumerate(laid) if size > 1]
    if kind is None or not (data_first or layer_type in ("Add", "Mul")):
        return None
    if len(axes) > 1 or 0 in axes or any(laid[axis] != data[axis] for axis in axes):
        return None
    param = retyped(layer.param, kind)
    along = param.scale_param if kind == "Scale" else param.bias_param
    along.axis, along.num_axes = (axes[0], 1) if axes else (0, 0)
    return param, [np.asarray(-value if layer_type == "Sub" else value).reshape(-1 if axes else ())]
