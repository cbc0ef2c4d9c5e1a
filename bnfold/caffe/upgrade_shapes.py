"""What nets of V1 took for granted: until 2014 each blob had four axes, and an InnerProduct made N x C x 1 x 1.

Today's makes N x C, and a layer that reads both kinds stops. So the shorter bottom gets its ones back:

    Given:   ip -> q (N, C);  prod (Eltwise): q, filter (N, C, 1, 1)
    Result:  ip -> q;  q_4d (Reshape): q -> q_4d;  prod (Eltwise): q_4d, filter
"""

from __future__ import annotations

from dataclasses import replace

from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.layers.infer import bottom_shapes, possible_shapes
from bnfold.net import Blobs, Layer, Names, Net, Shape, Source, sizes

AXES = 4
MEETING = frozenset({"Concat", "Eltwise"})


def with_four_axes(net: Net) -> Net:
    """A net of V1 in which bottoms that meet have as many axes, with a note; `net` itself where nothing was missing."""
    shapes: dict[str, Shape | None] = dict(net.inputs)
    names = Names((top for layer in net.layers for top in layer.tops), "#")
    layers: list[Layer] = []
    notes = []
    for original in net.layers:
        layer = replace(original, bottoms=list(original.bottoms))
        if not layer.bottoms and all(top in net.inputs for top in layer.tops):
            layers.append(layer)
            continue
        if layer.type in MEETING:
            known = [shapes.get(bottom) for bottom in layer.bottoms]
            if any(shape is not None and len(shape) == AXES for shape in known):
                for place, shape in enumerate(known):
                    if shape is not None and len(shape) < AXES:
                        reshape = _reshape(layer, place, shape, names)
                        layers.append(reshape)
                        shapes[reshape.tops[0]] = shape + (1,) * (AXES - len(shape))
                        layer.bottoms[place] = reshape.tops[0]
                        notes.append(f"{layer} reads {sizes(shape)} beside four axes: '{reshape.name}' adds the ones")
        bottoms = bottom_shapes(layer, shapes)
        tops = None if bottoms is None else possible_shapes(layer, bottoms)
        for place, top in enumerate(layer.tops):
            shapes[top] = tops[place] if tops else None
        layers.append(layer)
    return net.with_layers(layers, notes) if notes else net


def _reshape(reader: Layer, place: int, shape: Shape, names: Names) -> Layer:
    bottom = reader.bottoms[place]
    top = names.new(f"{bottom}_4d")
    param = LayerParameter(name=top, type="Reshape", bottom=[bottom], top=[top])
    param.reshape_param.shape.dim.extend([0] * len(shape) + [1] * (AXES - len(shape)))
    return Layer(top, "Reshape", [bottom], [top], Blobs(), param, Source((bottom,), (top,), param, Blobs()))
