"""Rules that many layers share: axes that count from the end, values given once, per spatial axis, or as `_h` and `_w`.

Caffe lets a window be written three ways. `kernel_size: 3` holds for every spatial axis, `kernel_size: 3
kernel_size: 5` names them in order, and `kernel_h: 3 kernel_w: 5` names them where there are exactly two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.message import Message

from bnfold.errors import ModelError, counted
from bnfold.net import Layer, Shape, sizes

UNKNOWN = -1
"""A dimension that depends on the data, like the number of boxes that a detector finds."""

DEFAULTS: Mapping[str, int | None] = {"dilation": 1, "hole": 1, "kernel_size": None, "pad": 0, "stride": 1}
"""What holds along each axis where nothing is written; a kernel must be."""

PAIRS: Mapping[str, tuple[str, str]] = {
    f"{out}{name}": (f"{out}{short}_h", f"{out}{short}_w")
    for out in ("", "out_")
    for name, short in (("hole", "hole"), ("kernel_size", "kernel"), ("pad", "pad"), ("stride", "stride"))
}
"""A window's value -> its fields for the two axes of a plane."""


def canonical_axis(axis: int, rank: int, layer: Layer | None = None) -> int:
    """The axis counted from the front.

    Args:
        axis: `-rank <= axis < rank`; a negative one counts from the end.
        rank: how many axes the blob has.
        layer: who asks, for the message.

    Raises:
        ModelError: the blob has no such axis.
    """
    if not -rank <= axis < rank:
        whose = "" if layer is None else f"{layer}: "
        raise ModelError(f"{whose}axis {axis} is outside a blob of {counted(rank, 'axis')}")
    return axis % rank


def each_size(formula: Callable[..., int], *sizes: Sequence[int]) -> Shape:
    """The formula's size along each axis, 0 where nothing is left, UNKNOWN where the first of its arguments is."""
    return tuple([UNKNOWN if row[0] == UNKNOWN else max(0, formula(*row)) for row in zip(*sizes, strict=True)])


def written(param: Message, name: str) -> Any:
    """The value of a field, None where it is not written or the message has no such field."""
    return getattr(param, name) if hasattr(param, name) and param.HasField(name) else None


Said = Mapping[str, Any]
"""What a message says, by the names of the fields that are written in it."""


def all_written(param: Message) -> Said:
    """Every field that is written, as `written` gives it one by one."""
    return {field.name: value for field, value in param.ListFields()}


def listed(said: Said, name: str) -> Sequence[int]:
    """The values of a field, be it a list or one number; () where nothing is written."""
    value: int | Sequence[int] = said.get(name, ())
    return (value,) if isinstance(value, int) else value


def listed_in_shape(said: Said, name: str) -> Sequence[int]:
    """The values that `kernel_shape`, `stride_shape` or `pad_shape` lists, else those of the field itself."""
    shape = said.get(f"{name.removesuffix('_size')}_shape")
    return listed(said, name) if shape is None else tuple(shape.dim)


def per_axis(layer: Layer, said: Said, name: str, spatial: int, values: Sequence[int] | None = None) -> tuple[int, ...]:
    """One value per spatial axis, however it was written.

    Args:
        layer: for messages.
        said: what its parameters say.
        name: `kernel_size`, `stride`, `pad`, `dilation` or DeepLab's `hole`, perhaps with `out_` in front.
        spatial: how many spatial axes there are.
        values: what the field lists: nothing, one value for all axes, or one for each; read if None.

    Raises:
        ModelError: nothing is given and there is no default; both forms are; the count does not fit.
    """
    values = listed(said, name) if values is None else values
    height, width = map(said.get, PAIRS.get(name, ("", "")))
    if height is not None or width is not None:
        if values:
            raise ModelError(f"{layer}: {name} is given both for all axes and as _h and _w; keep one")
        if spatial != 2:
            raise ModelError(f"{layer}: {name} is given as _h and _w, but the spatial axes number {spatial}, not 2")
        return (height or 0, width or 0)
    if spatial == 0 and len(values) <= 1:
        return ()
    if not values:
        default = DEFAULTS[name.removeprefix("out_")]
        if default is None:
            raise ModelError(f"{layer}: {name} is not given")
        return (default,) * spatial
    if len(values) == 1:
        return (values[0],) * spatial
    if len(values) != spatial:
        raise ModelError(f"{layer}: {name} has {counted(len(values), 'value')} for {spatial} spatial axes")
    return tuple(values)


def at_least_1(layer: Layer, word: str, values: Sequence[int]) -> None:
    """Refuse a value below 1, naming it.

    Raises:
        ModelError: some value is too small.
    """
    if values and min(values) < 1:
        raise ModelError(f"{layer}: {word} {'x'.join(map(str, values))} must be at least 1")


def pads_below_kernel(layer: Layer, word: str, pads: Sequence[int], kernel: Sequence[int]) -> None:
    """Refuse padding by a whole kernel or more, in which a window would lie that meets no pixel. Raises ModelError."""
    if any(pad >= taps for pad, taps in zip(pads, kernel, strict=True) if pad):
        raise ModelError(f"{layer}: {word} {sizes(pads)} must be smaller than the kernel {sizes(kernel)}")


def is_empty(shape: Sequence[int]) -> bool:
    """Whether a size is known, and leaves nothing."""
    return any(size < 1 and size != UNKNOWN for size in shape)


def fields_at_least_1(layer: Layer, param: Message, *names: str) -> None:
    """Refuse fields of which one is below 1, naming them. Raises ModelError."""
    *first, last = names
    at_least_1(layer, f"{', '.join(first)} and {last}" if first else last, [getattr(param, name) for name in names])
