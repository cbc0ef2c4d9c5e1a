"""Turns any generation of net description into what runs at TEST: V2 layers of the right phase, in file order.

The steps are Caffe's: V0 -> V1 (a padding layer goes into the layer that reads it), V1 -> V2 (type names), phase rules,
`input` fields and data layers -> inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

from reference.text import Message, Value

Shape = tuple[int, ...]


@dataclass(slots=True)
class Source:
    """A blob that comes from outside: its name, the layer that brings it, its shape if the file says one."""

    blob: str
    layer: str
    shape: Shape | None
    optional: bool  # a data layer's second top: a label, perhaps, that inference has no use for


def net_parameter(message: Message) -> Message:
    """The net itself, also when it stands in a solver's `net_param`."""
    if "net_param" in message and "layer" not in message and "layers" not in message:
        return message.sub("net_param")
    return message


def layers_at_test(net: Message) -> list[Message]:
    """All layers that Caffe would build at TEST, as V2 layers; data and Input layers are among them."""
    if net.get("layer") and net.get("layers"):
        raise ValueError("the file has both `layer` and `layers`, and Caffe reads only one of them")
    state = net.sub("state")
    old = net.subs("layers")
    if any("layer" in layer for layer in old):
        old = upgrade_v0(old)
    layers = [upgrade_v1(layer) for layer in old] + net.subs("layer")
    return [layer for layer in layers if runs(layer, state)]


def runs(layer: Message, state: Message) -> bool:
    """A layer runs if any include rule matches or, without include rules, if no exclude rule does."""
    if "include" in layer:
        return any(matches(rule, state) for rule in layer.subs("include"))
    return not any(matches(rule, state) for rule in layer.subs("exclude"))


def matches(rule: Message, state: Message) -> bool:
    level, stages = state.integer("level", 0), state.words("stage")
    return (
        rule.word("phase", "TEST") in ("TEST", "1")
        and rule.integer("min_level", level) <= level <= rule.integer("max_level", level)
        and all(stage in stages for stage in rule.words("stage"))
        and not any(stage in stages for stage in rule.words("not_stage"))
    )


def sources(net: Message, layers: list[Message]) -> list[Source]:
    """The net's inputs: `input` fields first, then Input and data layers: whatever reads nothing, except Parameter."""
    dims = net.integers("input_dim")
    shapes: list[Shape] = [tuple(dims[start : start + 4]) for start in range(0, len(dims), 4)]
    shapes += [tuple(shape.integers("dim")) for shape in net.subs("input_shape")]
    found = [
        Source(blob, blob, shapes[i] if i < len(shapes) else None, optional=False)
        for i, blob in enumerate(net.words("input"))
    ]
    for layer in layers:
        if not is_source(layer):
            continue
        shapes = [tuple(shape.integers("dim")) for shape in layer.sub("input_param").subs("shape")]
        for i, blob in enumerate(layer.words("top")):
            shape = shapes[min(i, len(shapes) - 1)] if shapes else None
            optional = i > 0 and layer.word("type") != "Input"
            found.append(Source(blob, layer.word("name"), shape, optional))
    return found


def is_source(layer: Message) -> bool:
    return "bottom" not in layer and layer.word("type") != "Parameter"


def upgrade_v1(layer: Message) -> Message:
    """The same layer with its V2 type; the other V1 fields that count at TEST kept their names."""
    upgraded = Message(layer)
    upgraded["type"] = [V1_TYPES.get(layer.word("type"), layer.word("type"))]
    return upgraded


def upgrade_v0(connections: list[Message]) -> list[Message]:
    """V0: each connection holds a flat `layer`; padding layers disappear into the pad of what reads them."""
    padded: dict[str, tuple[str, int]] = {}
    upgraded = []
    for connection in connections:
        flat = connection.sub("layer")
        bottoms, tops = connection.words("bottom"), connection.words("top")
        layer_type = flat.word("type")
        if layer_type == "padding":
            padded[tops[0]] = (bottoms[0], flat.integer("pad", 0))
            continue
        if bottoms and bottoms[0] in padded:
            bottoms[0], pad = padded[bottoms[0]]
            flat["pad"] = [pad]
        layer = Message(name=list(flat.get("name", [])), type=[V0_TYPES.get(layer_type, layer_type)])
        layer["bottom"], layer["top"] = list[Value](bottoms), list[Value](tops)
        if not bottoms:
            del layer["bottom"]
        if layer_type in V0_PARAMS:
            layer[V0_PARAMS[layer_type]] = [v0_param(flat)]
        upgraded.append(layer)
    return upgraded


def v0_param(flat: Message) -> Message:
    """A parameter message with V0's flat fields under their later names."""
    renamed = {"biasterm": "bias_term", "kernelsize": "kernel_size"}
    return Message({renamed.get(name, name): values for name, values in flat.items() if name not in ("name", "type")})


V0_PARAMS = {
    "concat": "concat_param",
    "conv": "convolution_param",
    "dropout": "dropout_param",
    "im2col": "convolution_param",
    "innerproduct": "inner_product_param",
    "lrn": "lrn_param",
    "pool": "pooling_param",
}

V0_TYPES = {
    "accuracy": "Accuracy",
    "bnll": "BNLL",
    "concat": "Concat",
    "conv": "Convolution",
    "data": "Data",
    "dropout": "Dropout",
    "euclidean_loss": "EuclideanLoss",
    "flatten": "Flatten",
    "hdf5_data": "HDF5Data",
    "hdf5_output": "HDF5Output",
    "im2col": "Im2col",
    "images": "ImageData",
    "infogain_loss": "InfogainLoss",
    "innerproduct": "InnerProduct",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MultinomialLogisticLoss",
    "pool": "Pooling",
    "relu": "ReLU",
    "sigmoid": "Sigmoid",
    "softmax": "Softmax",
    "softmax_loss": "SoftmaxWithLoss",
    "split": "Split",
    "tanh": "TanH",
    "window_data": "WindowData",
}

V1_TYPES = {
    "ABSVAL": "AbsVal",
    "ACCURACY": "Accuracy",
    "ARGMAX": "ArgMax",
    "CLIP": "Clip",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution",
    "DATA": "Data",
    "DECONVOLUTION": "Deconvolution",
    "DEPTHWISECONVOLUTION": "DepthwiseConvolution",
    "DETECTIONOUTPUT": "DetectionOutput",
    "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData",
    "ELTWISE": "Eltwise",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss",
    "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct",
    "MEMORY_DATA": "MemoryData",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "POOLING": "Pooling",
    "POWER": "Power",
    "PRIORBOX": "PriorBox",
    "RELU": "ReLU",
    "RELU6": "ReLU6",
    "ROIPOOLING": "ROIPooling",
    "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence",
    "SLICE": "Slice",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split",
    "TANH": "TanH",
    "THRESHOLD": "Threshold",
    "UNPOOLING": "Unpooling",
    "UPSAMPLE": "Upsample",
    "WINDOW_DATA": "WindowData",
}
