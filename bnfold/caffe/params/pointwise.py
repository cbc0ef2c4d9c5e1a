"""Views of the layers that treat every element alike, and of those that normalise by what they read."""

from __future__ import annotations

import math
from typing import NamedTuple, Self

from bnfold.errors import ModelError
from bnfold.net import Layer


class ReLU(NamedTuple):
    """What a ReLU says: `max(x, 0) + negative_slope*min(x, 0)`."""

    negative_slope: float

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a ReLU."""
        return cls(layer.param.relu_param.negative_slope)


class ReLU6(NamedTuple):
    """What a ReLU6 says: `min(max(x, 0), 6) + negative_slope*min(x, 0)`."""

    negative_slope: float

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a ReLU6; the forks keep its slope in `relu6_param` or in `relu_param`."""
        param = layer.param.relu6_param if layer.param.HasField("relu6_param") else layer.param.relu_param
        return cls(param.negative_slope)


class SELU(NamedTuple):
    """What a SELU says: `scale*x` above 0, else `scale*alpha*(e^x - 1)`; the paper's constants unless said."""

    scale: float
    alpha: float

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a SELU or SeLu; only soeaver's nets have parameters for it."""
        param = layer.param.selu_param
        return cls(getattr(param, "lambda"), param.alpha)


class PReLU(NamedTuple):
    """What a PReLU says: `max(x, 0) + slope*min(x, 0)` with a learned slope per channel, or one for all."""

    channel_shared: bool

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a PReLU."""
        return cls(layer.param.prelu_param.channel_shared)


class ELU(NamedTuple):
    """What an ELU says: `x` above 0, else `alpha*(e^x - 1)`, all times `scale` (Tengine's lambda; 1 elsewhere)."""

    alpha: float
    scale: float

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read an ELU."""
        param = layer.param.elu_param
        return cls(param.alpha, getattr(param, "lambda"))


class Exp(NamedTuple):
    """What an Exp says: `base^(scale*x + shift)`.

    Attributes:
        base: above 0; None is e.
        scale, shift: applied before the power.
    """

    base: float | None
    scale: float
    shift: float

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read an Exp.

        Raises:
            ModelError: the base is neither -1 (which stands for e) nor above 0.
        """
        param = layer.param.exp_param
        return cls(_base(layer, param.base), param.scale, param.shift)

    @property
    def log_base(self) -> float:
        """`ln(base)`, with which `base^z = e^(log_base*z)`."""
        return 1.0 if self.base is None else math.log(self.base)


class Log(NamedTuple):
    """What a Log says: `log_base(scale*x + shift)`; `base` as in `Exp`."""

    base: float | None
    scale: float
    shift: float

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Log.

        Raises:
            ModelError: the base is neither -1 (which stands for e) nor above 0, or it is 1.
        """
        param = layer.param.log_param
        if param.base == 1:
            raise ModelError(f"{layer}: there is no logarithm of base 1")
        return cls(_base(layer, param.base), param.scale, param.shift)

    @property
    def log_base(self) -> float:
        """`ln(base)`, with which `log_base(z) = ln(z)/log_base`."""
        return 1.0 if self.base is None else math.log(self.base)


def _base(layer: Layer, base: float) -> float | None:
    if base == -1:
        return None
    if not base > 0 or math.isinf(base):
        raise ModelError(f"{layer}: base {base} must be above 0, or -1 for e")
    return base


class Clip(NamedTuple):
    """What a Clip says: `min(max(x, minimum), maximum)`."""

    minimum: float
    maximum: float

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Clip.

        Raises:
            ModelError: a bound is not given; Caffe has no default for either.
        """
        param = layer.param.clip_param
        if not (param.HasField("min") and param.HasField("max")):
            raise ModelError(f"{layer}: min and max must both be given")
        return cls(param.min, param.max)


class Threshold(NamedTuple):
    """What a Threshold says: 1 where `x > threshold`, else 0."""

    threshold: float

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Threshold."""
        return cls(layer.param.threshold_param.threshold)


class Swish(NamedTuple):
    """What a Swish says: `x*sigmoid(beta*x)`."""

    beta: float

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Swish."""
        return cls(layer.param.swish_param.beta)


class LRN(NamedTuple):
    """What an LRN says.

    Attributes:
        local_size: window, odd: channels centred on each, or pixels each way within a channel.
        alpha, beta, k: see caffe/SEMANTICS; `k` is not used within a channel.
        across_channels: the window lies across channels and not in the plane.
    """

    local_size: int
    alpha: float
    beta: float
    k: float
    across_channels: bool

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read an LRN.

        Raises:
            ModelError: `local_size` is even.
        """
        param = layer.param.lrn_param
        if param.local_size % 2 == 0:
            raise ModelError(f"{layer}: local_size {param.local_size} must be odd")
        across = param.norm_region == param.ACROSS_CHANNELS
        return cls(param.local_size, param.alpha, param.beta, param.k, across)


class MVN(NamedTuple):
    """What an MVN says: `(x - mean)/(std + eps)`, or only the difference; over the plane, or over channels too."""

    normalize_variance: bool
    across_channels: bool
    eps: float

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read an MVN."""
        param = layer.param.mvn_param
        return cls(param.normalize_variance, param.across_channels, param.eps)


class Normalize(NamedTuple):
    """What SSD's Normalize says: `x/sqrt(sum x^2 + eps) * scale`.

    Attributes:
        across_spatial: the sum goes over channels and plane, else over channels alone.
        channel_shared: one learned scale for all channels.
        eps: added to the sum.
    """

    across_spatial: bool
    channel_shared: bool
    eps: float

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Normalize."""
        param = layer.param.norm_param
        return cls(param.across_spatial, param.channel_shared, param.eps)


class Softmax(NamedTuple):
    """What a Softmax says: the axis along which it sums to 1, as written."""

    axis: int

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Softmax."""
        return cls(layer.param.softmax_param.axis)
