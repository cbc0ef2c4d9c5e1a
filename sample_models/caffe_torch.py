"""Runs and trains a Caffe net in PyTorch with Caffe's arithmetic, so the sample models are as Caffe would make them.

The prototxt is the only description of a net: this module reads the layers from it and keeps their learned blobs in
Caffe's shapes. Only the layers that the sample models use are here. Two places differ from what PyTorch offers:

- BatchNorm keeps *sums*: each training pass does ``blob = fraction*blob + batch statistic`` and
  ``factor = fraction*factor + 1``, with the variance corrected by m/(m-1). The statistics are the sums over the factor.
- Pooling rounds the number of windows up, and clips the last window to the image.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from bnfold.caffe import caffe_pb2

Blobs = dict[str, Tensor]


class CaffeNet:
    """One phase of a Caffe net: its layers in order, and the blobs that they learned.

    `definition` is the parsed prototxt, `phase` is caffe_pb2.TRAIN or TEST. `learned` maps a layer's name to its blobs;
    a layer that is not in it is filled by its fillers at the first forward pass.
    """

    def __init__(self, definition: Any, phase: int, learned: dict[str, list[Tensor]] | None = None) -> None:
        self.name: str = definition.name
        self.phase = phase
        self.layers = [layer for layer in definition.layer if _belongs(layer, phase)]
        self.learned: dict[str, list[Tensor]] = {} if learned is None else learned

    @property
    def training(self) -> bool:
        """Whether this is the TRAIN phase."""
        return self.phase == caffe_pb2.TRAIN

    def forward(self, data: Tensor, label: Tensor | None = None) -> Blobs:
        """All blobs by name for `data` (N,C,H,W); an in-place blob has its last value. `label` (N,) feeds the loss."""
        blobs: Blobs = {"data": data}
        if label is not None:
            blobs["label"] = label
        for layer in self.layers:
            if layer.type in SOURCES:
                continue
            bottoms = [blobs[name] for name in layer.bottom if name in blobs]
            if len(bottoms) == len(layer.bottom):  # without labels there is no loss and no accuracy
                simple = PLAIN.get(layer.type)
                blobs[layer.top[0]] = simple(*bottoms) if simple else FORWARD[layer.type](self, layer, bottoms)
        return blobs

    def blobs_of(self, layer: Any, *shapes: tuple[tuple[int, ...], Any]) -> list[Tensor]:
        """The learned blobs of `layer`; the first call makes them, each from a shape and a filler."""
        if layer.name not in self.learned:
            self.learned[layer.name] = [_filled(shape, filler).requires_grad_() for shape, filler in shapes]
        return self.learned[layer.name]

    def parameter_groups(self, base_lr: float, weight_decay: float) -> Iterator[dict[str, Any]]:
        """What the solver may change, with each blob's lr_mult and decay_mult from its `param`."""
        for layer in self.layers:
            for position, blob in enumerate(self.learned.get(layer.name, [])):
                spec = layer.param[position] if position < len(layer.param) else caffe_pb2.ParamSpec()
                if blob.requires_grad:
                    yield {
                        "params": [blob],
                        "lr": base_lr * spec.lr_mult,
                        "weight_decay": weight_decay * spec.decay_mult,
                    }

    def snapshot(self) -> Any:
        """The NetParameter that Caffe's solver would write: this phase's layers, with splits, phase and blobs."""
        model = caffe_pb2.NetParameter(name=self.name)
        for layer in with_splits(self.layers):
            written = model.layer.add()
            written.CopyFrom(layer)
            written.phase = self.phase
            if layer.type == "SoftmaxWithLoss" and not layer.loss_weight:
                written.loss_weight.append(1)
            if layer.type == "BatchNorm" and not layer.param:
                for _ in range(3):
                    written.param.add(lr_mult=0, decay_mult=0)
            for blob in self.learned.get(layer.name, []):
                proto = written.blobs.add()
                proto.shape.dim.extend(blob.shape)
                proto.data.extend(blob.detach().flatten().tolist())
        return model


def with_splits(layers: list[Any]) -> list[Any]:
    """Copies of `layers` with a Split after each blob that several bottoms read, named as Caffe names them."""
    writes: list[list[tuple[int, int]]] = []  # for each bottom of each layer: which layer wrote it last, as which top
    last: dict[str, tuple[int, int]] = {}
    for index, layer in enumerate(layers):
        writes.append([last[bottom] for bottom in layer.bottom])
        last.update((top, (index, position)) for position, top in enumerate(layer.top))
    readers = Counter(write for bottoms in writes for write in bottoms)

    copies: list[Any] = []
    served: Counter[tuple[int, int]] = Counter()
    for index, layer in enumerate(layers):
        copy = caffe_pb2.LayerParameter()
        copy.CopyFrom(layer)
        copies.append(copy)
        for place, write in enumerate(writes[index]):
            if readers[write] > 1:
                copy.bottom[place] += f"_{layers[write[0]].name}_{write[1]}_split_{served[write]}"
                served[write] += 1
        for position, top in enumerate(layer.top):
            count = readers[index, position]
            if count > 1:
                name = f"{top}_{layer.name}_{position}_split"
                tops = [f"{name}_{reader}" for reader in range(count)]
                copies.append(caffe_pb2.LayerParameter(name=name, type="Split", bottom=[top], top=tops))
    return copies


def training_definition(deploy: Any, batch_size: int) -> Any:
    """The net that trains a deploy net: Input becomes Data, Softmax becomes SoftmaxWithLoss, BatchNorm sees batches."""
    definition = caffe_pb2.NetParameter()
    definition.CopyFrom(deploy)
    for layer in definition.layer:
        if layer.type == "Input":
            layer.type = "Data"
            layer.top.append("label")
            layer.ClearField("input_param")
            layer.data_param.source = "digits_train_lmdb"
            layer.data_param.batch_size = batch_size
            layer.data_param.backend = caffe_pb2.DataParameter.LMDB
            layer.transform_param.mean_value.append(73)
            layer.transform_param.scale = 1 / 256
        elif layer.type == "Softmax":
            layer.type = "SoftmaxWithLoss"
            layer.name = layer.top[0] = "loss"
            layer.bottom.append("label")
        elif layer.type == "BatchNorm":
            layer.ClearField("batch_norm_param")
    return definition


def _belongs(layer: Any, phase: int) -> bool:
    """Whether the phase rules put `layer` into the net of `phase` (the sample models have no other rules)."""
    return not layer.include or any(rule.phase == phase for rule in layer.include)


def _filled(shape: tuple[int, ...], filler: Any) -> Tensor:
    """A new blob from a Caffe filler; the fan-in is count / shape[0]."""
    if filler.type == "constant":
        return torch.full(shape, filler.value)
    fan_in = math.prod(shape) / shape[0]
    if filler.type == "xavier":
        limit = math.sqrt(3 / fan_in)
        return torch.empty(shape).uniform_(-limit, limit)
    if filler.type == "msra":
        return torch.empty(shape).normal_(0, math.sqrt(2 / fan_in))
    raise ValueError(f"no filler {filler.type!r} here")


def _convolution(net: CaffeNet, layer: Any, bottoms: list[Tensor]) -> Tensor:
    conv = layer.convolution_param
    kernel, pad, stride = conv.kernel_size[0], (list(conv.pad) or [0])[0], (list(conv.stride) or [1])[0]
    shapes = [((conv.num_output, bottoms[0].shape[1], kernel, kernel), conv.weight_filler)]
    if conv.bias_term:
        shapes.append(((conv.num_output,), conv.bias_filler))
    return functional.conv2d(bottoms[0], *net.blobs_of(layer, *shapes), stride=stride, padding=pad)


def _inner_product(net: CaffeNet, layer: Any, bottoms: list[Tensor]) -> Tensor:
    product = layer.inner_product_param
    rows = bottoms[0].flatten(1)
    weight = ((product.num_output, rows.shape[1]), product.weight_filler)
    bias = ((product.num_output,), product.bias_filler)
    return functional.linear(rows, *net.blobs_of(layer, weight, bias))


def _batch_norm(net: CaffeNet, layer: Any, bottoms: list[Tensor]) -> Tensor:
    """``(x - k*mean) / sqrt(k*variance + eps)`` with k = 1/factor, or by the batch, which then enters the sums."""
    (x,), param, channels = bottoms, layer.batch_norm_param, bottoms[0].shape[1]
    if layer.name not in net.learned:
        net.learned[layer.name] = [torch.zeros(channels), torch.zeros(channels), torch.zeros(1)]
    mean_sum, variance_sum, factor = net.learned[layer.name]
    use_global = param.use_global_stats if param.HasField("use_global_stats") else not net.training
    if use_global:
        k = 0 if factor == 0 else 1 / factor
        mean, variance = k * mean_sum, k * variance_sum
    else:
        mean = x.mean((0, 2, 3))
        variance = ((x - mean.view(1, -1, 1, 1)) ** 2).mean((0, 2, 3))
        m, fraction = x.numel() // channels, param.moving_average_fraction
        with torch.no_grad():
            factor.mul_(fraction).add_(1)
            mean_sum.mul_(fraction).add_(mean)
            variance_sum.mul_(fraction).add_(variance * (m / (m - 1) if m > 1 else 1))
    return (x - mean.view(1, -1, 1, 1)) / torch.sqrt(variance + param.eps).view(1, -1, 1, 1)


def _scale(net: CaffeNet, layer: Any, bottoms: list[Tensor]) -> Tensor:
    channels = (bottoms[0].shape[1],)
    one = caffe_pb2.FillerParameter(type="constant", value=1)
    gamma, beta = net.blobs_of(layer, (channels, one), (channels, layer.scale_param.bias_filler))
    return bottoms[0] * gamma.view(1, -1, 1, 1) + beta.view(1, -1, 1, 1)


def _pooling(_net: CaffeNet, layer: Any, bottoms: list[Tensor]) -> Tensor:
    """Windows rounded up and clipped; none of the sample models pads here, so the average divides by what it summed."""
    pool = layer.pooling_param
    if pool.global_pooling:
        return bottoms[0].mean((2, 3), keepdim=True)
    if pool.pool == caffe_pb2.PoolingParameter.MAX:
        return functional.max_pool2d(bottoms[0], pool.kernel_size, pool.stride, ceil_mode=True)
    return functional.avg_pool2d(bottoms[0], pool.kernel_size, pool.stride, ceil_mode=True, count_include_pad=False)


def _dropout(net: CaffeNet, layer: Any, bottoms: list[Tensor]) -> Tensor:
    return functional.dropout(bottoms[0], layer.dropout_param.dropout_ratio, net.training)


def _accuracy(score: Tensor, label: Tensor) -> Tensor:
    return (score.argmax(1) == label).float().mean()


SOURCES = {"Data", "Input"}
# Layers that are a function of their bottoms alone.
PLAIN: dict[str, Callable[..., Tensor]] = {
    "Accuracy": _accuracy,
    "Eltwise": torch.add,
    "ReLU": functional.relu,
    "Sigmoid": torch.sigmoid,
    "Softmax": lambda score: functional.softmax(score, 1),
    "SoftmaxWithLoss": functional.cross_entropy,
}
FORWARD: dict[str, Callable[[CaffeNet, Any, list[Tensor]], Tensor]] = {
    "BatchNorm": _batch_norm,
    "Convolution": _convolution,
    "Dropout": _dropout,
    "InnerProduct": _inner_product,
    "Pooling": _pooling,
    "Scale": _scale,
}
