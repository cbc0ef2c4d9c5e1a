"""ContinuationIndicator, which some text readers have in front of an LSTM, as the Parameter that it is.

    indicator[t, n] = 0 if t == 0 else 1        time_step x batch_size: each sequence begins at its first step

BVLC's Caffe has no such layer, and a Parameter holds the same values for every Caffe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.errors import quoted
from bnfold.net import Blobs, Layer, Source

TYPE = "ContinuationIndicator"


def as_parameters(layers: Sequence[Layer]) -> tuple[list[Layer], list[str]]:
    """The layers with each indicator as a Parameter that holds its values, and sentences that say so."""
    said = [_as_parameter(layer) if layer.type == TYPE else layer for layer in layers]
    changed = [layer.name for layer, original in zip(said, layers, strict=True) if layer is not original]
    names = quoted(changed)
    return said, [f"{names} ({TYPE}) became Parameter: 0 at the first step, 1 at the others"] if changed else []


def _as_parameter(layer: Layer) -> Layer:
    param = layer.param.continuation_indicator_param
    shape = param.time_step, param.batch_size
    if len(layer.tops) != 1 or layer.bottoms or min(shape) < 1:
        return layer
    values = np.ones(shape, np.float32)
    values[0] = 0
    values.flags.writeable = False
    written = LayerParameter(name=layer.name, type="Parameter", top=[layer.param.top[0]])
    written.parameter_param.shape.dim.extend(shape)
    source = Source((), (layer.param.top[0],), written, Blobs())
    return replace(layer, type="Parameter", param=written, blobs=Blobs([values]), source=source)
