"""Layers that treat every element alike.

Each function states the formula of the Caffe file of the type's name, relu_layer.cpp for ReLU, and the ONNX operators.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bnfold.caffe.layers import LAYERS, ReLU, canonical_axis, clip_bounds, log_of_base
from bnfold.caffe.layers.activation import tanh_factors
from bnfold.onnx.export.builder import Block, LayerFunction, Refused
from bnfold.onnx.export.forms import clip, rectified, reduce, reshape, scaled, shifted, unsqueeze


def _operator(name: str, formula: str) -> LayerFunction:
    def function(block: Block) -> str:
        return block(name, block.bottom)

    function.__doc__ = f"{formula}: {name}."
    return function


def apl(block: Block) -> str:
    """`max(x, 0) + sum over s of slope[s]*max(offset[s] - x, 0)`: Relu of all hinges beside x, Mul, ReduceSum."""
    hinges = (*block.shape[1:], block.layer.param.apl_param.sums)
    slope, offset = (block.learned(index, word, hinges) for index, word in enumerate(("slope", "offset")))
    beside = unsqueeze(block, block.bottom, [block.rank], "beside")
    bent = block("Relu", block("Sub", offset, beside, step="from_offset"), step="hinges")
    total = reduce(block, "ReduceSum", block("Mul", slope, bent, step="sloped"), [block.rank], keep=False, step="sum")
    return block("Add", block("Relu", block.bottom, step="above"), total)


def bounded(block: Block) -> str:
    """`min(max(x, min), max)`: Clip."""
    return clip(block, block.bottom, *clip_bounds(block.layer))


def elu(block: Block) -> str:
    """`x` above 0, `alpha*(e^x - 1)` else: Elu; Tengine's lambda multiplies all."""
    param = block.layer.param.elu_param
    return scaled(block, block("Elu", block.bottom, alpha=float(param.alpha)), getattr(param, "lambda"))


def exponential(block: Block) -> str:
    """`base^(scale*x + shift)`: `Exp(ln(base)*scale*x) * base^shift`."""
    param, log = block.layer.param.exp_param, log_of_base(block.layer)
    inner = scaled(block, block.bottom, log * param.scale)
    return scaled(block, block("Exp", inner), math.exp(log * param.shift), "outer")


def hard_sigmoid(block: Block) -> str:
    """`min(max(alpha*x + beta, 0), 1)`, 0.2 and 0.5 unless said: HardSigmoid."""
    param = LAYERS["HardSigmoid"].parameters(block.layer)
    return block("HardSigmoid", block.bottom, alpha=float(param.alpha), beta=float(param.beta))


def hard_tanh(block: Block) -> str:
    """`min(max(x, -1), 1)`: Clip."""
    return clip(block, block.bottom, -1.0, 1.0)


def hard_swish(block: Block) -> str:
    """`x * min(max(x + 3, 0), 6)/6`, from MobileNetV3: HardSigmoid, Mul; HardSwish is as new as opset 14."""
    return block("Mul", block.bottom, block("HardSigmoid", block.bottom, alpha=1 / 6, beta=0.5))


def signed_sqrt(block: Block) -> str:
    """`sign(x) * sqrt(|x|)` (signed_sqrt_layer.cpp): Sign, Abs, Sqrt, Mul."""
    root = block("Sqrt", block("Abs", block.bottom, step="magnitude"), step="root")
    return block("Mul", block("Sign", block.bottom, step="sign"), root)


def logarithm(block: Block) -> str:
    """`log_base(scale*x + shift)`: `Log(scale*x + shift) * 1/ln(base)`."""
    param = block.layer.param.log_param
    inner = shifted(block, scaled(block, block.bottom, param.scale), param.shift)
    return scaled(block, block("Log", inner), 1 / log_of_base(block.layer), "outer")


def mish(block: Block) -> str:
    """`x * tanh(ln(1 + e^x))`: Softplus, Tanh, Mul; Mish is as new as opset 18."""
    return block("Mul", block.bottom, block("Tanh", block("Softplus", block.bottom)))


def power(block: Block) -> str:
    """`(scale*x + shift)^power`: Pow; where x has no say, Expand: Caffe fills in the constant without looking at x."""
    view = block.layer.param.power_param
    if view.power * view.scale == 0:
        constant = 1.0 if view.power == 0 else np.float64(view.shift) ** view.power
        # Not x*0 + constant: an infinite x would make it NaN, and Caffe does not read x here.
        filled = block.floats([constant], "value")
        return block("Expand", filled, block("Shape", block.bottom))
    x = shifted(block, scaled(block, block.bottom, view.scale), view.shift)
    return x if view.power == 1 else block("Pow", x, block.floats(view.power, "exponent"))


def prelu(block: Block) -> str:
    """`max(x, 0) + slope*min(x, 0)`: PRelu, whose slope must line up with the channel axis from the right."""
    count = 1 if block.layer.param.prelu_param.channel_shared else block.shape[1]
    return block("PRelu", block.bottom, block.learned(0, "slope", (count,) + (1,) * (block.rank - 2)))


def relu(block: Block) -> str:
    """`max(x, 0) + negative_slope*min(x, 0)`: Relu or LeakyRelu; then Synopsys' bounds, as Clip, or Min and Max."""
    view = ReLU.of(block.layer)
    is_clip = view.negative_slope == 0 and not view.read
    if is_clip and view.high is not None and (view.low is None or 0 <= view.low <= view.high):
        return clip(block, block.bottom, view.low or 0.0, view.high)
    y = rectified(block, block.bottom, view.negative_slope)
    if view.high is not None:
        y = block("Min", y, block.floats(view.high, "high"))
    if view.read:
        y = block("Min", y, _bound_that_is_read(block), step="below")
    return y if view.low is None else block("Max", y, block.floats(view.low, "low"))


def _bound_that_is_read(block: Block) -> str:
    """The first number of the second bottom, if it is above 0 (Synopsys' relu_layer.cpp)."""
    first = block("Gather", reshape(block, block.bottoms[1], (-1,), "values"), block.integers(0, "first"), axis=0)
    zero, none = block.floats(0.0, "zero"), block.floats(math.inf, "none")
    return block("Where", block("Greater", first, zero, step="above"), first, none, step="bound")


def concatenated(block: Block) -> str:
    """ReLU of x and of -x, with one `negative_slope`, side by side along `concat_axis`: Neg, Concat, Relu."""
    param = block.layer.param.crelu_param
    axis = canonical_axis(param.concat_axis, block.rank, block.layer)
    both = block("Concat", block.bottom, block("Neg", block.bottom), axis=axis, step="both")
    return rectified(block, both, param.negative_slope)


def relux(block: Block) -> str:
    """`min(max(x, 0), maximal_value) + negative_slope*min(x, 0)`: Clip, or two of them where there is a slope."""
    param = block.layer.param.relux_param
    y = clip(block, block.bottom, 0.0, float(param.maximal_value), "above")
    if param.negative_slope == 0:
        return y
    below = block("Min", block.bottom, block.floats(0.0, "zero"), step="below")
    return block("Add", y, scaled(block, below, float(param.negative_slope), "slope"))


def relu6(block: Block) -> str:
    """`min(max(x, 0), threshold) + negative_slope*min(x, 0)`, a threshold of 6 unless said: Clip, or Min(LeakyRelu)."""
    param = LAYERS["ReLU6"].parameters(block.layer)
    slope, bound = param.negative_slope, float(param.threshold)
    if slope == 0 and bound >= 0:
        return clip(block, block.bottom, 0.0, bound)
    if slope < 0:
        raise Refused(f"negative_slope {slope:g} is below 0, and no dialect says which bound comes first")
    return block("Min", rectified(block, block.bottom, slope), block.floats(bound, "bound"))


def selu(block: Block) -> str:
    """`lambda*x` above 0, `lambda*alpha*(e^x - 1)` else: Selu."""
    param = block.layer.param.selu_param
    return block("Selu", block.bottom, alpha=float(param.alpha), gamma=float(getattr(param, "lambda")))


def scaled_tanh(block: Block) -> str:
    """`alpha * tanh(beta*x)`: Mul, Tanh, Mul."""
    outer, inner = tanh_factors(block.layer)
    return scaled(block, block("Tanh", scaled(block, block.bottom, inner, "inner")), outer)


def swish(block: Block) -> str:
    """`x * sigmoid(beta*x)`: Sigmoid, Mul."""
    gate = block("Sigmoid", scaled(block, block.bottom, block.layer.param.swish_param.beta))
    return block("Mul", block.bottom, gate)


def threshold(block: Block) -> str:
    """1 where `x > threshold`, 0 else: Greater, and a Cast back to float."""
    above = block("Greater", block.bottom, block.floats(block.layer.param.threshold_param.threshold, "threshold"))
    return block.as_float(above)


def thresholded_relu(block: Block) -> str:
    """`x` where it is above alpha, 1 unless said, and 0 else: ThresholdedRelu."""
    return block("ThresholdedRelu", block.bottom, alpha=float(block.layer.param.thresholded_relu_param.alpha))


FUNCTIONS: Mapping[str, LayerFunction] = {
    "APL": apl,
    "AbsVal": _operator("Abs", "`|x|`"),
    "Atan": _operator("Atan", "The angle whose tangent is `x`"),
    "BNLL": _operator("Softplus", "`ln(1 + e^x)`"),
    "CReLU": concatenated,
    "Ceil": _operator("Ceil", "The smallest integer that is not below `x`"),
    "Clip": bounded,
    "ELU": elu,
    "Exp": exponential,
    "Floor": _operator("Floor", "The largest integer that is not above `x`"),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "HardTanH": hard_tanh,
    "Log": logarithm,
    "Mish": mish,
    "PReLU": prelu,
    "Power": power,
    "RReLU": relu,
    "ReLU": relu,
    "ReLU6": relu6,
    "ReLUX": relux,
    "Round": _operator("Round", "The nearest integer, of two the even one"),
    "SELU": selu,
    "ScaledTanH": scaled_tanh,
    "SeLU": selu,
    "SeLu": selu,
    "Sigmoid": _operator("Sigmoid", "`1/(1 + e^-x)`"),
    "SignedSqrt": signed_sqrt,
    "Sin": _operator("Sin", "`sin x`"),
    "Softplus": _operator("Softplus", "`ln(1 + e^x)`"),
    "Softsign": _operator("Softsign", "`x/(1 + |x|)`"),
    "Swish": swish,
    "TanH": _operator("Tanh", "`tanh x`"),
    "Threshold": threshold,
    "ThresholdedReLU": thresholded_relu,
}
