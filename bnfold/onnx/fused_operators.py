"""Operators that onnxruntime makes of several nodes where it writes a model that it has optimised, for the float64 run.

As its documentation has them (docs/ContribOperators.md). What has no form here keeps a model from that run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from bnfold.net import Array
from bnfold.onnx import recurrent
from bnfold.onnx.error_function import gelu
from bnfold.onnx.reference_operators import Conv, Gelu, MicrosoftOperator, total


class BiasGelu(MicrosoftOperator):
    """`gelu(x + b)`."""

    def _run(self, x: Array, bias: Array) -> tuple[Array]:
        return (gelu(x + bias),)


class FastGelu(MicrosoftOperator):
    """`gelu(x + b)` by a tanh; b may be left out."""

    def _run(self, x: Array, bias: Array | None = None) -> tuple[Array]:
        return (gelu(total(x, bias), by_tanh=True),)


class FusedConv(MicrosoftOperator):
    """`f(conv(x) + z)`; z and f may be left out."""

    def _run(
        self,
        x: Array,
        weight: Array,
        bias: Array | None = None,
        added: Array | None = None,
        activation: str = "",
        activation_params: Sequence[float] = (),
        **given: Any,
    ) -> tuple[Array]:
        unsaid = {"auto_pad": "NOTSET", "group": 1, **dict.fromkeys(("dilations", "kernel_shape", "pads", "strides"))}
        (y,) = Conv._run(self, x, weight, bias, **{**unsaid, **given})  # type: ignore[arg-type]
        return (_activated(total(y, added), activation, activation_params),)


class FusedGemm(MicrosoftOperator):
    """`f(alpha*A*B + beta*C)`, A and B transposed or not; C and f may be left out."""

    def _run(
        self, a: Array, b: Array, c: Array | None = None, alpha: float = 1.0, beta: float = 1.0, **given: Any
    ) -> tuple[Array]:
        y = alpha * ((a.T if given.get("transA") else a) @ (b.T if given.get("transB") else b))
        params = [given[name] for name in ("activation_alpha", "activation_beta") if name in given]
        return (_activated(y if c is None else y + beta * c, given.get("activation", ""), params),)


class FusedMatMul(MicrosoftOperator):
    """`alpha*A*B`, A or B transposed over the last two axes."""

    def _run(self, a: Array, b: Array, alpha: float = 1.0, **given: Any) -> tuple[Array]:
        if given.get("transBatchA") or given.get("transBatchB"):
            raise NotImplementedError("FusedMatMul moves the batch of what it reads")
        a = np.swapaxes(a, -1, -2) if given.get("transA") and a.ndim > 1 else a
        b = np.swapaxes(b, -1, -2) if given.get("transB") and b.ndim > 1 else b
        return (alpha * (a @ b),)


class QuickGelu(MicrosoftOperator):
    """`x * sigmoid(alpha*x)`."""

    def _run(self, x: Array, alpha: float = 1.702) -> tuple[Array]:
        return (x / (1 + np.exp(-alpha * x)),)


class SimplifiedLayerNormalization(OpRun):
    """`scale*x/sqrt(mean of x^2 + epsilon)` over the last axes, of the standard domain, and the factor of x."""

    def _run(self, x: Array, scale: Array, axis: int = -1, epsilon: float = 1e-5, **_: Any) -> tuple[Array, ...]:
        over = tuple(range(axis % x.ndim, x.ndim))
        factor = 1 / np.sqrt(np.mean(x * x, axis=over, keepdims=True) + epsilon)
        return scale * x * factor, factor


EPSILON = 1e-12
"""Of a norm of a sum that says none."""


class SkipLayerNormalization(MicrosoftOperator):
    """`scale*(z - mean)/sqrt(variance + epsilon) + B` of the sum z; then mean, factor and sum."""

    def _run(
        self, x: Array, skip: Array, scale: Array, shift: Any = None, bias: Any = None, epsilon: float = EPSILON
    ) -> tuple[Array, ...]:
        z = total(x, skip, bias)
        return (*standardised(z, scale, shift, epsilon), z)


class SkipSimplifiedLayerNormalization(MicrosoftOperator):
    """`scale*z/sqrt(mean of z^2 + epsilon)` of the sum z; then 0, factor and sum."""

    def _run(
        self, x: Array, skip: Array, scale: Array, bias: Array | None = None, epsilon: float = EPSILON
    ) -> tuple[Array, ...]:
        z = total(x, skip, bias)
        y, factor = SimplifiedLayerNormalization._run(self, z, scale, epsilon=epsilon)  # type: ignore[arg-type]
        return y, np.zeros_like(factor), factor, z


def standardised(z: Array, scale: Array, shift: Array | None, epsilon: float) -> tuple[Array, Array, Array]:
    """`scale*(z - mean)/sqrt(variance + epsilon) + shift` over the last axis; mean, and the factor of `z - mean`."""
    mean = z.mean(axis=-1, keepdims=True)
    factor = 1 / np.sqrt(z.var(axis=-1, keepdims=True) + epsilon)
    return total(scale * (z - mean) * factor, shift), mean, factor


def _activated(y: Array, name: str, params: Sequence[float]) -> Array:
    """What an activation makes of values. Raises KeyError where it is none of `ACTIVATIONS`."""
    return np.asarray(ACTIVATIONS[name.lower()](y, *params))


ACTIVATIONS: Mapping[str, Callable[..., Array]] = {
    "": lambda y, *_: y,
    "clip": np.clip,
    **{name: function for name, (function, *_) in recurrent.ACTIVATIONS.items()},
}
"""Activations of a FusedConv or a FusedGemm, by their names in small letters."""

OWN_GELU: type[OpRun] = type("Gelu", (Gelu,), {"op_domain": MicrosoftOperator.op_domain})
"""The standard operator without its attribute, of which onnx, by the name of the class, gives the default."""

FUSED_OPERATORS: tuple[type[OpRun], ...] = (
    BiasGelu, FastGelu, FusedConv, FusedGemm, FusedMatMul, OWN_GELU, QuickGelu, SimplifiedLayerNormalization,
    SkipLayerNormalization, SkipSimplifiedLayerNormalization,
)  # fmt: skip
