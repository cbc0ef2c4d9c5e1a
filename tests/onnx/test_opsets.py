"""What is made of opsets that are older or newer than those whose operators were looked through."""

from __future__ import annotations

import onnx
import pytest
from onnx_texts import folded, model, reasons, statistics, types, values

from bnfold.onnx import node

TEXT = """<ir_version: 8, opset_import: ["" : %d]> g (float[1, 2, 5, 5] x) => (float[N, C, H, W] y) {
    %s y = BatchNormalization (p, gamma, beta, mean, variance) }"""
CONV = "p = Conv (x, w)"
TURNED = "c = Conv (x, w) p = Transpose <perm = [0, 1, 3, 2]> (c)"
TURNED_WEIGHT = "v = Transpose <perm = [0, 1, 3, 2]> (w) p = Conv (x, v)"


def network(opset: int, nodes: str = CONV) -> onnx.ModelProto:
    """Nodes that make p of x and w, and a BatchNormalization of that."""
    return model(TEXT % (opset, nodes), w=values(3, 2, 3, 3), **statistics())


def test_a_normalisation_of_an_opset_that_is_not_read_is_kept_with_the_reason() -> None:
    before = network(6)
    (reason,) = reasons(before)
    assert reason.startswith("opset 6 is older than 7, the oldest that is read")
    assert folded(before) == before
    assert types(folded(network(7))) == ["Conv"]


def test_an_opset_that_onnx_does_not_know_is_not_read() -> None:
    opset = max(node.NEWEST, onnx.defs.onnx_opset_version()) + 1
    before = network(opset)
    assert reasons(before) == [f"opset {opset} may define it differently from {node.NEWEST}, the newest known"]
    assert folded(before) == before


@pytest.mark.parametrize(
    ("nodes", "known", "newer"),
    [
        (CONV, ["Conv"], ["Conv"]),
        (TURNED, ["Conv", "Transpose"], ["Conv", "Transpose", "BatchNormalization"]),
        (TURNED_WEIGHT, ["Conv"], ["Transpose", "Conv", "BatchNormalization"]),
    ],
)
def test_what_an_operator_does_is_known_up_to_the_version_that_was_looked_at(
    nodes: str, known: list[str], newer: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transpose has a version of opset 13, Conv and BatchNormalization have none between 11 and 14."""
    before = network(13, nodes)
    assert types(folded(before)) == known
    monkeypatch.setattr(node, "NEWEST", 12)
    assert types(folded(before)) == newer
