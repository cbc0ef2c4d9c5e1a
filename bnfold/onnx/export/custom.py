"""Nodes of the domain `caffe`, for layers that ONNX has no words for; only written when the user allows it.

The node's operator is the layer's type, its inputs are the bottoms and then the learned blobs, and its attributes are
the fields that the layer's parameters set (`bnfold.caffe.attributes`), those of unknown dialects included.
"""

from __future__ import annotations

from onnx import helper

from bnfold.caffe.attributes import attributes
from bnfold.net import Layer
from bnfold.onnx.export.builder import Graph

DOMAIN = "caffe"


def custom(graph: Graph, layer: Layer) -> None:
    """Add the node of a layer that has no ONNX form."""
    learned = [graph.learned(layer, index, f"blob{index}") for index in range(len(layer.blobs))]
    graph.nodes.append(
        helper.make_node(
            layer.type,
            [*layer.bottoms, *learned],
            list(layer.tops),
            name=graph.node_of(layer),
            doc_string=str(layer),
            domain=DOMAIN,
            **attributes(layer),
        )
    )
