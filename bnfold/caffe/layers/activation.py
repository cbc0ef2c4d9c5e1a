"""Layers that treat every element alike."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from bnfold.caffe.layers.axes import at_least_1, canonical_axis
from bnfold.caffe.layers.row import OTHERS, LayerType, count, per_channel, same
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape


class ReLU(NamedTuple):
    """What a ReLU says: `max(x, 0) + negative_slope*min(x, 0)`, then at most `high`, at least `low` (relu_layer.cpp).

    Attributes:
        negative_slope: slope below 0.
        high: the least of 6 (`relu6`) and `maximum`, both Synopsys'; None for no bound.
        low: Synopsys' `minimum`; None for no bound.
        read: the first number of a second bottom is in the place of `maximum`.
    """

    negative_slope: float
    high: float | None = None
    low: float | None = None
    read: bool = False

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a ReLU, or a type that is one in other words: ReLUX, RReLU.

        Raises:
            ModelError: RReLU's bounds are none.
        """
        if layer.type == "ReLUX":
            return cls(layer.param.relux_param.negative_slope)
        if layer.type == "RReLU":
            param = layer.param.rrelu_param
            if not 0 < param.lb <= param.ub:
                raise ModelError(f"{layer}: lb {param.lb:g} and ub {param.ub:g} must be above 0 and in order")
            # The mean of 1/a for a between lb and ub, as ducha-aiki's Caffe gives it at TEST.
            width = param.ub - param.lb
            return cls(math.log(param.ub / param.lb) / width if width else 1.0 / param.lb)
        param = layer.param.relu_param
        read = len(layer.bottoms) > 1
        bounds = ([6.0] if param.relu6 else []) + ([param.maximum] if param.maximum > 0 and not read else [])
        low = param.minimum if param.minimum != 0 else None
        return cls(param.negative_slope, min(bounds, default=None), low, read)

    @property
    def bounded(self) -> bool:
        """It is more than a slope on either side of 0."""
        return self.high is not None or self.low is not None or self.read


def log_of_base(layer: Layer) -> float:
    """`ln(base)` of an Exp, `base^(scale*x + shift)`, or of a Log, `log_base(scale*x + shift)`.

    Source: exp_layer.cpp, log_layer.cpp.

    Raises:
        ModelError: the base is neither -1 (which stands for e) nor above 0, or a Log's is 1.
    """
    base: float = ROWS[layer.type].parameters(layer).base
    if layer.type == "Log" and base == 1:
        raise ModelError(f"{layer}: there is no logarithm of base 1")
    if base == -1:
        return 1.0
    if not base > 0 or math.isinf(base):
        raise ModelError(f"{layer}: base {base} must be above 0, or -1 for e")
    return math.log(base)


def concatenated(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """Twice as many along `concat_axis` (crelu_layer.cpp, Reshape)."""
    axis = canonical_axis(layer.param.crelu_param.concat_axis, len(bottoms[0]), layer)
    return [tuple(size * (2 if size > 0 and place == axis else 1) for place, size in enumerate(bottoms[0]))]


def clip_bounds(layer: Layer) -> tuple[float, float]:
    """The bounds of a Clip, `min(max(x, minimum), maximum)` (clip_layer.cpp).

    Raises:
        ModelError: a bound is not given; Caffe has no default for either.
    """
    param = layer.param.clip_param
    if not (param.HasField("min") and param.HasField("max")):
        raise ModelError(f"{layer}: min and max must both be given")
    return param.min, param.max


def tanh_factors(layer: Layer) -> tuple[float, float]:
    """What a ScaledTanH, `alpha*tanh(beta*x)`, multiplies by (scaled_tanh_layer.cpp of Synopsys' Caffe).

    Raises:
        ModelError: one is not given; that Caffe has no default for either.
    """
    param = layer.param.scaled_tanh_param
    if not (param.HasField("alpha") and param.HasField("beta")):
        raise ModelError(f"{layer}: alpha and beta must both be given")
    return param.alpha, param.beta


def apl_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """Slopes and offsets, `sums` of each for each value of a sample: one value's lie side by side (apl_layer.cpp)."""
    sums = layer.param.apl_param.sums
    at_least_1(layer, "sums", (sums,))
    return [(1, 1, sums, count(bottoms[0][1:]))] * 2


ROWS: Mapping[str, LayerType] = {
    "APL": LayerType(
        same,
        rank=2,
        blobs=apl_blobs,
        stand_in="shift",
        reads={"apl_param": "sums"},
        dialects=OTHERS,
        note="hinges of each value of a sample, not of each channel; a net of another size needs others",
    ),
    "AbsVal": LayerType(same, aligned=True, gradient="bottom"),
    "Atan": LayerType(same, dialects="Synopsys"),
    "BNLL": LayerType(same, aligned=True, gradient="bottom"),
    "CReLU": LayerType(
        concatenated,
        reads={"crelu_param": "negative_slope concat_axis"},
        dialects=OTHERS,
        note="Cambricon's; the layer of winggan's Caffe, which has no `crelu_param`, packs several samples otherwise",
    ),
    "Ceil": LayerType(same, dialects="Synopsys"),
    "Clip": LayerType(same, reads={"clip_param": "min max"}),
    "ELU": LayerType(same, reads={"elu_param": "alpha lambda"}, aligned=True, gradient="top"),
    "Exp": LayerType(same, reads={"exp_param": "base scale shift"}, aligned=True, gradient="top"),
    "Floor": LayerType(same, dialects="Synopsys"),
    "HardSigmoid": LayerType(
        same,
        reads=dict.fromkeys(("hard_sigmoid_param", "hardsigmoid_param"), "alpha beta"),
        dialects="Synopsys, brocolli",
        note="slope 0.2 unless said",
    ),
    "HardTanH": LayerType(same, dialects="Synopsys"),
    "HardSwish": LayerType(same, dialects="Synopsys, brocolli"),
    "Log": LayerType(same, reads={"log_param": "base scale shift"}, aligned=True),
    "Mish": LayerType(same, dialects="Synopsys"),
    "PReLU": LayerType(
        same,
        rank=2,
        blobs=per_channel("prelu_param"),
        stand_in="positive",
        fillers="filler",
        reads={"prelu_param": "channel_shared"},
        aligned=True,
        passes_variance=True,
    ),
    "RReLU": LayerType(
        same,
        reads={"rrelu_param": "lb ub"},
        dialects="ducha-aiki's",
        note="at inference a leaky ReLU of slope ln(ub/lb)/(ub - lb), the mean of 1/a over [lb, ub], as its Caffe gave "
        "for the golden",
    ),
    "ReLU": LayerType(
        same,
        bottoms=(1, 2),
        reads={"relu_param": "negative_slope relu6 maximum minimum"},
        aligned=True,
        gradient="bottom",
        passes_variance=True,
        note="Synopsys' `relu6`, `maximum` and `minimum` too; the first number of a second bottom is `maximum`",
    ),
    "ReLU6": LayerType(
        same,
        reads={"relu6_param": "negative_slope threshold", "relu_param": "negative_slope"},
        dialects="MobileNet-YOLO, Vitis, Tengine, TI, brocolli",
        note="brocolli's `threshold` too",
    ),
    "ReLUX": LayerType(same, reads={"relux_param": "negative_slope maximal_value"}, dialects="soeaver's"),
    "Round": LayerType(same, dialects="Synopsys", note="halves to the even number"),
    "SELU": LayerType(same, reads={"selu_param": "lambda alpha"}, dialects=f"soeaver's, Synopsys, {OTHERS}"),
    "ScaledTanH": LayerType(same, reads={"scaled_tanh_param": "alpha beta"}, dialects="Synopsys"),
    "SeLU": LayerType(same, reads={"selu_param": "lambda alpha"}, dialects="Synopsys"),
    "SeLu": LayerType(same, reads={"selu_param": "lambda alpha"}, dialects="soeaver's, Synopsys"),
    "Sigmoid": LayerType(same, reads={"sigmoid_param": ""}, aligned=True, gradient="top"),
    "SignedSqrt": LayerType(same, dialects=OTHERS, note="of the nets with bilinear pooling"),
    "Sin": LayerType(same, dialects="Synopsys"),
    "Softplus": LayerType(same, dialects="Synopsys", note="BNLL under another name; its Caffe gives infinity above 88"),
    "Softsign": LayerType(same, dialects="Synopsys"),
    "Swish": LayerType(same, reads={"swish_param": "beta"}, gradient="top"),
    "TanH": LayerType(same, reads={"tanh_param": ""}, aligned=True, gradient="top"),
    "Threshold": LayerType(same, reads={"threshold_param": "threshold"}, aligned=True),
    "ThresholdedReLU": LayerType(same, reads={"thresholded_relu_param": "alpha"}, dialects="Synopsys"),
}
