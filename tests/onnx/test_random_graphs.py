"""Random ONNX graphs, built so that every law meets every other: each value that survives the fold is what it was."""

from __future__ import annotations

import random
from collections.abc import Callable
from io import BytesIO
from itertools import count
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx_cases import Array, error, run, values_of
from seeds import seeded

from bnfold import fold, save_onnx
from bnfold.algebra.records import Kept
from bnfold.onnx.read import load_bytes

Shape = tuple[int, ...]

TOLERANCE = 2e-4
"""Of the range: a dozen float32 operations in another order. A wrong law is off by a thousand times that."""


class Builder:
    """A graph in the making; every constant is signed and differs in every place."""

    def __init__(self, choose: random.Random, opset: int) -> None:
        self.choose, self.opset = choose, opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.shapes: dict[str, Shape] = {"x": (2, 4, 6, 6), "z": (2, 4, 6, 6)}
        self.hidden: set[str] = set()
        self._numbers = count()
        self._values = np.random.default_rng(choose.randrange(1 << 30))

    def value(self) -> str:
        """A value to go on from, most often one that nobody reads yet: what has two readers folds seldom."""
        return self.choose.choice(self._unread([name for name in self.shapes if name not in self.hidden]))

    def like(self, shape: Shape) -> str | None:
        names = [name for name, other in self.shapes.items() if other == shape and name not in self.hidden]
        return self.choose.choice(self._unread(names)) if names else None

    def _unread(self, names: list[str]) -> list[str]:
        read = {name for node in self.nodes for name in node.input}
        unread = [name for name in names if name not in read]
        return unread[-2:] if unread and self.choose.random() < 0.9 else names[-4:]

    def constant(self, *shape: int, positive: bool = False) -> str:
        values = self._values.uniform(0.3, 1.6, shape).astype(np.float32)
        if not positive:
            values *= self._values.choice([-1, 1], shape).astype(np.float32)
        known = [name for name, other in self.constants.items() if other.shape == shape and other.dtype == np.float32]
        if known and not positive and self.choose.random() < 0.1:
            return self.choose.choice(known)
        return self.stored(values)

    def weight(self, *shape: int) -> str:
        """A constant, or numbers of a byte behind a DequantizeLinear."""
        if self.choose.random() < 0.8:
            return self.constant(*shape)
        numbers = self.stored(self._values.integers(-99, 99, shape).astype(np.int8))
        scale = self.constant(*self.choose.choice([(), shape[:1]]), positive=True)
        (weight,) = self.add("DequantizeLinear", [numbers, scale], [shape], axis=0)
        if self.choose.random() < 0.9:  # else it may be data, too
            self.hidden.add(weight)
        return weight

    def stored(self, values: Array) -> str:
        name = f"c{next(self._numbers)}"
        self.constants[name] = values
        return name

    def ints(self, *values: int) -> str:
        return self.stored(np.array(values, np.int64))

    def add(self, op_type: str, inputs: list[str], shapes: list[Shape], **attributes: Any) -> list[str]:
        names = [f"v{next(self._numbers)}" for _ in shapes]
        self.nodes.append(helper.make_node(op_type, inputs, names, name=f"n_{names[0]}", **attributes))
        self.shapes.update(zip(names, shapes, strict=True))
        return names

    def model(self) -> ModelProto:
        read = {name for node in self.nodes for name in node.input}
        made = [name for node in self.nodes for name in node.output]
        outputs = [name for name in made if name not in read or self.choose.random() < 0.05]
        is_open = self.choose.random() < 0.3  # other sizes are as they are with a batch of two
        batch = ["N"] if is_open else [2]
        said = {name: [None] * len(self.shapes[name]) if is_open else self.shapes[name] for name in outputs}
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [*batch, *self.shapes[name][1:]]) for name in "xz"
        ]
        ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, said[name]) for name in outputs]
        stored = [numpy_helper.from_array(values, name) for name, values in self.constants.items()]
        graph = helper.make_graph(self.nodes, "random", inputs, ports, stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


Maker = Callable[[Builder, str, Shape], None]


def conv(b: Builder, x: str, shape: Shape) -> None:
    if len(shape) != 4:
        return
    kernel, pad = b.choose.choice([1, 3]), b.choose.choice([0, 1])
    out = b.choose.choice([4, 8])
    group = b.choose.choice([g for g in (1, 2, 4) if shape[1] % g == 0 and out % g == 0])
    size = [s + 2 * pad - kernel + 1 for s in shape[2:]]
    if min(size) < 1:
        return
    bias = b.choose.choice([[], [b.constant(out)]])
    weight = b.weight(out, shape[1] // group, kernel, kernel)
    b.add("Conv", [x, weight, *bias], [(shape[0], out, *size)], pads=[pad] * 4, group=group, kernel_shape=[kernel] * 2)


def conv_transpose(b: Builder, x: str, shape: Shape) -> None:
    if len(shape) != 4 or max(shape[2:]) > 12:
        return
    group = b.choose.choice([g for g in (1, 2, 4) if shape[1] % g == 0])
    each, kernel = b.choose.choice([1, 2]), b.choose.choice([1, 2])
    bias = b.choose.choice([[], [b.constant(each * group)]])
    size = [(s - 1) * kernel + kernel for s in shape[2:]]
    weight = b.constant(shape[1], each, kernel, kernel)
    top = (shape[0], each * group, *size)
    b.add("ConvTranspose", [x, weight, *bias], [top], strides=[kernel] * 2, group=group)


def batch_normalization(b: Builder, x: str, shape: Shape) -> None:
    if len(shape) < 2:
        return
    c, positive = shape[1], b.choose.random() < 0.5
    parameters = [b.constant(c, positive=positive), b.constant(c), b.constant(c), b.constant(c, positive=True)]
    b.add("BatchNormalization", [x, *parameters], [shape], epsilon=0.01)


def arithmetic(b: Builder, x: str, shape: Shape) -> None:
    op_type = b.choose.choice(["Add", "Sub", "Mul", "Mul", "Div"])
    axis = b.choose.randrange(len(shape)) if b.choose.random() < 0.3 else min(1, len(shape) - 1)
    form = tuple(size if place == axis else 1 for place, size in enumerate(shape))
    several = tuple(b.choose.choice([1, size, size]) for size in shape[1:])
    form = b.choose.choice([form, form[axis:], form[axis:], (), (1,), several])
    constant = b.constant(*form, positive=b.choose.random() < 0.5)
    b.add(op_type, [constant, x] if b.choose.random() < 0.3 and op_type != "Div" else [x, constant], [shape])


def unary(b: Builder, x: str, shape: Shape) -> None:
    kinds = ["Relu", "LeakyRelu", "Neg", "Identity", "Dropout", "Sigmoid", "Abs", "Max", "Min", "Selu", "HardSigmoid"]
    op_type = b.choose.choice(kinds)
    zero = [b.stored(np.zeros(b.choose.choice([(), (1,)]), np.float32))] if op_type in ("Max", "Min") else []
    b.add(op_type, [x, *zero], [shape])


def clip(b: Builder, x: str, shape: Shape) -> None:
    """Two bounds, or one, some of them 0."""
    low, high = sorted(b.choose.choice([0.0, b.choose.uniform(-1, 1)]) for _ in range(2))
    bounds = [b.stored(np.array(bound, np.float32)) for bound in (low, high)]
    op_type = b.choose.choice(["Clip", "Clip", "Max", "Min"])
    if op_type == "Clip":
        missing = b.choose.choice([0, 0, 1, 2])
        b.add("Clip", [x, *("" if place == missing else name for place, name in enumerate(bounds, 1))], [shape])
    else:
        b.add(op_type, [x, bounds[op_type == "Min"]], [shape])


def prelu(b: Builder, x: str, shape: Shape) -> None:
    if len(shape) == 4:
        b.add("PRelu", [x, b.constant(shape[1], 1, 1)], [shape])


def pool(b: Builder, x: str, shape: Shape) -> None:
    if len(shape) != 4 or min(shape[2:]) < 2:
        return
    pad = b.choose.choice([0, 1])
    size = [(s + 2 * pad - 2) // 2 + 1 for s in shape[2:]]
    attributes: dict[str, object] = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [pad] * 4}
    op_type = b.choose.choice(["MaxPool", "AveragePool"])
    if op_type == "AveragePool":
        attributes["count_include_pad"] = b.choose.choice([0, 1])
    b.add(op_type, [x], [(*shape[:2], *size)], **attributes)


def reduce(b: Builder, x: str, shape: Shape) -> None:
    if len(shape) < 3:
        return
    op_type, keep = b.choose.choice(["ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2"]), b.choose.choice([0, 1])
    axes = sorted(b.choose.sample(range(1, len(shape)), b.choose.choice([1, 2])))
    top = [1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes]
    if b.opset >= 18:
        b.add(op_type, [x, b.ints(*axes)], [tuple(top)], keepdims=keep)
    else:
        b.add(op_type, [x], [tuple(top)], axes=axes, keepdims=keep)


def global_pool(b: Builder, x: str, shape: Shape) -> None:
    if len(shape) == 4:
        b.add(b.choose.choice(["GlobalAveragePool", "GlobalMaxPool"]), [x], [(*shape[:2], 1, 1)])


def join(b: Builder, x: str, shape: Shape) -> None:
    other = b.like(shape)
    op_type = b.choose.choice(["Add", "Sub", "Mul", "Max", "Min", "Concat", "Sum", "Mean"])
    if op_type in ("Concat", "Max", "Mean", "Min", "Sum") and b.choose.random() < 0.4:
        other = b.constant(*shape)
    if other is None:
        return
    if op_type == "Concat":
        axis = b.choose.randrange(len(shape))
        if shape[axis] <= 8:
            top = tuple(2 * size if place == axis else size for place, size in enumerate(shape))
            parts = b.choose.choice([[x, other], [other, x]])
            b.add(op_type, parts, [top], axis=b.choose.choice([axis, axis - len(shape)]))
    else:
        b.add(op_type, [x, other], [shape])


def choice(b: Builder, x: str, shape: Shape) -> None:
    """A mask or places along the first axis; the other side is data, zeros, or constants that vary somewhere."""
    form = b.choose.choice([shape, (), tuple(b.choose.choice([1, size]) for size in shape)])
    if b.choose.random() < 0.4:
        rows = b.choose.sample(range(shape[0]), b.choose.randrange(1, shape[0] + 1))
        into = b.choose.choice([b.like(shape) or x, b.constant(*shape), b.stored(np.zeros(shape, np.float32))])
        updates = b.add("Gather", [x, b.ints(*rows)], [(len(rows), *shape[1:])])[0]
        b.add("ScatterND", [into, b.stored(np.array(rows)[:, None]), updates], [shape])
    else:
        mask = b.stored(b._values.integers(0, 2, tuple(b.choose.choice([1, size]) for size in shape)) > 0)
        other = b.choose.choice([b.like(shape) or x, b.constant(*form), b.stored(np.zeros(form, np.float32))])
        b.add("Where", [mask, *b.choose.choice([[x, other], [other, x]])], [shape])


def broadcast(b: Builder, x: str, shape: Shape) -> None:
    small = [name for name, other in b.shapes.items() if name != x and _spreads(other, shape)]
    if small:
        b.add(b.choose.choice(["Add", "Mul", "Sub"]), [x, b.choose.choice(small)], [shape])


def _spreads(small: Shape, large: Shape) -> bool:
    padded = (1,) * (len(large) - len(small)) + small
    return len(small) <= len(large) and small != large and all(a in (1, c) for a, c in zip(padded, large, strict=True))


def transpose(b: Builder, x: str, shape: Shape) -> None:
    order = list(range(len(shape)))
    b.choose.shuffle(order)
    b.add("Transpose", [x], [tuple(shape[axis] for axis in order)], perm=order)


def reshape(b: Builder, x: str, shape: Shape) -> None:
    total = int(np.prod(shape))
    first = b.choose.choice([shape[0], 1, shape[0] * (shape[1] if len(shape) > 1 else 1)])
    rest = total // first
    second = b.choose.choice([size for size in (1, 2, 4, 8) if rest % size == 0])
    shapes = [(first, rest), (first, second, rest // second), (first, second, 1, rest // second)]
    top = b.choose.choice(shapes)
    b.add("Reshape", [x, b.ints(*top)], [top])


def flatten(b: Builder, x: str, shape: Shape) -> None:
    b.add("Flatten", [x], [(shape[0], int(np.prod(shape[1:])))])


def linear(b: Builder, x: str, shape: Shape) -> None:
    out = b.choose.choice([3, 4, 8])
    if len(shape) == 2 and b.choose.random() < 0.5:
        turned = b.choose.choice([0, 1])
        weight = b.constant(out, shape[1]) if turned else b.constant(shape[1], out)
        bias = b.choose.choice(
            [[], [b.constant(out)], [b.constant(1)], [b.constant(1, out)], [b.constant(shape[0], 1)]]
        )
        b.add("Gemm", [x, weight, *bias], [(shape[0], out)], transB=turned, alpha=b.choose.choice([1.0, 0.5]), beta=2.0)
    elif len(shape) >= 2 and b.choose.random() < 0.3:
        letters = "abcdefgh"[: len(shape)]
        known = b.choose.sample(letters, b.choose.randrange(1, len(shape)))
        left = [letter for letter in letters if letter not in known or b.choose.random() < 0.4]
        sizes = {"o": out, **dict(zip(letters, shape, strict=True))}
        given = "".join(b.choose.sample([*left, "o"], len(left) + 1))
        weight = b.constant(*(sizes[letter] for letter in (*known, "o")))
        made = tuple(sizes[letter] for letter in given)
        b.add("Einsum", [x, weight], [made], equation=f"{letters},{''.join(known)}o->{given}")
    elif len(shape) >= 3 and b.choose.random() < 0.2:
        form = b.choose.choice([(shape[-1],), (*shape[:-2], shape[-1], out), (shape[-3], shape[-1], out)])
        b.add("MatMul", [x, b.constant(*form)], [shape[:-1] if len(form) == 1 else (*shape[:-1], out)])
    elif len(shape) >= 2 and b.choose.random() < 0.7:
        (top,) = b.add("MatMul", [x, b.constant(shape[-1], out)], [(*shape[:-1], out)])
        if b.choose.random() < 0.6:
            b.add("Add", b.choose.choice([[top, c := b.constant(out)], [c, top]]), [(*shape[:-1], out)])
    elif len(shape) >= 2:
        b.add("MatMul", [b.constant(out, shape[-2]), x], [(*shape[:-2], out, shape[-1])])


def split(b: Builder, x: str, shape: Shape) -> None:
    axis = min(1, len(shape) - 1)
    if shape[axis] >= 2:
        parts = [1, shape[axis] - 1]
        tops = [tuple(part if place == axis else size for place, size in enumerate(shape)) for part in parts]
        b.add("Split", [x, b.ints(*parts)], tops, axis=axis)


def take(b: Builder, x: str, shape: Shape) -> None:
    axis = b.choose.randrange(len(shape))
    size = shape[axis]
    if b.choose.random() < 0.5:
        indices = [b.choose.randrange(-size, size) for _ in range(b.choose.choice([1, 2, 4]))]
        top = tuple(len(indices) if place == axis else one for place, one in enumerate(shape))
        b.add("Gather", [x, b.ints(*indices)], [top], axis=axis)
    elif size > 1:
        top = tuple(size - 1 if place == axis else one for place, one in enumerate(shape))
        b.add("Slice", [x, b.ints(1), b.ints(1 << 40), b.ints(axis)], [top])


def parts(b: Builder, x: str, shape: Shape) -> None:
    """Both halves of a blob along one axis, each without its first or last step along another, which comes back."""
    long = [axis for axis, size in enumerate(shape) if size > 1]
    if len(long) < 2:
        return
    halved, cut = b.choose.sample(long, 2)
    middle, made = shape[halved] // 2, []
    for begin, end in ((0, middle), (middle, shape[halved])):
        start = b.choose.choice([0, 1])
        sizes = {halved: end - begin, cut: shape[cut] - 1}
        form = tuple(sizes.get(axis, size) for axis, size in enumerate(shape))
        bounds = (b.ints(begin, start), b.ints(end, start + sizes[cut]), b.ints(halved, cut))
        (part,) = b.add("Slice", [x, *bounds], [form])
        rest = tuple(1 if axis == cut else size for axis, size in enumerate(form))
        again = b.choose.choice([b.stored(np.zeros(rest, np.float32)), b.constant(*rest)])
        whole = tuple(shape[cut] if axis == cut else size for axis, size in enumerate(form))
        made += b.add("Concat", [part, again] if start else [again, part], [whole], axis=cut)
    b.add("Concat", made, [shape], axis=halved)


def pad(b: Builder, x: str, shape: Shape) -> None:
    if len(shape) != 4 or min(shape[2:]) < 2 or max(shape[2:]) > 8:
        return
    top = (*shape[:2], shape[2] + 1, shape[3] + 1)
    b.add("Pad", [x, b.ints(0, 0, 1, 0, 0, 0, 0, 1)], [top], mode=b.choose.choice(["constant", "edge", "reflect"]))


def rearrange(b: Builder, x: str, shape: Shape) -> None:
    if len(shape) != 4:
        return
    n, c, h, w = shape
    if c % 4 == 0:
        b.add("DepthToSpace", [x], [(n, c // 4, 2 * h, 2 * w)], blocksize=2, mode=b.choose.choice(["DCR", "CRD"]))
    elif h % 2 == 0 and w % 2 == 0:
        b.add("SpaceToDepth", [x], [(n, 4 * c, h // 2, w // 2)], blocksize=2)


def enlarge(b: Builder, x: str, shape: Shape) -> None:
    if len(shape) == 4 and max(shape[2:]) <= 6:
        scales = b.stored(np.array([1, 1, 2, 2], np.float32))
        b.add(
            "Resize",
            [x, "", scales],
            [(*shape[:2], 2 * shape[2], 2 * shape[3])],
            mode=b.choose.choice(["nearest", "linear"]),
        )


def repeat(b: Builder, x: str, shape: Shape) -> None:
    if int(np.prod(shape)) > 600:
        return
    axis = b.choose.randrange(len(shape))
    top = tuple(2 * size if place == axis else size for place, size in enumerate(shape))
    b.add("Tile", [x, b.ints(*(2 if place == axis else 1 for place in range(len(shape))))], [top])


def axes(b: Builder, x: str, shape: Shape) -> None:
    if len(shape) < 5:
        axis = b.choose.randrange(len(shape) + 1)
        b.add("Unsqueeze", [x, b.ints(axis)], [(*shape[:axis], 1, *shape[axis:])])
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    if ones and len(shape) > 2:
        axis = b.choose.choice(ones)
        b.add("Squeeze", [x, b.ints(axis)], [(*shape[:axis], *shape[axis + 1 :])])


def normalize(b: Builder, x: str, shape: Shape) -> None:
    if len(shape) == 4 and min(shape[2:]) > 1:
        b.add("InstanceNormalization", [x, b.constant(shape[1]), b.constant(shape[1])], [shape])
    elif b.opset >= 17:
        b.add("LayerNormalization", [x, b.constant(shape[-1]), b.constant(shape[-1])], [shape])


MAKERS: list[Maker] = [
    *[conv, batch_normalization, arithmetic, linear, unary] * 3,
    *[
        clip,
        conv_transpose,
        prelu,
        pool,
        reduce,
        global_pool,
        join,
        join,
        choice,
        broadcast,
        transpose,
        reshape,
        flatten,
        split,
        take,
        parts,
    ],
    *[pad, rearrange, enlarge, repeat, axes, normalize],
]


def random_model(choose: random.Random, opset: int) -> ModelProto:
    builder = Builder(choose, opset)
    for _ in range(choose.randrange(3, 16)):
        blob = builder.value()
        choose.choice(MAKERS)(builder, blob, builder.shapes[blob])
    return builder.model()


def feeds(seed: int) -> dict[str, Array]:
    values = np.random.default_rng(seed)
    return {name: values.normal(0, 1, (2, 4, 6, 6)).astype(np.float32) for name in "xz"}


def folded_bytes(data: bytes) -> tuple[bytes, list[object]]:
    result = fold(load_bytes(data))
    stream = BytesIO()
    save_onnx(result.net, stream)
    return stream.getvalue(), list(result.report.records)


def check(model: ModelProto) -> None:
    """Fold, and compare every value that has the same name in both."""
    data = model.SerializeToString()
    folded, _ = folded_bytes(data)
    result = ModelProto.FromString(folded)
    onnx.checker.check_model(result, full_check=True)
    names = sorted(set(values_of(model)) & set(values_of(result)))
    before, after = run(data, feeds(1), names), run(folded, feeds(1), names)
    for name in names:
        if np.isfinite(before[name]).all():
            assert error(after[name], before[name]) < TOLERANCE, name
    again, more = folded_bytes(folded)
    assert not [record for record in more if not isinstance(record, Kept)]
    assert again == folded


@pytest.mark.parametrize("opset", [13, 17, 20])
@seeded(40)
def test_every_surviving_value_of_a_random_graph_stays(opset: int, seed: int) -> None:
    # One graph in a hundred or two shows a law that asks too little; two of these show a shift that passes zeros from
    # outside, and four a scale below 0 that passes a maximum.
    model = random_model(random.Random(1000 * opset + 60 + seed), opset)
    if model.graph.node:
        check(model)
