"""Random networks as prototxt text: branches, in-place layers, several readers, shared weights, all that folding knows.

Every step takes a blob that is there and puts one layer on it, chosen from `STEPS`. Numbers in the text are sums of few
powers of two, so that the oracle, which reads them in float64, and protobuf, which reads float32, agree.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from algebra.rows import layer_of

from bnfold.caffe.layers import output_shapes
from bnfold.errors import ModelError
from bnfold.net import Shape

BATCH = 2


@dataclass
class Writer:
    """The text so far, and the blobs that can be read at its end.

    Attributes:
        number: chooses a number from the first to the last.
        lines: the layers' texts.
        blobs: name -> shape, of the version that a reader would get now.
        count: how many layers were tried; it makes names unique.
    """

    number: Callable[[int, int], int]
    lines: list[str] = field(default_factory=list)
    blobs: dict[str, Shape] = field(default_factory=dict)
    count: int = 0

    def choose(self, *options: str) -> str:
        return options[self.number(0, len(options) - 1)]

    def chance(self, one_in: int) -> bool:
        return self.number(1, one_in) == one_in

    def pick(self, fits: Callable[[Shape], bool] = lambda shape: True) -> str | None:
        """One of the blobs that fit, preferring the latest."""
        names = [name for name, shape in self.blobs.items() if fits(shape)]
        return names[-1 - min(self.number(0, 7) // 3, len(names) - 1)] if names else None

    def add(
        self,
        layer_type: str,
        bottoms: Sequence[str],
        param: str = "",
        tops: int = 1,
        in_place: bool = False,
        name: str = "",
    ) -> list[str]:
        """Write a layer; returns its tops, none if the sizes do not fit."""
        self.count += 1
        name = f"{name or layer_type.lower()}{self.count}"
        written = [bottoms[0]] if in_place else [name if tops == 1 else f"{name}_{i}" for i in range(tops)]
        text = f'type: "{layer_type}" {param}'
        try:
            shapes = output_shapes(layer_of(text, len(bottoms), tops), [self.blobs[bottom] for bottom in bottoms])
        except ModelError:
            return []
        assert shapes is not None
        if any(size < 1 for shape in shapes for size in shape) or sum(np.prod(shape) for shape in shapes) > 6000:
            return []
        connections = [f'bottom: "{bottom}"' for bottom in bottoms] + [f'top: "{top}"' for top in written]
        self.lines.append(f'layer {{ name: "{name}" {text} {" ".join(connections)} }}')
        for top, shape in zip(written, shapes, strict=True):
            self.blobs.pop(top, None)
            self.blobs[top] = shape
        return written


Step = Callable[[Writer], object]


def plane(shape: Shape) -> bool:
    return len(shape) == 4


def channels(shape: Shape) -> bool:
    return len(shape) >= 2


def convolution(w: Writer) -> None:
    bottom = w.pick(plane)
    if bottom is None:
        return
    c = w.blobs[bottom][1]
    param = w.choose(
        "num_output: 3 kernel_size: 3",
        "num_output: 4 kernel_size: 3 pad: 1",
        "num_output: 4 kernel_size: 1",
        "num_output: 5 kernel_size: 2 stride: 2 bias_term: false",
        "num_output: 4 kernel_h: 1 kernel_w: 2 pad_h: 0 pad_w: 1 bias_term: false",
        "num_output: 6 kernel_size: 2 dilation: 2 group: 2",
        f"num_output: {c} kernel_size: 3 pad: 1 group: {c} bias_term: false",
        f"num_output: {2 * c} kernel_size: 1 group: {c}",
    )
    names = ""
    if w.chance(4):
        # Whoever has the same text and as many channels shares both blobs.
        tag = f"{param} {c}".replace(":", "").replace(" ", "_")
        names = f'param {{ name: "w_{tag}" }} param {{ name: "b_{tag}" }} '
        names = names.partition(" param")[0] + " " if "bias_term" in param else names
        w.add("Convolution", [bottom], f"{names}convolution_param {{ {param} }}")
    w.add("Convolution", [bottom], f"{names}convolution_param {{ {param} }}")


def deconvolution(w: Writer) -> None:
    bottom = w.pick(plane)
    if bottom is None:
        return
    c = w.blobs[bottom][1]
    param = w.choose(
        "num_output: 3 kernel_size: 2 stride: 2",
        "num_output: 4 kernel_size: 1 bias_term: false",
        f"num_output: {2 * c} kernel_size: 2 group: {c} pad: 1 stride: 2",
        "num_output: 4 kernel_size: 2 group: 2 bias_term: false",
    )
    w.add("Deconvolution", [bottom], f"convolution_param {{ {param} }}")


def inner_product(w: Writer) -> None:
    bottom = w.pick(channels)
    if bottom is not None:
        param = w.choose("", "bias_term: false", "transpose: true", "transpose: true bias_term: false", "axis: -1")
        w.add("InnerProduct", [bottom], f"inner_product_param {{ num_output: 5 {param} }}")


def affine(w: Writer) -> None:
    """One or two layers that scale and shift; `pos` in a name asks for positive weights."""
    for _ in range(w.number(1, 2)):
        bottom = w.pick(channels)
        if bottom is None:
            return
        layer_type, param = w.choose(
            "BatchNorm/batch_norm_param { eps: 0.0009765625 }",
            "BatchNorm/batch_norm_param { eps: 0.0009765625 use_global_stats: true }",
            "BatchNorm/batch_norm_param { eps: 0.0009765625 use_global_stats: false }",
            "Scale/",
            "Scale/scale_param { bias_term: true }",
            "Scale/scale_param { num_axes: 0 }",
            "Scale/scale_param { axis: -1 bias_term: true }",
            "Bias/",
            "Power/power_param { scale: -0.5 shift: 0.25 }",
            "Power/power_param { scale: 2 }",
            "Power/power_param { shift: -1.5 }",
            "Power/power_param { scale: -1 }",
            "Dropout/",
            "Dropout/dropout_param { dropout_ratio: 0.25 scale_train: false }",
        ).split("/", 1)
        w.add(
            layer_type, [bottom], param, in_place=w.chance(2), name="pos_" + layer_type.lower() if w.chance(2) else ""
        )


def pointwise(w: Writer) -> None:
    bottom = w.pick(channels)
    if bottom is not None:
        layer_type, param = w.choose(
            "ReLU/",
            "ReLU/relu_param { negative_slope: 0.125 }",
            "PReLU/",
            "TanH/",
            "ReLU/",
            "Clip/clip_param { min: -0.5 max: 0.75 }",
        ).split("/", 1)
        w.add(layer_type, [bottom], param, in_place=w.chance(2))


def pooling(w: Writer) -> None:
    bottom = w.pick(plane)
    if bottom is not None:
        param = w.choose(
            "pool: MAX kernel_size: 2 stride: 2",
            "pool: MAX kernel_size: 3 stride: 2 pad: 1",
            "pool: AVE kernel_size: 2 stride: 2",
            "pool: AVE kernel_size: 3 stride: 1 pad: 1",
            "pool: AVE global_pooling: true",
        )
        w.add("Pooling", [bottom], f"pooling_param {{ {param} }}")


def unpooling(w: Writer) -> None:
    """Nobody but the Upsample reads the mask, as in any sane net."""
    bottom = w.pick(plane)
    if bottom is None:
        return
    shape = w.blobs[bottom]
    if tops := w.add("Pooling", [bottom], MASK, tops=2):
        small = w.blobs.pop(tops[1])
        affine(w)
        values = w.pick(lambda other: other == small) or tops[0]
        w.blobs[tops[1]] = small
        w.add("Upsample", [values, tops[1]], f"upsample_param {{ upsample_h: {shape[2]} upsample_w: {shape[3]} }}")
        del w.blobs[tops[1]]


MASK = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"


def join(w: Writer) -> None:
    first = w.pick(channels)
    if first is None:
        return
    shape = w.blobs[first]
    second = w.pick(lambda other: other == shape)
    assert second is not None
    param = w.choose("", "coeff: 0.5 coeff: -2", "operation: PROD", "operation: MAX", "coeff: 1 coeff: 0")
    w.add("Eltwise", [first, second], f"eltwise_param {{ {param} }}")


def concat(w: Writer) -> None:
    first = w.pick(channels)
    if first is None:
        return
    axis = w.choose("1", "1", "1", "-1", "0")
    at = int(axis) % len(w.blobs[first])
    shape = w.blobs[first]

    def fits(other: Shape) -> bool:
        return len(other) == len(shape) and other[:at] == shape[:at] and other[at + 1 :] == shape[at + 1 :]

    bottoms = [first] + [w.pick(fits) or first for _ in range(w.number(0, 2))]
    if axis != "0" or w.blobs[first][0] < 4:
        w.add("Concat", bottoms, f"concat_param {{ axis: {axis} }}")


def slice_(w: Writer) -> None:
    bottom = w.pick(channels)
    if bottom is not None:
        axis = w.choose("1", "1", "1", "-1")
        w.add("Slice", [bottom], f"slice_param {{ axis: {axis} }}", tops=w.number(1, 3))


def move(w: Writer) -> None:
    bottom = w.pick(channels)
    if bottom is None:
        return
    layer_type, param = w.choose(
        "Interp/interp_param { zoom_factor: 2 }",
        "Interp/interp_param { height: 3 width: 5 pad_end: -1 }",
        "Upsample/upsample_param { scale: 2 }",
        "ShuffleChannel/shuffle_channel_param { group: 2 }",
        "Reorg/reorg_param { stride: 2 }",
        "Permute/permute_param { order: 0 order: 1 order: 3 order: 2 }",
        "Permute/permute_param { order: 0 order: 2 order: 3 order: 1 }",
        "Flatten/",
        "Flatten/flatten_param { axis: 2 }",
        "Reshape/reshape_param { shape { dim: 0 dim: -1 } }",
        "Reshape/reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 1 } }",
        "Reshape/reshape_param { shape { dim: 0 dim: 0 dim: -1 dim: 1 } }",
    ).split("/", 1)
    if layer_type in ("Interp", "Upsample", "Reorg", "Permute") and not plane(w.blobs[bottom]):
        return
    if layer_type == "Reorg" and w.blobs[bottom][1] % 4:
        return
    w.add(layer_type, [bottom], param)


def crop(w: Writer) -> None:
    small = w.pick(plane)
    if small is not None:
        large = w.pick(
            lambda shape: plane(shape) and all(a >= b for a, b in zip(shape[2:], w.blobs[small][2:], strict=True))
        )
        assert large is not None
        w.add("Crop", [large, small])


def gate(w: Writer) -> None:
    """Squeeze and excite: each channel is scaled by what its own mean says."""
    bottom = w.pick(plane)
    if bottom is None:
        return
    pooled = w.add("Pooling", [bottom], "pooling_param { pool: AVE global_pooling: true }")
    flat = w.add("Flatten", pooled)
    if w.chance(2):
        w.add("Sigmoid", flat, in_place=True)
    if w.chance(2):
        flat = w.add("Power", flat, "power_param { scale: -0.5 }", in_place=w.chance(2))
    w.add("Scale", [bottom, *flat], w.choose("scale_param { axis: 0 }", "scale_param { axis: 0 bias_term: true }"))


def split(w: Writer) -> None:
    bottom = w.pick()
    assert bottom is not None
    w.add("Split", [bottom], tops=w.number(1, 2))


def embed(w: Writer) -> None:
    if "index" in w.blobs:
        w.add("Embed", ["index"], "embed_param { input_dim: 4 num_output: 5 }")


STEPS: Sequence[Step] = (
    *[affine] * 9,
    *[convolution] * 5,
    *[pointwise] * 3,
    *[pooling] * 2,
    *[join] * 3,
    *[concat] * 2,
    *[slice_] * 2,
    *[move] * 4,
    crop,
    deconvolution,
    embed,
    gate,
    inner_product,
    split,
    unpooling,
)


def prototxt(seed: int, most: int = 12) -> str:
    """A net that reads `data` (2, 4, 6, 6), and perhaps `index` (2)."""
    w = Writer(random.Random(seed).randint)
    inputs: dict[str, Shape] = {"data": (BATCH, 4, 6, 6)}
    if w.chance(12):
        inputs["index"] = (BATCH,)
    for name, shape in inputs.items():
        dims = " ".join(f"dim: {size}" for size in shape)
        w.lines.append(f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}')
        w.blobs = {name: shape, **w.blobs}
    if not w.chance(8):
        convolution(w)
    for _ in range(w.number(1, most)):
        STEPS[w.number(0, len(STEPS) - 1)](w)
    return "\n".join(w.lines)
