"""Every dialect by the command line: what people have is read as their Caffe reads it, and nothing is lost."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import MODEL, NET, TEXT, Run
from dialect_nets import (
    BETA,
    GAMMA,
    MEAN,
    ONE,
    VARIANCE,
    WRITE,
    along,
    assert_computes,
    convolved,
    message,
    types,
    write,
)

import bnfold
from bnfold.caffe.caffe_pb2 import LayerParameter, NetParameter
from bnfold.caffe.layers import infer_shapes
from bnfold.caffe.weights import read_weights
from bnfold.caffe.write import prototxt_text

# Layers of the forks.


def test_ducha_aikis_affine_layer_folds(run: Run) -> None:
    write(
        'layer { name: "ea" type: "EltwiseAffine" bottom: "c" top: "d" '
        'eltwise_affine_param { slope_filler { type: "constant" value: 1 } } }\n'
        'layer { name: "drop" type: "SeLuDropout" bottom: "d" top: "y" selu_dropout_param { dropout_ratio: 0.1 } }',
        message("ea", "EltwiseAffine", "c", "d", [GAMMA, BETA]),
    )
    assert (
        run("convert", "net.prototxt", "net.caffemodel", "-o", "same.prototxt", "--strip", "--dialect", "keep").code
        == 0
    )
    assert "slope_filler" in Path("same.prototxt").read_text()
    assert run("fold", "same.prototxt", "same.caffemodel", *WRITE).code == 0
    assert types() == ["Input", "Convolution"]
    assert_computes(along(GAMMA) * convolved() + along(BETA))


def messages(caffemodel: str) -> dict[str, bytes]:
    """The message of each layer as it is in a file."""
    return {record.name: record.buffer[record.at : record.end] for record in read_weights(Path(caffemodel)).records}


UNKNOWN = """\
# how it was made
layer {
  name: "odd"   # a name
  type: "Oracle"
  bottom: "c"
  top: "o"
  oracle_param { riddle: "what?" depth { of: 3 } convolution_param: [1, 2.5] }
}
"""


def unknown() -> LayerParameter:
    """A layer of an unknown type with a field that no dialect has under that number."""
    layer = message("odd", "Oracle", "c", "o", [GAMMA])
    layer.MergeFromString(b"\xfa\xff\x3f\x03abc")  # number 131071
    return layer


def test_a_layer_of_an_unknown_type_is_written_back_and_nothing_moves_through_it(run: Run) -> None:
    bn = 'layer { name: "bn" type: "BatchNorm" bottom: "o" top: "y" }\n'
    before = 'layer { name: "bn0" type: "BatchNorm" bottom: "c" top: "c" }\n'
    stored = [MEAN, VARIANCE, ONE]
    write(
        before + UNKNOWN + bn,
        message("bn0", "BatchNorm", "c", "c", stored),
        unknown(),
        message("bn", "BatchNorm", "o", "y", stored),
    )
    source = messages("net.caffemodel")
    outcome = run("fold", "net.prototxt", "net.caffemodel", "-o", "out.prototxt")
    assert outcome.code == 0, outcome
    assert UNKNOWN in Path("out.prototxt").read_text()
    written = messages("out.caffemodel")
    assert written["odd"] == source["odd"]
    assert types() == ["Input", "Convolution", "Oracle", "Scale"]
    assert "kept 1 BatchNorm (bn)" in outcome.out
    outcome = run("export", "net.prototxt", "net.caffemodel", "-o", "out.onnx")
    assert outcome.code == 2
    assert "layer 'odd' (Oracle): bnfold does not know what layers of this type compute" in outcome.err


@pytest.mark.parametrize("layer_type", ["ConvolutionFixed", "BatchNormFixed", "DeephiBatchNorm"])
def test_a_type_that_sounds_like_a_known_one_is_read_as_nothing_else(run: Run, layer_type: str) -> None:
    write(
        f'layer {{ name: "odd" type: "{layer_type}" bottom: "c" top: "y" }}',
        message("odd", layer_type, "c", "y", [MEAN, VARIANCE, ONE]),
    )
    outcome = run("fold", "net.prototxt", "net.caffemodel", "-o", "out.prototxt")
    assert outcome.code == 0
    assert types() == ["Input", "Convolution", layer_type]
    assert Path("out.caffemodel").read_bytes() == Path("net.caffemodel").read_bytes()


def test_a_layer_with_an_unknown_field_is_left_alone_like_one_of_an_unknown_type(run: Run) -> None:
    odd = (
        'layer {\n  name: "odd" # why\n  type: "Pooling" bottom: "c" top: ["c0"]\n'
        "  pooling_param { wavelet: 2 kernel_size: 1 pool: MAX }\n}\n"
    )
    bn = 'layer { name: "bn" type: "BatchNorm" bottom: "c0" top: "y" }\n'
    before = 'layer { name: "bn0" type: "BatchNorm" bottom: "c" top: "c" }\n'
    stored = [MEAN, VARIANCE, ONE]
    write(
        before + odd + bn,
        message("bn0", "BatchNorm", "c", "c", stored),
        message("odd", "Pooling", "c", "c0", []),
        message("bn", "BatchNorm", "c0", "y", stored),
    )
    outcome = run("fold", "net.prototxt", "net.caffemodel", "-o", "out.prototxt", "--strip", "--no-verify")
    assert outcome.code == 0, outcome
    assert odd in Path("out.prototxt").read_text()
    assert types() == ["Input", "Convolution", "Pooling", "Scale"]
    assert NetParameter.FromString(Path("out.caffemodel").read_bytes()).layer[1].type == "Pooling"
    outcome = run("export", "net.prototxt", "net.caffemodel", "-o", "out.onnx")
    assert outcome.code == 2
    assert "layer 'odd' (Pooling): it sets an unknown field 'wavelet' of PoolingParameter" in outcome.err
    assert run("export", *NET, "-o", "out.onnx", "--allow-custom-ops").code == 0
    node = next(node for node in onnx.load("out.onnx").graph.node if node.domain == "caffe")
    assert node.op_type == "Pooling"
    assert {attribute.name: attribute.i or attribute.s for attribute in node.attribute} == {
        "pooling_param_wavelet": 2, "pooling_param_pool": b"MAX", "pooling_param_kernel_size": 1
    }  # fmt: skip
    assert run("export", *NET, "-o", "without.onnx", "--ignore-unknown-fields").code == 0
    assert run("fold", *NET, "-o", "out.onnx", "--strict-fields").code == 2


def test_a_list_of_bottoms_is_renamed_without_losing_what_is_in_the_text_alone(run: Run) -> None:
    write(
        'layer { name: "bn" type: "BatchNorm" bottom: "c" top: "b" }\n'
        'layer { name: "odd" type: "Oracle" bottom: ["b", "c"] top: "y" oracle_param { riddle: 1 } }',
        message("bn", "BatchNorm", "c", "b", [MEAN, VARIANCE, ONE]),
    )
    net = bnfold.load(*NET)
    net.reconnect(net.uses("b")[0], "c")
    assert 'bottom: "c" bottom: "c" top: "y" oracle_param { riddle: 1 }' in prototxt_text(net)


# Files as people have them.


def test_a_solver_file_is_read_for_the_net_inside(run: Run) -> None:
    indented = "\n".join(f"  {line}" for line in TEXT.splitlines())
    Path("solver.prototxt").write_text(f"base_lr: 0.1 # fast\nnet_param {{\n{indented}\n}}\nmax_iter: 3\n")
    assert run("fold", "solver.prototxt", "net.caffemodel", *WRITE).code == 0
    assert "base_lr" not in Path("out.prototxt").read_text()
    assert run("fold", "net.prototxt", "net.caffemodel", "-o", "twin.prototxt").code == 0
    assert Path("out.caffemodel").read_bytes() == Path("twin.caffemodel").read_bytes()


@pytest.mark.parametrize(
    "content",
    [
        codecs.BOM_UTF8 + TEXT.replace("\n", "\r\n").encode(),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        "# Größe, Maße\n".encode("latin-1") + TEXT.encode(),
        "# 通道\n".encode("gb18030") + TEXT.encode(),
    ],
    ids=["BOM and CRLF", "UTF-16", "Latin-1", "GB18030"],
)
def test_a_prototxt_in_any_encoding_folds_to_the_same_weights(run: Run, content: bytes) -> None:
    assert run("fold", "net.prototxt", "net.caffemodel", "-o", "twin.prototxt").code == 0
    Path("odd.prototxt").write_bytes(content)
    assert run("fold", "odd.prototxt", "net.caffemodel", *WRITE).code == 0
    assert Path("out.caffemodel").read_bytes() == Path("twin.caffemodel").read_bytes()


def test_a_caffemodel_alone_goes_every_way(run: Run) -> None:
    Path("net.prototxt").unlink()
    assert run("inspect", "net.caffemodel").code == 0
    assert run("convert", "net.caffemodel", "-o", "whole.prototxt").code == 0
    assert run("export", "net.caffemodel", "-o", "whole.onnx").code == 0
    assert run("fold", "net.caffemodel", *WRITE).code == 0
    assert not {"BatchNorm", "Scale"} & set(types())
    assert run("diff", "whole.onnx", "out.onnx").code == 0
    assert run("diff", "whole.prototxt", "out.prototxt").code == 0


def test_weights_of_a_layer_may_be_in_several_files(run: Run) -> None:
    whole = NetParameter.FromString(MODEL)
    half = len(whole.layer) // 2
    for name, layers in (("a", whole.layer[:half]), ("b", whole.layer[half:])):
        Path(f"{name}.caffemodel").write_bytes(NetParameter(layer=layers).SerializeToString())
    assert run("fold", "net.prototxt", "net.caffemodel", "-o", "twin.onnx").code == 0
    assert run("fold", "net.prototxt", "a.caffemodel,b.caffemodel", *WRITE).code == 0
    assert run("diff", "twin.onnx", "out.prototxt").code == 0
    outcome = run("fold", "net.prototxt", "a.caffemodel", "-o", "half.onnx")
    assert outcome.code == 2
    assert "no weights" in outcome.err or "not in" in outcome.err


def test_an_hdf5_snapshot_folds_like_the_caffemodel(run: Run) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File("net.caffemodel.h5", "w") as file:
        for layer in bnfold.load("net.prototxt", "net.caffemodel").layers:
            for index, blob in enumerate(layer.blobs):
                file[f"data/{layer.name}/{index}"] = blob
    assert run("fold", "net.prototxt", "net.caffemodel.h5", *WRITE).code == 0
    assert run("fold", "net.prototxt", "net.caffemodel", "-o", "twin.onnx").code == 0
    assert run("diff", "twin.onnx", "out.onnx", "--tolerance", "0").code == 0


def test_half_precision_weights_are_folded_in_single_precision(run: Run) -> None:
    net = NetParameter.FromString(MODEL)
    for layer in net.layer:
        for blob in layer.blobs:
            values = np.array(blob.data, np.float16)
            del blob.data[:]
            blob.MergeFromString(b"\x50\x02" + b"\x62" + bytes([*varint(values.nbytes)]) + values.tobytes())
    Path("half.caffemodel").write_bytes(net.SerializeToString())
    assert run("fold", "net.prototxt", "half.caffemodel", *WRITE).code == 0
    assert run("export", "net.prototxt", "half.caffemodel", "-o", "half.onnx").code == 0
    assert run("diff", "half.onnx", "out.onnx").code == 0
    assert all(blob.dtype == np.float32 for layer in bnfold.load("out.prototxt").layers for blob in layer.blobs)


def varint(number: int) -> list[int]:
    return [number] if number < 128 else [number % 128 | 128, *varint(number // 128)]


def test_stripping_leaves_the_same_network_without_what_training_needs(run: Run) -> None:
    net = NetParameter.FromString(MODEL)
    for layer in net.layer:
        for blob in layer.blobs:
            blob.diff.extend([1.0] * len(blob.data))
    Path("net.caffemodel").write_bytes(net.SerializeToString())
    text = TEXT.replace("convolution_param {", "param { lr_mult: 2 } convolution_param { weight_filler { value: 3 }")
    Path("net.prototxt").write_text(text)
    assert run("convert", "net.prototxt", "net.caffemodel", "-o", "out.prototxt", "--strip").code == 0
    stripped = NetParameter.FromString(Path("out.caffemodel").read_bytes())
    assert not any(blob.diff for layer in stripped.layer for blob in layer.blobs)
    assert not any(word in Path("out.prototxt").read_text() for word in ("lr_mult", "filler"))
    assert run("diff", "net.prototxt", "out.prototxt", "--tolerance", "0").code == 0


def test_ignored_fields_are_in_every_report(run: Run) -> None:
    Path("net.prototxt").write_text(TEXT.replace("num_output:", "num_ouput: 3 num_output:", 1))
    outcome = run("fold", "net.prototxt", "net.caffemodel", *WRITE)
    assert outcome.code == 2
    assert "net.prototxt:" in outcome.err
    assert "did you mean 'num_output'?" in outcome.err
    reports = ("--json", "r.json", "--markdown", "r.md")
    outcome = run("fold", "net.prototxt", "net.caffemodel", *WRITE, "--ignore-unknown-fields", *reports)
    assert outcome.code == 0
    assert "num_ouput" in outcome.out
    assert "num_ouput" in json.dumps(json.loads(Path("r.json").read_text()))
    assert "num_ouput" in Path("r.md").read_text().replace("\\", "")


# Published nets.

PROTOTXTS = Path(__file__).parents[3] / "shared" / "zoo" / "prototxt"


@pytest.mark.skipif(not PROTOTXTS.is_dir(), reason="needs the zoo in ../shared")
@pytest.mark.parametrize("name", ["ov_action_recognition_inference", "ov_crossroad_deploy"])
def test_openvinos_detectors_have_shapes_for_all_their_blobs(name: str) -> None:
    net = bnfold.load(PROTOTXTS / f"{name}.prototxt")
    shapes = infer_shapes(net)
    assert None not in shapes.values()
    for layer in net.layers:
        if layer.type == "PriorBoxClustered":
            height, width = (shapes[layer.bottoms[0]] or ())[2:]
            pairs = len(layer.param.prior_box_param.width)
            assert shapes[layer.tops[0]] == (1, 2, height * width * pairs * 4)


@pytest.mark.skipif(not PROTOTXTS.is_dir(), reason="needs the zoo in ../shared")
def test_ducha_aikis_network_keeps_no_affine_layer(run: Run) -> None:
    outcome = run("inspect", str(PROTOTXTS / "caffenet_bn_before_ea.prototxt"), "--json", "plan.json")
    assert outcome.code == 0
    records = json.loads(Path("plan.json").read_text())["plan"]["records"]
    assert {record["kind"] for record in records} <= {"folded", "dropped"}
    assert [record["layer"] for record in records if record["type"] == "EltwiseAffine"] == [
        f"ea_BN{i}" for i in range(1, 8)
    ]
    assert "batchnorm-without-scale" not in outcome.out


@pytest.mark.skipif(not PROTOTXTS.is_dir(), reason="needs the zoo in ../shared")
def test_a_selu_network_has_shapes_behind_its_dropout() -> None:
    assert None not in infer_shapes(bnfold.load(PROTOTXTS / "soeaver_psp_resnet101v2_selu.prototxt")).values()
