"""Rules that many layers share: axes that count from the end, values given once, per spatial axis, or as `_h` and `_w`.

Caffe lets a window be written three ways. `kernel_size: 3` holds for every spatial axis, `kernel_size: 3
kernel_size: 5` names them in order, and `kernel_h: 3 kernel_w: 5` names them where there are exactly two.
"""

from __future__ import annotations

from collections.abc import Sequence

from bnfold.errors import ModelError
from bnfold.net import Layer

UNKNOWN = -1
"""A dimension that depends on the data, like the number of boxes that a detector finds."""


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
        raise ModelError(f"{_whose(layer)}axis {axis} is outside a blob of {rank} axes")
    return axis % rank


def per_axis(
    layer: Layer,
    word: str,
    listed: Sequence[int],
    pair: tuple[int | None, int | None],
    spatial: int,
    default: int | None,
) -> tuple[int, ...]:
    """One value per spatial axis, however it was written.

    Args:
        layer: whose parameter it is.
        word: its name, for messages.
        listed: the repeated field: nothing, one value for all axes, or one for each.
        pair: the `_h` and `_w` fields, None where absent.
        spatial: how many spatial axes there are.
        default: the value when nothing is given, None when one must be.

    Raises:
        ModelError: nothing is given and there is no default; both forms are; the count does not fit.
    """
    height, width = pair
    if height is not None or width is not None:
        if listed:
            raise ModelError(f"{layer}: {word} is given both for all axes and as _h and _w; keep one")
        if spatial != 2:
            raise ModelError(f"{layer}: {word} is given as _h and _w, but the spatial axes number {spatial}, not 2")
        return (height or 0, width or 0)
    if spatial == 0 and len(listed) <= 1:
        return ()
    if not listed:
        if default is None:
            raise ModelError(f"{layer}: {word} is not given")
        return (default,) * spatial
    if len(listed) == 1:
        return (listed[0],) * spatial
    if len(listed) != spatial:
        raise ModelError(f"{layer}: {word} has {len(listed)} values for {spatial} spatial axes")
    return tuple(listed)


def at_least(layer: Layer, word: str, values: Sequence[int], least: int) -> None:
    """Refuse a value below `least`, naming it.

    Raises:
        ModelError: some value is too small.
    """
    if values and min(values) < least:
        raise ModelError(f"{layer}: {word} {'x'.join(map(str, values))} must be at least {least}")


def _whose(layer: Layer | None) -> str:
    return "" if layer is None else f"{layer}: "
