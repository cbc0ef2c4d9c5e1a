"""LSTM and RNN go on in Caffe where the last call stopped, as `cont` lets them; a network as a function starts at 0.

    Given:   x, cont -> lstm -> h
    Result:  x, cont, lstm_h_in, lstm_c_in -> lstm (expose_hidden) -> h, lstm_h_out, lstm_c_out

What a call gives at `..._out` is what the next one takes at `..._in`, zeros at first.

ContinuationIndicator, which some text readers have in front of an LSTM, becomes a Parameter that holds its values, but
where a bottom says how many sequences there are:

    indicator[t, n] = 0 if t == 0 else 1        time_step x batch_size: each sequence begins at its first step
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from math import prod

import numpy as np

from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.layers.infer import infer_shapes
from bnfold.caffe.layers.recurrent import Recurrent, recurrent
from bnfold.caffe.layers.table import types_where
from bnfold.caffe.origin import Source
from bnfold.errors import ModelError, few, quoted
from bnfold.net import Blobs, Layer, Names, Net

MAX_STEPS = 1 << 24
"""Values of an indicator that are written out; no text is so long, and a few bytes of a prototxt can ask for any."""

INDICATOR = "ContinuationIndicator"  # BVLC's Caffe has none
TYPES = types_where(lambda row: row.shapes is recurrent)
STATE = re.compile(r"_[hc]_in(#\d+)?$")
"""How the input of a state is called, which `expose_states` adds; behind a # where the name was taken."""


def with_hidden_state(net: Net) -> list[Layer]:
    """The layers that keep a state in Caffe from call to call, which is neither a bottom nor a top."""
    return [
        layer
        for layer in net.layers
        if layer.type in TYPES and not layer.opaque and not layer.param.recurrent_param.expose_hidden
    ]


def state_notes(net: Net) -> list[str]:
    """A sentence about the layers that Caffe would let go on."""
    hidden = with_hidden_state(net)
    if not hidden:
        return []
    keep, start = ("keeps its", "starts") if len(hidden) == 1 else ("keep their", "start")
    return [
        f"{few(list(map(str, hidden)), 1)} {keep} state from call to call in Caffe, and {start} at 0 in each call here"
        "; --recurrent-state makes the state an input and an output"
    ]


def expose_states(net: Net) -> Net:
    """The net with the state of each LSTM and RNN as an input and an output, in Caffe's own words for it.

    Raises:
        ModelError: how many sequences such a layer reads is not known.
    """
    wanted = {id(layer) for layer in with_hidden_state(net)}
    if not wanted:
        net.notes.append("--recurrent-state changes nothing: no LSTM or RNN keeps a state that is not a blob already")
        return net
    shapes = infer_shapes(net)
    names = Names((layer.name for layer in net.layers), "#")
    blobs = Names((top for layer in net.layers for top in layer.tops), "#")
    inputs: list[Layer] = []
    outputs = list(net.outputs)
    layers = []
    for layer in net.layers:
        if id(layer) not in wanted:
            layers.append(layer)
            continue
        view = Recurrent.of(layer)
        x = shapes.get(layer.bottoms[0])
        if x is None or x[1] < 1:
            raise ModelError(f"{layer}: how many sequences it reads is not known, so its state has no shape")
        param: LayerParameter = deepcopy(layer.param)
        param.recurrent_param.expose_hidden = True
        states = [blobs.new(f"{layer.name}_{state}_in") for state in "hc"[: view.states]]
        last_states = [blobs.new(f"{layer.name}_{state}_out") for state in "hc"[: view.states]]
        for state in states:
            message = LayerParameter(name=names.new(state), type="Input", top=[state])
            message.input_param.shape.add(dim=[1, x[1], view.num_output])
            inputs.append(Layer(message.name, "Input", [], [state], Blobs(), message))
        layers.append(replace(layer, bottoms=[*layer.bottoms, *states], tops=[*layer.tops, *last_states], param=param))
        outputs += last_states
    first = next((index for index, layer in enumerate(layers) if layer.type != "Input"), 0)
    exposed = net.with_layers([*layers[:first], *inputs, *layers[first:]])
    exposed.outputs = outputs
    exposed.inputs |= {layer.tops[0]: tuple(layer.param.input_param.shape[0].dim) for layer in inputs}
    return exposed


def indicators_as_parameters(layers: Sequence[Layer]) -> tuple[list[Layer], list[str]]:
    """The layers with each indicator as a Parameter that holds its values, and sentences that say so."""
    replaced = [_as_parameter(layer) if layer.type == INDICATOR else layer for layer in layers]
    changed = [layer.name for layer, original in zip(replaced, layers, strict=True) if layer is not original]
    names = quoted(changed)
    note = f"{names} ({INDICATOR}) became Parameter: 0 at the first step, 1 at the others"
    return replaced, [note] if changed else []


def _as_parameter(layer: Layer) -> Layer:
    param = layer.param.continuation_indicator_param
    shape = param.time_step, param.batch_size
    if len(layer.tops) != 1 or layer.bottoms or min(shape) < 1 or prod(shape) > MAX_STEPS:
        return layer
    values = np.ones(shape, np.float32)
    values[0] = 0
    values.flags.writeable = False
    written = LayerParameter(name=layer.name, type="Parameter", top=[layer.param.top[0]])
    written.parameter_param.shape.dim.extend(shape)
    source = Source((), (layer.param.top[0],), written, Blobs())
    return replace(layer, type="Parameter", param=written, blobs=Blobs([values]), source=source)
