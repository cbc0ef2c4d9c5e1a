"""Read what a BatchNorm of any Caffe dialect learned, as statistics of one form in float64.

Every member of the family computes, per channel,

    y = gamma * (x - k*mean) / sqrt(k*variance + eps) + beta        k = 0 if factor == 0 else 1/factor

and they differ in which blobs they store, in what order, and whether `factor` is divided by. `LAYOUTS` names those
orders. The layout is recognised from the type, the number and the sizes of the blobs and the fields that only one
dialect has; where two readings stay possible, the user decides: nothing is guessed.

    bvlc         mean, variance, factor                         BatchNorm of BVLC Caffe, and Synopsys
    intel        mean, variance, factor [, gamma [, beta]]      BatchNorm of Intel Caffe, which may fuse a ReLU
    nvcaffe      mean, variance, 1 [, gamma, beta]              BatchNorm of NVCaffe 0.16 and 0.17; eps at least 1e-5
    nvcaffe015   gamma, beta, mean, variance [, 0]              BatchNorm of NVCaffe 0.15, Vitis, Jacinto
    pspnet       gamma, beta, mean, variance                    BN of PSPNet, ICNet; SyncBN of yjxiong's Caffe (TSN)
    segnet       gamma, beta                                    BN of SegNet, ENet: INFERENCE is gamma*x + beta,
                                                                LEARN follows the batch, eps 1e-9
    ducha        gamma, beta, mean, variance                    BN of ducha-aiki's, CTPN's and happynear's Caffe: eps is
                                                                `var_eps`, 1e-10
    cudnn        gamma, beta, [unused,] mean, variance          CuDNNBatchNorm of GENet; eps at least 1e-5
    tsn          gamma, beta, mean, 1/sqrt(variance + eps)      BN of yjxiong's Caffe (TSN) since December 2015,
                                                                of L-Softmax's and of mini-caffe

Sources: batch_norm_layer.cpp of BVLC, Intel and NVCaffe; bn_layer.cpp of PSPNet, SegNet, ducha-aiki's Caffe and
L-Softmax, pull request 16 and sync_bn_layer.cu of yjxiong's; cudnn_batch_norm_layer.cu of GENet. The normalisation is
Ioffe and Szegedy's (arXiv:1502.03167).
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bnfold.algebra.affine import everywhere
from bnfold.caffe.caffe_pb2 import TRAIN, LayerParameter
from bnfold.caffe.weights import Record
from bnfold.errors import BnfoldError, ModelError, UnsupportedError, WeightsError
from bnfold.io.wire import fields
from bnfold.net import Layer, sizes
from bnfold.options import ZeroScaleFactor

Vector = npt.NDArray[np.float64]

CUDNN_SMALLEST_EPS = 1e-5
PARAM = 6  # of LayerParameter, in every dialect
SEGNET_EPS = 1e-9  # written into SegNet's source, no field sets it


class AmbiguousError(ModelError):
    """A BatchNorm can be read in more than one way, and only the user knows which is meant."""


class AmbiguousLayout(AmbiguousError):
    """Two orders of the blobs stay possible."""


class AmbiguousZeroFactor(AmbiguousError):
    """The factor is 0 beside statistics that are not: BVLC multiplies them away, NVCaffe's old format meant them."""


class Statistics(NamedTuple):
    """What a BatchNorm normalises by: `y = gamma * (x - mean) / sqrt(variance + eps) + beta`.

    Attributes:
        mean, variance: (C,), already divided by the factor.
        eps: what is added to the variance.
        gamma, beta: (C,), or None where the layer has none of its own.
        factor: the moving average's stored weight, None in layouts without one.
        batch_statistics: the layer normalises by each batch, so `mean` and `variance` do not count.
        relu: a ReLU follows inside the layer.
        layout: the row of `LAYOUTS` that was read.
    """

    mean: Vector
    variance: Vector
    eps: float
    gamma: Vector | None = None
    beta: Vector | None = None
    factor: float | None = None
    batch_statistics: bool = False
    relu: bool = False
    layout: str = "bvlc"

    @property
    def channels(self) -> int:
        """How many channels the layer normalises."""
        return len(self.mean)

    def affine(self, *, standardised: bool = False) -> tuple[Vector, Vector]:
        """Scale and shift of `y = scale*x + shift`; with `standardised` of an x that has mean 0 and variance 1."""
        scale = np.ones(self.channels) if standardised else 1.0 / np.sqrt(self.variance + self.eps)
        if self.gamma is not None:
            scale = self.gamma * scale
        shift = np.zeros(self.channels) if standardised else -self.mean * scale
        return scale, shift if self.beta is None else shift + self.beta


def read_batchnorm(
    layer: Layer, layout: str | None = None, zero_factor: ZeroScaleFactor | None = None, *, stored: bool = False
) -> Statistics:
    """The statistics of a layer whose type is in `TYPES`.

    Args:
        layer: a BatchNorm, BN or CuDNNBatchNorm with its blobs.
        layout: a key of `LAYOUTS`, for files that say too little; None recognises it. It holds for the types that
            know it: `pspnet` says nothing about a BatchNorm beside a BN.
        zero_factor: what factor 0 beside non-zero statistics means: "caffe" multiplies them by 0, as BVLC does,
            "one" takes them as they are, None refuses to choose.
        stored: what is stored counts, though the layer may normalise by each batch.

    Raises:
        AmbiguousLayout, AmbiguousZeroFactor: the user has to choose; the message names the option.
        WeightsError: the blobs fit no layout, or a channel has no finite positive `variance + eps`.
        UnsupportedError: it adds eps behind the root, which only Synopsys' layout knows.
    """
    own = TYPES[layer.type]
    name = layout if layout in own.layouts else own.recognise(layer)
    if not layer.param.batch_norm_param.add_eps_before_sqrt and name not in ("bvlc", "intel"):
        raise UnsupportedError(
            f"{layer}: add_eps_before_sqrt is Synopsys' field, and its blobs are laid out as {name}'s"
        )
    statistics = LAYOUTS[name].read(layer, name, zero_factor, stored)
    _check(layer, statistics)
    return statistics


# Recognising the layout.


def _signature(layer: Layer) -> str:
    """How large the blobs are, `CC1` for two of C channels and one number; a net of one channel has ones alone."""
    sizes = [prod(shape) for shape in layer.blobs.shapes]
    return "".join("1" if size == 1 else "C" if size == sizes[0] > 1 else "?" for size in sizes)


def _last_scalar(layer: Layer) -> str:
    """Intel once wrote a factor there that it divided by; NVCaffe 0.15 leaves 0."""
    return "nvcaffe015" if _scalar(layer, 4) == 0 else _ask_layout(layer, "nvcaffe015")


def _four_of_bn(layer: Layer) -> str:
    """PSPNet's or ducha-aiki's, as their fields say; `bn_mode` contradicts four, and two axes leave it open."""
    param = layer.param.bn_param
    if param.HasField("bn_mode"):
        return _ask_layout(layer, "pspnet", "ducha", "segnet")
    ducha, pspnet = ([name for name in names if param.HasField(name)] for names in (DUCHA_FIELDS, PSPNET_FIELDS))
    if ducha and pspnet:
        return _ask_layout(layer, "ducha", "pspnet")
    if not ducha and _has_two_axes(layer) and not _wrote_its_rates(layer):
        why = "TSN's Caffe stores 1/sqrt(variance + eps) last, and until December 2015 the variance: "
        return _ask_layout(layer, "tsn", "pspnet", why=why)
    return "ducha" if ducha or not (pspnet or _wrote_its_rates(layer)) else "pspnet"


def _by_fields(layer: Layer, alone: str) -> str:
    """BVLC and Intel divide by the third blob and NVCaffe does not: it matters unless that blob is 1."""
    factor = _scalar(layer, 2)
    nvcaffe, intel = _fields(layer, NVCAFFE_FIELDS), _fields(layer, INTEL_FIELDS)
    promised = layer.param.batch_norm_param.scale_bias
    if nvcaffe and not intel and factor in (0, 1) and promised <= (len(layer.blobs) == 5):
        return "nvcaffe"
    if nvcaffe:
        return _ask_layout(layer, "nvcaffe", alone)
    if alone == "intel" and not intel and factor == 0:
        return _ask_layout(layer, "nvcaffe", "intel")
    return "intel" if intel else alone


def _one_channel(layer: Layer) -> str:
    """Five blobs of one element: only their rank and the fields tell the orders apart."""
    ranks = {len(shape) for shape in layer.blobs.shapes}
    if ranks == {4} and _scalar(layer, 4) == 0 and not _fields(layer, (*NVCAFFE_FIELDS, *INTEL_FIELDS)):
        return "nvcaffe015"
    if ranks == {1}:
        return _by_fields(layer, alone="intel")
    return _ask_layout(layer, "nvcaffe015", "nvcaffe", "intel")


# Both have a `bias_filler`, so it tells nothing.
NVCAFFE_FIELDS = ("scale_bias", "scale_filler")
INTEL_FIELDS = ("bias_term", "filler", "relu", "stats_batch_size", "use_weight_bias")


DUCHA_FIELDS = ("scale_filler", "shift_filler", "var_eps", "moving_average", "decay", "decay_exma")
PSPNET_FIELDS = ("slope_filler", "bias_filler", "eps", "frozen", "momentum", "icnet")


def layout_notes(layers: Iterable[Layer]) -> list[str]:
    """Sentences on layers that were read in one of two ways without a field that decides."""
    return [
        f"{layer}: its four blobs are read as ducha-aiki's, whose eps is 1e-10, since no field says whose they are; "
        "PSPNet's would add 1e-5 (--batchnorm-layout pspnet)"
        for layer in layers
        if layer.type == "BN" and len(layer.blobs) == 4 and not layer.param.bn_param.ListFields() and not layer.opaque
        if not _wrote_its_rates(layer)
    ]


def idle_choice_notes(layers: Iterable[Layer], layout: str | None, zero_factor: ZeroScaleFactor | None) -> list[str]:
    """Sentences on choices that a user made, and that no layer left open."""
    own, notes = [layer for layer in layers if layer.type in TYPES], []
    if layout is not None and not any(_reads_otherwise(layer, layout) for layer in own):
        notes.append(f"--batchnorm-layout {layout} changes nothing: no layer would be read otherwise without it")
    if zero_factor is not None and not any(_has_zero_factor(layer, layout) for layer in own):
        notes.append(
            f"--zero-scale-factor {zero_factor} changes nothing: no layer has a scale_factor of 0 beside statistics "
            "that are not"
        )
    return notes


def _reads_otherwise(layer: Layer, layout: str) -> bool:
    family = TYPES[layer.type]
    try:
        return layout in family.layouts and (not layer.blobs or family.recognise(layer) != layout)
    except ModelError:  # the choice decides
        return True


def _has_zero_factor(layer: Layer, layout: str | None) -> bool:
    try:
        read_batchnorm(layer, layout, stored=True)  # which a fold may assume
    except AmbiguousZeroFactor:
        return True
    except BnfoldError:  # for who needs its statistics to say
        return False
    return False


def _wrote_its_rates(layer: Layer) -> bool:
    """Whether the caffemodel has a `param {}` for each of four blobs: PSPNet's BN adds those that the text lacks."""
    record: Record | None = layer.source.record if layer.source else None
    if record is None or record.version != 2 or not record.is_binary:
        return len(layer.param.param) == 4
    return sum(field.number == PARAM for field in fields(record.buffer, record.at, record.end)) == 4


def _has_two_axes(layer: Layer) -> bool:
    """Whether the blobs are stored as (1, C), as by yjxiong's Caffe and what came of it; PSPNet's are (1, C, 1, 1)."""
    record = layer.source.record if layer.source else None
    stored = record.blobs if record else layer.blobs
    return all(len(shape) == 2 and shape[0] == 1 for shape in stored.shapes)


# Reading one layout.


class Layout(NamedTuple):
    """Where a dialect stores what, and how its layer computes with it.

    Attributes:
        mean, variance, gamma, beta, factor: which blob each is, None for what is not stored; a negative place counts
            from the end, and gamma and beta may be missing where they come last.
        eps: a layer's parameters -> what is added to the variance.
        follows_batch: a layer's parameters -> whether the stored statistics do not count.
        divides: mean and variance are sums, to be divided by the factor.
        inverted: in the place of the variance is `1/sqrt(variance + eps)`, and eps is 0.
    """

    mean: int | None
    variance: int | None
    gamma: int
    beta: int
    factor: int | None
    eps: Callable[[LayerParameter], float]
    follows_batch: Callable[[LayerParameter], bool]
    divides: bool = False
    inverted: bool = False

    def read(self, layer: Layer, name: str, zero_factor: ZeroScaleFactor | None, counts: bool) -> Statistics:
        """The statistics of a layer whose blobs lie so; where they count, whatever the layer says of its batch."""
        stored = max(len(layer.blobs), 3)
        gamma, beta = (_vector(layer, index) if index < stored else None for index in (self.gamma, self.beta))
        mean, variance = (
            np.full(_vector(layer, 0).shape, neutral) if index is None else _vector(layer, index)
            for index, neutral in ((self.mean, 0.0), (self.variance, 1.0))
        )
        if self.inverted:
            variance = _variance_by_inverse(layer, variance)
        factor = None if self.factor is None else _scalar(layer, self.factor)
        follows_batch = not counts and self.follows_batch(layer.param)
        read = Statistics(mean, variance, self.eps(layer.param), gamma, beta, factor, follows_batch, layout=name)
        return _divided(layer, read, zero_factor) if self.divides else read


def _variance_by_inverse(layer: Layer, inverse: Vector) -> Vector:
    """`1/inverse^2`, the variance whose root divides as `inverse` multiplies."""
    if not everywhere(inverse > 0):
        channel = int(np.argmin(inverse > 0))
        raise WeightsError(
            f"{layer}: 1/sqrt(variance + eps) of channel {channel} is {inverse[channel]:.6g}, which no variance gives"
        )
    return np.asarray(1.0 / inverse**2)


def _divided(layer: Layer, read: Statistics, zero_factor: ZeroScaleFactor | None) -> Statistics:
    """The statistics of BVLC's and Intel's layer, which may have a ReLU in it and add eps to the root."""
    param, factor = layer.param.batch_norm_param, _scalar(layer, 2)
    mean, variance, eps = read.mean, read.variance, read.eps
    if not np.isfinite(factor):
        raise WeightsError(f"{layer}: its scale factor is {factor}, not a finite number")
    k = 0.0 if factor == 0 else 1.0 / factor
    if factor == 0 and (np.count_nonzero(mean) or np.count_nonzero(variance)) and not read.batch_statistics:
        k = 1.0 if zero_factor == "one" else 0.0
        if zero_factor is None:
            raise AmbiguousZeroFactor(
                f"{layer}: its scale factor is 0 beside statistics that are not: Caffe computes with mean 0 and "
                "variance 0, NVCaffe's old format meant them as they stand; "
                "choose with --zero-scale-factor caffe or --zero-scale-factor one"
            )
    variance = k * variance
    if not param.add_eps_before_sqrt:
        if read.batch_statistics:
            raise UnsupportedError(
                f"{layer}: add_eps_before_sqrt: false beside use_global_stats: false, which no network is known to use"
            )
        if everywhere(variance >= 0):
            # sqrt(variance) + eps, as the root of a variance.
            variance, eps = (np.sqrt(variance) + eps) ** 2, 0.0
    return read._replace(mean=k * mean, variance=variance, eps=eps, relu=param.relu)


def _eps(param: LayerParameter) -> float:
    return param.batch_norm_param.eps


def _nvcaffe_eps(param: LayerParameter) -> float:
    """No less than cuDNN takes, on the CPU too."""
    return max(_eps(param), CUDNN_SMALLEST_EPS)


def _cudnn_eps(param: LayerParameter) -> float:
    own = param.HasField("cudnn_batch_norm_param")
    return max(param.cudnn_batch_norm_param.eps, CUDNN_SMALLEST_EPS) if own else _nvcaffe_eps(param)


def _learns(param: LayerParameter) -> bool:
    return param.bn_param.bn_mode == param.bn_param.LEARN


def _never(_: LayerParameter) -> bool:
    """Frozen or not; and in the TEST phase NVCaffe ignores `use_global_stats`."""
    return False


# Looking at the layer.


def _vector(layer: Layer, index: int) -> Vector:
    if index >= len(layer.blobs):
        raise _misfit(layer)
    return np.asarray(layer.blobs[index], dtype=np.float64).reshape(-1)


def _scalar(layer: Layer, index: int) -> float:
    vector = _vector(layer, index)
    if len(vector) != 1:
        raise _misfit(layer)
    return float(vector[0])


def _fields(layer: Layer, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if layer.param.batch_norm_param.HasField(name)]


def follows_batch(param: LayerParameter) -> bool:
    """Whether a layer normalises by each batch: `use_global_stats` says so, and where it is not said, the phase.

    A phase that a layer states holds over the net's own (net.cpp, Init; batch_norm_layer.cpp, LayerSetUp).
    """
    own = param.batch_norm_param
    return not own.use_global_stats if own.HasField("use_global_stats") else trains(param)


def trains(param: LayerParameter) -> bool:
    """Whether a layer stands in phase TRAIN by its own word."""
    return param.HasField("phase") and param.phase == TRAIN


def _check(layer: Layer, statistics: Statistics) -> None:
    """Every channel that is normalised by stored values needs a finite positive divisor."""
    vectors = {"gamma": statistics.gamma, "beta": statistics.beta}
    if not statistics.batch_statistics:
        vectors |= {"mean": statistics.mean, "variance": statistics.variance}
    for word, vector in vectors.items():
        if vector is None:
            continue
        if len(vector) != statistics.channels:
            raise _misfit(layer)
        if not everywhere(np.isfinite(vector)):
            channel = int(np.argmin(np.isfinite(vector)))
            raise WeightsError(f"{layer}: {word} of channel {channel} is {vector[channel]}, not a finite number")
    divisors = statistics.variance + statistics.eps
    if not statistics.batch_statistics and not everywhere(divisors > 0):
        channel = int(np.argmin(divisors > 0))
        raise WeightsError(
            f"{layer}: variance + eps of channel {channel} is {divisors[channel]:.6g}, and has no square root to "
            f"divide by (variance {statistics.variance[channel]:.6g}, eps {statistics.eps:.6g})"
        )


def _seen(layer: Layer) -> str:
    shapes = ", ".join(map(sizes, layer.blobs.shapes))
    fields = _fields(layer, (*NVCAFFE_FIELDS, *INTEL_FIELDS)) if layer.type == "BatchNorm" else []
    with_fields = f" and the fields {', '.join(fields)}" if fields else ""
    return f"{len(layer.blobs)} blobs ({shapes}){with_fields}"


def _ask_layout(layer: Layer, *candidates: str, why: str = "") -> str:
    ways = " or ".join(f"--batchnorm-layout {name}" for name in candidates)
    raise AmbiguousLayout(f"{layer}: {_seen(layer)} can be read in more than one way; {why}choose with {ways}")


def _misfit(layer: Layer) -> WeightsError:
    return WeightsError(
        f"{layer}: {_seen(layer) if len(layer.blobs) else 'no blobs'}, which is no known layout of its statistics; "
        f"if one of {', '.join(TYPES[layer.type].layouts)} fits, say so with --batchnorm-layout"
    )


class Family(NamedTuple):
    """The layouts that a layer type may have, and by the sizes of the blobs which one it is, or what tells."""

    layouts: tuple[str, ...]
    by_sizes: Mapping[str, str | Callable[[Layer], str]]

    def recognise(self, layer: Layer) -> str:
        """The layout of a layer.

        Raises:
            AmbiguousLayout: several are possible.
            WeightsError: none is.
        """
        layout = self.by_sizes.get(_signature(layer))
        if layout is None:
            raise _misfit(layer)
        return layout if isinstance(layout, str) else layout(layer)


LAYOUTS: dict[str, Layout] = {
    "bvlc": Layout(0, 1, 3, 4, 2, _eps, follows_batch, divides=True),
    "cudnn": Layout(-2, -1, 0, 1, None, _cudnn_eps, follows_batch),
    "ducha": Layout(
        2, 3, 0, 1, None, lambda param: param.bn_param.var_eps, lambda param: not param.bn_param.moving_average
    ),
    "intel": Layout(0, 1, 3, 4, 2, _eps, follows_batch, divides=True),
    "nvcaffe": Layout(0, 1, 3, 4, 2, _nvcaffe_eps, _never),
    "nvcaffe015": Layout(2, 3, 0, 1, None, _nvcaffe_eps, follows_batch),
    "pspnet": Layout(2, 3, 0, 1, None, lambda param: param.bn_param.eps, _never),
    # bn_mode INFERENCE has the statistics multiplied in already: mean 0, variance 1, eps 0.
    "segnet": Layout(None, None, 0, 1, None, lambda param: SEGNET_EPS if _learns(param) else 0.0, _learns),
    "tsn": Layout(2, 3, 0, 1, None, lambda _: 0.0, _never, inverted=True),
}
"""Which blob is mean, variance, gamma, beta and factor; what eps is; and whether the statistics follow each batch."""

TYPES: dict[str, Family] = {
    "BN": Family(
        ("ducha", "pspnet", "segnet", "tsn"),
        {"11": "segnet", "1111": _four_of_bn, "CC": "segnet", "CCCC": _four_of_bn},
    ),
    "BatchNorm": Family(
        ("bvlc", "intel", "nvcaffe", "nvcaffe015"),
        {
            "111": partial(_by_fields, alone="bvlc"),
            "1111": lambda layer: _ask_layout(layer, "nvcaffe015", "intel"),
            "11111": _one_channel,
            "CC1": partial(_by_fields, alone="bvlc"),
            "CC1C": "intel",
            "CC1CC": partial(_by_fields, alone="intel"),
            "CCCC": "nvcaffe015",
            "CCCC1": _last_scalar,
        },
    ),
    "CuDNNBatchNorm": Family(
        ("bvlc", "cudnn", "nvcaffe"),
        {
            "111": "bvlc",
            "1111": "cudnn",
            "11111": lambda layer: _ask_layout(layer, "nvcaffe", "cudnn"),
            "CC1": "bvlc",
            "CC1CC": "nvcaffe",
            "CCCC": "cudnn",
            "CCCCC": "cudnn",
        },
    ),
    "SyncBN": Family(("pspnet",), {"1111": "pspnet", "CCCC": "pspnet"}),
}
"""Forks registered CuDNNBatchNorm for layers of their own: BVLC's blobs, GENet's four, NVCaffe's five, gamma first."""
