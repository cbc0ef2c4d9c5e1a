"""What moves data and computes nothing, as steps of `bnfold.algebra.operators`.

Each function says what the ONNX operator does that it names first.
"""

from __future__ import annotations

import numpy as np

from bnfold.algebra.movement import channels_to_pixels, pixels_to_channels
from bnfold.algebra.operators import UNKNOWN_SIZE, Axes, Linear, Move, Operator, Port, Regroup, Step, Take
from bnfold.onnx.constants import ENDS, slice_of
from bnfold.onnx.operators.context import MAX_VALUES, NodeContext, Unfit, axis_of
from bnfold.onnx.operators.join import lay


def transpose(context: NodeContext) -> Operator:
    """Transpose: axes in another order."""
    rank = len(context.bottom())
    order = context.node.ints("perm") or tuple(reversed(range(rank)))
    if sorted(order) != list(range(rank)):
        raise Unfit("its order is none of the axes of what it reads")
    return Move(((Axes(tuple(order)),),))


def reshape(context: NodeContext) -> Operator:
    """Flatten, Reshape: the same elements under another shape."""
    given, before, after = context.given, context.bottom(), context.top()
    if given == (before, after):
        return Move(((Regroup(*given),),))
    kept = context.node.attribute("axis", 1) == 1 if context.layer.type == "Flatten" else context.node.integers(1)
    if before and after and before[0] == after[0] == UNKNOWN_SIZE and (kept is True or (kept and kept[:1] == [0])):
        before, after = ((min(*before, *after) - 1, *shape[1:]) for shape in (before, after))  # what stays has a name
    return Move(((Regroup(before, after, given),),))


def squeeze(context: NodeContext) -> Operator:
    """Squeeze: axes of size 1 left out; they are an input from opset 13 on."""
    shape = context.bottom()
    axes = context.axes(13, len(shape))
    if axes == []:
        raise Unfit("it names no axes, which runtimes take for all of size 1 or for none")
    if axes is None:
        if min(context.bottom(), default=0) < 0:
            raise Unfit("which axes have size 1 is known only when it runs")
        axes = [axis for axis, size in enumerate(shape) if size == 1]
    return Move(((Axes(tuple(axis for axis in range(len(shape)) if axis not in axes)),),))


def unsqueeze(context: NodeContext) -> Operator:
    """Unsqueeze: axes of size 1 added; they are an input from opset 13 on."""
    written = context.integers("axes", 1, 13, "its axes are")
    if written is None:
        raise Unfit("its axes are known only when it runs")
    rank = len(context.bottom()) + len(written)
    new = {axis_of(axis, rank) for axis in written}
    old = iter(range(rank))
    return Move(((Axes(tuple(None if axis in new else next(old) for axis in range(rank))),),))


def expand(context: NodeContext) -> Operator:
    """Expand: repeated along axes of size 1."""
    return Move((lay(context.bottom(), context.top()),))


def tile(context: NodeContext) -> Operator:
    """Tile: repeated as a whole along axes."""
    repeats, shape = context.stated_integers(1), context.bottom()
    if repeats is None or len(repeats) != len(shape):
        raise Unfit("how often it repeats is known only when it runs")
    steps: list[Step] = []
    for axis, times in enumerate(repeats):
        if times is None:
            steps.append(_taken_anyhow(axis))
        elif times != 1:
            if times * shape[axis] > MAX_VALUES:
                raise Unfit(f"it repeats axis {axis}, which is too long to follow")
            steps.append(Take(axis, np.tile(np.arange(max(shape[axis], 0)), times), shape[axis]))
    return Move((tuple(steps),))


def split(context: NodeContext) -> Operator:
    """Split: consecutive parts along an axis, of the sizes that inference found."""
    shape = context.bottom()
    axis = axis_of(context.node.attribute("axis", 0), len(shape))
    sizes = [context.top(index)[axis] for index in range(len(context.layer.tops))]
    if len(context.layer.tops) != len(context.node.outputs):
        raise Unfit("the sizes of its parts are unknown")
    if min(sizes) < 0:
        return Move(((_taken_anyhow(axis),),) * len(sizes))
    stops = np.cumsum(sizes).tolist()
    starts = [0, *stops[:-1]]
    parts = tuple((Take(axis, slice(a, b), shape[axis]),) for a, b in zip(starts, stops, strict=True))
    return Move(parts, apart=True)


def split_to_sequence(context: NodeContext) -> Operator:
    """SplitToSequence: parts along an axis, as one list; which elements are where, those say who take from it."""
    context.bottom()
    return Move(((),))


def sequence_at(context: NodeContext) -> Operator:
    """SequenceAt: one of the parts that a SplitToSequence made."""
    maker = context.fold.net.producer(context.layer.bottoms[0])
    number = context.node.integers(1)
    if maker is None or maker.type != "SplitToSequence" or number is None:
        raise Unfit("which part of which blob it takes is known only when it runs")
    made = NodeContext(maker, context.fold)
    shape, sizes = made.bottom(), made.node.integers(1)
    axis = axis_of(made.node.attribute("axis", 0), len(shape))
    if sizes is None or shape[axis] < 0 or len(number) != 1:
        raise Unfit("how large the parts are is known only when it runs")
    if made.values(1).ndim == 0:  # type: ignore[union-attr]
        sizes = [min(sizes[0], shape[axis] - start) for start in range(0, shape[axis], sizes[0])]
    stop = sum(sizes[: range(len(sizes))[number[0]] + 1])
    return Move(((Take(axis, slice(stop - sizes[number[0]], stop), shape[axis]),),))


def slice_(context: NodeContext) -> Operator:
    """Slice: some elements along some axes; they are inputs from opset 10 on."""
    shape, axes = context.bottom(), context.integers("axes", 3, 10, "what it takes is")
    words = ((1, "starts"), (2, "ends"), (4, "steps"))
    try:
        starts, ends, strides = (context.integers(word, at, 10, "what it takes is") for at, word in words)
    except Unfit:
        if axes is None:
            raise
        return Move((tuple(_taken_anyhow(axis_of(axis, len(shape))) for axis in axes),))
    if starts is None or ends is None:
        raise Unfit("what it takes is known only when it runs")
    axes = range(len(starts)) if axes is None else axes
    strides = (1,) * len(starts) if strides is None else strides
    steps: list[Step] = []
    for start, end, axis, step in zip(starts, ends, axes, strides, strict=True):
        where = axis_of(axis, len(shape))
        if (start, step) == (0, 1) and end in ENDS:
            continue  # the whole axis, of any size
        if shape[where] < 0:
            steps.append(_taken_anyhow(where))
            continue
        taken = slice_of(start, end, step, shape[where])
        if shape[where] > MAX_VALUES and step != 1:
            raise Unfit(f"axis {where} is too long to follow")
        indices = taken if step == 1 else np.arange(shape[where])[taken]
        steps.append(Take(where, indices, shape[where]))
    return Move((tuple(steps),))


def _taken_anyhow(axis: int) -> Take:
    """Elements that are known only when it runs: what is the same along the axis passes."""
    return Take(axis, slice(0), UNKNOWN_SIZE)


def gather(context: NodeContext) -> Operator:
    """Gather: elements by their index along an axis; from a table, an embedding."""
    axis = context.node.attribute("axis", 0)
    if context.data(0) is None:
        return _embedding(context, axis)
    shape = context.bottom(context.data(0) or 0)
    axis = axis_of(axis, len(shape))
    indices = context.values(1)
    if indices is None or indices.dtype.kind not in "iu":
        fixed = context.node.constant(1)
        form = context.bottom(1) if fixed is None else context.fold.net.origin.types.shapes.get(fixed.name)
        if form is None:
            raise Unfit("what it takes is known only when it runs")
        new = [axis, *[None] * (len(form) - 1)] if form else []
        return Move(((_taken_anyhow(axis), Axes((*range(axis), *new, *range(axis + 1, len(shape))))),))
    flat = indices.reshape(-1).astype(np.intp)
    steps: list[Step] = [Take(axis, np.where(flat < 0, flat + shape[axis], flat), shape[axis])]
    if indices.ndim == 0:
        steps.append(Axes(tuple(one for one in range(len(shape)) if one != axis)))
    elif indices.ndim > 1:
        before = (*shape[:axis], flat.size, *shape[axis + 1 :])
        steps.append(Regroup(before, (*shape[:axis], *indices.shape, *shape[axis + 1 :])))
    return Move((tuple(steps),))


def array_feature_extractor(context: NodeContext) -> Operator:
    """ai.onnx.ml.ArrayFeatureExtractor: elements by their index along the last axis."""
    shape, indices = context.bottom(), context.values(1)
    if indices is None or context.data(0) != 0 or len(shape) < 2:
        raise Unfit("what it takes, or how many axes it gives, is known only when it runs")
    return Move(((Take(len(shape) - 1, indices.reshape(-1).astype(np.intp), shape[-1]),),))


def _embedding(context: NodeContext, axis: int) -> Operator:
    weight = context.learned(0)
    if weight is None or axis != 0 or len(weight.shape) != 2 or context.data(1) != 0:
        raise Unfit("it takes from a constant")
    rank, table = len(context.bottom()), context.node.constant(0)
    alone = table is not None and context.fold.net.origin.readings.get(table.name, 1) == 1
    return Linear(
        weight,
        None,
        tuple(weight.shape),
        (Port(rank, (1,)),),
        no_forward="it reads indices",
        no_bias="" if alone else "others read its table, too, which would be stored twice",
        looked_up=True,
    )


def depth_to_space(context: NodeContext) -> Operator:
    """DepthToSpace: channels become blocks of pixels; opset 11 brought the mode CRD."""
    block = context.node.attribute("blocksize", 0)
    n, c, h, w = _plane(context, block)
    if c % block**2:
        raise Unfit("its channels are no multiple of its blocks")
    return Move((channels_to_pixels((n, c, h, w), block, context.node.attribute("mode", "DCR")),))


def space_to_depth(context: NodeContext) -> Operator:
    """SpaceToDepth: blocks of pixels become channels; opset 28 brought the mode CRD."""
    block = context.node.attribute("blocksize", 0)
    n, c, h, w = _plane(context, block)
    if any(size >= 0 and size % block for size in (h, w)):
        raise Unfit("its plane is no multiple of its blocks")
    return Move((pixels_to_channels((n, c, h, w), block, context.node.attribute("mode", "DCR")),))


def _plane(context: NodeContext, block: int) -> tuple[int, int, int, int]:
    shape = context.bottom()
    if len(shape) != 4 or block < 1:
        raise Unfit("it works on blobs of four axes")
    n, c, h, w = shape
    if c < 0:
        raise Unfit("how many channels it reads is unknown")
    return n, c, h, w
