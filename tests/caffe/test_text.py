"""Prototxt text: what is read, what is refused and where, and which words stay with which layer."""

from __future__ import annotations

from pathlib import Path

import nets
import numpy as np
import pytest
from cases import by_onnxruntime
from google.protobuf import text_format
from present import present

import bnfold
from bnfold.caffe.caffe_pb2 import NetParameter
from bnfold.caffe.read import build, load
from bnfold.caffe.stock import foreign_layers, in_stock_words
from bnfold.caffe.text import decode_prototxt, parse_prototxt
from bnfold.caffe.upgrade import upgrade
from bnfold.caffe.write import prototxt_text, save_caffe
from bnfold.errors import ParseError, UnsupportedError

CONV = """\
name: "n"
input: "data"
input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer {
  name: "conv1"
  type: "Convolution"
  bottom: "data"
  top: "conv1"
  convolution_param {
    num_output: 4
    kernel_size: 3
  }
}
"""


def refusal(text: str, **options: bool) -> ParseError:
    with pytest.raises(ParseError) as caught:
        parse_prototxt(text, Path("net.prototxt"), **options)
    return caught.value


def test_an_unknown_field_is_refused_with_its_place_and_a_guess() -> None:
    error = refusal(CONV.replace("kernel_size", "kernal_size"))
    assert (error.line, error.column) == (11, 5)
    assert str(error).startswith("net.prototxt:11:5: unknown field 'kernal_size' of ConvolutionParameter")
    assert "did you mean 'kernel_size'?" in str(error)
    assert "layer 'conv1' (Convolution)" in str(error)
    assert "--ignore-unknown-fields" in str(error)


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("num_output: 4", "num_output: 4.0", "num_output: expected a whole number and found 4.0"),
        ("num_output: 4", "num_output: -4", "num_output: -4 is out of range"),
        ("num_output: 4", "num_output: 4 bias_term: no", "bias_term: expected true or false"),
        ('top: "conv1"', 'top: "conv1" param: "w"', "param: expected '{'"),
        ('name: "conv1"', "name: conv1", "name: expected a word in quotes and found conv1"),
    ],
)
@pytest.mark.parametrize("rest", ["", "# " + 300 * "x"])
def test_a_wrong_value_is_named_with_its_place_and_layer_however_long_the_line(
    right: str, wrong: str, said: str, rest: str
) -> None:
    text = " ".join(CONV.split()).replace(right, wrong) + rest
    error = refusal(text)
    at = text.index(wrong) + len(wrong) - len(wrong.split()[-1])
    assert str(error) == f"net.prototxt:1:{at + 1}: {said}, in layer 'conv1' (Convolution)"


def test_a_wrong_value_in_a_parameter_that_v1_has_not_is_named_with_its_place() -> None:
    bn = 'layers {\n name: "b"\n type: BATCH_NORM\n batch_norm_param {\n eps: x } }'
    assert str(refusal(bn)).startswith(
        "net.prototxt:5:7: eps: expected a number and found x, in layer 'b' (BATCH_NORM)"
    )


def test_of_several_words_that_a_slip_could_mean_the_closest_is_guessed() -> None:
    assert "'Layer' of NetParameter (did you mean 'layer'?)" in str(refusal(CONV.replace("layer", "Layer")))
    assert "'layrs' of NetParameter (did you mean 'layers'?)" in str(refusal(CONV.replace("layer", "layrs")))


def test_all_unknown_fields_are_named_at_once() -> None:
    error = refusal(CONV.replace("num_output", "outputs").replace("kernel_size", "kernal_size"))
    assert "'kernal_size'" in str(error)
    assert "1 more from line 10 on: 'outputs'" in str(error)


def test_an_unknown_field_of_the_net_itself_is_refused() -> None:
    error = refusal('nam: "n"\n' + CONV)
    assert error.line == 1
    assert "did you mean 'name'?" in str(error)


def test_ignored_unknown_fields_are_noted_and_the_rest_is_read() -> None:
    document = parse_prototxt(CONV.replace("kernel_size: 3", "kernal_size: 3 stride: 2"), ignore_unknown_fields=True)
    assert document.net.layer[0].convolution_param.stride == [2]
    assert document.notes == [
        "line 11, column 5: ignored unknown field 'kernal_size' of ConvolutionParameter (did you mean 'kernel_size'?) "
        "in layer 'conv1' (Convolution)"
    ]


@pytest.mark.parametrize(
    "words",
    ["blobs_lr: 1 blobs_lr: 2 weight_decay: 0", "lr_mult: 1", "strict_dim: false", "relu_param { decay_mult: 1 }"],
)
def test_rates_of_another_version_are_passed_over_and_not_written_again(words: str) -> None:
    rated = 'layer { name: "r" type: "ReLU" %sbottom: "conv1" top: "r" }'
    other = f'layer {{ name: "o" type: "Other" {words} bottom: "r" top: "o" }}'
    document = parse_prototxt(CONV + rated % f"{words} " + "\n" + other + "\n")
    assert not document.foreign.opaque
    assert "ReLU" in document.notes[0]
    assert document.notes[0].endswith(": it means nothing at inference")
    written = prototxt_text(in_stock_words(build(document)))
    assert words not in written.removesuffix(other + "\n")
    assert written.endswith(other + "\n")
    assert "unknown field '" in str(refusal(CONV + rated % f"{words} ", strict_fields=True))


def test_the_params_of_v2_are_read_in_v1() -> None:
    conv = 'name: "c" type: CONVOLUTION bottom: "x" top: "c" convolution_param { num_output: 2 kernel_size: 1 }'
    specs = 'param { name: "w" lr_mult: 3 } param { lr_mult: 0 decay_mult: 2 }'
    document = parse_prototxt(f'input: "x" input_dim: [1, 1, 4, 4] layers {{ {conv} {specs} }}')
    first, second = upgrade(document)[1].param.param
    assert (first.name, first.lr_mult, second.lr_mult, second.decay_mult) == ("w", 3, 0, 2)


def test_a_text_of_ignored_fields_alone_is_no_network() -> None:
    assert "has no layers left" in str(refusal("layr { }", ignore_unknown_fields=True))


@pytest.mark.parametrize(
    ("sizes", "read"),
    [
        ("kernel_size: 1 kernel_size: 2 kernel_size: 3 stride: 2", {"kernel_size_3d": [1, 2, 3]}),
        ("kernel_size: [1, 2, 3]", {"kernel_size_3d": [1, 2, 3]}),
        ("kernel_size: 3 stride: 1 stride: 2 stride: 2", {"stride_3d": [1, 2, 2]}),
        ("kernel_size: 3 pad: 0 pad: 1 pad: 1", {"pad_3d": [0, 1, 1]}),
        ("kernel_size: 3 kernel_size: 3", {}),
    ],
)
@pytest.mark.parametrize("layers", ["layer { type: 'Pooling'", "layers { type: POOLING"])
def test_a_pooling_with_a_size_for_each_axis_is_not_one_with_the_last_for_all(
    sizes: str, read: dict[str, list[int]], layers: str
) -> None:
    document = parse_prototxt(f"""
        input: "film" input_shape {{ dim: 1 dim: 2 dim: 8 dim: 8 dim: 8 }}
        {layers} name: "p" bottom: "film" top: "p" pooling_param {{ {sizes} }} }}
    """)
    assert not document.foreign.opaque
    ((param,),) = (
        [layer.pooling_param for layer in kind] for kind in (document.net.layer, document.net.layers) if kind
    )
    assert not document.notes
    names = ("kernel_size_3d", "pad_3d", "stride_3d")
    assert {name: list(getattr(param, name)) for name in names if getattr(param, name)} == read
    assert all(not param.HasField(name.removesuffix("_3d")) for name in read)


def test_a_pooling_of_video_caffe_pools_each_axis_by_its_own_and_keeps_its_words(tmp_path: Path) -> None:
    """As its pooling_layer.cpp lays windows: sizes rounded up, axes in the order d, h, w."""
    pool = "pool: MAX kernel_size: 1 kernel_size: 2 kernel_size: 3 stride: 1 stride: 2 stride: 2"
    net = nets.net(f"""
        input: "film" input_shape {{ dim: 1 dim: 2 dim: 3 dim: 5 dim: 6 }}
        layer {{ name: "s" type: "Scale" bottom: "film" top: "s" }}
        layer {{ name: "p" type: "Pooling" bottom: "s" top: "p" pooling_param {{ {pool} }} }}
    """)
    film = np.random.default_rng(2).standard_normal((1, 2, 3, 5, 6)).astype(np.float32)
    scaled = film * net.layers[1].blobs[0].reshape(2, 1, 1, 1)
    wanted = np.empty((1, 2, 3, 3, 3), np.float32)
    for d, h, w in np.ndindex(3, 3, 3):
        wanted[:, :, d, h, w] = scaled[:, :, d, 2 * h : 2 * h + 2, 2 * w : 2 * w + 3].max(axis=(2, 3))
    assert np.array_equal(by_onnxruntime(net, {"film": film})["p"], wanted)
    bnfold.save_caffe(net, tmp_path / "out.prototxt")
    assert pool in (tmp_path / "out.prototxt").read_text()
    again = bnfold.load(tmp_path / "out.prototxt", tmp_path / "out.caffemodel")
    assert np.array_equal(by_onnxruntime(again, {"film": film})["p"], wanted)
    assert "Pooling with a kernel_size for each axis, a stride for each axis ('p')" in foreign_layers(again)[0]


def test_a_list_where_one_value_belongs_is_named() -> None:
    pool = 'layer { name: "p" type: "Pooling" pooling_param {\n %s } }'
    error = refusal(pool % "pool: [MAX]", ignore_unknown_fields=True)
    said = "2:2: PoolingParameter's pool takes one value, and is given a list, in layer 'p' (Pooling)"
    assert str(error).endswith(said)


def test_an_unknown_enum_value_is_refused_even_if_unknown_fields_are_ignored() -> None:
    pool = 'layer { name: "p" type: "Pooling" pooling_param {\n pool: AVG } }'
    error = refusal(pool, ignore_unknown_fields=True)
    assert "pool is AVG" in str(error)
    assert "did you mean 'AVE'?" in str(error)
    assert error.line == 2


def test_an_unknown_layer_type_may_hold_what_it_likes() -> None:
    foreign = 'layer { name: "f" type: "Foreign" bottom: "conv1" top: "f" foreign_param { deep { er: 1 } } extra: "x" }'
    document = parse_prototxt(CONV + foreign)
    layer = document.net.layer[1]
    assert (layer.name, layer.type, list(layer.bottom), list(layer.top)) == ("f", "Foreign", ["conv1"], ["f"])
    assert document.layout.layers[1] == foreign
    assert document.notes == []


def test_an_unknown_layer_type_keeps_the_known_fields_of_its_parameters() -> None:
    text = 'layer { name: "f" type: "Foreign" param { lr_mult: 0 } pooling_param { pool: MAX } other_param { a: 1 } }'
    layer = parse_prototxt(text).net.layer[0]
    assert layer.param[0].lr_mult == 0
    assert layer.HasField("pooling_param")


def test_an_unknown_rule_in_an_unknown_layer_type_is_refused() -> None:
    error = refusal('layer { name: "f" type: "Foreign" include { phaze: TRAIN } }')
    assert "did you mean 'phase'?" in str(error)


DATA = """\
layer {
  name: "data" type: "ImageData" top: "data" top: "label"
  transform_param { crop_size: 16 my_fork_jitter: true }
  image_data_param { my_fork_reader: "fast" }
}
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  param { lr_mult: 1 force_mult: 0.1 }
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "gaussian" my_fork_seed: 3 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" loss_param { my_fork_balance: true } }
layer { name: "top5" type: "Accuracy" bottom: "conv" bottom: "label" accuracy_param { confusion_matrix: "x" } }
"""
IDLE = ("my_fork_jitter", "my_fork_reader", "force_mult", "my_fork_seed", "my_fork_balance", "confusion_matrix")


def test_an_unknown_field_that_means_nothing_at_inference_is_passed_over_and_noted() -> None:
    document = parse_prototxt(DATA)
    assert len(document.notes) == len(IDLE)
    for field, note in zip(IDLE, document.notes, strict=True):
        assert field in note
        assert note.endswith("it means nothing at inference")
    assert not document.foreign.opaque
    assert document.net.layer[0].transform_param.crop_size == 16


def test_how_a_net_may_lay_its_blobs_in_memory_is_passed_over_and_not_written_again() -> None:
    planned = 'mem_param { optimize_test: true exclude_blob: "conv1" }'
    document = parse_prototxt(f"{planned}\n{CONV}")
    (note,) = document.notes
    assert note.endswith("unknown field 'mem_param' of NetParameter in the net: it means nothing at inference")
    assert "mem_param" not in prototxt_text(build(document))
    assert "unknown field 'mem_param'" in str(refusal(f"{planned}\n{CONV}", strict_fields=True))


def test_strict_fields_stop_at_each_of_them() -> None:
    error = refusal(DATA, strict_fields=True)
    assert (error.line, error.column) == (3, 35)
    assert "5 more from line 4 on" in str(error)


@pytest.mark.parametrize(
    ("layer_type", "field"),
    [("Data", "crop_siz: 4"), ("Convolution", "bias_tern: true"), ("SoftmaxWithLoss", "normalise: true")],
)
def test_a_slip_of_the_pen_stops_wherever_it_is(layer_type: str, field: str) -> None:
    param = {"Data": "transform_param", "Convolution": "convolution_param", "SoftmaxWithLoss": "loss_param"}[layer_type]
    error = refusal(f'layer {{ name: "x" type: "{layer_type}" {param} {{ {field} }} }}')
    assert "did you mean" in str(error)


@pytest.mark.parametrize(
    ("field", "meant"), [("gn_param", ""), ("fpn_param", ""), ("convolutoin_param", "convolution_param")]
)
def test_a_param_of_another_name_is_no_slip_for_ending_as_all_of_them_do(field: str, meant: str) -> None:
    text = CONV.replace('type: "Convolution"', f'type: "Convolution" {field} {{ groups: 2 }}')
    if meant:
        assert f"did you mean '{meant}'?" in str(refusal(text))
    else:
        opaque = build(parse_prototxt(text)).layers[-1].opaque
        assert opaque.startswith(f"it sets an unknown field '{field}' of LayerParameter (")


def test_what_a_loss_does_to_its_prediction_is_not_passed_over() -> None:
    refusal('layer { name: "x" type: "SoftmaxWithLoss" bottom: "a" softmax_param { temperature: 3 } }')


OPAQUE = CONV.replace("kernel_size: 3", "kernel_size: 3 wavelet: 2")


def test_any_other_unknown_field_makes_its_layer_opaque() -> None:
    net = build(parse_prototxt(OPAQUE))
    said = "it sets an unknown field 'wavelet' of ConvolutionParameter"
    why = f"{said} (if it changes nothing, --ignore-unknown-fields reads on without it)"
    assert net.layers[-1].opaque == why
    assert net.notes == [
        f"layer 'conv1' (Convolution): {why}; left as it is: nothing folds through it, and it has no ONNX form"
    ]
    assert not build(parse_prototxt(OPAQUE, ignore_unknown_fields=True)).layers[-1].opaque
    refusal(OPAQUE, strict_fields=True)


def test_an_unknown_value_makes_its_layer_opaque_too() -> None:
    document = parse_prototxt('layer { name: "p" type: "Pooling" pooling_param {\n pool: LP } }')
    there = "MAX, AVE, STOCHASTIC, AVE_EXC_PAD, AVE_TF, MDS"
    assert document.foreign.opaque == {0: f"unknown value 'LP' of PoolingParameter's pool (there are {there})"}


def test_layers_with_the_same_unknown_field_share_a_note() -> None:
    layer = 'layer {{ name: "p{0}" type: "Pooling" bottom: "data" top: "p{0}" pooling_param {{ wavelet: 1 }} }}'
    (note,) = build(parse_prototxt(CONV + "".join(map(layer.format, range(9))))).notes
    assert note.startswith("layer 'p0' (Pooling) and 8 more: it sets")


def test_a_v1_layer_with_an_unknown_field_is_read_and_cannot_be_written_as_v2(tmp_path: Path) -> None:
    text = """input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
        layers { name: "p" type: POOLING bottom: "data" top: "p" pooling_param { wavelet: 1 } }"""
    net = build(parse_prototxt(text))
    assert net.layers[-1].opaque
    with pytest.raises(UnsupportedError, match=r"layer 'p' .* cannot be written as V2"):
        prototxt_text(net)
    (tmp_path / "old.prototxt").write_text(text)
    with pytest.raises(UnsupportedError, match=r"old\.prototxt: layer 'p' .* cannot be written as V2"):
        save_caffe(load(tmp_path / "old.prototxt"), tmp_path / "new.prototxt")


def test_a_singular_field_given_twice_counts_as_given_last_and_is_noted() -> None:
    document = parse_prototxt(CONV.replace("num_output: 4", "num_output: 4 num_output: 6"))
    assert document.net.layer[0].convolution_param.num_output == 6
    (note,) = document.notes
    assert "line 10" in note
    assert "'num_output' is given twice" in note


@pytest.mark.parametrize(
    ("once", "twice"),
    [
        ("num_output: 4", "num_output: 4 num_output: 6"),
        ("num_output: 4", "num_output: 4 } convolution_param {"),
        ('type: "Convolution"', 'type: "Convolution" type: "Convolution"'),
    ],
)
def test_what_is_given_twice_is_written_once(once: str, twice: str) -> None:
    text = CONV.replace(once, twice) + 'layer { name: "r" type: "ReLU" bottom: "conv1" top: "r" }\n'
    written = prototxt_text(in_stock_words(build(parse_prototxt(text))))
    assert text_format.Parse(written, NetParameter()).layer[0].convolution_param.kernel_size == [3]
    assert written.endswith(text[text.index('layer { name: "r"') :])
    opaque = text.replace("kernel_size: 3", "kernel_size: 3 wavelet: 2")
    assert "wavelet: 2" in prototxt_text(in_stock_words(build(parse_prototxt(opaque))))


@pytest.mark.parametrize(
    ("once", "twice"),
    [
        ("num_output: 4", "num_output: 4 num_output: 6"),
        ("num_output: 4", "num_output: 4 } convolution_param {"),
        ('name: "conv1"', 'name: "conv" name: "conv1"'),
        ('name: "n"', 'name: "m" name: "n"'),
        ('type: "Convolution"', 'type: "ShuffleChannel" shuffle_channel_param { group: 1 group: 3 }'),
    ],
)
def test_what_is_given_twice_is_written_once_in_the_words_of_the_file(once: str, twice: str, tmp_path: Path) -> None:
    words = "param { lr_mult: 1 no_such: 2 }  # trained"
    text = CONV.replace(once, twice) + f'layer {{ name: "r" type: "ReLU" bottom: "conv1" top: "r" {words}\n}}\n'
    save_caffe(build(parse_prototxt(text)), tmp_path / "kept.prototxt", dialect="keep")
    written = (tmp_path / "kept.prototxt").read_text()
    assert text_format.Parse(written, NetParameter(), allow_unknown_field=True).name == "n"
    assert words in written


@pytest.mark.parametrize(
    "text",
    [
        CONV.replace("\n", "\r\n"),
        "\ufeff" + CONV,
        CONV.replace('"', "'"),
        CONV.replace("{", ": {").replace("name", "name "),
        CONV.replace("{", "<").replace("}", ">"),
        CONV.replace("\n}", "\n};"),
        CONV.replace('"data"\n', '"da" # half of it\n "ta"\n'),
        CONV.replace("kernel_size: 3", "kernel_size: [3]"),
        f"base_lr: 0.1 solver_mode: GPU net_param {{ {CONV} }} display: 20",
    ],
    ids=["CRLF", "BOM", "quotes", "colons", "angles", "semicolons", "joined strings", "list", "solver"],
)
def test_every_spelling_of_a_net_is_the_same_net(text: str, tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(text, encoding="utf-8", newline="")
    (tmp_path / "plain.prototxt").write_text(CONV)
    plain, spelled = load(tmp_path / "plain.prototxt"), load(tmp_path / "net.prototxt")
    assert [layer.param for layer in spelled.layers] == [layer.param for layer in plain.layers]
    assert spelled.inputs == {"data": (1, 3, 8, 8)}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "# a net\n"),
        ('name: "n"\n', 'name: "n"\n# a net\n'),
        ("layer {\n", "layer {  # one\n"),
    ],
)
def test_what_a_comment_takes_with_it_behind_a_carriage_return_is_said(before: str, after: str) -> None:
    text = CONV.replace(before, after, 1).replace("\n", "\r")
    error = refusal(text)
    assert "a carriage return alone ends no comment" in str(error)
    assert (error.line, error.column) == (1, text.index("\r", text.index("#")) + 2 + 2 * (before == "layer {\n"))
    (note,) = parse_prototxt(f"{CONV}# no more\rlayer {{ }}\nlayer {{ }}").notes
    assert note.startswith("line 14, column 11: a carriage return alone ends no comment")


@pytest.mark.parametrize("text", [CONV.replace("\n", "\r"), f"# a\r# b\r\r\n{CONV}", f'name: "# \r a"\r{CONV[9:]}'])
def test_a_carriage_return_that_costs_nothing_is_no_matter(text: str) -> None:
    document = parse_prototxt(text)
    assert (len(document.net.layer), document.notes) == (1, [])


def test_a_solver_says_that_its_other_fields_are_not_written(tmp_path: Path) -> None:
    (tmp_path / "solver.prototxt").write_text(f"base_lr: 0.1 net_param {{ {CONV} }}")
    (note,) = [note for note in load(tmp_path / "solver.prototxt").notes if "solver" in note]
    assert note == "the prototxt is a solver: of its fields only the net is read, and written"


STAGED = """
    input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 } state { stage: "own" }
    layer { name: "half" type: "Power" bottom: "data" top: "y" power_param { scale: 0.5 } include { stage: "deploy" } }
    layer { name: "twice" type: "Power" bottom: "data" top: "y" power_param { scale: 2 } exclude { stage: "deploy" } }
    layer { name: "own" type: "ReLU" bottom: "y" top: "z" include { stage: "own" min_level: 3 } }
    layer { name: "low" type: "TanH" bottom: "y" top: "z" include { max_level: 2 } }
"""


@pytest.mark.parametrize(
    ("solver", "taken"),
    [
        ("net_param { NET }", "twice low"),
        ("net_param { NET } test_state { stage: 'deploy' }", "half low"),
        ("test_state < level: 4 stage: 'deploy' > net_param { NET }", "half own"),
        ("test_net_param { NET } net_param { NET } test_state { stage: 'deploy' }", "twice low"),
        ("test_net_param { NET } test_state { stage: 'deploy' }", "half low"),
        ("train_net_param { NET } test_state { stage: 'deploy' }", "twice low"),
        ("net_param { NET } train_state { stage: 'deploy' }", "twice low"),
        ("net_param { NET } test_state { stage: 'deploy' } test_state { level: 4 }", "twice low"),
    ],
)
def test_a_net_is_filtered_with_the_state_that_its_solver_tests_it_with(
    solver: str, taken: str, tmp_path: Path
) -> None:
    (tmp_path / "solver.prototxt").write_text(f"base_lr: 0.1 {solver.replace('NET', STAGED)}")
    net = load(tmp_path / "solver.prototxt")
    assert [layer.name for layer in net.layers if layer.type != "Input"] == taken.split()
    assert any("2 test_states" in note for note in net.notes) == (solver.count("test_state") == 2)


@pytest.mark.parametrize("encoding", ["gbk", "latin-1", "utf-8", "utf-16", "utf-16-le", "utf-16-be"])
def test_comments_may_be_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    comment = "été" if encoding == "latin-1" else "卷积层"
    (tmp_path / "net.prototxt").write_bytes(
        CONV.replace("layer {", f"# {comment}\nlayer {{ # {comment}").encode(encoding)
    )
    assert [layer.name for layer in load(tmp_path / "net.prototxt").layers] == ["input", "conv1"]


def test_the_bytes_of_a_foreign_comment_survive() -> None:
    content = CONV.replace("layer {", "layer { # 卷积").encode("gbk")
    (text,) = parse_prototxt(decode_prototxt(content)).layout.layers
    assert "卷积".encode("gbk") in text.encode("utf-8", "surrogateescape")


def test_a_name_that_is_no_utf8_is_read_as_latin1_as_in_caffemodels() -> None:
    document = parse_prototxt(decode_prototxt(CONV.replace('"conv1"', '"cönv"').encode("latin-1")))
    assert document.net.layer[0].name == "cönv"


def test_each_layer_keeps_its_comments_and_blank_lines() -> None:
    text = CONV + '\n# the second\nlayer { name: "a" } # its end\n\n\nlayer { name: "b" }\n# the end\n'
    layout = parse_prototxt(text).layout
    assert layout.header == 'name: "n"\n'
    assert layout.inputs == 'input: "data"\ninput_shape { dim: 1 dim: 3 dim: 8 dim: 8 }'
    assert layout.layers[1:] == (
        '\n# the second\nlayer { name: "a" } # its end',
        '\n\nlayer { name: "b" }\n# the end',
    )
    assert layout.lines == (4, 16, 19)


def test_text_is_put_together_again_as_it_was() -> None:
    text = "# head\n" + CONV + '# a\nlayer { name: "a" } # its end\n\nlayer { name: "b" }\n# the end\n'
    layout = parse_prototxt(text).layout
    assert present(layout.header) + "\n".join([layout.inputs, *layout.layers, ""]) == text


def test_brackets_and_hashes_in_strings_are_no_structure() -> None:
    text = 'layer { name: "a } # {" type: \'b " {\' } # } {\nlayer { name: "c\\"}" }'
    document = parse_prototxt(text)
    assert [layer.name for layer in document.net.layer] == ["a } # {", 'c"}']
    assert document.layout.layers[1] == 'layer { name: "c\\"}" }'


@pytest.mark.parametrize(
    ("text", "words", "place"),
    [
        ("", "is empty", (None, None)),
        ("# only a comment", "is empty", (None, None)),
        ('name: "n"', "has no layers", (None, None)),
        ('# labels\nclass { name: "cat" label: 1 }\nclass { name: "dog" label: 2 }', "no network has 'class'", (2, 1)),
        ('base_lr: 0.1\nlr_policy: "step"', "a solver that names no net: give the net that it trains", (1, 1)),
        ("layer {", "the '{' of 'layer' is never closed", (1, 7)),
        ("// the net\n", "found '/' (a comment begins with '#')", (1, 1)),
        ('layer {\n  name: "a\n}', "a string is not closed on its line", (2, 9)),
        ('layer {\n  name: "a" >\n}', "found '>' where '}' should close line 1, column 7", (2, 13)),
        ('layer { name: "a" }\n}', "expected the name of a field and found '}'", (2, 1)),
        ('layer {\n  name "a" }', "expected ':' or '{' after 'name'", (2, 8)),
        ("layer { name: }", "expected a value after 'name'", (1, 15)),
        ('layer { name: "a"\n  type: Convolution }', "", (2, 9)),
        ('layer { name: "a"\n  phase: "x" }', "phase is", (2, 3)),
        ('layer { type: "Pooling" pooling_param {\n pad: -1 } }', "", (2, 7)),
        ('net: "a.prototxt" test_state { level: 1 }', 'give "a.prototxt" instead, and by --stage what', (1, 1)),
        (f"net_param {{ {CONV} }}\ntest_state {{ stages: 1 }}", "the solver's test_state is no state", (15, 1)),
        ('net: "train_val.prototxt"\nbase_lr: 0.1', 'its net is in another file: give "train_val.prototxt"', (1, 1)),
        ('layer { name: "a" }\nlayers { name: "b" }', "`layers` (V1) in a file with 1 `layer` (V2", None),
        ("\0\0\1", "is binary", None),
        ("\n<!DOCTYPE html><html>", "is a web page and not a prototxt", (None, None)),
        ("<!DOCTYPE html><html>".encode("utf-16"), "is a web page and not a prototxt", (None, None)),
        ('{"payload": {"blob": {"rawBlob": "layer { }"}}}', "is JSON and not a prototxt", (None, None)),
        ("version https://git-lfs.github.com/spec/v1", "is a git-lfs pointer", (None, None)),
        ("404: Not Found", "the download failed", (None, None)),
        (b"layer { phase: \xae }", "a byte that is no text stands outside comments and strings", (1, 16)),
        ("layer { pooling_param { pad: ${PAD} } }", "'${PAD}' is a placeholder of a template: give the file", (1, 30)),
        ("layer { pooling_param { pad: $pad } }", "'$pad' is a placeholder of a template", (1, 30)),
        ("layer { pooling_param { pad: %(pad)d } }", "'%(pad)d' is a placeholder of a template", (1, 30)),
        ("layer { pooling_param { pad: @PAD@ } }", "'@PAD@' is a placeholder of a template", (1, 30)),
        ("layer { pooling_param { pad: {{ pad }} } }", "'{{ pad }}' is a placeholder of a template", (1, 30)),
        ("layer { }\n${HEAD}", "'${HEAD}' is a placeholder of a template", (2, 1)),
    ],
)
def test_what_does_not_parse_is_refused_where_it_is(
    text: bytes | str, words: str, place: tuple[None, ...] | tuple[int, ...] | None, tmp_path: Path
) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ParseError) as caught:
        load(path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    if place is not None:
        assert (caught.value.line, caught.value.column) == place


@pytest.mark.parametrize(
    "text",
    [
        "layer {" * 10_000,
        "layer {" * 10_000 + "}" * 10_000,
        'layer { type: "Foreign" a ' + "{ a " * 10_000 + "}" * 10_000,
        "layer: [" * 10_000,
        'layer: "' + "\\" * 100_000,
        "a" * 1_000_000,
        "#" * 1_000_000,
        " " * 1_000_000 + "{",
        "layer: " + '"a" ' * 100_000,
        "a: -" * 100_000,
    ],
)
def test_hostile_text_is_refused_in_few_words(text: str) -> None:
    error = refusal(text)
    assert len(str(error)) < 500


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ParseError, match="cannot be read: No such file or directory"):
        load(tmp_path / "net.prototxt")
    with pytest.raises(ParseError, match="is a folder; give a file"):
        load(tmp_path)
