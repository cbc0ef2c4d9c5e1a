"""A caffemodel alone: the net that it carries, in whatever numbers its dialect has."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import Any

import pytest
from cases import TOLERANCE, assert_answers, by_onnxruntime, golden

from bnfold.caffe.caffe_pb2 import BlobProto, LayerParameter, NetParameter
from bnfold.caffe.patch import encode
from bnfold.caffe.read import load
from bnfold.errors import BnfoldError, ModelError, ParseError, UsageError
from bnfold.io.wire import FIXED32, LENGTH, VARINT, encode_field, encode_tag, encode_varint
from bnfold.net import Layer, Net

TESTS = Path(__file__).parent.parent
FOLDERS = sorted(path.parent for path in (TESTS / "golden").glob("*/net.prototxt"))
TRAINING = ("include", "exclude", "phase", "loss_weight", "propagate_down")
# What a net with data layers took its input's shape from, and what PSPNet's and ducha's Caffe do not store.
SHAPELESS = ("psp_", "ducha_")
# What a number means is one thing in one dialect and another in another, and nothing else in the file tells which.
REFUSED = {
    "op_pool_ave_floor": ("bvlc", r"Pooling.*`round_mode: FLOOR` in bvlc, .* and `pad_type: 1` in synopsys"),
    "op_pool_max_floor": ("bvlc", r"Pooling.*`round_mode: FLOOR` in bvlc, .* and `pad_type: 1` in synopsys"),
    "snps_conv_pad_type_same_bn": ("synopsys", r"Convolution.*`relu: true` in intel and `pad_type: 1` in synopsys"),
    "snps_pool_ave_pad_same_bn": (
        "synopsys",
        r"Pooling.*`round_mode: FLOOR` in bvlc, .* and `pad_type: 1` in synopsys",
    ),
}
# The other meaning computes the same: an `engine`, and a bias that three blobs do not have.
SAME = ("snps_bn_eps_before_sqrt_said", "snps_bn_update_global_stats")
# Its file has no connections.
UNCONNECTED = ("genet_cudnn_batch_norm", "seed_keras_batchnorm")


def described(layer: Layer) -> tuple[object, ...]:
    """All about a layer that means something at inference. The name of an input's layer does not."""
    param = LayerParameter()
    param.CopyFrom(layer.param)
    # FlowNet's layers say `reshape_every_iter` of themselves.
    for field in (*TRAINING, "reshape_every_iter"):
        param.ClearField(field)
    if layer.type == "Input":
        param.ClearField("name")
    if layer.type == "BN":
        # PSPNet's Caffe freezes these by rates that it adds itself.
        param.ClearField("param")
    return str(param), layer.bottoms, layer.tops


@pytest.mark.parametrize(
    "folder",
    [path for path in FOLDERS if path.name not in (*REFUSED, *SAME, *UNCONNECTED)],
    ids=lambda folder: folder.name,
)
def test_a_golden_is_the_same_net_from_its_caffemodel_alone(folder: Path) -> None:
    whole = load(folder / "net.prototxt", folder / "net.caffemodel")
    shapes = whole.inputs if folder.name.startswith(SHAPELESS) else None
    alone = load(folder / "net.caffemodel", input_shapes=shapes)
    assert list(map(described, alone.layers)) == list(map(described, whole.layers))
    assert [layer.blobs.shapes for layer in alone.layers] == [layer.blobs.shapes for layer in whole.layers]
    assert alone.inputs == whole.inputs


@pytest.mark.parametrize("name", SAME)
def test_a_number_of_two_meanings_that_compute_the_same_may_have_either(name: str) -> None:
    folder = TESTS / "golden" / name
    whole, alone = load(folder / "net.prototxt", folder / "net.caffemodel"), load(folder / "net.caffemodel")
    assert list(map(described, alone.layers)) != list(map(described, whole.layers))
    assert_answers(by_onnxruntime(alone, golden(name).inputs), golden(name).answers, TOLERANCE)


@pytest.mark.parametrize("name", REFUSED)
def test_a_number_of_two_meanings_that_nothing_decides_is_refused_and_the_user_may_decide(name: str) -> None:
    folder = TESTS / "golden" / name
    dialect, words = REFUSED[name]
    with pytest.raises(ParseError, match=rf"{words}; nothing else in the file tells .* say with --caffemodel-dialect"):
        load(folder / "net.caffemodel")
    case = golden(name)
    right, wrong = (load(case.caffemodel, caffemodel_dialect=one) for one in (dialect, "intel"))
    assert_answers(by_onnxruntime(right, case.inputs), case.answers, TOLERANCE)
    with pytest.raises(AssertionError):
        assert_answers(by_onnxruntime(wrong, case.inputs), case.answers, TOLERANCE)


@pytest.mark.parametrize("name", UNCONNECTED)
def test_weights_that_nothing_connects_are_refused(name: str) -> None:
    with pytest.raises(ParseError, match="no network that connects them; give the prototxt too"):
        load(TESTS / "golden" / name / "net.caffemodel")


def message(**fields: Any) -> bytes:
    """A LayerParameter without parameters."""
    return LayerParameter(**fields).SerializeToString()


def read(folder: Path, *layers: bytes, dialect: str | None = None) -> Net:
    path = folder / "net.caffemodel"
    data = LayerParameter(name="data", type="Input", top=["data"])
    data.input_param.shape.add(dim=[1, 4, 6, 6])
    path.write_bytes(b"".join(encode_field(100, layer) for layer in (data.SerializeToString(), *layers)))
    return load(path, caffemodel_dialect=dialect)


def varint_field(number: int, value: int) -> bytes:
    return encode_tag(number, VARINT) + encode_varint(value)


def test_a_number_of_two_meanings_means_what_the_type_needs(tmp_path: Path) -> None:
    # 147 is upsample_param in SegNet, and reorg_param, swish_param and more elsewhere.
    upsample = message(name="u", type="Upsample", bottom=["data"], top=["u"]) + encode_field(147, varint_field(1, 2))
    layer = read(tmp_path, upsample).layers[1]
    assert layer.param.upsample_param.scale == 2
    reorg = message(name="r", type="Reorg", bottom=["data"], top=["r"]) + encode_field(147, varint_field(1, 2))
    assert read(tmp_path, reorg).layers[1].param.reorg_param.stride == 2


def test_a_number_that_means_nothing_for_the_type_is_left_out(tmp_path: Path) -> None:
    relu = message(name="r", type="ReLU", bottom=["data"], top=["r"]) + encode_field(147, b"")
    assert read(tmp_path, relu).layers[1].param == LayerParameter(name="r", type="ReLU", bottom=["data"], top=["r"])


def test_one_layer_tells_the_dialect_of_the_next(tmp_path: Path) -> None:
    # Field 8 of BatchNormParameter is bias_filler in Intel's Caffe; RegionLoss has 209 there alone.
    assert LayerParameter(type="BN").DESCRIPTOR.fields_by_name["bn_param"].number == 45
    segnet = encode_field(45, encode_field(1, b""))
    learned = [BlobProto(data=[1, 2, 3, 4], num=1, channels=4, height=1, width=1)] * 2
    bn = message(name="b", type="BN", bottom=["data"], top=["b"], blobs=learned)
    bn += segnet + encode_field(45, varint_field(3, 1))
    layer = read(tmp_path, bn).layers[1]
    assert layer.param.bn_param.HasField("scale_filler")
    assert layer.param.bn_param.bn_mode == 1


def test_split_layers_that_caffe_put_in_are_taken_out(tmp_path: Path) -> None:
    split = "data_input_0_split"
    net = read(
        tmp_path,
        message(name=split, type="Split", bottom=["data"], top=[f"{split}_0", f"{split}_1"]),
        message(name="a", type="ReLU", bottom=[f"{split}_0"], top=["a"]),
        message(name="b", type="ReLU", bottom=[f"{split}_1"], top=["b"]),
        message(name="mine", type="Split", bottom=["a"], top=["mine_0", "mine_1"]),
    )
    assert [(layer.name, layer.bottoms) for layer in net.layers[1:]] == [
        ("a", ["data"]),
        ("b", ["data"]),
        ("mine", ["a"]),
    ]
    assert net.outputs == ["b", "mine_0", "mine_1"]


def test_the_phase_of_training_goes(tmp_path: Path) -> None:
    layer = read(tmp_path, message(name="b", type="ReLU", bottom=["data"], top=["b"], phase="TRAIN")).layers[1]
    assert not layer.param.HasField("phase")


POOL: dict[str, Any] = {"name": "p", "type": "Pooling", "bottom": ["data"], "top": ["p"]}


def test_a_field_that_would_change_nothing_yields_to_one_that_does(tmp_path: Path) -> None:
    # `round_mode: CEIL` is how every Caffe rounds, and a maximum has no padding to count, so this is `ceil_mode`.
    kernel = varint_field(2, 2) + varint_field(13, 0)
    net = read(tmp_path, message(**POOL) + encode_field(121, kernel))
    assert net.layers[1].param.pooling_param.HasField("ceil_mode")
    (note,) = net.notes
    assert "means `ceil_mode: false` in soeaver, pull3057, brocolli, nothing in bvlc" in note
    assert "--caffemodel-dialect sets another" in note


def test_an_average_that_rounds_down_or_leaves_padding_out_is_refused(tmp_path: Path) -> None:
    kernel = varint_field(1, 1) + varint_field(2, 2) + varint_field(13, 0)
    with pytest.raises(
        ParseError, match=r"`avg_include_pad: false` in intel and `ceil_mode: false` in soeaver, pull3057, brocolli"
    ):
        read(tmp_path, message(**POOL) + encode_field(121, kernel))


def test_a_bound_of_brocolli_is_no_engine(tmp_path: Path) -> None:
    """Its ReLU6 has the bound where a ReLU of others has its engine, and MobileNet-YOLO's ReLU6 has that, too."""
    relu: dict[str, Any] = {"name": "r", "type": "ReLU6", "bottom": ["data"], "top": ["r"]}
    bound = encode_field(503, encode_tag(2, FIXED32) + struct.pack("<f", 4.5))
    hard: dict[str, Any] = {"name": "h", "type": "HardSigmoid", "bottom": ["r"], "top": ["h"]}
    slope = encode_field(501, encode_tag(1, FIXED32) + struct.pack("<f", 0.25))
    first, second = read(tmp_path, message(**relu) + bound, message(**hard) + slope).layers[-2:]
    assert first.param.relu6_param.threshold == 4.5
    assert not first.param.relu6_param.HasField("engine")
    assert second.param.hardsigmoid_param.alpha == 0.25
    other = read(tmp_path, message(**relu) + encode_field(211, varint_field(2, 1))).layers[-1]
    assert other.param.relu6_param.engine == 1
    assert other.param.relu6_param.threshold == 6


def test_the_same_holds_for_a_file_of_the_first_version(tmp_path: Path) -> None:
    net = NetParameter(input=["data"], input_dim=[1, 2, 7, 7])
    layer = net.layers.add(name="p", type="POOLING", bottom=["data"], top=["p"])
    layer.pooling_param.kernel_size = 2
    layer.pooling_param.stride = 2
    path = tmp_path / "net.caffemodel"
    path.write_bytes(net.SerializeToString())
    assert not load(path).notes
    layer.pooling_param.round_mode = layer.pooling_param.FLOOR
    path.write_bytes(net.SerializeToString())
    with pytest.raises(
        ParseError, match=r"layer 'p' \(POOLING\).*`round_mode: FLOOR` in bvlc.*`pad_type: 1` in synopsys"
    ):
        load(path)
    assert load(path, caffemodel_dialect="bvlc").layers[1].param.pooling_param.HasField("round_mode")


def test_a_number_that_is_no_truth_value_belongs_to_no_such_field(tmp_path: Path) -> None:
    # 7 is `normalize` in OpenVINO's InnerProduct, `weight_fixed` in Synopsys', and in Intel's the engine, 3 for MKLDNN.
    ip = LayerParameter(name="f", type="InnerProduct", bottom=["data"], top=["f"])
    ip.blobs.add(data=[0.5] * 2 * 4 * 36).shape.dim.extend([2, 4 * 36])
    said = varint_field(1, 2) + varint_field(2, 0) + varint_field(7, 3)
    net = read(tmp_path, ip.SerializeToString() + encode_field(117, said))
    assert net.layers[1].param.inner_product_param.HasField("engine")
    assert not net.notes


@pytest.mark.parametrize(
    ("number", "content", "words"),
    [
        (121, varint_field(2, 2) + varint_field(777, 1), "unknown field, number 777 of its pooling_param"),
        (7777, varint_field(1, 1), "unknown field, number 7777, and none that its type has"),
    ],
)
def test_a_number_that_no_dialect_has_makes_its_layer_opaque(
    tmp_path: Path, number: int, content: bytes, words: str
) -> None:
    split = "data_data_0_split"
    net = read(
        tmp_path,
        message(name=split, type="Split", bottom=["data"], top=[f"{split}_0", f"{split}_1"]),
        message(name="r", type="ReLU", bottom=[f"{split}_0"], top=["r"]),
        message(**POOL | {"bottom": [f"{split}_1"]}) + encode_field(number, content),
    )
    assert [layer.opaque for layer in net.layers] == ["", "", f"it sets an {words}"]
    assert any(words in note for note in net.notes)


def test_a_field_of_another_dialect_than_the_rest_is_not_lost(tmp_path: Path) -> None:
    # A pad of Synopsys', and NVCaffe's way to round: no fork is known to have both.
    kernel = varint_field(1, 1) + varint_field(2, 3) + varint_field(18, 1) + varint_field(40, 1)
    pool = read(tmp_path, message(**POOL) + encode_field(121, kernel)).layers[1].param.pooling_param
    assert (pool.pad_t, pool.torch_pooling) == (1, True)


def test_one_layer_of_a_file_tells_whose_words_the_others_are(tmp_path: Path) -> None:
    # Interp's parameters are number 163 in Synopsys' Caffe alone, so the 13 of a Pooling is its pad_type.
    interp = message(name="i", type="Interp", bottom=["p"], top=["i"]) + encode_field(163, varint_field(3, 2))
    kernel = varint_field(2, 2) + varint_field(13, 1)
    net = read(tmp_path, message(**POOL) + encode_field(121, kernel), interp)
    assert net.layers[1].param.pooling_param.pad_type == 1
    assert not net.notes


def test_shapes_tell_whose_words_a_layer_has(tmp_path: Path) -> None:
    # Four pads of Synopsys are no kernel of Intel's: no reading but one gives 6x6 pixels to 36 weights a channel.
    kernel = varint_field(1, 1) + varint_field(2, 3) + varint_field(3, 1) + varint_field(13, 1)
    ip = LayerParameter(name="f", type="InnerProduct", bottom=["p"], top=["f"])
    ip.inner_product_param.num_output = 2
    ip.inner_product_param.bias_term = False
    ip.blobs.add(data=[0.5] * 2 * 4 * 36).shape.dim.extend([2, 4 * 36])
    net = read(tmp_path, message(**POOL) + encode_field(121, kernel), ip.SerializeToString())
    assert net.layers[1].param.pooling_param.pad_type == 1
    assert "since shapes and weights fit no other" in net.notes[0]


def test_a_dialect_that_lacks_a_number_is_refused(tmp_path: Path) -> None:
    kernel = varint_field(2, 2) + varint_field(13, 1)
    with pytest.raises(ParseError, match="number 13 of PoolingParameter, or what it holds, means nothing in segnet"):
        read(tmp_path, message(**POOL) + encode_field(121, kernel), dialect="segnet")
    with pytest.raises(UsageError, match=r"--caffemodel-dialect synopsis: there is no such dialect.*synopsys"):
        read(tmp_path, message(**POOL), dialect="synopsis")


def test_a_dialect_beside_a_prototxt_is_refused() -> None:
    case = golden("seed_resnet_bn_scale")
    with pytest.raises(UsageError, match=r"net\.prototxt: --caffemodel-dialect would be ignored"):
        load(case.prototxt, case.caffemodel, caffemodel_dialect="bvlc")


def test_v1_and_v0_files_carry_nets_too(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    net = NetParameter(input=["data"], input_dim=[1, 2, 3, 4])
    net.layers.add(name="r", type="RELU", bottom=["data"], top=["r"])
    path.write_bytes(net.SerializeToString())
    assert [layer.type for layer in load(path).layers] == ["Input", "ReLU"]
    net.layers[0].Clear()
    net.layers[0].layer.name, net.layers[0].layer.type = "t", "tanh"
    net.layers[0].bottom.append("data")
    net.layers[0].top.append("t")
    path.write_bytes(net.SerializeToString())
    assert [layer.type for layer in load(path).layers] == ["Input", "TanH"]


def test_weights_without_a_net_are_refused(tmp_path: Path) -> None:
    net = NetParameter()
    net.layer.add(name="conv", type="Convolution")
    (tmp_path / "net.caffemodel").write_bytes(net.SerializeToString())
    with pytest.raises(ParseError, match="has weights and no network that connects them; give the prototxt too"):
        load(tmp_path / "net.caffemodel")


@pytest.mark.parametrize("named", [[], ["data"]])
def test_what_no_layer_makes_comes_from_outside_and_labels_go(named: list[str], tmp_path: Path) -> None:
    net = NetParameter(input=named)
    net.layer.add(name="r", type="ReLU", bottom=["data"], top=["r"])
    net.layer.add(name="a", type="Accuracy", bottom=["r", "label"], top=["a"])
    (tmp_path / "net.caffemodel").write_bytes(net.SerializeToString())
    with pytest.raises(
        ModelError,
        match=r"nothing says .* 'data': give it.*; or give its prototxt too, .* NET\.prototxt:net\.caffemodel$",
    ):
        load(tmp_path / "net.caffemodel")
    (tmp_path / "net.prototxt").touch()
    with pytest.raises(ModelError, match=r"; or give the prototxt beside it too, .*net\.prototxt$"):
        load(tmp_path / "net.caffemodel")
    loaded = load(tmp_path / "net.caffemodel", input_shapes={"data": (2, 3)})
    assert (loaded.inputs, loaded.outputs) == ({"data": (2, 3)}, ["r"])
    lost = "'label'" if named else "'data', 'label'"
    assert f"no layer of the caffemodel makes {lost}: read as what comes from outside" in loaded.notes


def test_damage_inside_parameters_is_refused_or_harmless(tmp_path: Path) -> None:
    """Every single changed byte of a small file gives a net or one sentence."""
    pool = message(name="p", type="Pooling", bottom=["data"], top=["p"])
    rest = encode_field(121, varint_field(1, 1) + varint_field(2, 3)) + encode_field(107, encode_field(1, b"source"))
    intact = read(tmp_path, pool + rest + encode_tag(5, FIXED32) + b"\0\0\x80\x3f")
    assert len(intact.layers) == 2
    path = tmp_path / "net.caffemodel"
    content = path.read_bytes()
    for index in range(len(content)):
        for value in (0, 0x7F, 0xFF, content[index] ^ 1 << LENGTH):
            path.write_bytes(content[:index] + bytes([value]) + content[index + 1 :])
            with contextlib.suppress(BnfoldError):
                load(path, guess_shapes=True)


def test_the_sizes_of_clustered_priors_have_openvinos_numbers_in_files(tmp_path: Path) -> None:
    given = LayerParameter(name="p", type="PriorBoxClustered", bottom=["data", "data"], top=["p"])
    given.prior_box_param.width.extend([3.5, 7])
    given.prior_box_param.height.extend([2, 4])
    encoded = encode(given)
    for number, size in [(14, 3.5), (14, 7.0), (15, 2.0), (15, 4.0)]:
        assert encode_tag(number, FIXED32) + struct.pack("<f", size) in encoded
    assert read(tmp_path, encoded).layers[1].param == given
