"""Random networks, folded: every blob that survives keeps its value to 1e-9 in float64, and nothing movable is left."""

from __future__ import annotations

import numpy as np
from algebra.random_nets import prototxts
from algebra.running import assert_same, net_of, run, run_versions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bnfold.algebra import Kept, fold
from bnfold.caffe.write import prototxt_text

many = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@many
@given(prototxts(), st.integers(0, 3))
def test_every_blob_that_survives_keeps_its_value(text: str, seed: int) -> None:
    net = net_of(text, seed)
    folded = fold(net).net
    assert folded.outputs == net.outputs
    before, after = run_versions(net), run_versions(folded)
    assert after.keys() >= {*net.inputs, *net.outputs}
    assert_same(before, after)
    # A file gives versions of one blob the same name again, so it is another net to look at. Only an input keeps its
    # name there even if the layer that wrote on it is gone.
    before, after = run(net), run(folded)
    assert after.keys() >= {net.public_name(blob) for blob in (*net.inputs, *net.outputs)}
    assert_same({blob: value for blob, value in before.items() if blob not in net.inputs}, after)


@many
@given(prototxts(), st.integers(0, 3))
def test_nothing_that_could_move_is_left_and_the_input_is_untouched(text: str, seed: int) -> None:
    net = net_of(text, seed)
    layers = [(layer.name, layer.type, *layer.bottoms, *layer.tops) for layer in net.layers]
    kept = [(layer.param, layer.param.SerializeToString(), layer.blobs.stored) for layer in net.layers]
    values = [[blob.copy() for blob in layer.blobs] for layer in net.layers]
    public, outputs = dict(net.public), list(net.outputs)
    once = fold(net)
    assert layers == [(layer.name, layer.type, *layer.bottoms, *layer.tops) for layer in net.layers]
    for layer, (param, message, stored), arrays in zip(net.layers, kept, values, strict=True):
        assert layer.param is param
        assert param.SerializeToString() == message
        assert layer.blobs.stored is stored
        assert all(map(np.array_equal, layer.blobs, arrays))
    assert (net.public, net.outputs) == (public, outputs)

    again = fold(once.net)
    assert all(isinstance(record, Kept) for record in again.report.records), again.report.records
    assert prototxt_text(again.net) == prototxt_text(once.net)
    for one, other in zip(once.net.layers, again.net.layers, strict=True):
        assert (one.bottoms, one.tops) == (other.bottoms, other.tops)
        assert one.blobs.stored == other.blobs.stored
