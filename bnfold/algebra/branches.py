"""Parallel branches: a sum of convolutions of one blob is one convolution.

    Given:   x -> conv3x3 -> a,  x -> conv1x1 -> b,  x -> A -> c,  sum(a, b, c) -> y       Result:  x -> conv3x3' -> y

Convolution is linear in its weight: `conv(x, V) + conv(x, W) = conv(x, V + W)`, if both slide alike. A smaller kernel
is a larger one with zeros around it, laid so that each tap meets the pixel that it met; an affine, or x itself, is a
1x1 kernel that takes channel c from channel c. Nets that are trained with such branches are meant to be run as one:
RepVGG (Ding et al., arXiv:2101.03697), MobileOne (Vasu et al., arXiv:2206.04040).

It is done where the multiply-adds do not grow (a 1x3 and a 3x1 alone would become 3x3) and nobody else reads the
branches. The new weight is summed in float64 and rounded once.
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from bnfold.algebra.affine import Affine, Values, aligned, everywhere
from bnfold.algebra.operators import Linear, Sum, Window
from bnfold.algebra.plan import Scene
from bnfold.algebra.scaled import Rounded, exact_values, largest_of
from bnfold.net import Layer, Shape


class Junction(NamedTuple):
    """What joining the branches of one sum does.

    Attributes:
        into: the convolution that becomes the sum.
        weight, bias: its new values, the bias as it lies over the top.
        window: how it slides from now on.
        gone: the layers of the other branches.
    """

    into: Layer
    weight: Rounded
    bias: Values | None
    window: Window
    gone: tuple[Layer, ...]


class _Branch(NamedTuple):
    """`coefficient * L(source)`; L is a convolution or an affine, the identity where no layer stands there."""

    source: str
    coefficient: float
    operator: Linear | Affine
    layer: Layer | None


class _Reach(NamedTuple):
    """Which pixels a kernel reaches along one axis, counted from the one where its output lies (times the stride)."""

    first: int
    last: int
    step: int
    overhang: int  # zeros behind the image that its last window may reach, beyond `last`


def plan_junction(scene: Scene, layer: Layer) -> Junction | None:
    """The branches of a sum as one convolution; None where it is no sum of branches that join."""
    branches = _branches(scene, layer)
    convolutions = [branch for branch in branches if isinstance(branch.operator, Linear)]
    if len(branches) < 2 or not convolutions or len({branch.source for branch in branches}) > 1:
        return None
    into = max(convolutions, key=lambda branch: prod(_linear(branch).view[3:]))
    first = _linear(into)
    alike = all(_alike(first, branch.operator) for branch in branches)
    if not alike or into.layer is None or scene.net.public_name(into.source) == scene.net.public_name(layer.tops[0]):
        return None
    reaches = [_reaches(branch.operator, first) for branch in branches]
    laid = [_joined_reach(axis) for axis in zip(*reaches, strict=True)]
    kernel = tuple((axis.last - axis.first) // axis.step + 1 for axis in laid)
    if not _fits(laid, reaches) or prod(kernel) > sum(prod(_linear(branch).view[3:]) for branch in convolutions):
        return None
    window = _window(scene, into.layer, first, laid, reaches)
    if window is None:
        return None
    weight, bias = _summed(branches, reaches, laid, (*first.view[:3], *kernel))
    largest = largest_of(first.weight.dtype)
    if not all(everywhere(np.abs(values) <= largest) for values in (weight, bias)):
        return None
    stored = weight.reshape(*first.weight.shape[: -len(kernel)], *kernel)
    gone = tuple(branch.layer for branch in branches if branch.layer is not None and branch.layer is not into.layer)
    operators = [branch.operator for branch in branches]
    biased = any(not one.keeps_zero if isinstance(one, Affine) else one.bias is not None for one in operators)
    return Junction(into.layer, Rounded(stored, first.weight.dtype), bias if biased else None, window, gone)


def _branches(scene: Scene, layer: Layer) -> list[_Branch]:
    """The terms of a sum, [] where it is none."""
    operator = scene.known_operator(layer)
    if (
        not isinstance(operator, Sum)
        or operator.laid
        or operator.gates
        or len(layer.tops) != 1
        or id(layer) in scene.excluded
    ):
        return []
    totals = dict.fromkeys(layer.bottoms, 0.0)
    for bottom, coefficient in zip(layer.bottoms, operator.coefficients, strict=True):
        totals[bottom] += coefficient
    if not all(totals.values()):
        return []
    return [_branch(scene, layer, bottom, coefficient) for bottom, coefficient in totals.items()]


def _branch(scene: Scene, layer: Layer, blob: str, coefficient: float) -> _Branch:
    producer = scene.net.producer(blob)
    alone = blob not in scene.protected and all(use.layer is layer for use in scene.net.uses(blob))
    if producer is not None and alone and id(producer) not in scene.excluded:
        operator = scene.known_operator(producer)
        if isinstance(operator, Linear) and (operator.window is None or operator.no_backward):
            operator = None
        if isinstance(operator, Linear | Affine) and len(producer.bottoms) == len(producer.tops) == 1:
            return _Branch(producer.bottoms[0], coefficient, operator, producer)
    return _Branch(blob, coefficient, Affine(), None)


def _linear(branch: _Branch) -> Linear:
    assert isinstance(branch.operator, Linear)
    return branch.operator


def _alike(first: Linear, other: Linear | Affine) -> bool:
    """Whether both can be one: the same stride, groups, channels and type; a channel for a channel at each pixel."""
    one = first.window
    assert one is not None
    if isinstance(other, Affine):
        group, outputs, inputs = first.view[:3]
        channels = other.shape[1] if len(other.shape) > 1 else 1
        flat = all(size == 1 for axis, size in enumerate(other.shape) if axis != 1)
        return flat and outputs == inputs and channels in (1, group * outputs) and set(one.stride) <= {1}
    two = other.window
    assert two is not None
    same = (one.stride, first.view[:3], first.weight.dtype) == (two.stride, other.view[:3], other.weight.dtype)
    return same and len(first.view) == len(other.view)


def _reaches(operator: Linear | Affine, like: Linear) -> list[_Reach]:
    """By spatial axis, which pixels the operator reaches."""
    if isinstance(operator, Affine):
        return [_Reach(0, 0, 0, 0) for _ in like.view[3:]]
    window = operator.window
    assert window is not None
    reaches = []
    for size, step, (before, behind) in zip(operator.view[3:], window.dilation, window.pads, strict=True):
        last = step * (size - 1) - before
        reaches.append(_Reach(-before, last, step if size > 1 else 0, behind - last))
    return reaches


def _joined_reach(reaches: Sequence[_Reach]) -> _Reach:
    """What all of them reach together; a step that fits none of several is found by the remainders that it leaves."""
    steps = {reach.step for reach in reaches} - {0}
    step = steps.pop() if len(steps) == 1 else 1
    return _Reach(min(reach.first for reach in reaches), max(reach.last for reach in reaches), step, 0)


def _fits(laid: Sequence[_Reach], reaches: Sequence[Sequence[_Reach]]) -> bool:
    """Whether taps at equal distances reach what all kernels do; without a plane nothing slides."""
    starts = [(own.first - axis.first) % axis.step for reach in reaches for own, axis in zip(reach, laid, strict=True)]
    return bool(laid) and not any(starts) and not any((axis.last - axis.first) % axis.step for axis in laid)


def _window(
    scene: Scene, layer: Layer, first: Linear, laid: Sequence[_Reach], reaches: Sequence[Sequence[_Reach]]
) -> Window | None:
    """How the joined kernel slides: as many windows as each branch has, in a way that the language can say."""
    assert first.window is not None
    for reach in reaches:
        # All branches give planes of one size, so each tells how far behind the image the last window may go.
        pads = tuple((-axis.first, axis.last + own.overhang) for axis, own in zip(laid, reach, strict=True))
        window = Window(first.window.stride, tuple(axis.step for axis in laid), pads, first.window.group)
        if min(min(pad) for pad in pads) >= 0 and scene.joins(layer, window):
            return window
    return None


def _summed(
    branches: Sequence[_Branch], reaches: Sequence[Sequence[_Reach]], laid: Sequence[_Reach], shape: Shape
) -> tuple[Values, Values]:
    """Weight and bias of all branches together, in float64."""
    weight = np.zeros(shape)
    biases: list[Values] = []
    for branch, reach in zip(branches, reaches, strict=True):
        starts = [(own.first - axis.first) // axis.step for own, axis in zip(reach, laid, strict=True)]
        operator = branch.operator
        if isinstance(operator, Linear):
            # Kernels of several dilations lie over one that has a tap wherever one of them has.
            ratios = [max(1, own.step // axis.step) for own, axis in zip(reach, laid, strict=True)]
            sizes = zip(starts, operator.view[3:], ratios, strict=True)
            taps = [slice(start, start + (size - 1) * ratio + 1, ratio) for start, size, ratio in sizes]
            exact = exact_values(operator.weight).reshape(operator.view)
            weight[(slice(None),) * 3 + tuple(taps)] += branch.coefficient * exact
            biases += [] if operator.bias is None else [branch.coefficient * operator.bias]
        else:
            group, outputs = shape[:2]
            tap = weight[(slice(None),) * 3 + tuple(slice(start, start + 1) for start in starts)]
            scale = np.broadcast_to(operator.scale.reshape(-1), group * outputs).reshape(group, outputs)
            tap = tap.squeeze(tuple(range(3, tap.ndim)))
            tap[:, range(outputs), range(outputs)] += branch.coefficient * scale
            biases.append(branch.coefficient * operator.shift)
    bias = np.zeros((1, shape[0] * shape[1]))
    for term in biases:
        bias = np.add(*aligned(bias, term))
    return weight, bias
