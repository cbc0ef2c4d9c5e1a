"""The independent oracle: a numpy forward pass of a Caffe network at TEST, written from Caffe's semantics alone.

It imports nothing from bnfold, so that the two can judge each other: it has its own reader of prototxt and of
caffemodel files. It is made to be obviously right, not fast. What it computes is judged by tests/golden, the outputs
that a real Caffe gave.

    net = reference.load("net.prototxt", "net.caffemodel")
    blobs = net.run({"data": image})                     # every blob by name
    tops = reference.forward(reference.layer('type: "ReLU"'), [image])
"""

from reference.layers import forward, layer
from reference.net import ReferenceLayer, ReferenceNet, load

__all__ = ["ReferenceLayer", "ReferenceNet", "forward", "layer", "load"]
