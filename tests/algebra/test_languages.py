"""The laws know no language: they run where neither Caffe's front end nor protobuf nor onnx can be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("google", "onnx", "bnfold.caffe", "bnfold.onnx")):
            raise ImportError(name)

sys.meta_path.insert(0, Nothing())
import numpy as np
from bnfold.algebra import fold
from bnfold.algebra.affine import Affine
from bnfold.algebra.operators import Linear, Pass, Port
from bnfold.net import Blobs, Layer, Net

class Tiny:
    # A language of three words.
    param_type = object
    origin_type = object
    outputs_are_unread = True

    def prepare(self, context): pass
    def drop_emptied(self, context): return ()
    def finish(self, context): pass
    def bodies(self, net): return ()
    def protected(self, net): return {}
    def taken_names(self, net): return ()
    def reads_values(self, layer, index): return True
    def refuses(self, layer, affine, context): return ""
    def joins(self, layer, window): return False
    def shapes(self, net): return {"x": (2, 3), "y": (2, 4), "z": (2, 4), "out": (2, 4)}

    def operator(self, layer, context):
        if layer.type == "linear":
            bias = layer.blobs[1] if len(layer.blobs) > 1 else None
            return Linear(layer.blobs.stored[0], bias, (4, 3), (Port(1, (0,)),), (Port(1, (1,)),), (1,))
        return layer.param

    def absorb(self, net, layer, weight, bias):
        layer.blobs = Blobs([weight] if bias is None else [weight, bias])

rng = np.random.default_rng(0)
weight, scale = rng.standard_normal((4, 3)), np.abs(rng.standard_normal((1, 4)))
layers = [
    Layer("fc", "linear", ["x"], ["y"], Blobs([weight]), None),
    Layer("relu", "relu", ["y"], ["z"], Blobs(), Pass(zero="no shift", order="no sign")),
    Layer("gain", "affine", ["z"], ["out"], Blobs(), Affine(scale, np.zeros(()))),
]
result = fold(Net("tiny", layers, {"x": (2, 3)}, front=Tiny()))
fc, relu = result.net.layers
x = rng.standard_normal((2, 3))
wanted = scale * np.maximum(x @ weight.T, 0)
np.testing.assert_allclose(np.maximum(x @ fc.blobs[0].T, 0), wanted, rtol=1e-12)
assert (fc.tops, relu.tops) == (["y/gain"], ["out"])
assert not {"google", "onnx"} & set(sys.modules)
"""


def test_the_laws_run_where_no_front_end_can_be_imported() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
