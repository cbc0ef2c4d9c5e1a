"""Layers that reduce axes: ArgMax, BatchReduction, CTCGreedyDecoder, Reduction, Synopsys' ReduceMean and its like."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from bnfold.caffe.layers.axes import UNKNOWN, canonical_axis, fields_at_least_1
from bnfold.caffe.layers.row import OTHERS, LayerType, count
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape, sizes


class CTCGreedyDecoder(NamedTuple):
    """What a CTCGreedyDecoder of OpenVINO's training Caffe says.

    Attributes:
        blank: the class that stands for nothing; the last one unless said.
        merges: a class that follows itself counts once.
    """

    blank: int
    merges: bool

    @classmethod
    def of(cls, layer: Layer, bottom: Shape) -> Self:
        """Read a CTCGreedyDecoder.

        Raises:
            ModelError: the scores are no (T, N, C).
        """
        if len(bottom) < 3 or count(bottom[3:]) not in (1, UNKNOWN):
            raise ModelError(f"{layer}: a bottom of shape {sizes(bottom)} is not (steps, sequences, classes)")
        param = layer.param.ctc_decoder_param
        return cls(param.blank_index if param.blank_index >= 0 else bottom[2] - 1, param.ctc_merge_repeated)


def reduction_operation(layer: Layer) -> str:
    """What a Reduction does with all axes from `axis` on: "SUM", "ASUM", "SUMSQ" or "MEAN".

    Raises:
        ModelError: it is none of BVLC Caffe's.
    """
    param = layer.param.reduction_param
    names = {param.SUM: "SUM", param.ASUM: "ASUM", param.SUMSQ: "SUMSQ", param.MEAN: "MEAN"}
    if param.operation not in names:
        raise ModelError(
            f"{layer}: operation {param.ReductionOp.Name(param.operation)} is none of {', '.join(names.values())}"
        )
    return names[param.operation]


def argmax(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """With an axis top_k along it, else (N, 1 or 2, top_k) filled up with 1 (argmax_layer.cpp, Reshape)."""
    bottom, param = bottoms[0], layer.param.argmax_param
    fields_at_least_1(layer, param, "top_k")
    axis = canonical_axis(param.axis, len(bottom), layer) if param.HasField("axis") else None
    candidates = count(bottom[1:]) if axis is None else bottom[axis]
    if candidates != UNKNOWN and param.top_k > candidates:
        raise ModelError(f"{layer}: top_k {param.top_k} is more than the {candidates} candidates")
    if axis is None:
        filled = (1,) * (len(bottom) - 3)
        return [(bottom[0], 2 if param.out_max_val else 1, param.top_k, *filled)]
    return [(*bottom[:axis], param.top_k, *bottom[axis + 1 :])]


def ctc_greedy_decoder(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(N, T, 1, 1) labels, -1 behind; (N, 1, 1, 1) sums of negative scores; an accuracy (ctc_decoder_layer.cpp)."""
    CTCGreedyDecoder.of(layer, bottoms[0])
    steps, sequences = bottoms[0][:2]
    if count(bottoms[1]) not in (UNKNOWN, count((steps, sequences))):
        raise ModelError(f"{layer}: indicators of {sizes(bottoms[1])} are not one for each step of {sizes(bottoms[0])}")
    tops: list[Shape] = [(sequences, steps, 1, 1), (sequences, 1, 1, 1)]
    judges = len(bottoms) > 2 and len(layer.tops) > 1
    return [*tops[: len(layer.tops) - judges], *[(1, 1, 1, 1)] * judges]


def reduction(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The axes in front of `axis` (reduction_layer.cpp, Reshape)."""
    reduction_operation(layer)
    return [bottoms[0][: canonical_axis(layer.param.reduction_param.axis, len(bottoms[0]), layer)]]


class BatchReduction(NamedTuple):
    """What a BatchReduction says: one axis is summed or averaged in parts, or as a whole.

    Attributes:
        axis: from the front.
        parts: how many elements of it each part has: the squares of its levels.
        keep: the axis stays, with one element for each part; it goes where the only level is 1, which takes the whole.
        mean: of each part; else its sum.
    """

    axis: int
    parts: tuple[int, ...]
    keep: bool
    mean: bool

    @classmethod
    def of(cls, layer: Layer, bottom: Shape) -> Self:
        """Read a BatchReduction; the `coeff` of its reduction_param counts for nothing.

        Raises:
            ModelError: its Caffe has not the operation, or the parts are not the axis.
        """
        param = layer.param.batch_reduction_param
        reduction, levels = param.reduction_param, tuple(param.level) or (1,)
        if reduction.operation not in (reduction.SUM, reduction.MEAN):
            raise ModelError(f"{layer}: of its operations its Caffe has SUM and MEAN alone")
        axis, mean = canonical_axis(reduction.axis, len(bottom), layer), reduction.operation == reduction.MEAN
        if levels == (1,):
            return cls(axis, (bottom[axis],), False, mean)
        parts = tuple(level * level for level in levels)
        if 0 in parts or bottom[axis] not in (UNKNOWN, sum(parts)):
            raise ModelError(f"{layer}: parts of {sizes(parts)} elements are not axis {axis} of {sizes(bottom)}")
        return cls(axis, parts, True, mean)


def batch_reduction(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """One element of the axis for each level; without the axis where 1 is the only one (batch_reduction_layer.cpp)."""
    bottom, view = bottoms[0], BatchReduction.of(layer, bottoms[0])
    kept = (len(view.parts),) if view.keep else ()
    return [(*bottom[: view.axis], *kept, *bottom[view.axis + 1 :])]


class Reduced(NamedTuple):
    """What a ReduceMean, ReduceSum or any of their like says.

    Attributes:
        axes: those that it reduces, from the front and in order; all where it names none.
        keep: they stay, of size 1.
    """

    axes: list[int]
    keep: bool

    @classmethod
    def of(cls, layer: Layer, rank: int) -> Self:
        """Read any of them; those of ONNX say `axes`, and keep them unless `keepdims` is not 1.

        Raises:
            ModelError: it names an axis twice, or one that the blob has not.
        """
        param = ROWS[layer.type].parameters(layer)
        named = param.axis if hasattr(param, "axis") else param.axes
        axes = sorted(canonical_axis(axis, rank, layer) for axis in named)
        if len(set(axes)) < len(axes):
            raise ModelError(f"{layer}: axis names an axis twice")
        return cls(axes or list(range(rank)), param.keepdims == 1)


def reduced(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The axes that stay, and 1 for the others where `keepdims` says so (Synopsys' Caffe)."""
    bottom = bottoms[0]
    axes, keep = Reduced.of(layer, len(bottom))
    return [tuple(1 if i in axes else size for i, size in enumerate(bottom) if keep or i not in axes)]


ROWS: Mapping[str, LayerType] = {
    "ArgMax": LayerType(
        argmax,
        rank=1,
        reads={"argmax_param": "out_max_val top_k axis min_first"},
        note="of equal values the larger index comes first, as in Caffe",
    ),
    "BatchReduction": LayerType(
        batch_reduction,
        rank=1,
        reads={"batch_reduction_param": "level reduction_param"},
        dialects=OTHERS,
        note="SUM or MEAN of an axis in parts of level x level, or as a whole; of the Caffes of TSN and PSPNet",
    ),
    "CTCGreedyDecoder": LayerType(
        ctc_greedy_decoder,
        bottoms=(2, 3),
        rank=3,
        reads={"ctc_decoder_param": "blank_index ctc_merge_repeated"},
        dialects="OpenVINO's training Caffe",
        note="an accuracy, measured by a third bottom of labels, is refused",
    ),
    **{
        f"Reduce{name}": LayerType(
            reduced, reads={f"reduce_{name.lower()}_param": "axis keepdims"}, dialects="Synopsys"
        )
        for name in ("Max", "Mean", "Min", "Prod", "Sum")
    },
    **{
        f"Reduce{name}": LayerType(
            reduced, reads={f"reduce_{name.lower()}_param": "axes keepdims"}, dialects="Synopsys"
        )
        for name in ("L1", "L2")
    },
    **dict.fromkeys(
        ("ReduceLogSumExp", "ReduceLogsumexp"),
        LayerType(
            reduced,
            reads={"reduce_logsumexp_param": "axis keepdims"},
            dialects="Synopsys",
            note="its Caffe gives infinity where a value is above 88",
        ),
    ),
    "Reduction": LayerType(reduction, reads={"reduction_param": "operation axis coeff"}),
}
