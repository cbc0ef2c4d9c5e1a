"""LSTM, RNN, CRNN's Lstm, a step of an LSTM, and what tells them where a sequence starts."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple, Self

from bnfold.caffe.layers.axes import UNKNOWN, at_least_1, fields_at_least_1
from bnfold.caffe.layers.row import OTHERS, LayerType, count, merged
from bnfold.caffe.limits import INT_MAX
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape, sizes


class Recurrent(NamedTuple):
    """What an LSTM or RNN says, with the meaning of its bottoms.

    Attributes:
        num_output: size D of the hidden state.
        expose_hidden: first states are bottoms and last states are tops.
        static: index of the input that is the same at every step, None where there is none.
        states: how many hidden blobs the type carries (LSTM: h and c; RNN: h).
        gates: rows of the input weight per hidden unit (LSTM: i, f, o, g; RNN: 1).
    """

    num_output: int
    expose_hidden: bool
    static: int | None
    states: int
    gates: int

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read an LSTM or RNN; the number of its bottoms tells whether one is static.

        Raises:
            ModelError: `num_output` is missing or 0, or the number of bottoms fits no form of the layer.
        """
        param = layer.param.recurrent_param
        fields_at_least_1(layer, param, "num_output")
        states, gates = (2, 4) if layer.type == "LSTM" else (1, 1)
        extra = len(layer.bottoms) - 2 - (states if param.expose_hidden else 0)
        if extra not in (0, 1):
            raise ModelError(f"{layer}: {len(layer.bottoms)} bottoms fit neither with nor without a static input")
        return cls(param.num_output, param.expose_hidden, 2 if extra else None, states, gates)


class Lstm(NamedTuple):
    """What an Lstm of junhyukoh's Caffe, or of CRNN's, says: an LSTM whose sequences are as long as its bottom.

    Attributes:
        steps, batch: T steps of N sequences.
        inputs: how many values a step has.
        hidden: how many the state has.
        flat: the bottom is (T*N, ...) and not (T, N, I), and so is the top.
    """

    steps: int
    batch: int
    inputs: int
    hidden: int
    flat: bool

    @classmethod
    def of(cls, layer: Layer, bottom: Shape) -> Self | None:
        """Read it; None where it may be either Caffe's, or where its weights are of other sizes.

        Raises:
            ModelError: it has no output, or its sequences do not divide the bottom.
        """
        param = layer.param.lstm_param
        flat = param.HasField("batch_size") or len(bottom) == 2
        if not flat and len(bottom) != 3:
            return None
        batch = param.batch_size if flat else bottom[1]
        fields_at_least_1(layer, param, "num_output")
        if flat:
            at_least_1(layer, "batch_size", (batch,))
        if flat and bottom[0] != UNKNOWN and bottom[0] % batch:
            raise ModelError(f"{layer}: batch_size {batch} does not divide {bottom[0]} rows")
        steps = bottom[0] // batch if flat and bottom[0] != UNKNOWN else bottom[0]
        view = cls(steps, batch, count(bottom[1:] if flat else bottom[2:]), param.num_output, flat)
        fits = not layer.blobs or prod(layer.blobs.shapes[0]) == 4 * view.hidden * view.inputs
        return view if fits else None


def lstm(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """(T, N, H), or (T*N, H) (lstm_layer.cpp of CTPN's Caffe and of junhyukoh's, Reshape)."""
    view = Lstm.of(layer, bottoms[0])
    return view and [(bottoms[0][0], view.hidden) if view.flat else (*bottoms[0][:2], view.hidden)]


def lstm_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """W_x, W_h, b (lstm_layer.cpp, LayerSetUp)."""
    view = Lstm.of(layer, bottoms[0])
    return view and [(4 * view.hidden, view.inputs), (4 * view.hidden, view.hidden), (4 * view.hidden,)]


def indicator(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(T, N): 0 at the first step of each sequence, then 1 (the forks' Caffe).

    N is `batch_size`, or what a bottom has of items (continuation_indicator_layer.cpp of dlunion/CC4.0). In that of
    zhzhong11/video-caffe, where `batch_size` is 1 unless set, a bottom of 1 for each sequence says that it goes on.
    """
    param = layer.param.continuation_indicator_param
    if bottoms:
        if param.batch_size or prod(bottoms[0]) == 1:
            raise ModelError(
                f"{layer}: in one Caffe its bottom says how many sequences there are, in another which go on"
            )
        fields_at_least_1(layer, param, "time_step")
        return [(param.time_step, bottoms[0][0])]
    batch = param.batch_size
    fields_at_least_1(layer, param, "time_step", "batch_size")
    if param.time_step * batch > INT_MAX:
        raise ModelError(f"{layer}: {param.time_step}x{batch} is more than a blob holds")
    return [(param.time_step, batch)]


def unit(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """c and h of one step, (1, N, D) like the last c; the gates are (1, N, 4*D) (lstm_unit_layer.cpp, Reshape)."""
    cell, gates, cont = bottoms
    if len(cell) != 3 or cell[0] not in (1, UNKNOWN):
        raise ModelError(f"{layer}: its first bottom has shape {sizes(cell)}, but must be (1, N, D)")
    merged(layer, gates, (1, cell[1], UNKNOWN if cell[2] == UNKNOWN else 4 * cell[2]))
    merged(layer, cont, (1, cell[1]))
    return [cell, cell]


def recurrent(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(T, N, D), then (1, N, D) for each exposed state (recurrent_layer.cpp, Reshape)."""
    view = Recurrent.of(layer)
    if len(bottoms[1]) != 2:
        raise ModelError(f"{layer}: its second bottom has shape {sizes(bottoms[1])}, but must be (T, N)")
    time, batch = merged(layer, bottoms[0][:2], bottoms[1])
    states = [(1, batch, view.num_output)] * (view.states if view.expose_hidden else 0)
    static = [(batch, *bottoms[view.static][1:])] if view.static is not None else []
    for given, wanted in zip(bottoms[2:], [*static, *states], strict=True):
        if given != wanted and UNKNOWN not in (*given, *wanted):
            raise ModelError(f"{layer}: a bottom of {sizes(given)} must be of {sizes(wanted)} beside {batch} sequences")
    return [(time, batch, view.num_output), *states]


def recurrent_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """W_x, b, [W_static,] W_h (lstm_layer.cpp, rnn_layer.cpp: FillUnrolledNet); the RNN's output W_o, b_o follow."""
    view = Recurrent.of(layer)
    rows, hidden = view.gates * view.num_output, view.num_output
    shapes: list[Shape] = [(rows, count(bottoms[0][2:])), (rows,)]
    if view.static is not None:
        shapes.append((rows, count(bottoms[view.static][1:])))
    shapes.append((rows, hidden))
    return shapes if layer.type == "LSTM" else [*shapes, (hidden, hidden), (hidden,)]


def _recurrent() -> LayerType:
    return LayerType(
        recurrent,
        bottoms=(2, None),
        rank=2,
        blobs=recurrent_blobs,
        reads={"recurrent_param": "num_output expose_hidden"},
        note="unrolled; `cont`, a static input and `expose_hidden` too; starts at 0 in each call unless "
        "`--recurrent-state` makes the state an input and an output",
    )


ROWS: Mapping[str, LayerType] = {
    "ContinuationIndicator": LayerType(
        indicator,
        bottoms=(0, 1),
        reads={"continuation_indicator_param": "time_step batch_size"},
        shape_only=(0,),
        dialects=OTHERS,
        note="0 at the first step, then 1, for `batch_size` sequences or as many as its bottom has items",
    ),
    "LSTM": _recurrent(),
    "LSTMUnit": LayerType(
        unit,
        bottoms=(3, 3),
        rank=3,
        keeps="shape",
        gradient="top",
        note="one step of an LSTM, from c, the gates and `cont`",
    ),
    "Lstm": LayerType(
        lstm,
        bottoms=(1, 2),
        rank=2,
        blobs=lstm_blobs,
        reads={"lstm_param": "num_output batch_size clipping_threshold"},
        dialects="CRNN",
        note="unrolled; of (T, N, I), as CRNN and CTPN have it, or of (T*N, I), as junhyukoh's Caffe; computed as on a "
        "GPU, since the code for a CPU adds to all sequences what the first one's state gives",
    ),
    "RNN": _recurrent(),
}
