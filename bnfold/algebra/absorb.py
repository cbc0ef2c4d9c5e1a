"""How a linear operator takes an affine into its weight and its bias.

With W the weight, b the bias, s and h the affine's scale and shift, o an output and i an input channel:

    backward, A(L(x)):   W'[o, i] = s[o]*W[o, i]        b'[o] = s[o]*b[o] + h[o]
    forward,  L(A(x)):   W'[o, i] = W[o, i]*s[i]        b'[o] = b[o] + sum over i and the kernel of W[o, i]*h[i]

Where each value of the top is one of W, as in an embedding, W takes the shift, too: `W'[o, i] = s[o]*W[o, i] + h[o]`.
Where a layer has no bias and no place for one, it takes the scale from in front, and its top carries the shift on:

    L(A(x)) = L'(x) + h'                               h'[o] = sum over i and the kernel of W[o, i]*h[i]

Backward with a BatchNorm's affine is section 3.2 of Jacob et al., arXiv:1712.05877. The layouts differ; the operator
says where o and i are in its weight (`Linear.outputs`, `Linear.inputs`). Nothing here looks at the graph or at a
language; what cannot take the affine raises `Blocked`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bnfold.algebra.affine import Affine, Values, aligned, constant_along, everywhere, of_rank
from bnfold.algebra.operators import Constant, Linear, Port
from bnfold.algebra.records import Blocked, block, require
from bnfold.algebra.scaled import (
    Rounded,
    Scaled,
    exact_values,
    keeps_digits,
    largest_of,
    loses_digits,
    scaled,
    stays_finite,
)

if TYPE_CHECKING:
    from bnfold.net import LazyArray, Shape

SUMMED_AT_ONCE = 1 << 20


class OutOfRange(Blocked):
    """What a layer would hold does not fit its type; together with what it takes from others it may."""


class Change(NamedTuple):
    """What becomes of a layer that absorbs.

    Attributes:
        weight: its new weight.
        bias: its new bias, aligned with the top's first axis; None where it has none.
        left: the affine that remains on its top; None where the layer absorbed all of it.
    """

    weight: LazyArray
    bias: Values | None
    left: Affine | None = None


def absorb_backward(linear: Linear | Constant, affine: Affine) -> Change:
    """`A(L(x))` as one layer.

    Raises:
        Blocked: the affine varies along an axis that the weight does not have, or a new value would not be finite.
    """
    if isinstance(linear, Constant):
        return _constant(linear, affine)
    block(linear.no_backward)
    _require_sign(linear, affine)
    affine = Affine(*(_one_of_each_group(values, linear.outputs) for values in (affine.scale, affine.shift)))
    scale = _over_view(affine.scale, linear.outputs, linear.view)
    weight = scaled(linear.weight, linear.view, scale)
    if linear.bias is None and affine.keeps_zero:
        return _changed(linear, weight, None)
    block(linear.no_bias if linear.bias is None else "")
    shift = _over_view(affine.shift, linear.outputs, linear.view)
    if linear.looked_up and linear.bias is None:
        return _constant(Constant(linear.weight), Affine(scale, shift))
    affine = affine.constant_along(set(range(affine.scale.ndim)) - {port.axis for port in linear.outputs})
    scale, shift, bias = aligned(affine.scale, affine.shift, linear.shift)
    return _changed(linear, weight, _full_size(scale * bias + shift, linear))


def absorb_forward(linear: Linear | Constant, affine: Affine) -> Change:
    """`L(A(x))` as one layer.

    Raises:
        Blocked: for the same reasons, or because a shift would meet a padding.
    """
    assert isinstance(linear, Linear), "a constant reads nothing"
    block(linear.no_forward)
    require(bool(linear.inputs), "it takes no affine from in front")
    block("" if affine.keeps_zero else linear.no_shift)
    block("" if everywhere(affine.scale == 1) else linear.factor)
    _require_sign(linear, affine)
    factor = _over_view(affine.scale, linear.inputs, linear.view)
    weight = scaled(linear.weight, linear.view, factor)
    if affine.keeps_zero:
        return _changed(linear, weight, linear.bias)
    gain = _over_top(_weighted_sum(linear, _over_view(affine.shift, linear.inputs, linear.view)), linear)
    if linear.bias is None and linear.no_bias:
        return _changed(linear, weight, None)._replace(left=Affine(shift=gain))
    bias, gain = aligned(linear.shift, gain)
    return _changed(linear, weight, _full_size(bias + gain, linear))


def _require_sign(linear: Linear, affine: Affine) -> None:
    """Stop at scales that the weight may not take by their sign."""
    fits = affine.scale != 0 if linear.turns else affine.scale > 0
    block("" if everywhere(fits) else linear.positive)


def tail_of(linear: Linear) -> Affine:
    """The scale and the bias that a normalisation applies last, as an affine on its top."""
    scale = _over_top(exact_values(linear.weight).reshape(linear.view), linear)
    return Affine(scale, linear.shift)


def without_tail(linear: Linear) -> Change:
    """A normalisation whose scale is 1 and whose bias is 0, once `tail_of` it has gone elsewhere."""
    ones = Rounded(np.ones(linear.weight.shape), linear.weight.dtype)
    return Change(ones, None if linear.bias is None else np.zeros_like(linear.bias))


def _constant(constant: Constant, affine: Affine) -> Change:
    """`s*value + h`, of the value's own shape; what is infinite stays so."""
    value = exact_values(constant.value)
    rank = value.ndim
    scale, shift = (
        array.reshape(array.shape[:rank] + (1,) * (rank - array.ndim)) for array in (affine.scale, affine.shift)
    )
    common = np.broadcast_shapes(value.shape, affine.shape + (1,) * (rank - len(affine.shape)))
    require(common == value.shape, "the affine varies along an axis that the constant has not got")
    changed = Rounded(scale * value + shift, constant.value.dtype)
    finite = np.isfinite(changed.array())
    require(everywhere(finite | (changed.exact == value)), "a folded constant would not be finite")
    few = loses_digits(float(np.abs(changed.exact[finite]).max(initial=0.0)), changed.dtype)
    require(not few, f"a folded constant would be too small for all digits of {changed.dtype}")
    return Change(changed, None)


def _one_of_each_group(values: Values, ports: Sequence[Port]) -> Values:
    """Values over a blob, one for each group of channels that shares a value of the weight.

    Raises:
        Blocked: they differ within a group.
    """
    for axis, _, shared_by in ports:
        if shared_by > 1 and values.ndim > axis and values.shape[axis] > 1:
            groups = values.reshape(*values.shape[:axis], -1, shared_by, *values.shape[axis + 1 :])
            first = groups.take([0], axis + 1)
            alike = everywhere(groups == first)
            require(alike, "the affine varies within a group, which has one value of the weight")
            values = first.squeeze(axis + 1)
    return values


def _over_view(values: Values, ports: Sequence[Port], view: Shape) -> Values:
    """Values over a blob as they lie over the view of the weight: of its rank, with size 1 where they are constant.

    Raises:
        Blocked: they vary along an axis of the blob that the weight does not have.
    """
    if len(ports) == 1 and values.ndim == ports[0].axis + 1 and values.size == values.shape[-1]:
        return _over_view_along(values, ports[0], view)
    known = [port.axis for port in ports]
    try:
        values = constant_along(values, set(range(values.ndim)) - set(known))
    except Blocked as blocked:
        raise Blocked(f"{blocked}, and the weight has no such axis") from None
    values = of_rank(values, max(known, default=-1) + 1)
    values = values.transpose([*known, *(axis for axis in range(values.ndim) if axis not in known)])
    split: list[int] = []
    sizes: Shape = values.shape
    for size, port in zip(sizes, ports, strict=False):
        expected = [view[axis] for axis in port.view_axes]
        held = prod(expected)
        require(size in (1, held), f"the affine has {size:,} values where the weight has {held:,}")
        split += expected if size != 1 else [1] * len(expected)
    view_axes = [axis for port in ports for axis in port.view_axes]
    shape = [1] * len(view)
    for axis, size in zip(view_axes, split, strict=True):
        shape[axis] = size
    return np.ascontiguousarray(values.reshape(split).transpose(np.argsort(view_axes)).reshape(shape))


def _over_view_along(values: Values, port: Port, view: Shape) -> Values:
    """The same for values that vary along the only axis that the weight knows, as nearly all do."""
    shape = [1] * len(view)
    if values.size > 1:
        for axis in port.view_axes:
            shape[axis] = view[axis]
        held = prod(shape)
        if values.size != held:
            raise Blocked(f"the affine has {values.size:,} values where the weight has {held:,}")
    # The axes of the view are in C order, and so are the values.
    return np.ascontiguousarray(values).reshape(shape)


def _over_top(values: Values, linear: Linear) -> Values:
    """Values over the view, of size 1 along all axes but those of outputs, as values over the top."""
    outputs = [axis for port in linear.outputs for axis in port.view_axes]
    others = [axis for axis in range(len(linear.view)) if axis not in outputs]
    values = values.transpose([*outputs, *others])
    axes = [port.axis for port in linear.outputs]
    values = values.reshape([port.size(linear.view) for port in linear.outputs])
    values = values.transpose(np.argsort(axes))
    missing = [axis for axis in range(max(axes, default=-1) + 1) if axis not in axes]
    return np.expand_dims(values, missing)


def _full_size(bias: Values, linear: Linear) -> Values:
    """The bias broadcast to full size along the axes of the top that `outputs` names."""
    axes = {port.axis: port.size(linear.view) for port in linear.outputs}
    bias = of_rank(bias, max(axes, default=-1) + 1)
    own: Shape = bias.shape
    full = tuple([axes.get(axis, size) for axis, size in enumerate(own)])
    return bias if full == own else np.broadcast_to(bias, full)


def _weighted_sum(linear: Linear, shift: Values) -> Values:
    """`sum of W[o, i]*h[i]` over inputs and kernel, shaped like the view with size 1 there, accumulated in float64."""
    product = scaled(linear.weight, linear.view, shift)
    # No factor differs along the kernel, so that is summed first: what is left is small.
    kernel = tuple(axis for axis in linear.summed if all(factor.shape[axis] == 1 for factor in product.factors))
    weight = product.weight.reshape(linear.view)
    # Where there is no kernel nothing is small, so the outputs are taken in pieces: a second copy would double a file.
    axis = max(set(range(weight.ndim)) - set(linear.summed), key=lambda axis: weight.shape[axis], default=0)
    if axis in linear.summed:
        return np.asarray(_summed(product, weight, (), kernel, linear.summed))
    step = max(1, SUMMED_AT_ONCE * weight.shape[axis] // max(1, weight.size))
    starts = range(0, max(1, weight.shape[axis]), step)
    pieces = [(*[slice(None)] * axis, slice(start, start + step)) for start in starts]
    return np.concatenate([_summed(product, weight, piece, kernel, linear.summed) for piece in pieces], axis=axis)


def _summed(
    product: Scaled, weight: Values, piece: tuple[slice, ...], kernel: tuple[int, ...], summed: tuple[int, ...]
) -> Values:
    exact = weight[piece].sum(axis=kernel, dtype=np.float64, keepdims=True)
    axis = len(piece) - 1
    for factor in product.factors:
        exact = exact * (factor[piece] if piece and factor.shape[axis] > 1 else factor)
    return np.asarray(exact.sum(axis=summed, keepdims=True))


def _changed(linear: Linear, weight: Scaled, bias: Values | None) -> Change:
    finite, few, dtype = stays_finite(weight), False, linear.rounded or weight.dtype
    if finite and (linear.multiplied > 1 or dtype != weight.dtype):
        sizes = np.abs(exact_values(weight))
        finite = float(sizes.max(initial=0.0)) * linear.multiplied <= largest_of(dtype)
        few = dtype != weight.dtype and loses_digits(float(sizes.min(where=sizes > 0, initial=np.inf)), dtype)
    require(finite, "a folded weight would not be finite", OutOfRange)
    if few or not keeps_digits(weight):
        raise OutOfRange(f"a folded weight would be too small for all digits of {dtype}")
    if bias is not None:
        largest = float(np.abs(bias).max(initial=0.0))
        require(largest <= largest_of(dtype), "a folded bias would not be finite", OutOfRange)
    return Change(weight, bias)
