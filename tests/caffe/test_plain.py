"""Layers that are read as another layer with other weights."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from cases import by_onnxruntime, distance
from reference.net import load
from wire_encoder import blob, layer

import bnfold
from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.layers.infer import output_shapes

PRUNED = """
    input: "data" input_shape { dim: 2 dim: 3 dim: 6 dim: 6 }
    layer { name: "conv" type: "CConvolution" bottom: "data" top: "conv"
            param { lr_mult: 1 } param { lr_mult: 2 } param { lr_mult: 0 } param { lr_mult: 0 }
            convolution_param { num_output: 4 kernel_size: 3 stride: 2 }
            cconvolution_param { gamma: 0.0001 power: 1 c_rate: -0.5 iter_stop: 14000
                                 weight_mask_filler { type: "constant" value: 1 }
                                 bias_mask_filler { type: "constant" value: 1 } } }
    layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" }
    layer { name: "ip" type: "CInnerProduct" bottom: "conv" top: "ip" inner_product_param { num_output: 5 }
            cinner_product_param { c_rate: 1.1 pruning_type: "han" sparsity_ratio: 0.3 } }
    layer { name: "bias" type: "Bias" bottom: "ip" top: "ip" }
"""


def learned(rng: np.random.Generator, *shapes: tuple[int, ...]) -> list[bytes]:
    """Values of these shapes, then masks of 0 and 1 of the same."""
    values = [rng.standard_normal(shape) for shape in shapes]
    masks = [rng.integers(0, 2, shape) for shape in shapes]
    return [blob([float(value) for value in array.ravel()], *array.shape) for array in (*values, *masks)]


def write(folder: Path, masks: int = 2) -> tuple[Path, Path]:
    rng = np.random.default_rng(3)
    conv, product = learned(rng, (4, 3, 3, 3), (4,)), learned(rng, (5, 16), (5,))
    (folder / "net.prototxt").write_text(PRUNED)
    (folder / "net.caffemodel").write_bytes(
        layer("conv", "CConvolution", *conv[: 2 + masks])
        + layer("scale", "Scale", blob([2.0, -3.0, 0.5, 1.5], 4))
        + layer("ip", "CInnerProduct", *product)
        + layer("bias", "Bias", blob([1.0, -2.0, 3.0, -4.0, 5.0], 5))
    )
    return folder / "net.prototxt", folder / "net.caffemodel"


def test_pruned_layers_compute_by_weights_times_masks_and_fold(tmp_path: Path) -> None:
    files = write(tmp_path)
    inputs = {"data": np.random.default_rng(4).standard_normal((2, 3, 6, 6)).astype(np.float32)}
    answer = load(*files).run(inputs)["ip"]
    net = bnfold.load(*files)
    folded = bnfold.fold(net).net
    assert [one.type for one in folded.layers] == ["Input", "Convolution", "InnerProduct"]
    for one in (net, folded):
        assert distance(by_onnxruntime(one, inputs)["ip"], answer) < 1e-5
    assert sum(note.endswith("its weights times their masks") for note in net.notes) == 2


@pytest.mark.parametrize("masks", [0, 1])
def test_a_pruned_layer_without_a_mask_for_each_weight_stays_as_it_is(masks: int, tmp_path: Path) -> None:
    """Forks of Dynamic Network Surgery that keep one mask say no more of what it masks."""
    folded = bnfold.fold(bnfold.load(*write(tmp_path, masks))).net
    assert [one.type for one in folded.layers] == ["Input", "CConvolution", "InnerProduct"]
    assert len(folded.layers[1].blobs) == 2 + masks


@pytest.mark.parametrize("whose", ["Margin", "LargeMargin"])
def test_the_scores_of_a_margin_are_those_of_an_inner_product(whose: str, tmp_path: Path) -> None:
    """SphereFace divides each class' weight by its length in every run, and L-Softmax does not."""
    field = f"{whose.lower()}_inner_product_param"
    (tmp_path / "net.prototxt").write_text(
        'input: "data" input_shape { dim: 2 dim: 3 } '
        f'layer {{ name: "m" type: "{whose}InnerProduct" bottom: "data" bottom: "label" top: "m" top: "lambda" '
        f"{field} {{ num_output: 4 type: QUADRUPLE base: 1000 lambda_min: 5 }} }}"
    )
    rng = np.random.default_rng(6)
    weight, x = rng.standard_normal((4, 3)), rng.standard_normal((2, 3)).astype(np.float32)
    stored = blob([float(value) for value in weight.ravel()], 4, 3)
    (tmp_path / "net.caffemodel").write_bytes(layer("m", f"{whose}InnerProduct", stored))
    net = bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    if whose == "Margin":
        weight /= np.linalg.norm(weight, axis=1, keepdims=True)
    assert ([one.type for one in net.layers], net.outputs) == (["Input", "InnerProduct"], ["m"])
    bnfold.save_caffe(net, tmp_path / "out.prototxt")
    for one in (net, bnfold.load(tmp_path / "out.prototxt", tmp_path / "out.caffemodel")):
        assert distance(by_onnxruntime(one, {"data": x})["m"], x @ weight.T) < 2e-7


def test_parameters_beside_the_plain_ones_do_not_stand_for_them() -> None:
    param = LayerParameter(type="CInnerProduct", cinner_product_param={"gamma": 0.5})
    one = bnfold.Layer("ip", "CInnerProduct", ["x"], ["y"], bnfold.Blobs(), param)
    with pytest.raises(bnfold.ModelError, match=r"layer 'ip' \(CInnerProduct\): num_output 0 must be at least 1"):
        output_shapes(one, [(2, 3)])
    param.inner_product_param.num_output = 5
    assert output_shapes(one, [(2, 3)]) == [(2, 5)]


@pytest.mark.parametrize(
    ("window", "said"),
    [("kernel_size: 2 stride: 2", "kernel_size, stride"), ("kernel_h: 0", "kernel_h"), ("stride: 1", "")],
)
@pytest.mark.parametrize("dialect", ["bvlc", "keep"])
def test_a_window_beside_global_pooling_is_said_and_not_written(
    window: str, said: str, dialect: Literal["bvlc", "keep"], tmp_path: Path
) -> None:
    (tmp_path / "net.prototxt").write_text(
        'input: "data" input_shape { dim: 2 dim: 3 dim: 4 dim: 6 }\n'
        'layer { name: "p" type: "Pooling" bottom: "data" top: "p" '
        f"pooling_param {{ pool: AVE global_pooling: true {window} }} }}"
    )
    net = bnfold.load(tmp_path / "net.prototxt")
    x = np.random.default_rng(5).standard_normal((2, 3, 4, 6)).astype(np.float32)
    assert distance(by_onnxruntime(net, {"data": x})["p"], x.mean((2, 3), keepdims=True)) < 1e-6
    notes = [note for note in net.notes if note.startswith("layer 'p' (Pooling)")]
    assert notes == (
        [
            f"layer 'p' (Pooling): global_pooling takes the whole plane; it is read without {said} beside it, "
            "at which BVLC's Caffe stops"
        ]
        if said
        else []
    )
    bnfold.save_caffe(net, tmp_path / "out.prototxt", dialect=dialect)
    written = bnfold.load(tmp_path / "out.prototxt")
    assert not any("global_pooling" in note for note in written.notes)
    assert ("stride" in (tmp_path / "out.prototxt").read_text()) is (not said)
