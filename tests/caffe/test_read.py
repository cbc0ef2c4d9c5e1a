"""Loading: weights matched by name and held to their shapes, and the nets of the goldens and the zoo."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cases import by_onnxruntime

from bnfold.caffe.caffe_pb2 import NetParameter
from bnfold.caffe.layers import infer_shapes
from bnfold.caffe.read import load
from bnfold.caffe.write import save_caffe
from bnfold.errors import BnfoldError, ModelError, UnsupportedError, WeightsError
from bnfold.net import Net
from bnfold.onnx import to_onnx

TESTS = Path(__file__).parent.parent
ZOO = TESTS.parent.parent / "shared" / "zoo"
FOLDERS = sorted(path.parent for path in (TESTS / "golden").glob("*/net.prototxt"))
TRAINED = sorted(path.parent for path in ZOO.glob("*/*/net.prototxt"))
PROTOTXTS = sorted((ZOO / "prototxt").glob("*.prototxt"))

NET = """
input: "data" input_shape { dim: [1, 3, 8, 8] }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 5 } }
"""
Shapes = dict[str, list[tuple[int, ...]]]
SHAPES: Shapes = {"conv": [(4, 3, 3, 3), (4,)], "bn": [(4,), (4,), (1,)], "fc": [(5, 144), (5,)]}


def write_weights(path: Path, shapes: Shapes, legacy: bool = False, first: float = 0) -> Path:
    """A caffemodel whose values count up from `first`."""
    net = NetParameter()
    for name, blobs in shapes.items():
        layer = net.layer.add(name=name, type="Any")
        for shape in blobs:
            blob = layer.blobs.add(data=first + np.arange(np.prod(shape)))
            if legacy:
                blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - len(shape)) + shape
            else:
                blob.shape.dim.extend(shape)
    path.write_bytes(net.SerializeToString())
    return path


def read(folder: Path, shapes: Shapes, text: str = NET, **options: bool) -> Net:
    (folder / "net.prototxt").write_text(text)
    return load(folder / "net.prototxt", write_weights(folder / "net.caffemodel", shapes, **options))


def refusal(folder: Path, shapes: Shapes, text: str = NET) -> str:
    with pytest.raises(WeightsError) as caught:
        read(folder, shapes, text)
    return str(caught.value)


def test_weights_are_matched_by_name_and_only_viewed(tmp_path: Path) -> None:
    net = read(tmp_path, dict(reversed(SHAPES.items())))
    assert {layer.name: list(layer.blobs.shapes) for layer in net.layers if layer.blobs} == SHAPES
    weight = net.layers[1].blobs[0]
    assert not weight.flags.writeable
    assert not weight.flags.owndata
    assert net.layers[1].source.blobs is net.layers[1].blobs
    assert net.layers[1].source.record.name == "conv"


def test_legacy_shapes_become_true_ones(tmp_path: Path) -> None:
    net = read(tmp_path, SHAPES, legacy=True)
    assert {layer.name: list(layer.blobs.shapes) for layer in net.layers if layer.blobs} == SHAPES


def test_legacy_shapes_become_plain_ones_behind_an_unknown_layer(tmp_path: Path) -> None:
    text = NET.replace('top: "conv" convolution', 'top: "c" convolution').replace(
        'layer { name: "bn"', 'layer { name: "f" type: "Foreign" bottom: "c" top: "conv" } layer { name: "bn"'
    )
    net = read(tmp_path, SHAPES, text, legacy=True)
    assert {layer.name: list(layer.blobs.shapes) for layer in net.layers if layer.blobs} == SHAPES


def test_what_arithmetic_learned_keeps_the_shape_by_which_it_broadcasts(tmp_path: Path) -> None:
    text = 'input: "data" input_shape { dim: [2, 3, 3, 3] } layer { name: "mul" type: "Mul" bottom: "data" top: "mul" }'
    net = read(tmp_path, {"mul": [(1, 3, 1, 1)]}, text)
    (values,) = by_onnxruntime(net, {"data": np.ones((2, 3, 3, 3), np.float32)}).values()
    assert values[0, :, 0, 1].tolist() == [0, 1, 2]
    assert values[0, 1, 0].tolist() == [1, 1, 1]


def test_all_faults_of_the_weights_are_named_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, {"conv": [(3, 4, 3, 3), (4,)], "fc": [(5, 144)]})
    assert message == (
        f"{tmp_path / 'net.caffemodel'}: the weights of 3 layers do not fit the network\n"
        "  layer 'conv' (Convolution): has 3x4x3x3 and 4, and needs 4x3x3x3 and 4\n"
        "  layer 'bn' (BatchNorm): has no weights there, and needs 4 and 4 and 1\n"
        "  layer 'fc' (InnerProduct): has 5x144, and needs 5x144 and 5; with `bias_term: false` they fit"
    )


def test_equal_counts_of_another_order_are_no_fit(tmp_path: Path) -> None:
    message = refusal(tmp_path, SHAPES | {"fc": [(144, 5), (5,)]})
    assert "has 144x5 and 5, and needs 5x144 and 5; with `transpose: true` they fit" in message


@pytest.mark.parametrize(
    ("layer_type", "param", "stored", "advice"),
    [
        ("Convolution", "convolution_param { num_output: 6 kernel_size: 1 bias_term: false }", [(6, 4), (6,)], "true"),
        ("Convolution", "convolution_param { num_output: 1 kernel_size: 1 }", [(1, 4, 1, 1)], "false"),
        ("Deconvolution", "convolution_param { num_output: 6 kernel_size: 2 }", [(4, 6, 2, 2)], "false"),
        ("Scale", "", [(4,), (1, 4, 1, 1)], "true"),
        ("Scale", "scale_param { bias_term: true }", [(4,)], "false"),
        ("Scale", "", [(4,), (5,)], ""),
        ("Convolution", "convolution_param { num_output: 6 kernel_size: 1 bias_term: false }", [(6, 4), (4,)], ""),
        ("Convolution", "convolution_param { num_output: 6 kernel_size: 1 }", [(5, 4, 1, 1)], ""),
        ("PReLU", "", [(4,), (4,)], ""),
    ],
)
def test_weights_that_a_bias_alone_tells_from_what_is_promised_are_pointed_out(
    layer_type: str, param: str, stored: list[tuple[int, ...]], advice: str, tmp_path: Path
) -> None:
    text = f'''input: "data" input_shape {{ dim: 1 dim: 4 dim: 3 dim: 3 }}
        layer {{ name: "l" type: "{layer_type}" bottom: "data" top: "l" {param} }}'''
    with pytest.raises(WeightsError) as caught:
        read(tmp_path, {"l": stored}, text)
    assert str(caught.value).endswith(f"; with `bias_term: {advice}` they fit") == bool(advice)
    assert ("they fit" in str(caught.value)) == bool(advice)


def test_the_record_of_a_layer_that_was_renamed_is_pointed_out(tmp_path: Path) -> None:
    others = {name: shapes for name, shapes in SHAPES.items() if name != "bn"}
    renamed = others | {"conv/bn": [(1, 4, 1, 1), (1, 4, 1, 1), (1, 1, 1, 1)]}
    said = "and needs 4 and 4 and 1; 'conv/bn' there has such, and no layer is called so"
    assert refusal(tmp_path, renamed).endswith(said)
    assert "called so" not in refusal(tmp_path, renamed | {"bn2": SHAPES["bn"]})
    assert "called so" not in refusal(tmp_path, others | {"bn2": [(5,), (5,), (1,)]})


def test_the_weights_of_another_network_are_said_to_be_that(tmp_path: Path) -> None:
    assert "is it the caffemodel of another network?" in refusal(tmp_path, {"a": [(1,)]})


def test_weights_where_nothing_is_learned_are_no_fit(tmp_path: Path) -> None:
    text = NET + 'layer { name: "relu" type: "ReLU" bottom: "fc" top: "relu" }'
    assert "layer 'relu' (ReLU): has 7, and learns nothing" in refusal(tmp_path, SHAPES | {"relu": [(7,)]}, text)


def test_a_damaged_blob_matters_only_where_it_is_used(tmp_path: Path) -> None:
    write_weights(tmp_path / "net.caffemodel", SHAPES | {"other": [(3,)]})
    net = NetParameter.FromString((tmp_path / "net.caffemodel").read_bytes())
    net.layer[3].blobs[0].data.append(1)
    (tmp_path / "net.caffemodel").write_bytes(net.SerializeToString())
    (tmp_path / "net.prototxt").write_text(NET)
    load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    net.layer[0].blobs[0].data.append(1)
    (tmp_path / "net.caffemodel").write_bytes(net.SerializeToString())
    with pytest.raises(WeightsError, match=r"layer 'conv' \(Convolution\): blob 0"):
        load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")


def test_an_unknown_layer_keeps_its_blobs_as_they_are(tmp_path: Path) -> None:
    text = NET + 'layer { name: "f" type: "Foreign" bottom: "fc" top: "f" }'
    assert read(tmp_path, SHAPES | {"f": [(1, 2, 1)]}, text).layers[-1].blobs.shapes == ((1, 2, 1),)


def test_a_layer_without_a_record_takes_what_it_shares(tmp_path: Path) -> None:
    conv = NET.splitlines()[2].replace("convolution_param", 'param { name: "w" } param { name: "b" } convolution_param')
    text = "\n".join([*NET.splitlines()[:2], conv, conv.replace('"conv"', '"twin"')])
    net = read(tmp_path, {"conv": SHAPES["conv"]}, text)
    first, second = net.layers[1:]
    assert [a is b for a, b in zip(first.blobs.stored, second.blobs.stored, strict=True)] == [True, True]


def shared_scales(folder: Path, stored: Shapes) -> list[list[float]]:
    """What three Scales of one name learned, with weights for some of them and fillers for the others."""
    scale = 'layer { name: "%s" type: "Scale" bottom: "data" top: "%s" param { name: "s" } scale_param { %s } }'
    fillers = {"a": "filler { value: 2 }", "b": "filler { value: 3 }", "c": "filler { value: 4 }"}
    text = "\n".join([NET.splitlines()[1], *(scale % (name, name, filler) for name, filler in fillers.items())])
    return [layer.blobs[0].tolist() for layer in read(folder, stored | {"other": [(1,)]}, text).layers[1:]]


def test_what_is_stored_last_holds_for_all_that_share_it(tmp_path: Path) -> None:
    assert shared_scales(tmp_path, {"a": [(3,)]}) == [[0, 1, 2]] * 3
    (tmp_path / "net.caffemodel").unlink()
    write_weights(tmp_path / "a.caffemodel", {"a": [(3,)]})
    write_weights(tmp_path / "b.caffemodel", {"b": [(3,)]}, first=5)
    net = load(tmp_path / "net.prototxt", [tmp_path / "a.caffemodel", tmp_path / "b.caffemodel"])
    assert [layer.blobs[0].tolist() for layer in net.layers[1:]] == [[5, 6, 7]] * 3


def test_where_nothing_is_stored_the_first_filler_holds(tmp_path: Path) -> None:
    assert shared_scales(tmp_path, {}) == [[2, 2, 2]] * 3


def test_a_second_layer_of_a_name_gets_no_weights_as_in_caffe(tmp_path: Path) -> None:
    text = NET + 'layer { name: "fc" type: "InnerProduct" bottom: "fc" top: "g" inner_product_param { num_output: 5 } }'
    message = refusal(tmp_path, SHAPES, text)
    assert "no weights there (two layers are called 'fc', and Caffe gives what is stored to the first)" in message


@pytest.mark.parametrize("joined", [True, False])
def test_later_caffemodels_replace_what_earlier_ones_have(joined: bool, tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    first = write_weights(tmp_path / "a.caffemodel", {"conv": SHAPES["conv"], "bn": SHAPES["bn"]})
    second = write_weights(tmp_path / "b.caffemodel", {"bn": SHAPES["bn"], "fc": SHAPES["fc"]}, first=100)
    net = load(tmp_path / "net.prototxt", f"{first},{second}" if joined else [first, second])
    assert [layer.blobs[0].flat[0] for layer in net.layers[1:]] == [0, 100, 100]


def test_the_channels_of_a_guess_come_from_the_weights(tmp_path: Path) -> None:
    text = 'layer { name: "d" type: "Data" top: "data" transform_param { crop_size: 8 } }' + NET.partition("\n")[2][48:]
    net = read(tmp_path, {**SHAPES, "conv": [(4, 1, 3, 3), (4,)]}, text)
    assert net.inputs == {"data": (1, 1, 8, 8)}
    assert "the weights of its reader ask for 1" in net.notes[-1]


def test_what_an_lstm_reads_is_guessed_in_steps(tmp_path: Path) -> None:
    text = """
        layer { name: "d" type: "HDF5Data" top: "cont" top: "words" top: "features" }
        layer { name: "embed" type: "Embed" bottom: "words" top: "e" embed_param { input_dim: 9 num_output: 5 } }
        layer { name: "one" type: "LSTM" bottom: "e" bottom: "cont" top: "one" recurrent_param { num_output: 2 } }
        layer { name: "two" type: "RNN" bottom: "features" bottom: "cont" top: "two" recurrent_param { num_output: 3 } }
    """
    (tmp_path / "net.prototxt").write_text(text)
    with pytest.raises(
        ModelError, match=r"--input-shape cont=16,1 --input-shape words=16,1 --input-shape features=16,1,1"
    ):
        load(tmp_path / "net.prototxt")
    blobs = {"embed": [(9, 5), (5,)], "one": [(8, 5), (8,), (8, 2)], "two": [(3, 7), (3,), (3, 3), (3, 3), (3,)]}
    net = load(tmp_path / "net.prototxt", write_weights(tmp_path / "net.caffemodel", blobs), guess_shapes=True)
    assert net.inputs == {"cont": (16, 1), "words": (16, 1), "features": (16, 1, 7)}
    assert infer_shapes(net)["two"] == (16, 1, 3)
    assert any("and 'two' (RNN) reads it in steps" in note for note in net.notes)


@pytest.mark.parametrize(
    ("points", "channels"), [("slice_point: 2", 3), ("", 2), ("slice_dim: 1 slice_point: 1", 2), ("axis: 2", 3)]
)
def test_the_channels_of_a_pair_are_those_of_its_parts(points: str, channels: int, tmp_path: Path) -> None:
    text = f"""
        layer {{ name: "d" type: "Data" top: "pair" transform_param {{ crop_size: 8 }} }}
        layer {{ name: "s" type: "Slice" bottom: "pair" top: "a" top: "b" slice_param {{ {points} }} }}
        layer {{ name: "power" type: "Power" bottom: "b" top: "power" }}
        layer {{ name: "conv" type: "Convolution" bottom: "power" top: "y"
          convolution_param {{ num_output: 4 kernel_size: 3 }} }}
    """
    weight = 3 if "axis" in points else 1
    assert read(tmp_path, {"conv": [(4, weight, 3, 3), (4,)]}, text).inputs == {"pair": (1, channels, 8, 8)}


@pytest.mark.parametrize(
    ("stated", "taken"),
    [((1, 1, -1, -1), (1, 1, 224, 224)), ((0, 3, 48, 0), (1, 3, 48, 224)), ((-1, 2), (1, 2))],
)
def test_a_guess_keeps_the_sizes_that_the_file_states(
    stated: tuple[int, ...], taken: tuple[int, ...], tmp_path: Path
) -> None:
    sizes = " ".join(f"dim: {size}" for size in stated)
    (tmp_path / "net.prototxt").write_text(f"""
        input: "image" input_shape {{ {sizes} }}
        layer {{ name: "r" type: "ReLU" bottom: "image" top: "r" }}
    """)
    with pytest.raises(ModelError, match="--input-shape image=" + ",".join(map(str, taken))):
        load(tmp_path / "net.prototxt")
    assert load(tmp_path / "net.prototxt", guess_shapes=True).inputs == {"image": taken}


def test_sizes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="layer 'conv'"):
        read(tmp_path, SHAPES, NET.replace("8, 8", "2, 2"))


def test_a_layer_without_a_type_is_no_layer_of_a_dialect_that_is_not_known(tmp_path: Path) -> None:
    text = NET.replace('type: "Convolution"', "")
    assert text != NET
    with pytest.raises(ModelError, match=r"net\.prototxt: layer 'conv' without a type, which no Caffe takes"):
        read(tmp_path, SHAPES, text)


@pytest.mark.parametrize("param", ["quantization_param { bw_params: 8 }", "fixed_param { bit_width: 8 }"])
def test_a_network_in_integers_is_refused(param: str, tmp_path: Path) -> None:
    text = NET.replace("convolution_param", f"{param} convolution_param")
    with pytest.raises(UnsupportedError, match=r"layer 'conv' \(Convolution\) has a .*integers"):
        read(tmp_path, SHAPES, text)


@pytest.mark.parametrize("layer_type", ["FixedNeuron", "ConvolutionFixed"])
def test_what_the_quantiser_of_vitis_writes_is_refused(layer_type: str, tmp_path: Path) -> None:
    text = NET.replace('type: "Convolution"', f'type: "{layer_type}" fixed_param {{ bit_width: 8 }}')
    with pytest.raises(UnsupportedError, match=rf"layer 'conv' \({layer_type}\) has a `fixed_param`.*integers"):
        read(tmp_path, SHAPES, text)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_golden_has_the_inputs_and_outputs_that_caffe_had(folder: Path) -> None:
    check(folder)


@pytest.mark.skipif(not TRAINED, reason="../shared is not here")
def test_every_net_of_the_zoo_has_the_inputs_and_outputs_that_caffe_had() -> None:
    for folder in TRAINED:
        check(folder)


def check(folder: Path) -> None:
    shapes = folder / "input_shapes.json"
    given = json.loads(shapes.read_text()) if shapes.exists() else None
    net = load(folder / "net.prototxt", folder / "net.caffemodel", input_shapes=given)
    for names, file in ((net.inputs, "inputs.npz"), (map(net.public_name, net.outputs), "outputs.npz")):
        if (folder / file).exists():
            with np.load(folder / file) as arrays:
                assert set(names) == set(arrays.files), folder.name


# What is in no dialect that anybody published, and other reasons to stop.
REFUSED = {
    "googlenet_bn_lim0606_deploy": "3102:1: `layers` (V1) in a file with 300 `layer` (V2",
    "intel_resnet50_int8": "computes in integers",
    "pvanet_train": "reads 'rois', which only layer 'roi-data' makes, and that one is not in the TEST net",
}


@pytest.mark.skipif(not PROTOTXTS, reason="../shared is not here")
def test_every_published_prototxt_is_read_or_refused_for_a_known_reason() -> None:
    refused = {}
    for path in PROTOTXTS:
        try:
            net = load(path, guess_shapes=True)
            assert net.inputs
            assert net.outputs
        except BnfoldError as error:
            refused[path.stem] = str(error)
    assert refused.keys() == REFUSED.keys()
    assert {name: REFUSED[name] for name, message in refused.items() if REFUSED[name] not in message} == {}


def test_a_type_that_looks_misspelt_is_kept_and_pointed_out_once(tmp_path: Path) -> None:
    twice = NET.replace("BatchNorm", "BatchNrom") + 'layer { name: "bn2" type: "BatchNrom" bottom: "fc" top: "fc" }'
    (tmp_path / "net.prototxt").write_text(twice + 'layer { name: "x" type: "Whatever" bottom: "fc" top: "x" }')
    net = load(tmp_path / "net.prototxt")
    assert [layer.type for layer in net.layers].count("BatchNrom") == 2
    assert net.notes == [
        "no dialect that is known here has a layer of type 'BatchNrom' (did you mean 'BatchNorm'?): "
        "'bn' and 1 more stay as written; nothing folds through them, and they have no ONNX form",
        "no dialect that is known here has layers of type 'Whatever': "
        "'x' stays as written; nothing folds through it, and it has no ONNX form",
    ]


def test_the_boxes_of_the_truth_are_no_image(tmp_path: Path) -> None:
    reader = 'layer { name: "p" type: "Python" bottom: "data" bottom: "gt_boxes" top: "p" }'
    (tmp_path / "net.prototxt").write_text(f'input: "data" input: "gt_boxes" {reader}')
    net = load(tmp_path / "net.prototxt", guess_shapes=True)
    assert net.inputs["gt_boxes"] == (1, 5)
    assert any("'gt_boxes' is taken as 1x5" in note and "called like boxes" in note for note in net.notes)


@pytest.mark.parametrize(
    ("layer_type", "meant"),
    [("Hsigmoid", "HardSigmoid"), ("HSwish", "HardSwish"), ("LeakyRelu", "ReLU"), ("SiLU", "Swish"), ("GELU", "")],
)
def test_what_other_frameworks_call_a_function_is_no_slip(layer_type: str, meant: str, tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(NET + f'layer {{ name: "x" type: "{layer_type}" bottom: "fc" top: "x" }}')
    (note,) = load(tmp_path / "net.prototxt").notes
    assert f"(did you mean '{meant}'?)" in note if meant else "did you mean" not in note


def test_a_type_that_ends_in_data_and_reads_blobs_is_no_data_layer(tmp_path: Path) -> None:
    layer = 'layer { name: "x" type: "MixData" bottom: "fc" top: "x" mix_param { a: 1 } }'
    (tmp_path / "net.prototxt").write_text(NET + layer)
    net = load(tmp_path / "net.prototxt")
    assert net.notes == [
        "no data layer that is known here reads blobs: "
        "'x' stays as written; nothing folds through it, and it has no ONNX form"
    ]
    with pytest.raises(UnsupportedError, match=r"'x' \(MixData\): bnfold does not know what layers of this type"):
        to_onnx(load(tmp_path / "net.prototxt", write_weights(tmp_path / "net.caffemodel", SHAPES, first=1)))
    save_caffe(net, tmp_path / "out.prototxt")
    assert layer in (tmp_path / "out.prototxt").read_text()


def test_a_type_that_begins_with_data_and_reads_blobs_is_of_unknown_type(tmp_path: Path) -> None:
    layer = (
        'layer { name: "x" type: "DataAugmentation" bottom: "fc" top: "x" augmentation_param { max_multiplier: 1 } }'
    )
    (tmp_path / "net.prototxt").write_text(NET + layer)
    (note,) = load(tmp_path / "net.prototxt").notes
    assert note.startswith("no dialect that is known here has layers of type 'DataAugmentation': 'x' stays as written")


def test_a_layer_of_unknown_type_that_inference_does_not_need_is_not_worth_a_note(tmp_path: Path) -> None:
    more = 'layer { name: "x" type: "Whatever" bottom: "fc" top: "x" } layer { name: "l" type: "OddLoss" bottom: "x" }'
    (tmp_path / "net.prototxt").write_text(NET + more)
    assert not [note for note in load(tmp_path / "net.prototxt", until=["fc"]).notes if "no dialect" in note]


def test_code_outside_the_network_is_said_and_a_proposal_that_is_known_is_not(tmp_path: Path) -> None:
    python = 'type: "Python" python_param {{ module: "{0}" layer: "{1}" }}'
    drop = f'layer {{ name: "x" bottom: "fc" top: "x" {python.format("drop", "Drop")} }}'
    (tmp_path / "net.prototxt").write_text(NET + drop)
    assert load(tmp_path / "net.prototxt").notes == [
        "what a layer of type 'Python' computes is code outside the network: "
        "'x' stays as written; nothing folds through it, and it has no ONNX form"
    ]
    proposal = python.format("rpn.proposal_layer", 'ProposalLayer" param_str: "feat_stride: 16')
    (tmp_path / "net.prototxt").write_text(
        'input: "a" input_shape { dim: 1 dim: 18 dim: 4 dim: 4 } '
        'input: "b" input_shape { dim: 1 dim: 36 dim: 4 dim: 4 } input: "im_info" input_shape { dim: 1 dim: 3 } '
        f'layer {{ name: "p" bottom: "a" bottom: "b" bottom: "im_info" top: "p" {proposal} }}'
    )
    assert not [note for note in load(tmp_path / "net.prototxt").notes if "code outside" in note]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Elementwise", "Eltwise"),
        ("Convolutional", "Convolution"),
        ("ChannelShuffle", "ShuffleChannel"),
        ("ConvLSTM", ""),
        ("DropPath", ""),
    ],
)
def test_a_type_of_its_own_is_no_misspelling_of_one_that_it_resembles(tmp_path: Path, written: str, meant: str) -> None:
    layer = f'layer {{ name: "x" type: "{written}" bottom: "fc" top: "x" }}'
    (tmp_path / "net.prototxt").write_text(NET + layer)
    notes = load(tmp_path / "net.prototxt").notes
    assert [("(did you mean" in note, f"(did you mean '{meant}'?)" in note) for note in notes] == [(bool(meant),) * 2]


@pytest.mark.parametrize(
    ("layer_type", "said"),
    [
        ("Input", "all but the first are numbered"),
        ("PReLU", "what is stored goes to the first, and the others are numbered"),
    ],
)
def test_layers_of_one_name_are_numbered_and_of_inputs_nothing_is_stored(
    tmp_path: Path, layer_type: str, said: str
) -> None:
    shape = "input_param { shape { dim: 1 dim: 3 } }"
    inputs = "".join(f'layer {{ name: "{name}" type: "Input" top: "{name}" {shape} }}' for name in "ab")
    param = shape if layer_type == "Input" else 'bottom: "b"'
    twice = f'layer {{ name: "a" type: "{layer_type}" top: "c" {param} }}'
    join = 'layer { name: "e" type: "Eltwise" bottom: "a" bottom: "b" bottom: "c" top: "e" }'
    (tmp_path / "net.prototxt").write_text(inputs + twice + join)
    net = load(tmp_path / "net.prototxt")
    assert [layer.name for layer in net.layers] == ["a", "b", "a#2", "e"]
    assert f"more than one layer is called 'a': {said} ('a#2')" in net.notes


def test_a_type_with_parameters_of_its_own_is_not_taken_for_misspelt(tmp_path: Path) -> None:
    own = 'layer { name: "m" type: "OneHot" bottom: "fc" top: "m" one_hot_param { depth: 3 } }'
    (tmp_path / "net.prototxt").write_text(NET + own)
    (note,) = load(tmp_path / "net.prototxt").notes
    assert note.startswith("no dialect that is known here has layers of type 'OneHot': 'm' stays as written")


@pytest.mark.parametrize(
    ("inside", "whose"),
    [
        ('type: "Reorg" bottom: "image" reorg_param { stride: 2 }', "(Reorg) and 1 more: read as darknet's"),
        (
            'type: "ROIAlign" bottom: "image" bottom: "rois" roi_align_param { pooled_h: 2 pooled_w: 2 }',
            "(ROIAlign) and 1 more: read as CaffeROIAlign's",
        ),
    ],
)
def test_as_whose_a_layer_is_read_is_said_where_other_caffes_compute_something_else(
    tmp_path: Path, inside: str, whose: str
) -> None:
    regions = 'input: "rois" input_shape { dim: 3 dim: 5 } input: "image" input_shape { dim: [1, 8, 6, 6] }'
    two = [f'layer {{ name: "{one}" top: "{one}" {inside} }}' for one in "ab"]
    (tmp_path / "net.prototxt").write_text(" ".join([regions, *two]))
    (note,) = load(tmp_path / "net.prototxt").notes
    assert note.startswith(f"layer 'a' {whose}")


@pytest.mark.parametrize(
    "layer_type", ["ConvLSTM", "L2Normalization", "PSROIAlign", "PassThrough", "Resize", "Sqrt", "Warp"]
)
def test_a_type_about_which_forks_disagree_gets_no_guess(tmp_path: Path, layer_type: str) -> None:
    disputed = f'layer {{ name: "n" type: "{layer_type}" bottom: "fc" top: "n" }}'
    (tmp_path / "net.prototxt").write_text(NET + disputed)
    assert load(tmp_path / "net.prototxt").notes == [
        f"forks disagree about what layers of type '{layer_type}' compute: 'n' stays as written; nothing folds "
        "through it, and it has no ONNX form"
    ]
