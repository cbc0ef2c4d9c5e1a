"""What a data layer does to its samples, in words: at inference it is gone, and whoever runs the net has to do it.

pixels = (crop(sample) - mean) * scale        data_transformer.cpp; mirroring and other chance belong to training
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.printing import shortest_float


def prepared(layer: LayerParameter) -> str:
    """`crop 227x227; mean 104,117,123; scale 0.00390625`, in the order of doing; empty where nothing is done."""
    transform = layer.transform_param
    words = []
    if transform.force_gray:
        words.append("grey")
    if transform.crop_size:
        words.append(f"crop {transform.crop_size}x{transform.crop_size}")
    if transform.mean_file:
        words.append(f"mean {transform.mean_file}")
    if transform.mean_value:
        words.append(f"mean {','.join(map(shortest_float, transform.mean_value))}")
    if transform.HasField("scale") and transform.scale != 1:
        words.append(f"scale {shortest_float(transform.scale)}")
    return "; ".join(words)


def said(preparation: Mapping[str, str], data: Mapping[str, LayerParameter]) -> Iterator[str]:
    """A sentence for each input whose values were changed: a crop alone is only its shape."""
    for top, words in preparation.items():
        changes = [word for word in words.split("; ") if not word.startswith("crop")]
        if changes:
            layer = data[top]
            done = ", ".join(words.split("; "))
            yield f"input '{top}': '{layer.name}' ({layer.type}) prepared its samples ({done}), and the net does not"
