"""The networks that are measured, made here so that nothing has to be fetched: shapes of the real ones, random weights.

resnet152       230 MB, 155 convolutions with BatchNorm and Scale in residual blocks
vgg16_bn        550 MB, 13 convolutions with BatchNorm and Scale, three large InnerProducts
chain-N         N layers: Convolution, BatchNorm, Scale and ReLU in turn, few weights
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from bnfold.caffe.caffe_pb2 import BlobProto, BlobShape, LayerParameter, NetParameter

Layer = tuple[str, list[tuple[int, ...]]]
"""A layer's text, and the shapes of what it learned."""


def layer(name: str, layer_type: str, bottoms: list[str], top: str, param: str = "", *shapes: tuple[int, ...]) -> Layer:
    """One layer."""
    read = "".join(f'  bottom: "{bottom}"\n' for bottom in bottoms)
    rest = f"  {param}\n" if param else ""
    return f'layer {{\n  name: "{name}"\n  type: "{layer_type}"\n{read}  top: "{top}"\n{rest}}}\n', list(shapes)


def normalised(name: str, bottom: str, size: tuple[int, int, int, int], stride: int, relu: bool) -> Iterator[Layer]:
    """Convolution without bias, BatchNorm, Scale and perhaps ReLU, all but the first in place."""
    outputs, inputs, kernel, pad = size
    param = f"num_output: {outputs} kernel_size: {kernel} pad: {pad} stride: {stride} bias_term: false"
    weight = (outputs, inputs, kernel, kernel)
    yield layer(name, "Convolution", [bottom], name, f"convolution_param {{ {param} }}", weight)
    yield layer(f"{name}/bn", "BatchNorm", [name], name, "", (outputs,), (outputs,), (1,))
    yield layer(f"{name}/scale", "Scale", [name], name, "scale_param { bias_term: true }", (outputs,), (outputs,))
    if relu:
        yield layer(f"{name}/relu", "ReLU", [name], name)


def image(size: int) -> Layer:
    """The input."""
    return layer("data", "Input", [], "data", f"input_param {{ shape {{ dim: 1 dim: 3 dim: {size} dim: {size} }} }}")


def resnet(*stages: int) -> Iterator[Layer]:
    """So many bottleneck blocks in each stage."""
    yield image(224)
    yield from normalised("conv1", "data", (64, 3, 7, 3), 2, relu=True)
    yield layer("pool1", "Pooling", ["conv1"], "pool1", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }")
    bottom, inputs = "pool1", 64
    for stage, (blocks, width) in enumerate(zip(stages, (64, 128, 256, 512), strict=True), start=2):
        for number in range(blocks):
            block, stride = f"res{stage}_{number}", 2 if stage > 2 and number == 0 else 1
            shortcut = bottom
            if number == 0:
                shortcut = f"{block}_branch1"
                yield from normalised(shortcut, bottom, (4 * width, inputs, 1, 0), stride, relu=False)
            yield from normalised(f"{block}_a", bottom, (width, inputs, 1, 0), stride, relu=True)
            yield from normalised(f"{block}_b", f"{block}_a", (width, width, 3, 1), 1, relu=True)
            yield from normalised(f"{block}_c", f"{block}_b", (4 * width, width, 1, 0), 1, relu=False)
            yield layer(block, "Eltwise", [shortcut, f"{block}_c"], block)
            yield layer(f"{block}_relu", "ReLU", [block], block)
            bottom, inputs = block, 4 * width
    yield layer("pool5", "Pooling", [bottom], "pool5", "pooling_param { pool: AVE global_pooling: true }")
    param = "inner_product_param { num_output: 1000 }"
    yield layer("fc1000", "InnerProduct", ["pool5"], "fc1000", param, (1000, 2048), (1000,))
    yield layer("prob", "Softmax", ["fc1000"], "prob")


def vgg16_bn() -> Iterator[Layer]:
    """Thirteen 3x3 convolutions and three InnerProducts."""
    yield image(224)
    bottom, inputs = "data", 3
    for stage, (count, width) in enumerate(zip((2, 2, 3, 3, 3), (64, 128, 256, 512, 512), strict=True), start=1):
        for number in range(1, count + 1):
            name = f"conv{stage}_{number}"
            yield from normalised(name, bottom, (width, inputs, 3, 1), 1, relu=True)
            bottom, inputs = name, width
        pool = f"pool{stage}"
        yield layer(pool, "Pooling", [bottom], pool, "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")
        bottom = pool
    values = 512 * 7 * 7
    for name, outputs in (("fc6", 4096), ("fc7", 4096), ("fc8", 1000)):
        param = f"inner_product_param {{ num_output: {outputs} }}"
        yield layer(name, "InnerProduct", [bottom], name, param, (outputs, values), (outputs,))
        if name != "fc8":
            yield layer(f"{name}/relu", "ReLU", [name], name)
        bottom, values = name, outputs
    yield layer("prob", "Softmax", ["fc8"], "prob")


def chain(layers: int) -> Iterator[Layer]:
    """A deep and thin net: four layers in turn."""
    yield image(8)
    bottom, inputs = "data", 3
    for number in range(layers // 4):
        yield from normalised(f"conv{number}", bottom, (4, inputs, 1, 0), 1, relu=True)
        bottom, inputs = f"conv{number}", 4


def blob(layer_type: str, name: str, index: int, shape: tuple[int, ...]) -> np.ndarray:
    """Seeded values of a size that keeps activations near 1; BatchNorm's statistics as sums with their factor."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), index])
    if layer_type == "BatchNorm":
        return (np.full(1, 999.98), rng.uniform(500, 1500, shape), rng.normal(0, 100, shape))[
            (index == 0) * 2 + (index == 1)
        ]
    if layer_type == "Scale":
        return rng.normal(1, 0.2, shape) if index == 0 else rng.normal(0, 0.2, shape)
    fan = float(np.prod(shape[1:])) if len(shape) > 1 else 100.0
    return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan))


LAYER, BLOBS, DATA = 100, 7, 5
"""Numbers of NetParameter.layer, LayerParameter.blobs and BlobProto.data."""


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field; protobuf itself would make a Python float of every weight first."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """Seven bits at a time, the lowest first."""
    head = b""
    while value > 127:
        head += bytes([value & 127 | 128])
        value >>= 7
    return head + bytes([value])


def make(name: str, folder: Path) -> Path:
    """Write a model, unless it is there already.

    Returns:
        The prototxt; the caffemodel stands beside it.
    """
    prototxt = folder / f"{name}.prototxt"
    if prototxt.exists():
        return prototxt
    folder.mkdir(parents=True, exist_ok=True)
    model, _, size = name.partition("-")
    layers = list(chain(int(size)) if size else MODELS[model]())
    with prototxt.with_suffix(".caffemodel").open("wb") as weights:
        weights.write(NetParameter(name=name).SerializeToString())
        for text, shapes in layers:
            own, layer_type = (line.split('"')[1] for line in text.split("\n")[1:3])
            record = LayerParameter(name=own, type=layer_type).SerializeToString()
            for index, shape in enumerate(shapes):
                values = np.ascontiguousarray(blob(layer_type, own, index, shape), "<f4").tobytes()
                stored = BlobProto(shape=BlobShape(dim=shape)).SerializeToString()
                record += field(BLOBS, stored + field(DATA, values))
            weights.write(field(LAYER, record))
    prototxt.write_text(f'name: "{name}"\n' + "".join(text for text, _ in layers))
    return prototxt


MODELS: dict[str, Callable[[], Iterator[Layer]]] = {
    "resnet50": partial(resnet, 3, 4, 6, 3),
    "resnet152": partial(resnet, 3, 8, 36, 3),
    "vgg16_bn": vgg16_bn,
}

if __name__ == "__main__":
    for each in sys.argv[2:]:
        print(make(each, Path(sys.argv[1])))
