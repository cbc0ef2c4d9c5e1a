"""From a net to an ONNX model: the table of all layers, and the one pass that builds the graph.

The families' tables are joined here. What cannot be said in ONNX is collected over the whole net and refused at once,
before anything is written; with `allow_custom_ops` it becomes nodes of domain `caffe` instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, helper

from bnfold.caffe.attributes import attributes
from bnfold.caffe.layer_types import DISPUTED, brings_samples
from bnfold.caffe.layers import LAYERS, infer_shapes
from bnfold.caffe.layers.infer import blob_shapes, bottom_shapes
from bnfold.caffe.layers.python_code import layer_type_of
from bnfold.caffe.match import require_fitting
from bnfold.caffe.plain import SQUEEZED
from bnfold.errors import Guesses, ModelError, UnsupportedError, UsageError, did_you_mean_blob, plural, telling_which
from bnfold.io.versions import installed
from bnfold.net import Layer, Net, Shape, sizes
from bnfold.onnx.export import (
    activation,
    arithmetic,
    arrange,
    convolution,
    detection,
    flow,
    indexing,
    normalisation,
    pooling,
    recurrent,
    reduction,
    region,
    resample,
    yolo,
)
from bnfold.onnx.export.builder import Block, FixedBatch, Graph, LayerFunction, Refused, UnknownShape
from bnfold.onnx.weight import ONNX_TYPES, Weight
from bnfold.options import OnnxOptions

Shapes = Mapping[str, Shape | None]
OPSETS = range(11, 22)
BATCH = "N"
DOMAIN = "caffe"
"""Of the nodes of layers that ONNX has no words for; only written when the user allows it."""
UNKNOWN = "bnfold does not know what layers of this type compute"
SOURCES = frozenset({"Input"})
"""Layers that become graph inputs."""

FAMILIES = (
    *(activation, arithmetic, arrange, convolution, detection, flow, indexing),
    *(normalisation, pooling, recurrent, reduction, region, resample, yolo),
)
FUNCTIONS: Mapping[str, LayerFunction] = {
    layer_type: function for family in FAMILIES for layer_type, function in family.FUNCTIONS.items()
}
"""Caffe's layer type -> the function that writes its nodes."""

_TURNED = ("Flip", "MirrorPad", "Padding", "Reverse")
SIZED = frozenset({*flow.FUNCTIONS, *pooling.FUNCTIONS, *region.FUNCTIONS, *resample.FUNCTIONS, *_TURNED})
"""Layers whose nodes hold numbers that follow from the sizes of the plane that they read."""

ROUNDED: Mapping[str, str] = {
    "ConvolutionRistretto": "Convolution",
    "DeconvolutionRistretto": "Deconvolution",
    "FcRistretto": "InnerProduct",
    "LRNRistretto": "LRN",
}
"""Ristretto's layers, which compute what a plain one does, but with few bits -> the plain one's type."""

REASONS: Mapping[str, str] = {
    **dict.fromkeys(
        ("DenseCRF", "MultiStageMeanfield"),
        "it infers by iterations over all pairs of pixels, which ONNX has no operator for",
    ),
    **DISPUTED,
    **{
        layer_type: f"it rounds as its quantization_param says; without that, and as {plain}, it is exported unrounded"
        for layer_type, plain in ROUNDED.items()
    },
    "Python": "what it computes is Python code outside the network",
    **dict.fromkeys(SQUEEZED, "its weights are unknown without its masks; load the net with its caffemodel"),
}
"""Why layers that nets are seen to have, or that are known, have no function."""

CUSTOM = "--allow-custom-ops writes them as nodes of the domain 'caffe'"
OPEN_BATCH = "without --dynamic-batch they may fix the batch"
"""What a user can do about layers that have no ONNX form."""

FORMS: Mapping[str, str] = {
    "CTCGreedyDecoder with an accuracy": "its last top measures predictions, and is none",
    "Correlation1D with single_direction -1": "its Caffe reads in front of a row's beginning",
    "DetectionOutput in parts, of several images": "its Caffe gives every image the boxes of the first",
    "DetectionOutput with eta": "its threshold changes while it suppresses, if it is above 0.5, which ONNX's cannot",
    "NdConvolution with a side of 1": convolution.ND_UNSURE,
    "NdPooling with a side of 1": convolution.ND_UNSURE,
    "Norm of other than (N, C)": "forks disagree about what it adds to the sum",
    "Normalization of other than (N, C)": "forks disagree about the axes over which it sums",
    "Padding with all_pad": "the fork whose field it is is known by the shapes of its blobs alone",
    "Upsample with a height and a width alone": resample.SIZE_ALONE,
    "Yolov3DetectionOutput with gaussian_box": "the one Caffe that has it reads scores that it never wrote",
    "YoloDetectionOutput of a plane that is not square": "its Caffe reads the wrong cells, or past the end",
    "any layer that rounds to integers": "Synopsys' scales and zero points at other values than 1 and 0",
}
"""Forms of layers that have a function, but not for these."""


def build(net: Net, options: OnnxOptions = OnnxOptions()) -> tuple[ModelProto, tuple[Weight, ...]]:
    """The model without its initialisers, and these, which read their values when they are asked.

    Raises:
        UsageError: an unknown opset or output, no output, or one twice.
        UnsupportedError: layers that ONNX has no form for, all named at once.
        WeightsError: a layer was given blobs of other shapes than its parameters promise.
    """
    if options.opset not in OPSETS:
        raise UsageError(f"opset {options.opset}: known are {OPSETS.start} to {OPSETS.stop - 1}")
    names = list(net.outputs if options.outputs is None else options.outputs)
    known = dict.fromkeys([*net.inputs, *(top for layer in net.layers for top in layer.tops)])
    if unknown := [name for name in names if name not in known]:
        guess = did_you_mean_blob(unknown[0], known)
        raise UsageError(f"outputs {unknown[0]}: the network has no blob of that name{guess}")
    if options.outputs is not None and len(set(names)) != max(len(names), 1):
        raise UsageError(f"outputs {names}: a model gives one blob at least, and each once")
    with telling_which(net.file):
        require_fitting(net)
        batched = _batched(net, *_shapes_with_one_more(net)) if options.dynamic_batch else {}
        graph = Graph(net, infer_shapes(net), options.opset, np.dtype(options.dtype), batched)
        _write_layers(graph, options.allow_custom_ops)
    preparation = {f"preprocessing:{blob}": words for blob, words in net.preparation.items()}
    return _model(graph, names, preparation | dict(options.metadata or {})), tuple(graph.weights.values())


def _write_layers(graph: Graph, allow_custom_ops: bool) -> None:
    """Every layer's nodes, or one error that names all layers that have none."""
    refusals: list[str] = []
    refused: list[Layer] = []
    ways: set[str] = set()
    consequences: list[str] = []
    mistakes: list[Exception] = []
    guesses, hints = Guesses(), dict[str, str]()
    for layer, error in _unwritten(graph):
        if not isinstance(error, Refused | UnsupportedError):
            mistakes.append(error)
        elif allow_custom_ops and not isinstance(error, FixedBatch):
            _custom(graph, layer)
        else:
            refused.append(layer)
            ways.add(OPEN_BATCH if isinstance(error, FixedBatch) else CUSTOM)
            cases = consequences if isinstance(error, UnknownShape) else refusals
            why = str(error).removeprefix(f"{layer}: ")
            if why == UNKNOWN and layer.type not in hints:
                hints[layer.type] = guesses.at(layer.type, LAYERS)
            cases.append(f"{layer}: {why}{hints[layer.type] if why == UNKNOWN else ''}")
    # A shape or weights that are not known are the fault of an unknown layer in front, which is then named itself.
    if mistakes and not refusals:
        raise mistakes[0]
    if refusals := refusals or consequences:
        raise UnsupportedError(
            f"{len(refusals)} {plural('layer', len(refusals))} cannot be written as ONNX "
            f"({', '.join(sorted(ways))}{_until(graph.net, refused)}):",
            refusals,
        )


def _until(net: Net, refused: Sequence[Layer]) -> str:
    """How to end the network in front of the layers that have no ONNX form."""
    made = {top for layer in net.without(refused).layers for top in layer.tops}
    read = {bottom for layer in net.layers if not made.issuperset(layer.tops) for bottom in layer.bottoms}
    last = {net.public_name(top): top for layer in net.layers for top in layer.tops}  # what a name means to --until
    names = {blob: net.public_name(blob) for blob in read & made if blob not in net.inputs}
    ends = [name if last[name] == blob else blob for blob, name in names.items()]
    if not ends:
        return ""
    return f", {' '.join(f'--until {blob}' for blob in sorted(ends)[:3])} ends the network in front of them"


def refused_layers(net: Net, shapes: Shapes) -> list[tuple[Layer, Exception]]:
    """The layers that ONNX has no form for, or that read what has no shape in `shapes`, each with the reason."""
    return list(_unwritten(Graph(net, shapes, OPSETS.stop - 1, np.dtype(np.float32))))


def _unwritten(graph: Graph) -> Iterator[tuple[Layer, Exception]]:
    """Add the nodes of all layers; gives each one that has none, and why, with the graph as it was in front of it."""
    for layer in graph.net.layers:
        if layer.type in SOURCES and graph.net.inputs.keys() >= set(layer.tops):
            continue
        kept = len(graph.weights)
        try:
            write_layer(graph, layer)
        except (Refused, ModelError, UnsupportedError) as error:
            graph.forget_weights(kept)
            yield layer, error


def write_layer(graph: Graph, layer: Layer) -> None:
    """Add one layer's nodes.

    Raises:
        Refused: ONNX has no words for it.
        ModelError: its parameters do not fit its bottoms.
    """
    if layer.opaque:
        raise Refused(layer.opaque)
    function = FUNCTIONS.get(layer_type_of(layer))
    if function is None:
        raise Refused(REASONS.get(layer.type, _unknown(layer)))
    if not layer.tops and layer.type != "Silence":
        raise Refused("it has no top")
    block = Block(graph, layer)
    shape = graph.shapes.get(layer.bottoms[0]) if layer.bottoms else None
    if layer_type_of(layer) in SIZED and shape and -1 in shape[1:]:
        raise Refused(f"its form depends on the sizes of what it reads, {sizes(shape)}, of which one is not known yet")
    # Constants are computed from parameters, which may be any numbers.
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        try:
            block.close(function(block))
        except ArithmeticError:
            raise Refused(f"a constant made of its parameters is beyond what {block.dtype} holds") from None


def _custom(graph: Graph, layer: Layer) -> None:
    """Add the node of a layer that has no ONNX form: of its type, with the fields that it sets as attributes."""
    learned = [graph.learned(layer, index, f"blob{index}") for index in range(len(layer.blobs))]
    graph.nodes.append(
        helper.make_node(
            layer.type,
            [*layer.bottoms, *learned],
            list(layer.tops),
            name=graph.node_of(layer),
            doc_string=str(layer),
            domain=DOMAIN,
            **attributes(layer),
        )
    )


def _unknown(layer: Layer) -> str:
    if layer.type in SOURCES:
        return "what it makes is no longer an input of the net"
    if brings_samples(layer.type) and not layer.bottoms:
        return "it reads samples from outside; give the net an input in its place"
    return UNKNOWN


def _batched(net: Net, now: Shapes, then: Shapes) -> dict[str, str]:
    """The blobs whose first dimension follows the batch, with a name for it: those that grow when the inputs do.

    Args:
        net: its batch is the first dimension of the first input, and of every input that has as many items.
        now, then: the shapes of all blobs, and those with one more item.

    Raises:
        UnsupportedError: another dimension grows; it names all such blobs.
    """
    batch = next(iter(net.inputs.values()))[0]
    batched: dict[str, str] = {}
    astray = []
    for blob, shape in now.items():
        other = then[blob]
        if shape is None or other is None or shape == other:
            continue
        if len(shape) != len(other) or shape[1:] != other[1:]:
            astray.append(f"blob '{blob}' has shape {sizes(shape)}, and {sizes(other)} with one more item")
        else:
            batched[blob] = _multiple(shape[0], other[0] - shape[0], batch)
    if astray:
        raise UnsupportedError("--dynamic-batch: the batch does not stay in front:", astray)
    return batched


def grows_with_batch(net: Net) -> bool:
    """Whether with one more item the first dimension of blobs grows, and nothing else, such as what a layer learned."""
    try:
        now, then = _shapes_with_one_more(net)
        grows = bool(_batched(net, now, then))
    except UnsupportedError:
        return False
    bottoms = ((layer, bottom_shapes(layer, now), bottom_shapes(layer, then)) for layer in net.layers if layer.blobs)
    return grows and all(
        before is None or after is None or blob_shapes(layer, before) == blob_shapes(layer, after)
        for layer, before, after in bottoms
    )


def _shapes_with_one_more(net: Net) -> tuple[Shapes, Shapes]:
    """The shapes of all blobs, and those with one more item. Raises UnsupportedError where there are no such."""
    if not net.inputs or not next(iter(net.inputs.values())):
        raise UnsupportedError("--dynamic-batch: the net has no input with a batch")
    batch, grown = next(iter(net.inputs.values()))[0], net.copy()
    grown.inputs = {
        name: (batch + 1, *shape[1:]) if shape[:1] == (batch,) else shape for name, shape in net.inputs.items()
    }
    now = infer_shapes(net)
    try:
        return now, infer_shapes(grown)
    except ModelError as error:
        raise UnsupportedError(f"--dynamic-batch: with one more item the net does not fit together: {error}") from error


def _multiple(size: int, growth: int, batch: int) -> str:
    """What to call a size that grows by `growth` with the batch; empty when it is no multiple of it."""
    if size != growth * batch:
        return ""
    return BATCH if growth == 1 else f"{growth}*{BATCH}"


def _model(graph: Graph, outputs: Sequence[str], metadata: Mapping[str, str]) -> ModelProto:
    net = graph.net
    used = {node.domain for node in graph.nodes} - {""}
    opsets = [helper.make_opsetid("", graph.opset)] + [helper.make_opsetid(domain, 1) for domain in sorted(used)]
    given = set(outputs)
    blobs = [top for layer in net.layers if layer.type not in SOURCES for top in layer.tops if top not in given]
    made = helper.make_graph(
        graph.nodes,
        net.name or "net",
        [_value(graph, name) for name in net.inputs],
        [_value(graph, name) for name in outputs],
        value_info=[_value(graph, blob) for blob in blobs if graph.shapes.get(blob) is not None],
    )
    model = helper.make_model(
        made,
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets[:1]),
        producer_name="bnfold",
        producer_version=installed("bnfold"),
    )
    assert used <= {DOMAIN}
    try:
        helper.set_model_props(model, dict(sorted(metadata.items())))
    except UnicodeEncodeError as error:
        raise UsageError(
            f"metadata of a model is UTF-8, and {error.object!a} is not: it has an unpaired surrogate"
        ) from None
    return model


def _value(graph: Graph, blob: str) -> Any:
    shape: Shape | None = graph.shapes.get(blob)
    element = ONNX_TYPES[graph.dtype.name]
    if shape is None:
        return helper.make_tensor_value_info(blob, element, None)
    dims: list[int | str | None] = [None if size < 0 else size for size in shape]
    if blob in graph.batched:
        dims[0] = graph.batched[blob] or None
    return helper.make_tensor_value_info(blob, element, dims)
