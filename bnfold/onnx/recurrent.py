"""LSTM, GRU and RNN in numpy, with every attribute that ONNX gives them.

onnx's own reference arithmetic leaves out the lengths of sequences, the clip, and most activations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
from onnx.reference.op_run import OpRun

from bnfold.net import Array

Activation = Callable[[Array], Array]


class Way(NamedTuple):
    """One direction.

    Attributes:
        recurrence: what the hidden state is multiplied by, transposed.
        bias: what goes with it.
        peephole: of i, o and f.
        activations: in ONNX's order.
        variant: input_forget of an LSTM, linear_before_reset of a GRU.
    """

    recurrence: Array
    bias: Array
    peephole: Array
    activations: Sequence[Activation]
    variant: bool


class RecurrentOperator(OpRun):
    """What the three have in common: sequences one step at a time, each up to its length, each direction on its own.

    Attributes:
        count: how many states it has.
        names: its activations by default.
    """

    count = 1
    names: ClassVar[tuple[str, ...]]

    def _run(
        self,
        x: Array,
        weight: Array,
        recurrence: Array,
        bias: Array | None = None,
        lengths: Array | None = None,
        *further: Array | None,
        direction: str = "forward",
        layout: int = 0,
        **given: Any,
    ) -> tuple[Array, ...]:
        x = x.swapaxes(0, 1) if layout else x
        steps, batch = x.shape[:2]
        directions, size = recurrence.shape[0], recurrence.shape[2]
        lengths = np.full(batch, steps) if lengths is None else lengths
        y = np.zeros((steps, directions, batch, size), x.dtype)
        states = np.zeros((self.count, directions, batch, size), x.dtype)
        for state, start in zip(states, further, strict=False):
            state[...] = 0 if start is None else start.swapaxes(0, 1) if layout else start
        peepholes = further[2] if len(further) > 2 else None
        activations = list(_activations(given, self.names, directions))
        variant = bool(given.get("input_forget") or given.get("linear_before_reset"))
        for one in range(directions):
            both = np.zeros((2, len(recurrence[one]))) if bias is None else bias[one].reshape(2, -1)
            peephole = np.zeros((3, size)) if peepholes is None else peepholes[one].reshape(3, size)
            own = activations[one * len(self.names) : (one + 1) * len(self.names)]
            way = Way(recurrence[one].T, both[1], peephole, own, variant)
            places = np.arange(steps)[:, None] + np.zeros(batch, int)
            if one or direction == "reverse":
                places = np.where(places < lengths, lengths - 1 - places, places)
            for step, place in enumerate(places):
                lasts = (step < lengths)[:, None]
                made = self.step(x[place, range(batch)] @ weight[one].T + both[0], states[:, one], way)
                states[:, one] = np.where(lasts, made, states[:, one])
                y[place, one, range(batch)] = np.where(lasts, made[0], 0)
        return (y.transpose(2, 0, 1, 3), *states.swapaxes(1, 2)) if layout else (y, *states)

    def step(self, read: Array, states: Array, way: Way) -> Array:
        """The states after a step, of `x*W^T + Wb` and the states before."""
        raise NotImplementedError


class RNN(RecurrentOperator):
    """`H = f(x*W^T + Wb + H*R^T + Rb)`."""

    names = ("Tanh",)

    def step(self, read: Array, states: Array, way: Way) -> Array:
        """The hidden state."""
        return way.activations[0](read + states[0] @ way.recurrence + way.bias)[None]


class GRU(RecurrentOperator):
    """`H = (1 - z)*n + z*H`, z and r by f, `n = g(x*W^T + Wb + (r*H)*R^T + Rb)`, or r times what is after the H."""

    names = ("Sigmoid", "Tanh")

    def step(self, read: Array, states: Array, way: Way) -> Array:
        """The hidden state."""
        hidden, size, (f, g) = states[0], states.shape[2], way.activations
        gates, new = way.recurrence[:, :-size], way.recurrence[:, -size:]
        z, r = np.split(f(read[:, :-size] + hidden @ gates + way.bias[:-size]), 2, axis=1)
        behind = way.bias[-size:]
        behind = r * (hidden @ new + behind) if way.variant else (r * hidden) @ new + behind
        return np.asarray((1 - z) * g(read[:, -size:] + behind) + z * hidden)[None]


class LSTM(RecurrentOperator):
    """`C = f*C + i*g(c)`, `H = o*h(C)`; i and f see the cell through peepholes, o the new one."""

    count = 2
    names = ("Sigmoid", "Tanh", "Tanh")

    def step(self, read: Array, states: Array, way: Way) -> Array:
        """The hidden state and the cell."""
        (hidden, cell), (f, g, h) = states, way.activations
        i, o, forget, c = np.split(read + hidden @ way.recurrence + way.bias, 4, axis=1)
        i = f(i + way.peephole[0] * cell)
        forget = 1 - i if way.variant else f(forget + way.peephole[2] * cell)
        cell = forget * cell + i * g(c)
        return np.stack([f(o + way.peephole[1] * cell) * h(cell), cell])


def _activations(given: dict[str, Any], names: tuple[str, ...], directions: int) -> Iterator[Activation]:
    """Activations of what is clipped; alpha and beta are said in order, of those that have one.

    The third, of an LSTM's cell, is of what is not clipped, as in onnxruntime.
    """
    stated = [list(given.get(key) or []) for key in ("activation_alpha", "activation_beta")]
    for place, name in enumerate(given.get("activations") or names * directions):
        function, *defaults = ACTIVATIONS[name.lower()]
        known = [values.pop(0) if values else default for default, values in zip(defaults, stated, strict=False)]
        limit = given.get("clip") if place % len(names) < 2 else None
        yield partial(_activated, function, limit or np.inf, known)


def _activated(function: Callable[..., Array], limit: float, known: Sequence[float], x: Array) -> Array:
    return function(np.clip(x, -limit, limit), *known)


ACTIVATIONS: dict[str, tuple[Any, ...]] = {
    "affine": (lambda x, a, b: a * x + b, 0.0, 0.0),
    "elu": (lambda x, a: np.where(x < 0, a * np.expm1(x), x), 1.0),
    "hardsigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), 0.2, 0.5),
    "leakyrelu": (lambda x, a: np.where(x < 0, a * x, x), 0.01),
    "relu": (lambda x: np.maximum(x, 0),),
    "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), 0.0, 0.0),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)),),
    "softplus": (lambda x: np.logaddexp(x, 0),),
    "softsign": (lambda x: x / (1 + np.abs(x)),),
    "tanh": (np.tanh,),
    "thresholdedrelu": (lambda x, a: np.where(x > a, x, 0), 0.0),
}
"""Name -> function, and what its alpha and beta are in onnxruntime where they are not said."""
