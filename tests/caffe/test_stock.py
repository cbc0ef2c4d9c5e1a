"""What is written is in the words of BVLC's Caffe, as far as it has words, and computes the same."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cases import TESTS, TOLERANCE, Case, assert_answers, by_onnxruntime, golden, goldens
from command_line import Run
from google.protobuf import text_format
from google.protobuf.message import Message
from nets import net

import bnfold
from bnfold.caffe.caffe_pb2 import LayerParameter, NetParameter
from bnfold.caffe.read import build
from bnfold.caffe.stock import STOCK_TYPES, foreign_layers, in_stock_words
from bnfold.caffe.text import parse_prototxt
from bnfold.caffe.write import prototxt_text
from bnfold.net import Net, Shape

FAULTS = TESTS / "faults"
SCHEMA = TESTS.parent / "proto" / "schema.tsv"


@cache
def bvlc_fields() -> dict[str, set[str]]:
    """Message -> fields, of BVLC's own schema."""
    with SCHEMA.open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if "bvlc" in row["dialects"].split(",")]
    fields: dict[str, set[str]] = {}
    for row in rows:
        fields.setdefault(row["message"], set()).add(row["field"])
    return fields


def strangers(message: Any, known: dict[str, set[str]]) -> Iterator[str]:
    """The fields of a message that BVLC's parser would stop at."""
    for field, value in message.ListFields():
        if field.name not in known[message.DESCRIPTOR.name]:
            yield f"{message.DESCRIPTOR.name}.{field.name}"
        elif isinstance(value, Message):
            yield from strangers(value, known)
        elif field.message_type is not None:
            for one in value:
                yield from strangers(one, known)


def written(net: Net, folder: Path) -> tuple[Path, Path]:
    paths = folder / "out.prototxt", folder / "out.caffemodel"
    bnfold.save_caffe(net, *paths)
    return paths


def test_intels_fields_go_and_what_stays_is_as_bvlc_would_write_it(tmp_path: Path) -> None:
    case = Case(FAULTS / "intel_fields_kept")
    prototxt, caffemodel = written(case.load(), tmp_path)
    ours = text_format.Parse(prototxt.read_text(), NetParameter())
    stock = text_format.Parse((case.folder / "stock.prototxt").read_text(), NetParameter())
    for parsed in (ours, stock):
        parsed.layer[1].ClearField("batch_norm_param")  # empty
    assert ours == stock
    assert_answers(by_onnxruntime(case.load(prototxt, caffemodel), case.inputs), case.answers, TOLERANCE)
    model = cv2.dnn.readNetFromCaffe(str(prototxt), str(caffemodel))
    model.setInput(case.inputs["data"])
    np.testing.assert_allclose(model.forward("ip"), case.answers["ip"], rtol=1e-4, atol=1e-5)


def test_comments_stay_where_only_fields_go() -> None:
    text = """\
layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 2 } } }
layer {
  name: "r" # why
  type: "ReLU"
  bottom: "d"
  top: "r"
  relu_param {
    engine: MKL2017
    negative_slope: 0.1 # leaky
  }
}
"""
    assert prototxt_text(in_stock_words(net(text))) == text.replace("    engine: MKL2017\n", "")


@pytest.mark.parametrize("ignored", [True, False])
def test_what_was_passed_over_is_not_written_for_bvlcs_caffe(ignored: bool) -> None:
    data = 'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 2 } } }\n'
    odd = 'layer { name: "r" type: "ReLU" bottom: "d" top: "r" param { odd: 1 } relu_param { wavelet: 2 } }\n'
    plain = 'layer { name: "s" type: "Sigmoid" bottom: "r" top: "s" } # as it is\n'
    read = build(parse_prototxt(data + odd + plain, ignore_unknown_fields=ignored))
    said = prototxt_text(in_stock_words(read))
    assert ("wavelet: 2" in said, "odd: 1" in said) == (not ignored, not ignored)  # of an opaque layer nothing goes
    assert data.strip() in said
    assert plain in said
    assert odd.strip() in prototxt_text(read)


@pytest.mark.parametrize("name", goldens())
def test_every_golden_is_written_so_that_bvlc_reads_it_and_answers_as_before(name: str, tmp_path: Path) -> None:
    case = golden(name)
    original = case.load()
    prototxt, caffemodel = written(original, tmp_path)
    parsed = text_format.Parse(prototxt.read_text(), NetParameter())
    known = bvlc_fields()
    said = foreign_layers(in_stock_words(original))
    for layer in parsed.layer:
        if layer.type in STOCK_TYPES and f"'{layer.name}'" not in "".join(said):
            assert not list(strangers(layer, known)), layer.name
        elif layer.type not in STOCK_TYPES:
            assert layer.type in said[0]
    again = case.load(prototxt, caffemodel)
    assert list(again.inputs) == list(original.inputs)
    assert sorted(map(again.public_name, again.outputs)) == sorted(map(original.public_name, original.outputs))
    try:
        before = by_onnxruntime(original, case.inputs)
    except bnfold.BnfoldError:
        return  # it has no ONNX form; then it was not rewritten either
    assert_answers(by_onnxruntime(again, case.inputs), before, TOLERANCE)


BNS = {
    "psp_bn_conv": ["BatchNorm", "Scale"],
    "segnet_bn_inference": ["Scale"],
    "ducha_bn_small_variance": ["BatchNorm", "Scale"],
    "genet_cudnn_batch_norm": ["BatchNorm", "Scale"],
    "yolo_depthwise_convolution_bn": ["Convolution"],
    "ducha_eltwise_affine_bn": ["Scale"],
}


@pytest.mark.parametrize("name", [name for name in BNS if name in goldens()])
def test_layers_of_forks_become_bvlcs(name: str) -> None:
    read = golden(name).load()
    types = [layer.type for layer in in_stock_words(read).layers]
    assert set(BNS[name]) <= set(types)
    assert set(types) - {"ReLU6"} <= STOCK_TYPES


NVCAFFE = """
    input: "data" input_shape { dim: 2 dim: 3 dim: 4 dim: 4 }
    layer { name: "c" type: "Convolution" bottom: "data" top: "c" forward_type: FLOAT16
      convolution_param { num_output: 4 kernel_size: 1 cudnn_convolution_algo_seeker: FINDEX } }
    layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" batch_norm_param {
      scale_bias: true eps: 1e-7 use_global_stats: false scale_filler { value: 1 } bias_filler { value: 0 } } }
    layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
"""


def nvcaffe() -> Net:
    rng = np.random.default_rng(3)
    mean, beta = rng.normal(size=(2, 4))
    return net(NVCAFFE, bn=[mean, rng.uniform(1e-6, 2, 4), np.ones(1), rng.normal(size=4), beta])


def test_nvcaffes_batch_norm_with_five_blobs_is_a_batch_norm_and_a_scale(tmp_path: Path) -> None:
    read = nvcaffe()
    data = {"data": np.random.default_rng(1).normal(size=(2, 3, 4, 4)).astype("f")}
    paths = written(read, tmp_path)
    again = bnfold.load(*paths)
    assert [layer.type for layer in again.layers] == ["Input", "Convolution", "BatchNorm", "Scale", "ReLU"]
    assert again.layers[2].param.batch_norm_param.eps == pytest.approx(1e-5)  # NVCaffe's least
    assert not again.layers[2].param.batch_norm_param.HasField("use_global_stats")
    assert [len(layer.blobs) for layer in again.layers[2:4]] == [3, 2]
    assert foreign_layers(again) == []
    assert_answers(by_onnxruntime(again, data), by_onnxruntime(read, data), TOLERANCE)


def test_dialect_keep_writes_the_words_of_the_file(tmp_path: Path) -> None:
    bnfold.save_caffe(nvcaffe(), tmp_path / "out.prototxt", dialect="keep")
    text = (tmp_path / "out.prototxt").read_text()
    assert "scale_bias: true" in text
    assert "forward_type: FLOAT16" in text


def test_a_batch_norm_that_follows_its_batch_stays_and_is_named() -> None:
    text = """
        input: "data" input_shape { dim: 2 dim: 3 dim: 4 dim: 4 }
        layer { name: "bn" type: "BN" bottom: "data" top: "b" bn_param { bn_mode: LEARN } }
    """
    rng = np.random.default_rng(3)
    said = in_stock_words(net(text, bn=rng.normal(size=(2, 3))))
    assert said.layers[-1].type == "BN"
    assert foreign_layers(said) == ["BVLC's Caffe has no form for these, which are written as they are: BN ('bn')"]


def test_a_fused_relu_gets_a_layer_of_its_own(tmp_path: Path) -> None:
    text = """
        input: "data" input_shape { dim: 2 dim: 3 dim: 4 dim: 4 }
        layer { name: "c" type: "Convolution" bottom: "data" top: "c"
          convolution_param { num_output: 4 kernel_size: 1 relu: true negative_slope: 0.25 } }
        layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" batch_norm_param { relu: true } }
    """
    read = net(text)
    data = {"data": np.random.default_rng(1).normal(size=(2, 3, 4, 4)).astype("f")}
    again = bnfold.load(*written(read, tmp_path))
    assert [layer.type for layer in again.layers] == ["Input", "Convolution", "ReLU", "BatchNorm", "ReLU"]
    assert_answers(by_onnxruntime(again, data), by_onnxruntime(read, data), TOLERANCE)


@pytest.mark.parametrize(
    ("said", "size", "wanted"),
    [("ceil_mode: false", 5, "FLOOR"), ("ceil_mode: true", 5, "CEIL"), ("ceil_mode: false", 6, "CEIL")],
)
def test_how_a_pooling_rounds_is_said_in_bvlcs_word_where_it_rounds(said: str, size: int, wanted: str) -> None:
    text = f"""
        input: "data" input_shape {{ dim: 1 dim: 2 dim: {size} dim: {size} }}
        layer {{ name: "p" type: "Pooling" bottom: "data" top: "p"
          pooling_param {{ kernel_size: 2 stride: 2 {said} }} }}
    """
    param: LayerParameter = in_stock_words(net(text)).layers[-1].param
    assert not param.pooling_param.HasField("ceil_mode")
    assert param.pooling_param.RoundMode.Name(param.pooling_param.round_mode) == wanted


@pytest.mark.parametrize(
    ("inside", "named"),
    [
        ('type: "Permute" permute_param { order: [0, 2, 3, 1] }', "Permute ('p')"),
        ('type: "ReLU" bottom: "w"', "ReLU with 2 bottoms ('p')"),
        ('type: "ReLU" top: "r" } layer { name: "m" type: "MVN" bottom: "f"', "MVN with 5 axes ('m')"),
        (
            'type: "ReLU" top: "r" } layer { name: "m" type: "Pooling" bottom: "f" pooling_param { kernel_size: 1 }',
            "Pooling with 5 axes ('m')",
        ),
        (
            'type: "InnerProduct" bottom: "w" bottom: "b" inner_product_param { num_output: 2 }',
            "InnerProduct with 3 bottoms ('p')",
        ),
    ],
)
def test_what_bvlc_cannot_say_is_named_in_the_report(run: Run, inside: str, named: str) -> None:
    Path("net.prototxt").write_text(f"""
        input: "data" input_shape {{ dim: 1 dim: 2 dim: 4 dim: 4 }}
        input: "w" input_shape {{ dim: 2 dim: 32 }} input: "b" input_shape {{ dim: 2 }}
        input: "f" input_shape {{ dim: 1 dim: 2 dim: 1 dim: 2 dim: 2 }}
        layer {{ name: "p" bottom: "data" {inside} top: "p" }}
    """)
    outcome = run("convert", "net.prototxt", "-o", "out.prototxt")
    assert outcome.code == 0
    assert f"BVLC's Caffe has no form for these, which are written as they are: {named}" in outcome.out
    assert "no words" not in run("convert", "net.prototxt", "-o", "keep.prototxt", "--dialect", "keep").out


def test_pads_of_each_side_are_one_where_they_agree(tmp_path: Path) -> None:
    text = """
        input: "data" input_shape {{ dim: 2 dim: 4 dim: 6 dim: 7 }}
        layer {{ name: "c" type: "{layer_type}" bottom: "data" top: "c" convolution_param {{
          num_output: 4 kernel_h: 3 kernel_w: 5 {pads} }} }}
    """
    for layer_type in ("Convolution", "ConvolutionDepthwise"):
        read = net(text.format(layer_type=layer_type, pads="pad_l: 2 pad_r: 2 pad_t: 1 pad_b: 1"))
        data = {"data": np.random.default_rng(1).normal(size=(2, 4, 6, 7)).astype("f")}
        again = bnfold.load(*written(read, tmp_path))
        assert foreign_layers(again) == []
        assert list(again.layers[-1].param.convolution_param.pad) == [1, 2]
        assert_answers(by_onnxruntime(again, data), by_onnxruntime(read, data), TOLERANCE)
        uneven = in_stock_words(net(text.format(layer_type=layer_type, pads="pad_l: 2 pad_r: 1 pad_t: 1 pad_b: 1")))
        assert uneven.layers[-1].type == layer_type
        assert layer_type in foreign_layers(uneven)[0]


def test_deeplabs_holes_are_a_dilation() -> None:
    text = """
        input: "data" input_shape { dim: 1 dim: 4 dim: 9 dim: 9 }
        layer { name: "c" type: "Convolution" bottom: "data" top: "c"
          convolution_param { num_output: 4 kernel_size: 3 pad: 2 hole: 2 } }
    """
    param = in_stock_words(net(text)).layers[-1].param.convolution_param
    assert (list(param.dilation), list(param.pad), param.HasField("hole")) == ([2, 2], [2, 2], False)


def test_c3ds_convolution_is_bvlcs_on_three_axes(tmp_path: Path) -> None:
    case = FAULTS / "c3d_convolution3d"
    read = bnfold.load(case / "net.prototxt", case / "net.caffemodel")
    data = {"data": np.random.default_rng(1).normal(size=read.inputs["data"]).astype("f")}
    again = bnfold.load(*written(read, tmp_path))
    assert [layer.type for layer in again.layers][1:3] == ["Convolution", "BatchNorm"]
    assert list(again.layers[1].param.convolution_param.kernel_size) == [3, 3, 3]
    assert_answers(by_onnxruntime(again, data), by_onnxruntime(read, data), TOLERANCE)


def test_a_local_stays_one() -> None:
    local = net("""
        input: "x" input_shape { dim: 1 dim: 2 dim: 5 dim: 6 }
        layer { name: "l" type: "Local" bottom: "x" top: "y" local_param { num_output: 3 kernel_size: 2 stride: 2 } }
    """)
    (_, layer) = in_stock_words(local).layers
    assert layer.type == "Local"
    assert (layer.param.local_param.num_output, layer.param.local_param.kernel_size) == (3, 2)
    assert not layer.param.HasField("convolution_param")


EXCITED = """
    input: "x" input_shape { dim: 2 dim: 3 dim: 6 dim: 5 }
    layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
            convolution_param { num_output: 4 kernel_size: 3 bias_term: false } }
    layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
    layer { name: "gamma" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
    layer { name: "mean1" type: "Reduction" bottom: "conv" top: "mean1" reduction_param { operation: MEAN axis: 3 } }
    layer { name: "mean2" type: "Reduction" bottom: "mean1" top: "mean2" reduction_param { operation: MEAN axis: 2 } }
    layer { name: "fc" type: "InnerProduct" bottom: "mean2" top: "fc" inner_product_param { num_output: 4 } }
    layer { name: "view" type: "Reshape" bottom: "fc" top: "view"
            reshape_param { shape { dim: 0 dim: 4 dim: 1 dim: 1 } } }
    layer { name: "mul" type: "Eltwise" bottom: "conv" bottom: "view" top: "mul"
            eltwise_param { operation: OPERATION } }
"""


@pytest.mark.parametrize(("operation", "word"), [("PROD", "Scale"), ("SUM", "Bias")])
def test_squeeze_and_excitation_as_converters_write_it_is_folded_and_written_for_caffe(
    operation: str, word: str, tmp_path: Path
) -> None:
    original = net(EXCITED.replace("OPERATION", operation))
    folded = bnfold.fold(original).net
    assert not [layer for layer in folded.layers if layer.type == "BatchNorm"]
    prototxt, caffemodel = written(folded, tmp_path)
    again = bnfold.load(prototxt, caffemodel)
    assert foreign_layers(again) == []
    (last,) = [layer for layer in again.layers if layer.name == "mul"]
    assert (last.type, getattr(last.param, f"{word.lower()}_param").axis) == (word, 0)
    data = {"x": np.random.default_rng(5).normal(size=(2, 3, 6, 5)).astype(np.float32)}
    before, after = by_onnxruntime(original, data), by_onnxruntime(again, data)
    assert_answers(after, {"mul": before["mul"]}, TOLERANCE)
    plain = by_onnxruntime(bnfold.load(prototxt, caffemodel, until=("view", "conv")), data)
    whole = plain["conv"] * plain["view"] if operation == "PROD" else plain["conv"] + plain["view"]
    assert_answers({"mul": whole}, {"mul": before["mul"]}, 1e-4)


def test_a_broadcast_mul_is_a_scale_of_two_bottoms(tmp_path: Path) -> None:
    text = EXCITED.replace(
        'type: "Eltwise" bottom: "conv" bottom: "view"', 'type: "BroadcastMul" bottom: "fc" bottom: "conv"'
    )
    original = net(text.replace("eltwise_param { operation: OPERATION }", ""))
    prototxt, caffemodel = written(bnfold.fold(original).net, tmp_path)
    again = bnfold.load(prototxt, caffemodel)
    assert foreign_layers(again) == []
    assert again.layers[-1].type == "Scale"
    data = {"x": np.random.default_rng(6).normal(size=(2, 3, 6, 5)).astype(np.float32)}
    before, after = by_onnxruntime(original, data), by_onnxruntime(again, data)
    assert_answers({"mul": after["mul"]}, {"mul": before["mul"]}, TOLERANCE)


RENAMED = """
    input: "x" input_shape { dim: 2 dim: 3 dim: 4 dim: 5 }
    layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 4 kernel_size: 3 } }
    layer { name: "copy" type: "NeedRemove" bottom: "c" top: "copy" }
    layer { name: "affine" type: "ChannelwiseAffine" bottom: "copy" top: "affine"
      channelwise_affine_param { slope_filler { value: 1 } } }
    layer { name: "r" type: "CReLU" bottom: "affine" top: "r" }
    layer { name: "last" type: "Convolution" bottom: "r" top: "last"
      convolution_param { num_output: 2 kernel_size: 1 bias_term: false } }
"""


@pytest.mark.parametrize("said", ["", "negative_slope: 0.25", "concat_axis: 2", "negative_slope: 0.5 concat_axis: -1"])
def test_a_crelu_is_said_by_layers_that_bvlc_has(said: str, tmp_path: Path) -> None:
    text = """
        input: "x" input_shape { dim: 2 dim: 3 dim: 4 dim: 5 }
        layer { name: "r" type: "CReLU" bottom: "x" top: "r" crelu_param { SAID } }
        layer { name: "sig" type: "Sigmoid" bottom: "r" top: "r" }
    """
    original = net(text.replace("SAID", said))
    files = bnfold.save_caffe(original, tmp_path / "bvlc.prototxt", dialect="bvlc")
    again = bnfold.load(files[0])
    assert [layer.type for layer in again.layers] == ["Input", "Power", "Concat", "ReLU", "Sigmoid"]
    data = {"x": np.random.default_rng(8).normal(size=(2, 3, 4, 5)).astype(np.float32)}
    assert_answers(by_onnxruntime(again, data), by_onnxruntime(original, data), TOLERANCE)


def test_a_copy_and_an_affine_of_other_names_fold_in_front_of_a_crelu(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    learned = {
        "c": [rng.normal(size=(4, 3, 3, 3)), rng.normal(size=4)],
        "affine": [np.array([1.5, -0.5, 2.0, -3.0]), rng.normal(size=4)],
        "last": [rng.normal(size=(2, 8, 1, 1))],
    }
    original = net(RENAMED, **learned)
    types = [layer.type for layer in in_stock_words(original).layers]
    assert types == ["Input", "Convolution", "Split", "Scale", "Power", "Concat", "ReLU", "Convolution"]
    folded = bnfold.fold(original).net
    assert [layer.type for layer in folded.layers] == ["Input", "Convolution", "CReLU", "Convolution"]
    again = bnfold.load(*written(folded, tmp_path))
    data = {"x": rng.normal(size=(2, 3, 4, 5)).astype(np.float32)}
    before, after = by_onnxruntime(original, data), by_onnxruntime(again, data)
    assert_answers(after, before, TOLERANCE)


@pytest.mark.parametrize("said", ["coeff: 1 coeff: -2", "operation: MAX"])
def test_an_eltwise_that_no_other_layer_computes_stays_one_and_is_named(said: str) -> None:
    stays = in_stock_words(net(EXCITED.replace("operation: OPERATION", said)))
    assert stays.layers[-1].type == "Eltwise"
    (sentence,) = foreign_layers(stays)
    assert "as they are: Eltwise with bottoms of different shapes ('mul')" in sentence


@pytest.mark.parametrize(("operation", "word"), [("PROD", "Scale"), ("SUM", "Bias")])
@pytest.mark.parametrize(("axis", "second"), [(0, (2, 3)), (1, (3, 4)), (2, (4, 5)), (-1, (5,)), (0, (2,))])
def test_an_eltwise_along_some_axes_is_a_layer_of_two_bottoms(
    axis: int, second: Shape, operation: str, word: str, tmp_path: Path
) -> None:
    sizes = " ".join(f"dim: {size}" for size in second)
    original = net(f"""
        input: "x" input_shape {{ dim: 2 dim: 3 dim: 4 dim: 5 }} input: "z" input_shape {{ {sizes} }}
        layer {{ name: "e" type: "Eltwise" bottom: "x" bottom: "z" top: "e"
          eltwise_param {{ operation: {operation} axis: {axis} }} }}
        layer {{ name: "r" type: "Sigmoid" bottom: "e" top: "r" }}
    """)
    bnfold.save_caffe(original, tmp_path / "out.prototxt")
    again = bnfold.load(tmp_path / "out.prototxt")
    assert foreign_layers(again) == []
    assert word in {layer.type for layer in again.layers}
    random = np.random.default_rng(7)
    data = {"x": random.normal(size=(2, 3, 4, 5)).astype("f"), "z": random.normal(size=second).astype("f")}
    assert_answers(by_onnxruntime(again, data), by_onnxruntime(original, data), TOLERANCE)


def test_axpy_is_a_scale_of_two_bottoms_and_a_sum(tmp_path: Path) -> None:
    case = golden("senet_axpy")
    prototxt, caffemodel = written(case.load(), tmp_path)
    again = case.load(prototxt, caffemodel)
    assert foreign_layers(again) == []
    assert {"Flatten", "Scale", "Eltwise"} <= {layer.type for layer in again.layers}
    assert_answers(by_onnxruntime(again, case.inputs), case.answers, TOLERANCE)
    # A caffemodel that carried its network still does, though what is new has no weights.
    alone = bnfold.load(caffemodel, input_shapes=again.inputs)
    assert_answers(by_onnxruntime(alone, case.inputs), case.answers, TOLERANCE)
