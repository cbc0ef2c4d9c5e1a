"""Taking apart what Intel Caffe fuses: a BatchNorm with `relu: true` is a BatchNorm and a ReLU.

    Given:   conv1 -> bn1 (relu: true)          Result:  conv1 -> bn1 -> bn1/relu

The first is an affine and can move; the second then stands where an exact law for it is known. The ReLU takes over the
top's name, so every name keeps its value.
"""

from __future__ import annotations

from collections.abc import Collection

from bnfold.caffe.batchnorm import TYPES as BATCHNORMS
from bnfold.net import Blobs, Layer, Net


def unfuse_relus(net: Net, excluded: Collection[int] = ()) -> None:
    """Split every BatchNorm with a fused ReLU in two, but for those that are left alone (by identity)."""
    for layer in list(net.layers):
        if id(layer) in excluded:
            continue
        if layer.type in BATCHNORMS and layer.param.batch_norm_param.relu and len(layer.tops) == 1:
            _split(net, layer)


def _split(net: Net, layer: Layer) -> None:
    top = layer.tops[0]
    public = net.public_name(top)
    inner = f"{top}@{layer.name}/norm"
    plain = type(layer.param)()
    plain.CopyFrom(layer.param)
    plain.batch_norm_param.ClearField("relu")
    relu = type(layer.param)()
    relu.name, relu.type = f"{layer.name}/relu", "ReLU"
    relu.relu_param.SetInParent()
    # The old top is written by the new layer from now on, and its readers stay with it.
    readers = list(net.uses(top))
    net.rename(top, inner, public)
    for use in readers:
        net.reconnect(use, top)
    layer.param = plain
    net.insert(Layer(relu.name, relu.type, [inner], [top], Blobs(), relu), after=layer)
    if public != top:
        net.public[top] = public
