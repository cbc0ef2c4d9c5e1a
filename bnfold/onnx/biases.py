"""A MatMul and the bias behind it, which are one layer while a net is folded.

    Given:   m = MatMul(x, W), y = Add(m, b)      While folding:  y = MatMul(x, W) with the bias b
                                                  Result:         m' = MatMul(x, W'), y = Add(m', b')

Conv and Gemm have a place for a bias; a MatMul has none. On a matrix what comes of both is a Gemm. What onnxruntime
makes of the Add and a GELU behind it hands its bias over for as long:

    Given:   m = MatMul(x, W), y = BiasGelu(m, b)    While folding:  m = MatMul(x, W) with the bias b, y = BiasGelu(m)
                                                     Result:         m' = MatMul(x, W'), y = BiasGelu(m', b')
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from onnx import helper

from bnfold.algebra.frontend import FoldContext
from bnfold.net import Blobs, Layer, Names, Net, Shape, blobs_of
from bnfold.onnx.file import element_type
from bnfold.onnx.node import GELUS, BottomInput, ConstantInput, Fused, Node
from bnfold.onnx.operators.context import dequantising
from bnfold.onnx.patterns import SCALED_LAST


def fuse_biases(context: FoldContext) -> None:
    """Give each MatMul the bias that is added behind it, where nobody else reads what is between.

    An Add is no layer any more, and a GELU one without a bias.
    """
    net = context.net
    kept = {*net.outputs, *context.keep, *(net.front.protected(net) if net.front is not None else ())}
    asks = any(layer.type == "MatMul" and _needs_shapes(layer, net) for layer in net.layers)
    shapes = net.front.shapes(net) if asks and net.front is not None else {}
    for layer in [layer for layer in net.layers if layer.type in ("Add", *GELUS) and len(layer.bottoms) == 1]:
        between = layer.bottoms[0]
        matmul = net.producer(between)
        if matmul is None or not _takes_bias(matmul, context) or between in kept:
            continue
        if matmul.param.fused is not None or len(matmul.param.slots) != 2:
            continue
        if id(layer) in context.excluded or id(matmul) in context.excluded or len(net.uses(between)) != 1:
            continue
        bias = _bias_of(matmul, layer, context, shapes)
        if bias is None:
            continue
        add = layer
        if layer.type == "Add":
            net.remove(layer)
            net.rename(between, layer.tops[0])
        else:
            add = layer.copy()
            layer.param, layer.blobs = replace(layer.param, slots=layer.param.slots[:1]), Blobs()
        node: Node = matmul.param
        slots = (*node.slots, ConstantInput(bias.name, bias.value, len(matmul.blobs)))
        matmul.param = replace(node, slots=slots, fused=Fused(node, matmul.blobs, between, add))
        matmul.blobs = Blobs((*matmul.blobs.stored, *add.blobs.stored))


def _bias_of(
    matmul: Layer, add: Layer, context: FoldContext, shapes: Mapping[str, Shape | None]
) -> ConstantInput | None:
    """The constant that is added, if it is one value for each output of the MatMul."""
    constant, node = add.param.constant(0) or add.param.constant(1), matmul.param
    if constant is None or constant.blob < 0:
        return None
    bias, left = add.blobs.stored[constant.blob], isinstance(node.slots[0], ConstantInput)
    weight = node.constant(0 if left else 1)
    if matmul.type == "Mul":
        scale = matmul.blobs.stored[weight.blob] if weight is not None and weight.blob >= 0 else bias
        return constant if scale is not bias and (scale.shape, scale.dtype) == (bias.shape, bias.dtype) else None
    if weight is not None and weight.blob >= 0 and len(matmul.bottoms) == 1:
        shape: Shape = matmul.blobs.shapes[weight.blob]
        fits = bias.dtype == matmul.blobs.stored[weight.blob].dtype
    elif _is_dequantised(matmul, context.net):
        shape = shapes.get(matmul.bottoms[1]) or ()
        fits = bias.dtype == element_type(context.types[id(matmul)][0])
    else:
        return None
    if len(shape) != 2 or (left and len(shapes.get(matmul.bottoms[0]) or ()) < 2):
        return None  # a column would make a matrix of the vector that a MatMul of a vector gives
    return constant if fits and bias.shape == ((shape[0], 1) if left else (shape[1],)) else None


def _takes_bias(layer: Layer, context: FoldContext) -> bool:
    """Whether an Add behind a layer is its bias: a MatMul, or what a normalisation of several nodes multiplies last."""
    scales = layer.type == "Mul" and context.patterns.get(id(layer)) in SCALED_LAST and len(layer.bottoms) == 1
    return layer.type == "MatMul" or scales


def _needs_shapes(matmul: Layer, net: Net) -> bool:
    """Whether the sizes of what a MatMul reads say if an Add behind it is its bias; to infer them takes long."""
    return matmul.param.constant(0) is not None or _is_dequantised(matmul, net)


def _is_dequantised(matmul: Layer, net: Net) -> bool:
    """Whether the second matrix is a weight behind a DequantizeLinear, and no data that were quantised."""
    way = dequantising(net, matmul.bottoms[1]) if len(matmul.bottoms) == 2 else []
    return bool(way) and not way[0].bottoms


def part_biases(context: FoldContext) -> None:
    """Make nodes of their own of what MatMuls add, the old ones where nothing changed; a GELU takes its bias back."""
    net = context.net
    names = Names((*net.origin.names, *blobs_of(net), *context.shapes), "_")
    node_names = Names((node.name for node in net.origin.document.model.graph.node), "_")
    behind: list[tuple[Layer, Layer]] = []
    for layer in net.layers:
        node: Node = layer.param
        top, fused = layer.tops[0] if layer.tops else "", node.fused
        if fused is not None and fused.add.type in GELUS:
            _hand_back(layer, context, names)
            continue
        if fused is not None and layer.blobs.is_same(Blobs((*fused.blobs.stored, *fused.add.blobs.stored))):
            layer.param, layer.blobs = fused.param, fused.blobs
            between, add = fused.between, fused.add
            add.bottoms, add.tops = [between], [top]
        elif layer.type in ("MatMul", "Mul") and len(node.proto.input) == 2 and node.constant(2) is not None:
            if layer.type == "MatMul" and _becomes_gemm(layer, context):
                continue
            between = names.new(f"{fused.between if fused is not None else top}/{layer.name}")
            add = _adding(layer, between, node_names)
            context.shapes[between] = context.shapes.get(top)
        else:
            continue
        behind.append((layer, add))
        readers = list(net.uses(top))
        net.rename(top, between)
        for use in readers:  # they stay with the name, which the other layer writes from now on
            net.reconnect(use, top)
    net.insert_behind(behind)


def _hand_back(layer: Layer, context: FoldContext, names: Names) -> None:
    """Give the bias of a MatMul to what reads it, where it stood; without it the MatMul gives something else."""
    node: Node = layer.param
    assert node.fused is not None
    matmul, blobs, between, add = node.fused
    (use,) = context.net.uses(between)
    use.layer.param, use.layer.blobs = add.param, add.blobs
    if layer.blobs.is_same(Blobs((*blobs.stored, *add.blobs.stored))):
        layer.param, layer.blobs = matmul, blobs
        return
    *kept, bias = layer.blobs.stored
    use.layer.blobs = Blobs((bias,))
    layer.param, layer.blobs = replace(node, slots=node.slots[:2], fused=None), Blobs(kept)
    renamed = names.new(f"{between}/{layer.name}")
    context.shapes[renamed] = context.shapes.get(between)
    context.net.rename(between, renamed)


def _becomes_gemm(layer: Layer, context: FoldContext) -> bool:
    """Write a MatMul of a matrix with a bias as the one node that ONNX has for it."""
    node: Node = layer.param
    bias = node.constant(2)
    shape = context.shapes.get(layer.bottoms[0])
    if bias is None or shape is None or len(shape) != 2:
        return False
    if node.opset < 13 and layer.blobs.stored[bias.blob].dtype.name == "bfloat16":
        return False
    layer.type = "Gemm"
    layer.param = replace(node.rewritten(op_type="Gemm"), fused=None)
    return True


def _adding(layer: Layer, between: str, node_names: Names) -> Layer:
    """Take from a layer what it adds; returns the layer that adds it, the old one where there was one."""
    node: Node = layer.param
    bias = node.constant(2)
    assert bias is not None
    stored = layer.blobs.stored[bias.blob]
    layer.param = replace(node, slots=node.slots[:2], fused=None)
    layer.blobs = Blobs(blob for index, blob in enumerate(layer.blobs.stored) if index != bias.blob)
    if node.fused is not None:
        add = node.fused.add
        return Layer(add.name, add.type, [between], list(layer.tops), Blobs((stored,)), add.param, add.source)
    proto = helper.make_node("Add", ["", ""], [""], name=node_names.new(f"{layer.name}/bias"))
    param = Node(proto, node.opset, (BottomInput(0), ConstantInput("", None, 0)), (0,), replaces=node.proto)
    return Layer(proto.name, "Add", [between], list(layer.tops), Blobs((stored,)), param)
