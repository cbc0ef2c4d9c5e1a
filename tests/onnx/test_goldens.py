"""Every golden, exported as it is, gives what Caffe gave, at every opset that there is a form for."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from cases import TOLERANCE, assert_answers, golden, goldens

from bnfold.net import Net
from bnfold.onnx import to_onnx
from bnfold.onnx.export.network import OPSETS
from bnfold.runtime import Session

COMMON = (11, 13, 17, 21)


def answers(net: Net, model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the model gives, by Caffe's names of the blobs."""
    session = Session(model, threads=1)
    given = session.run({name: inputs[net.public_name(name)] for name in session.inputs})
    return {net.public_name(name): value for name, value in given.items()}


@pytest.mark.parametrize("opset", COMMON)
@pytest.mark.parametrize("name", goldens())
def test_an_exported_golden_gives_what_caffe_gave(name: str, opset: int) -> None:
    case = golden(name)
    net = case.load()
    model = to_onnx(net, opset=opset)
    onnx.checker.check_model(model, full_check=True)
    assert_answers(answers(net, model, case.inputs), case.answers, TOLERANCE)


@pytest.mark.parametrize("name", goldens())
def test_an_exported_golden_gives_the_same_at_the_opsets_between(name: str) -> None:
    case = golden(name)
    net = case.load()
    for opset in sorted(set(OPSETS) - set(COMMON)):
        model = to_onnx(net, opset=opset)
        assert [one.version for one in model.opset_import if not one.domain] == [opset]
        assert_answers(answers(net, model, case.inputs), case.answers, TOLERANCE)


@pytest.mark.parametrize("name", goldens())
def test_every_blob_of_a_golden_can_be_an_output_of_its_inferred_shape(name: str) -> None:
    case = golden(name)
    net = case.load()
    blobs = [top for layer in net.layers for top in layer.tops]
    model = to_onnx(net, outputs=blobs)
    session = Session(model, threads=1)
    values = session.run({name: case.inputs[net.public_name(name)] for name in session.inputs})
    assert set(values) == set(blobs)
    for blob, value in values.items():
        promised = session.outputs[blob].shape
        assert all(size in (None, real) for size, real in zip(promised, value.shape, strict=True)), blob


@pytest.mark.parametrize("name", goldens())
def test_no_golden_uses_a_form_that_runtimes_disagree_on(name: str) -> None:
    for opset in (11, 17):
        for node in to_onnx(golden(name).load(), opset=opset).graph.node:
            attributes = {attribute.name for attribute in node.attribute}
            assert "ceil_mode" not in attributes
            assert "auto_pad" not in attributes
            assert node.op_type != "MaxUnpool"
