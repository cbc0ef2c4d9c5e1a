"""Python layers that are read as the layers that they compute."""

from __future__ import annotations

from pathlib import Path

import pytest
from single_layer import assert_close, by_oracle, exported, layer_net, noise

from bnfold import fold, save_caffe
from bnfold.errors import UnsupportedError
from bnfold.net import Shape
from bnfold.onnx import to_onnx

CODE = 'type: "Python" python_param {{ module: "eltwise" layer: "Eltwise" param_str: "{{ {} }}" }}'
OUTSIDE = "what a layer of type 'Python' computes is code outside"
SAID = {
    "'operation': 0, 'coeff': [1, 1]": "Mul",
    "'operation': 1, 'coeff': [1, 1]": "Add",
    "'operation': 1, 'coeff': (1.0, -1)": "Sub",
    "'operation': 2": "Maximum",
    "'operation': 3, 'coeff': [3, 4]": "Div",
    "'operation': 4": "Minimum",
}


@pytest.mark.parametrize("second", [(2, 3, 4, 5), (5,), (3, 1, 1)], ids=["as large", "a row", "a channel"])
@pytest.mark.parametrize("said", SAID)
def test_synopsys_eltwise_in_python_is_the_arithmetic_that_it_computes(said: str, second: Shape) -> None:
    shapes = [(2, 3, 4, 5), second]
    for each in (shapes, shapes[::-1]):
        inputs = noise(each)
        net = layer_net(CODE.format(said), each)
        assert_close(exported(net, inputs), by_oracle(CODE.format(said), net, inputs), 1e-6)
        (note,) = (note for note in net.notes if "Python" in note)
        assert f"which computes {SAID[said]}; no code of it is run" in note


OTHERS = [
    "'operation': 1, 'coeff': [1, 2]",
    "'operation': 1",
    "'operation': 1, 'coeff': [1, 1, 1]",
    "'operation': 1, 'coeff': [1 -1]",
    "'operation': 5",
    "'operation': 0.5",
    "'operation': [0, 1]",
    "'operation': 0, 'axis': 1",
    "'operation': 'sum'",
    "'coeff': [1, 1]",
    "",
]


@pytest.mark.parametrize("said", OTHERS)
def test_an_eltwise_in_python_that_says_something_else_stays_code(said: str) -> None:
    net = layer_net(CODE.format(said), [(1, 3), (1, 3)])
    assert [note.startswith(OUTSIDE) for note in net.notes] == [True]
    with pytest.raises(UnsupportedError, match="Python code outside the network"):
        to_onnx(net)


@pytest.mark.parametrize(
    ("text", "bottoms"),
    [
        (CODE.format("'operation': 2"), 3),
        (CODE.format("'operation': 2").replace('module: "eltwise"', 'module: "my_eltwise"'), 2),
        (CODE.format("'operation': 2").replace('layer: "Eltwise"', 'layer: "Other"'), 2),
    ],
    ids=["three bottoms", "another module", "another class"],
)
def test_other_code_stays_code(text: str, bottoms: int) -> None:
    net = layer_net(text, [(1, 3)] * bottoms)
    assert [note.startswith(OUTSIDE) for note in net.notes] == [True]


def test_an_eltwise_in_python_is_written_as_it_was(tmp_path: Path) -> None:
    net = layer_net(CODE.format("'operation': 2"), [(1, 3), (1, 3)])
    save_caffe(fold(net).net, tmp_path / "out.prototxt")
    assert 'module: "eltwise"' in (tmp_path / "out.prototxt").read_text()
