"""What the tests of saving share: a net of two layers as files, ways to change it, and what a net says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from wire_encoder import blob, layer, length, number

import bnfold
from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.weights import WeightsFile
from bnfold.io.wire import fields
from bnfold.net import Array, Blobs, Net

Load = Callable[..., Net]
Save = Callable[..., tuple[str, bytes]]
Read = Callable[..., WeightsFile]

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
ZOO = ROOT.parent / "shared" / "zoo"

PROTOTXT = """\
# A net of two layers.
name: "two"

# what comes in
layer {
    name: "data"  type: "Input"  top: "data"
    input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } }
}
# The convolution,
# with no bias.
layer {
    name: "conv"   # its name
    type: "Convolution"
    bottom: "data"
    top: "conv"
    param { lr_mult: 1 decay_mult: 0 }
    convolution_param { num_output: 3 kernel_size: 1 bias_term: false weight_filler { type: "xavier" } }
}
layer {
    name: "act"
    type: "ReLU"
    bottom: "conv"
    top: "conv" # in place
}
"""

WEIGHT = [1.0, -2.0, 3.0, -4.0, 5.0, -6.0]
UNKNOWN = length(106, number(1, 3), number(4, 1), number(2, 0), length(999, "nobody knows"))
CONV = layer("conv", "Convolution", blob(WEIGHT, 3, 2, 1, 1), extra=UNKNOWN + length(7777, "nor this"))
CAFFEMODEL = b"".join(
    [
        length(1, "two"),
        layer("data", "Data", extra=length(4, "data")),
        CONV,
        layer("act", "ReLU", extra=length(3, "conv") + length(4, "conv")),
        layer("loss", "SoftmaxWithLoss", blob([7], 1)),
        number(5, 1),
    ]
)


def changed(net: Net, name: str, **changes: object) -> Net:
    """A copy of the net with one layer's attributes replaced."""
    layers = [replace(each, **changes) if each.name == name else each for each in net.layers]  # type: ignore[arg-type]
    return Net(net.name, layers, net.inputs, net.outputs, net.public, file=net.file, origin=net.origin, front=net.front)


def with_bias(net: Net, bias: Array) -> Net:
    conv = next(each for each in net.layers if each.name == "conv")
    param = LayerParameter()
    param.CopyFrom(conv.param)
    param.convolution_param.bias_term = True
    param.param.add(lr_mult=2)
    return changed(net, "conv", blobs=Blobs([*conv.blobs.stored, bias]), param=param)


def fields_of(message: bytes) -> list[tuple[int, bytes]]:
    return [(field.number, message[field.at : field.end]) for field in fields(message, 0, len(message))]


def cases() -> list[Path]:
    return sorted(path.parent for path in GOLDEN.glob("*/net.caffemodel"))


def load_case(folder: Path) -> Net:
    shapes = folder / "input_shapes.json"
    return bnfold.load(
        folder / "net.prototxt",
        folder / "net.caffemodel",
        input_shapes=json.loads(shapes.read_text()) if shapes.exists() else None,
    )


def bare(param: LayerParameter) -> LayerParameter:
    copy = LayerParameter()
    copy.CopyFrom(param)
    for name in ("name", "type", "bottom", "top"):
        copy.ClearField(name)
    return copy


def said(net: Net) -> list[object]:
    """Everything that a net says, in a form that compares."""
    layers = [
        (
            each.name,
            each.type,
            each.bottoms,
            each.tops,
            bare(each.param),
            [(array.shape, array.dtype, array.tobytes()) for array in each.blobs],
        )
        for each in net.layers
    ]
    return [net.name, layers, net.inputs, net.outputs, net.public]
