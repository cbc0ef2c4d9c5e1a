"""Sizes that nodes compute of sizes, some of which are known only when the network runs.

They are vectors of whole numbers, as Shape makes them, in which a size that is not known is a number that none is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bnfold.net import Array, Shape
from bnfold.onnx.call import Call
from bnfold.onnx.constants import ELEMENTWISE, compute
from bnfold.onnx.node import Windows

UNKNOWN = -1
"""A size of which nothing is known, not even which others are equal."""
OPEN = 1 << 30
"""Among computed sizes, n more than this stands for the size that a shape calls -n. An int32 holds it."""
WHOLE = (np.int32, np.int64)
"""The types that sizes are computed in."""
BLOCKED = "com.microsoft.nchwc"
"""The domain of what onnxruntime does with channels that lie in blocks."""
MAX_SIZES = 1 << 7
"""How many numbers are followed at once; the rank of a blob is smaller still."""


def last_window(size: int, before: int, after: int, reach: int, stride: int) -> int:
    """Where the last window of a pool begins, by its pads in front and behind, with ceil_mode."""
    return -(-(size + before + after - reach) // stride) * stride - before


def coded(size: int) -> int:
    """A size as it stands among computed ones; such a large one is none that is known."""
    return OPEN - size if size < 0 else min(size, OPEN - UNKNOWN)


def is_open(values: Array) -> npt.NDArray[np.bool_]:
    """Which of several numbers stand for sizes that are not known."""
    if values.dtype not in WHOLE:
        return np.zeros(values.shape, np.bool_)
    return (values > OPEN) & (values < OPEN + OPEN // 2)


class Form(NamedTuple):
    """`factor*name + plus`, of a size that is not known, as it stands among computed ones."""

    factor: int
    name: int
    plus: int


@dataclass(slots=True)
class Forms:
    """Sizes that are not known and are computed from others, so that equal ones are known as such.

    Attributes:
        number: gives what has no name yet one, which is a number below 0.
        made: size, as it stands among computed ones -> what it is.
    """

    number: Callable[[object], int]
    made: dict[int, Form] = field(default_factory=dict)

    def of(self, size: int) -> Form | None:
        """What a size is; None where nothing is known of it."""
        if size == OPEN - UNKNOWN:
            return None
        return self.made.get(size, Form(1, size, 0)) if size > OPEN else Form(0, 0, size)

    def is_size(self, size: int) -> bool:
        """Whether it is known, or never below 0, as a 0 or -1 that is computed means something else to a Reshape."""
        form = self.of(size)
        return form is not None and (form.factor == 0 or (form.factor > 0 and form.plus >= 0))

    def size(self, form: Form | None) -> int:
        """What is so much, as it stands among computed sizes."""
        if form is None or max(map(abs, (form.factor, form.plus))) >= OPEN:
            return OPEN - UNKNOWN
        if form.factor == 0 or form == (1, form.name, 0):
            return form.plus + form.factor * form.name
        size = OPEN - self.number(form)
        self.made[size] = form
        return size

    def quotient(self, form: Form | None, divisor: int) -> Form | None:
        """A size divided by a number > 0 and rounded down: one that this leaves open has a name of its own."""
        if form is None or form.factor % divisor == 0:
            return form and Form(form.factor // divisor, form.name, form.plus // divisor)
        return Form(1, OPEN - self.number((form, divisor)), 0)


def _sum(one: Form | None, other: Form | None, sign: int = 1) -> Form | None:
    if one is None or other is None or (one.factor and other.factor and one.name != other.name):
        return None
    factor = one.factor + sign * other.factor
    return Form(factor, one.name or other.name, one.plus + sign * other.plus)


def _product(one: Form | None, other: Form | None) -> Form | None:
    if one is None or other is None or (one.factor and other.factor):
        return None
    varying, number = (one, other.plus) if one.factor else (other, one.plus)
    return Form(varying.factor * number, varying.name, varying.plus * number)


LINEAR: Mapping[str, Callable[..., Form | None]] = {
    "Add": _sum,
    "Mul": _product,
    "Neg": lambda one: _sum(Form(0, 0, 0), one, -1),
    "Sub": lambda one, other: _sum(one, other, -1),
}
"""What operators make of sizes that are linear in one that is not known."""


def computed_sizes(call: Call, forms: Forms) -> Array | None:
    """The value of an expression: sizes that are not known may be moved in it, and are followed where it is linear."""
    value = compute(call, MAX_SIZES)
    if value is None or value.size > MAX_SIZES or value.dtype.kind not in "biuf":
        return None
    op_type = call.node.op_type
    opened = [is_open(one) for one in call.inputs if one is not None]
    places = [place for place, one in enumerate(opened) if one.any()]
    if op_type in ELEMENTWISE or op_type == "Mod":
        unknown = np.logical_or.reduce(np.broadcast_arrays(*opened))
        value = np.where(unknown, OPEN - UNKNOWN, value)
        operands = np.broadcast_arrays(*[one for one in call.inputs if one is not None])
        for place in np.ndindex(value.shape) if op_type in LINEAR else ():
            if unknown[place]:
                value[place] = forms.size(LINEAR[op_type](*(forms.of(int(one[place])) for one in operands)))
        return value
    if op_type == "ReduceProd" and places == [0] and value.size == 1:
        form = reduce(_product, map(forms.of, call.inputs[0].reshape(-1).tolist()))  # type: ignore[union-attr]
        return np.full_like(value, forms.size(form)) if value.dtype in WHOLE else None
    moved = op_type in {"Concat", "Shape"} or (op_type in MOVING and places == [0])
    return value if moved and value.dtype in WHOLE else None


def _reshaped(call: Call, forms: Forms) -> Shape | None:
    """What a Reshape makes: 0 keeps a size unless `allowzero` says otherwise; -1 stands for what the others leave."""
    before, wanted = call.shape(), call.value(1)
    if wanted is None or wanted.ndim != 1 or wanted.dtype not in WHOLE:
        ranks = call.shape(1)
        return (UNKNOWN,) * ranks[0] if ranks is not None and len(ranks) == 1 and ranks[0] <= MAX_SIZES else None
    sizes = [size if forms.is_size(size) else OPEN - UNKNOWN for size in wanted.tolist()]
    if not call.attribute("allowzero", 0):
        kept = [*(before or ()), *[OPEN - UNKNOWN] * len(sizes)]
        sizes = [kept[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    unsaid = [place for place, size in enumerate(sizes) if size in (-1, OPEN - UNKNOWN)]
    if len(unsaid) == 1:
        sizes[unsaid[0]] = _left(before, [size for place, size in enumerate(sizes) if place != unsaid[0]])
    return _shape(sizes)


def _resized(call: Call, _: Forms) -> Shape | None:
    """What a Resize or Upsample makes, to sizes or by scales; of axes that it names the others stay."""
    before, wanted, scales = call.shape(), call.value(3), scales_of(call)
    named = call.attribute("axes", ()) if "axes" in call.attributes else None
    exact = call.attribute("keep_aspect_ratio_policy", "stretch") == "stretch"
    if wanted is not None and (wanted.ndim != 1 or wanted.dtype not in WHOLE):
        return None
    if wanted is not None and named is None:
        return _shape(wanted.tolist()) if exact else None
    axes = _axes_of(before, named)
    if before is None or axes is None:
        return None
    made = [scaled(before[axis], scale) for axis, scale in zip(axes, scales, strict=False)]
    made = made if wanted is None else wanted.tolist()
    if not exact or len(made) != len(axes):
        if named is None:
            return None
        made = [OPEN - UNKNOWN] * len(axes)
    sizes = list(before)
    for axis, size in zip(axes, made, strict=True):
        sizes[axis] = size
    return _shape(sizes)


def _axes_of(before: Shape | None, written: Sequence[int] | None) -> list[int] | None:
    """The axes that a node names, counted from the front, or all of them; None where they make no sense."""
    if before is None:
        return None
    rank = len(before)
    axes = [*range(rank)] if written is None else [axis % rank for axis in written if -rank <= axis < rank]
    return axes if len({*axes}) == len(axes if written is None else written) else None


def scales_of(call: Call) -> list[float]:
    """The scales of a Resize or Upsample, which are an attribute before opset 9; none where they are not known."""
    place = 2 if call.node.op_type == "Resize" and call.opset >= 11 else 1
    given = call.value(place)
    return list(call.attribute("scales", ())) if given is None else given.reshape(-1).tolist()


def scaled(size: int, scale: float) -> int:
    """A size times a scale: open where float32, in which onnxruntime multiplies, makes another whole number of it."""
    if scale == 1.0:
        return size
    exact, rounded = size * scale, np.float32(size) * np.float32(scale)
    is_known = size <= OPEN and 0 < exact < OPEN and int(exact) == int(rounded)
    return int(exact) if is_known else OPEN - UNKNOWN


def _expanded(call: Call, _: Forms) -> Shape | None:
    """What an Expand makes."""
    before, wanted = call.shape(), call.value(1)
    if before is None or wanted is None or wanted.ndim != 1 or wanted.dtype not in WHOLE or min(wanted, default=0) < 0:
        return None
    rank = max(len(before), len(wanted))
    both = ([1] * (rank - len(sizes)) + [*map(int, sizes)] for sizes in (before, wanted))
    return _shape([_common(one, other) for one, other in zip(*both, strict=True)])


def _common(one: int, other: int) -> int:
    """What two sizes give that are laid over each other: an open one is 1, or what the other is."""
    if 1 in (one, other):
        return other if one == 1 else one
    return one if one == other else min(one, other, OPEN - UNKNOWN)


def _padded(call: Call, forms: Forms) -> Shape | None:
    """What a Pad makes: axes that it leaves alone are known whatever the others become."""
    before, amounts, written = call.shape(), call.value(1), call.value(3)
    axes = _axes_of(before, None if written is None else written.reshape(-1).tolist())
    if before is None or axes is None or (call.given(3) and written is None):
        return None
    if amounts is None or amounts.size != 2 * len(axes):
        return None
    sizes = list(before)
    for axis, *sides in zip(axes, *amounts.reshape(2, -1).tolist(), strict=True):
        sizes[axis] = forms.size(reduce(_sum, map(forms.of, (sizes[axis], *sides))))
    return _shape(sizes)


def _transposed(call: Call, forms: Forms) -> Shape | None:
    """What a ConvTranspose makes that says its pads: `(size - 1)*stride + output_padding + reach - pads`."""
    before, weight = call.shape(), call.shape(1)
    if before is None or weight is None or len(before) != len(weight) or "output_shape" in call.attributes:
        return None
    windows, further = _windows(call, len(before) - 2), call.attribute("output_padding", (0,) * (len(before) - 2))
    if windows is None or len(further) != len(before) - 2:
        return None
    sizes = [before[0], weight[1] * call.attribute("group", 1)]
    by_axis = zip(before[2:], weight[2:], further, *windows, strict=True)
    for size, kernel, more, stride, dilation, start, end in by_axis:
        more += (kernel - 1) * dilation + 1 - start - end - stride
        sizes.append(forms.size(_sum(_product(forms.of(size), Form(0, 0, stride)), Form(0, 0, more))))
    return _shape(sizes)


def _slid(call: Call, forms: Forms) -> Shape | None:
    """What a Conv or a pool makes that says its pads: `(size + pads - reach)/stride + 1`, rounded down."""
    before, weight = call.shape(), call.shape(1) if call.node.op_type == "Conv" else None
    if before is None or len(before) < 3 or call.attribute("ceil_mode", 0):
        return None
    kernel = call.attribute("kernel_shape", ()) if weight is None else weight[2:]
    windows = _windows(call, len(kernel)) if len(kernel) == len(before) - 2 else None
    if windows is None or min(*kernel, *windows.strides) < 1 or max(kernel) >= OPEN:
        return None
    sizes = [before[0], before[1] if weight is None else weight[0]]
    for size, taps, stride, dilation, start, end in zip(before[2:], kernel, *windows, strict=True):
        further = start + end - (taps - 1) * dilation - 1
        steps = forms.quotient(_sum(forms.of(size), Form(0, 0, further)), stride)
        sizes.append(forms.size(_sum(steps, Form(0, 0, 1))))
    return _shape(sizes)


def _windows(call: Call, count: int) -> Windows | None:
    """The windows of a node that says its pads."""
    return Windows.of(call.attributes, count) if call.attribute("auto_pad", "NOTSET") == "NOTSET" else None


def _sliced(call: Call, _: Forms) -> Shape | None:
    """What a Slice makes of axes that it does not cut; onnx finds the others where they are known."""
    before, axes, ends = call.shape(), call.value(3), (call.value(1), call.value(2))
    if not before or axes is None or not any(end is None or is_open(end).any() for end in ends):
        return None
    cut = {axis % len(before) for axis in axes.reshape(-1).tolist()}
    return _shape([OPEN - UNKNOWN if axis in cut else size for axis, size in enumerate(before)])


def _parted(call: Call, _: Forms) -> Shape | None:
    """What each output of a Split has whose sizes are known only when it runs; onnx finds the others."""
    before, sizes, axis = call.shape(), call.value(1), call.attribute("axis", 0)
    if not before or not call.given(1) or not -len(before) <= axis < len(before):
        return None
    if sizes is not None and not is_open(sizes).any():
        return None
    made = list(before)
    made[axis] = OPEN - UNKNOWN
    return _shape(made)


def _of_columns(call: Call, _: Forms) -> Shape | None:
    """What a MatMulNBits makes: N columns."""
    before, columns = call.shape(), call.attribute("N", 0)
    return _shape((*before[:-1], columns)) if before and columns > 0 else None


def _reordered(call: Call, _: Forms) -> Shape | None:
    """What leaves the blocks of channels that onnxruntime convolves, or enters them, where a block may be filled up."""
    before, behind = call.shape(), call.attribute("channels_last", 0)
    if before is None or len(before) != 4:
        return None
    if call.node.op_type == "ReorderInput":
        return _shape((before[0], OPEN - UNKNOWN, *(before[1:3] if behind else before[2:])))
    channels, plane = call.attribute("channels", 0), before[2:]
    return _shape((before[0], *plane, channels) if behind else (before[0], channels, *plane)) if channels > 0 else None


def _as_read(call: Call, _: Forms) -> Shape | None:
    """What a norm of a sum makes, and the sum: as many as it reads."""
    before = call.shape()
    return None if before is None else _shape(before)


def _attended(call: Call, _: Forms) -> Shape | None:
    """What an attention of onnxruntime makes: a row of values of all heads for each query."""
    before = call.shape()
    columns = ATTENDED[call.node.op_type](call) if before is not None and len(before) == 3 else 0
    return _shape((*before[:2], columns)) if before is not None and 0 < columns < OPEN else None


def _of_weight(call: Call) -> int:
    """The third kind of columns that a weight of queries, keys and values has, or a third of them all."""
    weight, counts = call.shape(1), call.attribute("qkv_hidden_sizes", ())
    return int(counts[2]) if len(counts) == 3 else weight[1] // 3 if weight and len(weight) == 2 and not counts else 0


def _of_values(call: Call) -> int:
    """The columns of the values, unless these lie by heads or beside the queries."""
    values = call.shape(2)
    return values[2] if values and len(values) == 3 else 0


def _of_groups(call: Call) -> int:
    """As many columns as the queries have, beside which keys and values of fewer heads may lie."""
    (_, _, columns), heads = call.shape() or (0, 0, 0), call.attribute("num_heads", 0)
    others = 0 if call.given(1) else 2 * call.attribute("kv_num_heads", 0)
    return columns // (heads + others) * heads if heads > 0 and others >= 0 and 0 < columns < OPEN else 0


ATTENDED: Mapping[str, Callable[[Call], int]] = {
    "Attention": _of_weight,
    "GroupQueryAttention": _of_groups,
    "MultiHeadAttention": _of_values,
}
"""Attentions of onnxruntime, and how many columns of values each has; 0 where that is unknown."""


def _tiled(call: Call, forms: Forms) -> Shape | None:
    """What a Tile makes: each size as many times as is said."""
    before, times = call.shape(), call.value(1)
    if before is None or times is None or times.dtype not in WHOLE or times.shape != (len(before),):
        return None
    pairs = zip(before, times.tolist(), strict=True)
    return _shape([forms.size(_product(forms.of(size), forms.of(count))) for size, count in pairs])


def _normalised(call: Call, _: Forms) -> Shape | None:
    """What a BatchNormalization or InstanceNormalization makes: as many channels as it has parameters, or nothing."""
    before, scale = call.shape(), call.shape(1)
    if before is None or len(before) < 2 or scale is None or len(scale) != 1 or not call.attribute("spatial", 1):
        return None
    return _shape((before[0], scale[0], *before[2:]))


def _shape(sizes: Sequence[int]) -> Shape:
    """Sizes as a shape has them."""
    return tuple(max(size, UNKNOWN) if size <= OPEN else OPEN - size for size in sizes)


def _left(before: Shape | None, others: Sequence[int]) -> int:
    """The size that is left for a -1: what is known is divided by what is known, and equal names cancel."""
    names = [size for size in before or () if size > OPEN]
    for name in (size for size in others if size > OPEN):
        if name not in names:
            return OPEN - UNKNOWN
        names.remove(name)
    whole, part = (prod(size for size in sizes if size <= OPEN) for sizes in (before or (), others))
    if before is None or part < 1 or whole % part or OPEN - UNKNOWN in (*before, *others):
        return OPEN - UNKNOWN
    if names:
        return names[0] if len(names) == 1 and whole == part else OPEN - UNKNOWN
    return min(whole // part, OPEN - UNKNOWN)


SIZED: Mapping[str, Callable[[Call, Forms], Shape | None]] = {
    "AveragePool": _slid,
    "BatchNormalization": _normalised,
    "Conv": _slid,
    "ConvTranspose": _transposed,
    "Expand": _expanded,
    "InstanceNormalization": _normalised,
    "MaxPool": _slid,
    "Pad": _padded,
    "Reshape": _reshaped,
    "Resize": _resized,
    "Slice": _sliced,
    "Split": _parted,
    "Tile": _tiled,
    "Upsample": _resized,
    **dict.fromkeys((f"com.microsoft.{name}" for name in ATTENDED), _attended),
    "com.microsoft.MatMulNBits": _of_columns,
    **dict.fromkeys((f"{BLOCKED}.{name}" for name in ("AveragePool", "Conv", "MaxPool")), _slid),
    **dict.fromkeys((f"{BLOCKED}.{name}" for name in ("ReorderInput", "ReorderOutput")), _reordered),
    **dict.fromkeys(
        ("com.microsoft.SkipLayerNormalization", "com.microsoft.SkipSimplifiedLayerNormalization"), _as_read
    ),
}
"""What makes a blob of computed sizes, and the shape that they give it, None where that is not known."""
MOVING = frozenset(["Cast", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"])
"""Operators that move the elements of their first input, and may do so with sizes that are not known."""
