"""LSTM and RNN, unrolled over time, because no ONNX operator clears its state where `cont` says so.

    LSTM   [i f o g] = W_x x_t + b + W_s s + W_h (cont_t * h)        i, f, o through sigmoid, g through tanh
           c = cont_t * f * c + i * g          h = o * tanh(c)       top: h
    RNN    h = tanh(W_x x_t + b_h + W_s s + W_h (cont_t * h))        top: tanh(W_o h + b_o)

x is (T, N, ...), cont (T, N); s is the input that is the same at every step, where there is one. States are 0 in
front of the first step, or bottoms when they are exposed, and then the last ones are tops.

Formulas: lstm_layer.cpp, lstm_unit_layer.cpp and rnn_layer.cpp of BVLC; lstm_layer.cu of CTPN's Caffe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bnfold.caffe.layers.recurrent import Lstm, Recurrent
from bnfold.net import Shape
from bnfold.onnx.export.builder import Block, LayerFunction, Refused
from bnfold.onnx.export.forms import cut, reshape, split

MAX_STEPS = 4096
"""Steps become a dozen nodes each, and a text of 100 bytes may ask for 2^31."""


def continuation_indicator(block: Block) -> str:
    """0 at the first step, then 1: a Constant."""
    steps, batch = block.tops[0]
    if batch < 1:
        raise Refused("how many sequences there are depends on the data")
    block.affords(steps * batch)
    return block.constant(np.repeat(np.minimum(np.arange(steps), 1)[:, None], batch, 1))


def lstm(block: Block) -> list[str]:
    """The unrolled LSTM; what does not depend on the state is one Gemm for all steps."""
    view = Recurrent.of(block.layer)
    steps, size = block.shape[0], view.num_output
    inputs, weight, goes_on = _inputs(block, view, 4 * size), _hidden_weight(block, view, 4 * size), _goes_on(block)
    outputs, states = _cells(block, size, inputs, weight, goes_on, _first_states(block, view))
    y = reshape(block, _all_steps(block, outputs), (steps, -1, size), "steps")
    return [y, *_last_states(block, view, states)]


def crnn_lstm(block: Block) -> str:
    """The unrolled LSTM, from 0 on; what does not depend on the state is one Gemm for all steps."""
    if len(block.bottoms) > 1:
        raise Refused("its second bottom lets it go on where the last call stopped")
    view = Lstm.of(block.layer, block.shape)
    if view is None:
        raise Refused("its weights are not those of (steps, sequences, values), and nothing says `batch_size`")
    _check_steps(block, view.steps)
    size, rows = view.hidden, 4 * view.hidden
    x = reshape(block, block.bottom, (-1, view.inputs), "flat")
    weights = [block.learned(0, "input_weight", (rows, view.inputs)), block.learned(2, "bias", (rows,))]
    inputs = reshape(block, block("Gemm", x, *weights, transB=1, step="input"), (view.steps, -1, rows), "inputs")
    weight = block.learned(1, "hidden_weight", (rows, size)) if view.steps > 1 else ""
    outputs, _ = _cells(block, size, inputs, weight, [True] * view.steps, [])
    return reshape(block, _all_steps(block, outputs), block.tops[0], "steps")


def _cells(
    block: Block, size: int, inputs: str, weight: str, goes_on: Sequence[bool], states: Sequence[str]
) -> tuple[list[str], list[str]]:
    """h of each step, and the last h and c, from the first ones if there are any."""
    h, c = states or ("", "")
    outputs: list[str] = []
    for t in range(len(goes_on)):
        gates = _summed(block, inputs, 4 * size, _kept(block, h, t, goes_on, "kept"), weight, t, "gates")
        i, f, o, g = split(block, gates, [size] * 4, 1, f"{t}/split")
        fresh = block("Mul", block("Sigmoid", i, step=f"{t}/i"), block("Tanh", g, step=f"{t}/g"), step=f"{t}/fresh")
        if c:
            forget = _kept(block, block("Sigmoid", f, step=f"{t}/f"), t, goes_on, "forget")
            c = block("Add", block("Mul", forget, c, step=f"{t}/old"), fresh, step=f"{t}/c")
        else:
            c = fresh
        h = block("Mul", block("Sigmoid", o, step=f"{t}/o"), block("Tanh", c, step=f"{t}/squashed"), step=f"{t}/h")
        outputs.append(h)
    return outputs, [h, c]


def lstm_unit(block: Block) -> list[str]:
    """One step of an LSTM: `c' = cont*f*c + i*g` and `o*tanh(c')`."""
    cell, gates, cont = block.bottoms
    if block.batched:
        block.fixes_batch("its first axis is time, of which it takes one step")
    size = block.shape[2]
    if size < 1:
        raise Refused("how many units it has depends on the data")
    i, f, o, g = split(block, gates, [size] * 4, 2)
    fresh = block("Mul", block("Sigmoid", i, step="i"), block("Tanh", g, step="g"), step="fresh")
    forget = block("Mul", block("Sigmoid", f, step="f"), reshape(block, cont, (1, -1, 1), "cont"), step="forget")
    c = block("Add", block("Mul", forget, cell, step="old"), fresh, step="c")
    return [c, block("Mul", block("Sigmoid", o, step="o"), block("Tanh", c, step="squashed"), step="h")]


def rnn(block: Block) -> list[str]:
    """The unrolled RNN; its output layer is one Gemm for all steps."""
    view = Recurrent.of(block.layer)
    steps, size = block.shape[0], view.num_output
    inputs, weight, goes_on = _inputs(block, view, size), _hidden_weight(block, view, size), _goes_on(block)
    states = _first_states(block, view)
    h = states[0] if states else ""
    hidden: list[str] = []
    for t in range(steps):
        kept = _kept(block, h, t, goes_on, "kept")
        h = block("Tanh", _summed(block, inputs, size, kept, weight, t, "sum"), step=f"{t}/h")
        hidden.append(h)
    last = len(block.layer.blobs) - 1
    weights = [block.learned(last - 1, "output_weight", (size, size)), block.learned(last, "output_bias", (size,))]
    y = block("Tanh", block("Gemm", _all_steps(block, hidden), *weights, transB=1, step="output"))
    return [reshape(block, y, (steps, -1, size), "steps"), *_last_states(block, view, [h])]


def _inputs(block: Block, view: Recurrent, rows: int) -> str:
    """`W_x x_t + b [+ W_s s]` for all steps at once, shape (T, N, rows)."""
    steps = block.shape[0]
    _check_steps(block, steps)
    x = reshape(block, block.bottom, (-1, math.prod(block.shape[2:])), "flat")
    shape: Shape = (rows, math.prod(block.shape[2:]))
    weights = [block.learned(0, "input_weight", shape), block.learned(1, "bias", (rows,))]
    y = reshape(block, block("Gemm", x, *weights, transB=1, step="input"), (steps, -1, rows), "inputs")
    if view.static is None:
        return y
    size = math.prod(block.shapes[view.static][1:])
    static = reshape(block, block.bottoms[view.static], (-1, size), "static_flat")
    constant = block("Gemm", static, block.learned(2, "static_weight", (rows, size)), transB=1, step="static")
    return block("Add", y, constant, step="inputs_static")


def _check_steps(block: Block, steps: int) -> None:
    if steps > MAX_STEPS:
        raise Refused(f"its {steps:,} steps would be written out one by one, and more than {MAX_STEPS:,} are too many")
    if block.batched:
        block.fixes_batch("its first axis is time, and each step is written out")


def _hidden_weight(block: Block, view: Recurrent, rows: int) -> str:
    """The weight of the state, the next one after those of the inputs; shape (rows, D). Empty where none is read."""
    if block.shape[0] == 1 and not view.expose_hidden:
        return ""
    return block.learned(2 if view.static is None else 3, "hidden_weight", (rows, view.num_output))


def _summed(block: Block, inputs: str, rows: int, kept: str, weight: str, t: int, name: str) -> str:
    """`W_x x_t + b [+ W_s s] + W_h (cont_t * h)` of one step, (N, rows); the last is empty where it is 0."""
    own = reshape(block, cut(block, inputs, [0], [t], [t + 1], step=f"{t}/step"), (-1, rows), f"{t}/input")
    if not kept:
        return own
    return block("Add", own, block("Gemm", kept, weight, transB=1, step=f"{t}/hidden"), step=f"{t}/{name}")


def _kept(block: Block, x: str, t: int, goes_on: Sequence[bool], step: str) -> str:
    """`cont_t * x`, cont being (N, 1); x itself where it is empty, or all sequences are known to go on."""
    if not x or goes_on[t]:
        return x
    cont = reshape(block, cut(block, block.bottoms[1], [0], [t], [t + 1], step=f"{t}/cut"), (-1, 1), f"{t}/cont")
    return block("Mul", x, cont, step=f"{t}/{step}")


def _goes_on(block: Block) -> list[bool]:
    """For each step whether a Parameter, which a ContinuationIndicator becomes, has 1 for all sequences."""
    steps, maker = block.shape[0], block.graph.net.producer(block.layer.bottoms[1])
    if maker is None or maker.type != "Parameter" or not len(maker.blobs):
        return [False] * steps
    return [bool((cont == 1).all()) for cont in maker.blobs[0].reshape(steps, -1)]


def _first_states(block: Block, view: Recurrent) -> list[str]:
    """The exposed states as (N, D); none when they start at 0."""
    if not view.expose_hidden:
        return []
    bottoms = block.bottoms[-view.states :]
    return [reshape(block, x, (-1, view.num_output), f"state{i}") for i, x in enumerate(bottoms)]


def _last_states(block: Block, view: Recurrent, states: list[str]) -> list[str]:
    if not view.expose_hidden:
        return []
    return [reshape(block, x, (1, -1, view.num_output), f"last{i}") for i, x in enumerate(states)]


def _all_steps(block: Block, outputs: list[str]) -> str:
    """(T*N, D)."""
    return block("Concat", *outputs, axis=0, step="hidden") if len(outputs) > 1 else outputs[0]


FUNCTIONS: Mapping[str, LayerFunction] = {
    "ContinuationIndicator": continuation_indicator,
    "LSTM": lstm,
    "LSTMUnit": lstm_unit,
    "Lstm": crnn_lstm,
    "RNN": rnn,
}
