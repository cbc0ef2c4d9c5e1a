"""Views of the layers that scale and shift: the BatchNorm family, Scale, Bias, Power, Dropout."""

from __future__ import annotations

from typing import NamedTuple, Self

from bnfold.net import Layer


class BatchNorm(NamedTuple):
    """What a BatchNorm or CuDNNBatchNorm says, in the words of all dialects.

    Attributes:
        eps: added to the variance before the root.
        use_global_stats: None when not written; Caffe then takes the stored statistics at TEST.
        scale_bias: NVCaffe learns gamma and beta too (`scale_bias`, or a filler for either).
        use_weight_bias, bias_term: Intel Caffe's flags for gamma and for beta, None when not written.
        relu: Intel Caffe fuses a ReLU into the layer.
    """

    eps: float
    use_global_stats: bool | None
    scale_bias: bool
    use_weight_bias: bool | None
    bias_term: bool | None
    relu: bool

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a BatchNorm."""
        param = layer.param.batch_norm_param
        return cls(
            eps=param.eps,
            use_global_stats=param.use_global_stats if param.HasField("use_global_stats") else None,
            scale_bias=param.scale_bias or param.HasField("scale_filler") or param.HasField("bias_filler"),
            use_weight_bias=param.use_weight_bias if param.HasField("use_weight_bias") else None,
            bias_term=param.bias_term if param.HasField("bias_term") else None,
            relu=param.relu,
        )


class BN(NamedTuple):
    """What a BN of PSPNet (4 blobs) or SegNet (2 blobs) says.

    Attributes:
        eps: PSPNet's, added to the variance.
        frozen: PSPNet keeps its statistics while training; nothing changes at inference.
        mode: SegNet's "LEARN" (statistics of the batch) or "INFERENCE"; None when not written (LEARN in SegNet).
    """

    eps: float
    frozen: bool
    mode: str | None

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a BN."""
        param = layer.param.bn_param
        mode = ("INFERENCE" if param.bn_mode == param.INFERENCE else "LEARN") if param.HasField("bn_mode") else None
        return cls(param.eps, param.frozen, mode)


class Scale(NamedTuple):
    """What a Scale says.

    Attributes:
        axis: the first axis that the scale lies along, as written (1; may count from the end).
        num_axes: how many axes it lies along; 0 is one number, -1 is all to the end. Unused with two bottoms.
        bias: a bias of the same shape is learned.
    """

    axis: int
    num_axes: int
    bias: bool

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Scale."""
        param = layer.param.scale_param
        return cls(param.axis, param.num_axes, param.bias_term)


class Bias(NamedTuple):
    """What a Bias says; `axis` and `num_axes` as in `Scale`."""

    axis: int
    num_axes: int

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Bias."""
        param = layer.param.bias_param
        return cls(param.axis, param.num_axes)


class Power(NamedTuple):
    """What a Power says: `(scale*x + shift)^power`."""

    power: float
    scale: float
    shift: float

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Power."""
        param = layer.param.power_param
        return cls(param.power, param.scale, param.shift)


class Dropout(NamedTuple):
    """What a Dropout says.

    Attributes:
        ratio: the share that training drops.
        scale_train: training scales what it keeps (all of Caffe but one fork), so inference has nothing to do.
    """

    ratio: float
    scale_train: bool

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Dropout, or a SeLuDropout or SpatialDropout, which have no such word and do nothing at inference."""
        param = layer.param.dropout_param
        return cls(param.dropout_ratio, param.scale_train)

    @property
    def test_scale(self) -> float:
        """What the layer multiplies by at TEST: 1, or `1 - ratio` where training does not scale."""
        return 1.0 if self.scale_train else 1.0 - self.ratio
