"""Caffe's goldens, exported to ONNX without folding, fold there to as few affines and to the same numbers."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from cases import golden, goldens
from onnx_cases import error, run

from bnfold import fold, save_onnx, to_onnx
from bnfold.algebra.records import Merged
from bnfold.onnx.read import load_bytes

TOLERANCE = 2e-4


# Resampling is a product with a constant matrix in ONNX, and no law there knows that its rows sum to 1.
MORE = dict.fromkeys(
    ("snps_resample_cubic_up", "snps_resample_linear_down", "snps_resample_linear_up", "snps_resample_nearest"), 1
)


@pytest.mark.parametrize("name", goldens())
def test_an_unfolded_export_folds_as_the_caffe_net_does(name: str) -> None:
    net = golden(name).load()
    model, caffe = to_onnx(net), fold(net)
    result = fold(load_bytes(model.SerializeToString()))
    # What a Caffe layer computes inside, an epsilon say, may be an affine in ONNX, and is none in Caffe.
    affines: set[str] = set()
    for record in caffe.report.records:
        affines.update(record.layers if isinstance(record, Merged) else [record.layer])
    kept = {record.layer.partition("/")[0] for record in result.report.kept} & affines
    assert len(kept) - MORE.get(name, 0) <= len(caffe.report.kept)
    stream = BytesIO()
    save_onnx(result.net, stream)
    noise = np.random.default_rng(7)
    feeds = {}
    for port in model.graph.input:
        shape = [dim.dim_value for dim in port.type.tensor_type.shape.dim]
        feeds[port.name] = noise.uniform(0, 1, shape).astype(np.float32)
    before, after = run(model, feeds), run(stream.getvalue(), feeds)
    for output, expected in before.items():
        assert error(after[output], expected) < TOLERANCE, output
