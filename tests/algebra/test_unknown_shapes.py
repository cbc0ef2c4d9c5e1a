"""Affines fold behind layers of unknown shape: weights and statistics say rank and channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import nets
import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_cases import run

from bnfold import ReadOptions, load, to_onnx
from bnfold.algebra import fold, movement
from bnfold.algebra.affine import Affine
from bnfold.algebra.operators import Regroup
from bnfold.algebra.records import Blocked
from bnfold.caffe.operators.shapes import known_shapes
from bnfold.net import Blobs, Layer, Net, Shape

HEAD = """
input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "odd" type: "Python" bottom: "data" top: "odd" }
layer { name: "other" type: "Python" bottom: "data" top: "other" }
"""
BN = 'layer {{ name: "bn" type: "BatchNorm" bottom: "{0}" top: "bn" }}'
SCALE = 'layer { name: "scale" type: "Scale" bottom: "bn" top: "scale" scale_param { bias_term: true } }'
CONV = """
layer {{ name: "{0}" type: "Convolution" bottom: "{1}" top: "{0}" convolution_param {{ num_output: {2} {3} }} }}
"""
STATISTICS = [np.array([0.5, -1.0, 2.0, 0.25]), np.array([1.0, 2.0, 0.5, 3.0]), np.array([1.0])]
FACTORS = [np.array([0.5, -2.0, 3.0, 1.5]), np.array([1.0, -0.5, 0.25, 2.0])]


def net_of(text: str, **weights: list[np.ndarray]) -> Net:
    return nets.net(HEAD + text, **weights)


def weight(*shape: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(len(shape)).standard_normal(shape))


def conv(name: str, bottom: str, outputs: int = 4, said: str = "kernel_size: 3 bias_term: false") -> str:
    return CONV.format(name, bottom, outputs, said)


def assert_equal(model: onnx.ModelProto, folded: Net, x: np.ndarray) -> None:
    wanted, found = (np.asarray(ReferenceEvaluator(net).run(None, {"x": x})) for net in (model, to_onnx(folded)))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def assert_equal_at(model: onnx.ModelProto, folded: Net, shapes: Sequence[Shape]) -> None:
    for shape in shapes:
        feeds = {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
        np.testing.assert_allclose(run(to_onnx(folded), feeds)["y"], run(model, feeds)["y"], rtol=1e-4, atol=1e-5)


def left(net: Net) -> list[str]:
    return [layer.name for layer in fold(net).net.layers if layer.type in ("BatchNorm", "Scale")]


def test_a_convolution_says_what_it_makes_whatever_it_reads() -> None:
    relu = 'layer { name: "relu" type: "ReLU" bottom: "scale" top: "relu" }'
    text = conv("conv", "odd") + BN.format("conv") + SCALE + relu
    assert left(net_of(text, conv=[weight(4, 3, 3, 3)], bn=STATISTICS, scale=FACTORS)) == []


@pytest.mark.parametrize(
    "between",
    [
        'layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { pool: AVE global_pooling: true } }',
        'layer { name: "p" type: "Concat" bottom: "a" bottom: "b" top: "p" }',
        'layer { name: "p" type: "Slice" bottom: "c" top: "p" top: "rest" slice_param { slice_point: 4 } }',
        'layer { name: "p" type: "Permute" bottom: "d" top: "p" '
        "permute_param { order: 0 order: 1 order: 3 order: 2 } }",
        'layer { name: "p" type: "ShuffleChannel" bottom: "d" top: "p" shuffle_channel_param { group: 2 } }',
        'layer { name: "p" type: "Eltwise" bottom: "d" bottom: "e" top: "p" }',
        'layer { name: "p" type: "Tile" bottom: "d" top: "p" tile_param { axis: -1 tiles: 2 } }',
    ],
)
def test_an_affine_passes_layers_whose_planes_are_unknown(between: str) -> None:
    wide = 4 if '"Pooling"' in between else 6
    convs = {"a": 1, "b": 3, "c": wide, "d": 4, "e": 4}
    used = {name: size for name, size in convs.items() if f'bottom: "{name}"' in between}
    text = "".join(conv(name, "odd", size) for name, size in used.items()) + between + BN.format("p") + SCALE
    weights = {name: [weight(size, 3, 3, 3)] for name, size in used.items()}
    assert left(net_of(text, bn=STATISTICS, scale=FACTORS, **weights)) == []


def test_what_a_convolution_reads_has_the_channels_that_its_weight_takes() -> None:
    text = f"""
        layer {{ name: "cat" type: "Concat" bottom: "odd" bottom: "one" top: "cat" }}
        {conv("taker", "odd", 2)} {conv("one", "other", 1)} {BN.format("cat")} {SCALE} {conv("last", "scale", 5)}
    """
    weights = {"taker": [weight(2, 3, 3, 3)], "one": [weight(1, 2, 3, 3)], "last": [weight(5, 4, 3, 3)]}
    ordered = text.replace(conv("one", "other", 1), "").replace("\n        layer", conv("one", "other", 1) + "layer", 1)
    assert left(net_of(ordered, bn=STATISTICS, scale=FACTORS, **weights)) == []


def test_a_pooling_that_sums_channels_does_not_say_how_many_it_reads() -> None:
    pool = 'layer { name: "p" type: "Pooling" bottom: "bn" top: "p" pooling_param { pool: MDS kernel_size: 2 } }'
    text = BN.format("odd") + pool + conv("conv", "p", 4, "kernel_size: 1 bias_term: false")
    net = net_of(text, conv=[weight(4, 1, 1, 1)], bn=STATISTICS)
    assert known_shapes(net)["bn"] is None
    assert left(net) == ["bn"]


@pytest.mark.parametrize(
    "between",
    [
        'layer { name: "p" type: "LRN" bottom: "bn" top: "p" }',
        'layer { name: "p" type: "Upsample" bottom: "bn" top: "p" upsample_param { scale: 2 } }',
    ],
)
def test_what_keeps_channels_hands_them_on_to_what_it_reads(between: str) -> None:
    text = BN.format("odd") + between + conv("conv", "p", 4)
    shape = known_shapes(net_of(text, conv=[weight(4, 4, 3, 3)], bn=STATISTICS))["odd"]
    assert shape is not None
    assert shape[1] == 4


def test_a_batchnorm_and_a_scale_that_both_stay_become_one_scale() -> None:
    for tail in ("", 'layer { name: "tanh" type: "TanH" bottom: "scale" top: "tanh" }'):
        result = fold(net_of(BN.format("odd") + SCALE + tail, bn=STATISTICS, scale=FACTORS))
        (kept,) = [layer for layer in result.net.layers if layer.type in ("BatchNorm", "Scale")]
        assert kept.type == "Scale"
        mean, variance, _ = STATISTICS
        factor = FACTORS[0] / np.sqrt(variance + 1e-5)
        np.testing.assert_allclose(kept.blobs[0], factor, rtol=1e-6)
        np.testing.assert_allclose(kept.blobs[1], FACTORS[1] - mean * factor, rtol=1e-6)


def test_an_inner_product_behind_a_plane_of_unknown_size_takes_what_stands_behind_it() -> None:
    text = 'layer { name: "ip" type: "InnerProduct" bottom: "odd" top: "ip" inner_product_param { num_output: 4 } }'
    ip = [weight(4, 12), weight(4)]
    assert left(net_of(text + BN.format("ip") + SCALE, ip=ip, bn=STATISTICS, scale=FACTORS)) == []


def test_a_concat_with_a_bottom_of_unknown_length_is_kept_with_a_reason() -> None:
    text = """
        input: "loc" input: "conf" input: "prior" input: "x"
        input_shape { dim: 1 dim: 8 } input_shape { dim: 1 dim: 4 }
        input_shape { dim: 1 dim: 2 dim: 8 } input_shape { dim: 1 dim: 3 dim: 1 dim: 7 }
        layer { name: "det" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior" top: "det"
          detection_output_param { num_classes: 2 nms_param { nms_threshold: 0.5 top_k: 2 } keep_top_k: 2 } }
        layer { name: "perm" type: "Permute" bottom: "det" top: "p"
                permute_param { order: 0 order: 2 order: 1 order: 3 } }
        layer { name: "s" type: "Power" bottom: "x" top: "s" power_param { scale: 2 } }
        layer { name: "join" type: "JOIN" bottom: "s" bottom: "p" top: "join" SAID }
        layer { name: "relu" type: "ReLU" bottom: "join" top: "out" }
    """
    for layer_type, said in (("Concat", "concat_param { axis: 1 }"), ("Scale", "scale_param { axis: 0 }")):
        (kept,) = fold(nets.net(text.replace("JOIN", layer_type).replace("SAID", said))).report.kept
        assert kept.reason.startswith("backward: 'x' is an input of the network; forward: ")


def test_a_slice_of_whole_channels_is_not_traced_element_by_element() -> None:
    text = f"""
        input: "data" input_shape {{ dim: 1 dim: 3 dim: 1024 dim: 1024 }}
        {conv("conv", "data", 64, "kernel_size: 3 pad: 1")}
        layer {{ name: "s" type: "Slice" bottom: "conv" top: "p" top: "rest" slice_param {{ slice_point: 4 }} }}
        {BN.format("p")} {SCALE}
    """
    assert left(nets.net(text)) == []


def test_a_power_of_scale_0_is_a_constant_and_no_affine() -> None:
    text = """
        input: "data" input_shape { dim: 1 dim: 2 dim: 6 dim: 6 }
        layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
                pooling_param { pool: AVE kernel_size: 1 stride: 2 } }
        layer { name: "bias" type: "Bias" bottom: "pool" top: "bias" }
        layer { name: "power" type: "Power" bottom: "bias" top: "power" power_param { scale: 0 shift: 2 } }
    """
    result = fold(nets.net(text))
    assert [layer.type for layer in result.net.layers if layer.blobs or layer.type == "Power"] == ["Bias", "Power"]
    assert "it gives its shift whatever it reads" in [kept.reason for kept in result.report.kept][-1]


@pytest.mark.parametrize(
    "behind",
    [
        "sum = ReduceSum <keepdims = 1> (c, batch)\ny = Add (sum, shift)",
        "size = Shape <start = 0, end = 1> (x)\ncount = Cast <to = 1> (size)\ny = Mul (c, count)",
    ],
)
def test_sizes_given_to_read_a_model_do_not_go_into_its_weights(behind: str) -> None:
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 1, 2, 2] x) => (float[M, 1, 2, 2] y)
        <float[1, 1, 1, 1] w = {{ 2.0 }}, int64[1] batch = {{ 0 }}, float[1] shift = {{ 3.0 }}>
        {{ c = Conv (x, w)\n{behind} }}""")
    folded = fold(load(model.SerializeToString(), options=ReadOptions(batch=3))).net
    for batch in (1, 3):
        x = np.random.default_rng(batch).standard_normal((batch, 1, 2, 2)).astype(np.float32)
        assert_equal(model, folded, x)


def test_a_sum_over_sizes_that_a_model_says_takes_a_shift_at_any_batch() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 1, 2, 2] x) => (float[N, 1] y)
        <float[1, 1, 1, 1] w = { 2.0 }, int64[2] plane = { 2, 3 }, float[1] shift = { 3.0 }>
        { c = Conv (x, w)\ns = ReduceSum <keepdims = 0> (c, plane)\ny = Add (s, shift) }""")
    folded = fold(load(model.SerializeToString(), options=ReadOptions(batch=3))).net
    assert [layer.type for layer in folded.layers] == ["Conv", "ReduceSum"]


def test_sizes_given_to_read_a_model_say_which_axes_stay() -> None:
    """As F.interpolate and Tensor.shape become nodes: of a plane of unknown size nothing is known of the channels."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 2, H, W] x) => (float[N, 2, K, L] y)
        <float[2, 2, 1, 1] w = { 2.0, 1.0, 0.5, 4.0 }, int64[4] twice = { 1, 1, 2, 2 },
         float[2, 1, 1] s = { 3.0, -1.0 }>
        { c = Conv (x, w)\nsize = Shape (c)\nsizes = Mul (size, twice)\nr = Resize (c, , , sizes)\ny = Mul (r, s) }""")
    given = ReadOptions(input_shapes={"x": (1, 2, 3, 3)})
    folded = fold(load(model.SerializeToString(), options=given)).net
    assert [layer.type for layer in folded.layers] == ["Conv", "Shape", "Resize"]
    x = np.random.default_rng(0).standard_normal((2, 2, 4, 5)).astype(np.float32)
    assert_equal(model, folded, x)


PADDED = """size = Shape <start = 2, end = 3> (c)\nmissing = Sub (eight, size)\nmore = Max (missing, zero)
    pads = Concat <axis = 0> (zeros, more, zero)"""
"""Zeros below a plane, until it has 8 rows."""


@pytest.mark.parametrize(
    "nodes",
    [
        f"{PADDED}\np = Pad (c, pads)",
        f"{PADDED.replace('pads =', 'all =')}\na, b = Split <axis = 0> (all, halves)\nr = Concat <axis = 0> (a, b)\n"
        "p = Pad (c, r)",
        f"{PADDED.replace('pads =', 'all =')}\npads = Mod (all, eight)\np = Pad (c, pads)",  # which is not followed
        'a = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (c, u)\n'
        'b = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (c, v)\np = Add (a, b)',
    ],
)
def test_what_is_right_for_the_sizes_that_were_given_alone_is_not_folded(nodes: str) -> None:
    """At 8 rows nothing is padded, and of SAME another side than at an odd size."""
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 1, H, W] x) => (float[1, 1, K, L] y)
        <float[1, 1, 1, 1] w = {{ 2.0 }}, int64[1] eight = {{ 8 }}, int64[1] zero = {{ 0 }}, float[1] shift = {{ 3.0 }},
         int64[6] zeros = {{ 0, 0, 0, 0, 0, 0 }}, int64[2] halves = {{ 4, 4 }}, float[1, 1, 1, 1] u = {{ -3.0 }},
         float[1, 1, 3, 3] v = {{ 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0 }}>
        {{ c = Conv (x, w)\n{nodes}\ny = Add (p, shift) }}""")
    folded = fold(load(model.SerializeToString(), options=ReadOptions(input_shapes={"x": (1, 1, 8, 8)}))).net
    for rows in (5, 8):
        x = np.random.default_rng(rows).standard_normal((1, 1, rows, 8)).astype(np.float32)
        assert_equal(model, folded, x)


def test_a_scale_goes_back_through_a_pad_of_the_plane_by_amounts_that_sizes_decide() -> None:
    """As tf2onnx writes a transposed convolution of an open plane, whose amounts it takes apart and lays in order."""
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 2, H, W] x) => (float[1, 2, K, L] y)
        <float[2, 2, 1, 1] w = {{ 2.0, 1.0, 0.5, 4.0 }}, int64[1] eight = {{ 8 }}, int64[1] zero = {{ 0 }},
         int64[6] zeros = {{ 0, 0, 0, 0, 0, 0 }}, int64[2] halves = {{ 4, 4 }}, float[1, 2, 1, 1] s = {{ 3.0, -1.0 }}>
        {{ c = Conv (x, w)\n{PADDED.replace("pads =", "all =")}\na, b = Split <axis = 0> (all, halves)
        r = Concat <axis = 0> (a, b)\np = Pad (c, r)\ny = Mul (p, s) }}""")
    folded = fold(load(model.SerializeToString())).net
    assert "Mul" not in [layer.type for layer in folded.layers]
    for rows in (5, 8):
        x = np.random.default_rng(rows).standard_normal((1, 2, rows, 3)).astype(np.float32)
        assert_equal(model, folded, x)


def test_sizes_that_are_turned_round_are_no_affine_that_stays() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 2, H, W] x) => (float[1, 2, K, L] y)
        <float[2, 2, 1, 1] w = { 2.0, 1.0, 0.5, 4.0 }, int64[2] plane = { 2, 3 }, int64[1] one = { 1 }>
        { c = Conv (x, w)\nsize = Shape <start = 2> (x)\nless = Sub (one, size)\nmissing = Neg (less)
        starts = Max (missing, one)\ny = Slice (c, starts, size, plane) }""")
    assert not list(fold(load(model.SerializeToString())).report.kept)


ROWS = "h = Shape <start = 2, end = 3> (x)"
"""As many rows as there are: four by the size that is given."""
OF_SIZES = {
    "a window of channels": f"{ROWS}\nb = Sub (h, four)\ne = Add (b, four)\np = Slice (c, b, e, one)\ny = Mul (p, s4)",
    "two parts of the channels": f"{ROWS}\nr = Sub (eight, h)\nboth = Concat <axis = 0> (h, r)\n"
    "a, b = Split <axis = 1> (c, both)\nd = Add (a, three)\ny = Concat <axis = 1> (b, d)",
    "channels by number": f"t = Sigmoid (c)\nd = Mul (t, s8)\n{ROWS}\nl = Sub (h, one)\n"
    "i = Concat <axis = 0> (l, zero, one, one)\np = Gather <axis = 1> (d, i)\ny = Conv (p, w4)",
}


@pytest.mark.parametrize("nodes", OF_SIZES.values(), ids=OF_SIZES.keys())
def test_what_nodes_compute_of_given_sizes_moves_nothing_at_others(nodes: str) -> None:
    numbers = np.array([2.0, -1.0, 3.0, 0.5, 4.0, -2.0, 1.5, 5.0], np.float32)
    values: dict[str, np.ndarray] = {
        "s4": numbers[:4].reshape(1, 4, 1, 1),
        "s8": numbers.reshape(1, 8, 1, 1),
        "three": np.array([3], np.float32),
    }
    values |= {"w": weight(8, 3, 1, 1).astype(np.float32), "w4": weight(2, 4, 1, 1).astype(np.float32)}
    values |= {name: np.array([one]) for name, one in {"zero": 0, "one": 1, "four": 4, "eight": 8}.items()}
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 3, H, W] x) => (float[] y) {{ c = Conv (x, w)\n{nodes} }}""")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
    folded = fold(load(model.SerializeToString(), options=ReadOptions(input_shapes={"x": (1, 3, 4, 4)}))).net
    for rows in (4, 6):
        feeds = {"x": np.random.default_rng(rows).standard_normal((1, 3, rows, 4)).astype(np.float32)}
        np.testing.assert_allclose(run(to_onnx(folded), feeds)["y"], run(model, feeds)["y"], rtol=1e-4, atol=1e-5)


def test_an_axis_that_has_size_1_only_as_given_is_not_squeezed() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 2, H, 1] x) => (float[K, L] y)
        <float[2, 2, 1, 1] w = { 2.0, 1.0, 0.5, 4.0 }, float[2] s = { 3.0, -1.0 }>
        { c = Conv (x, w)\nq = Squeeze (c)\ny = Mul (q, s) }""")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    folded = fold(load(model.SerializeToString(), options=ReadOptions(input_shapes={"x": (1, 2, 1, 1)}))).net
    for rows in (1, 2):
        feeds = {"x": np.random.default_rng(rows).standard_normal((1, 2, rows, 1)).astype(np.float32)}
        np.testing.assert_allclose(run(to_onnx(folded), feeds)["y"], run(model, feeds)["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("nodes", "folds"),
    [
        ("r = Relu (c)\nd = Add (r, s)\nf = Flatten (d)\ny = MatMul (f, u)", True),
        ("r = Relu (c)\nd = Add (r, s)\nf = Reshape (d, kept)\ny = MatMul (f, u)", True),
        (
            "r = Relu (c)\nd = Add (r, s)\nt = Transpose <perm = [0, 2, 1, 3]> (d)\nf = Flatten (t)\ny = MatMul (f, u)",
            False,
        ),
        ("m = ReduceMean <axes = [2, 3], keepdims = 0> (c)\nf = Reshape (m, halves)\ny = Mul (f, s2)", False),
        ("f = Flatten (c)\ny = BatchNormalization (f, s32, s32, s32, ones)", True),
        (
            "t = Transpose <perm = [0, 2, 1, 3]> (c)\nf = Flatten (t)\ny = BatchNormalization (f, s32, s32, s32, ones)",
            False,
        ),
    ],
)
@pytest.mark.parametrize("batch", ["N", "?"])
def test_given_sizes_say_which_elements_lie_where_only_if_others_say_the_same(
    nodes: str, folds: bool, batch: str
) -> None:
    """A plane of 2 by 8 has as many elements as one of 4 by 4, and a batch of two as one of other sizes."""
    numbers = np.array([2.0, -1.0], np.float32)
    values: dict[str, np.ndarray] = {"s2": numbers.reshape(2, 1), "u": weight(32, 3).astype(np.float32)}
    values["s32"] = numbers.repeat(16) if folds else np.tile(numbers.repeat(4), 4)
    values |= {"w": weight(2, 3, 1, 1).astype(np.float32), "s": np.array([[[3.0]], [[-1.0]]], np.float32)}
    values |= {"kept": np.array([0, -1]), "halves": np.array([2, -1]), "ones": np.ones(32, np.float32)}
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[{batch}, 3, H, W] x) => (float[P, Q] y) {{ c = Conv (x, w)\n{nodes} }}""")
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
    folded = fold(load(model.SerializeToString(), options=ReadOptions(input_shapes={"x": (1, 3, 4, 4)}))).net
    assert not folds or {"Add", "Mul", "BatchNormalization"}.isdisjoint(layer.type for layer in folded.layers)
    assert_equal_at(model, folded, ((1, 3, 4, 4), (2, 3, 4, 4), (1, 3, 2, 8), (2, 3, 8, 2)))


def test_a_layer_that_a_program_puts_in_is_asked_for_what_the_file_says() -> None:
    """At sizes given to read a model a pool with ceil_mode asks for those that hold for all; it came from no file."""
    random = np.random.default_rng(0)
    weights = {"w": random.normal(size=(4, 3, 1, 1)), "v": random.uniform(0.5, 2, 4)}
    weights |= {name: random.normal(size=4) for name in "gbm"}
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"], "c"),
        onnx.helper.make_node("MaxPool", ["c"], ["p"], "pool", kernel_shape=[2, 2], strides=[3, 3], ceil_mode=1),
        onnx.helper.make_node("BatchNormalization", ["p", "g", "b", "m", "v"], ["y"], "bn"),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    net = load(model.SerializeToString(), options=ReadOptions(input_shapes={"x": (1, 3, 8, 8)}))
    old = net["pool"]
    new = Layer("new", "MaxPool", list(old.bottoms), ["new"], Blobs(), replace(old.param, number=-1))
    net.insert(new, after=old)
    net.reconnect(next(iter(net.uses("p"))), "new")
    net.remove(old)
    folded = to_onnx(fold(net).net).SerializeToString()
    for height, width in ((8, 8), (5, 7), (2, 11)):
        feeds = {"x": random.normal(size=(2, 3, height, width)).astype(np.float32)}
        before, after = (run(one, feeds, ["y"])["y"] for one in (model, folded))
        assert np.allclose(before, after, atol=1e-4)


@pytest.mark.parametrize(
    ("nodes", "shapes"),
    [
        ("t = Sigmoid (x)\nd = Mul (t, two)\na = Add (d, three)\ny = Sin (a)", [(1, 4, 2, 2), (1, 5, 2, 2)]),
        ("d = Mul (x, s4)\ny = Conv (d, w4)", [(1, 4, 2, 2), (2, 1, 2, 2)]),
        (
            "t = Sigmoid (x)\na = Mul (t, two)\nb = Conv (k, w4)\nd = Concat <axis = 1> (a, b)\ny = Mul (d, three)",
            [(1, 4, 2, 2), (1, 3, 2, 2)],
        ),
        (
            "t = Sigmoid (x)\nd = Mul (t, two)\na = Add (d, three)\ne = Slice (a, zero, four, one)\ny = Mul (e, s4)",
            [(1, 4, 2, 2), (1, 6, 2, 2), (1, 1, 2, 2)],
        ),
        ("s = Add (x, k)\nt = Sigmoid (s)\na = Mul (t, s4)\ny = Add (a, three)", [(1, 4, 2, 2), (1, 1, 2, 2)]),
    ],
)
def test_channels_that_are_given_go_into_nothing_where_the_file_leaves_them_open(
    nodes: str, shapes: list[tuple[int, ...]]
) -> None:
    values = {"s4": np.array([2.0, -1.0, 3.0, 0.5]).reshape(4, 1, 1), "w4": weight(2, 4, 1, 1)}
    values |= {"two": np.full(1, 2.0), "three": np.full(1, 3.0)}
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, C, H, W] x, float[N, 4, H, W] k) => (float[P, Q, R, S] y)
        <int64[1] zero = {{ 0 }}, int64[1] one = {{ 1 }}, int64[1] four = {{ 4 }}> {{ {nodes} }}""")
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()
    )
    given = ReadOptions(input_shapes={"x": (1, 4, 2, 2), "k": (1, 4, 2, 2)})
    folded = fold(load(model.SerializeToString(), options=given)).net
    random = np.random.default_rng(0)
    for shape in shapes:
        feeds = {"x": random.standard_normal(shape), "k": random.standard_normal((shape[0], 4, *shape[2:]))}
        feeds = {name: value.astype(np.float32) for name, value in feeds.items()}
        np.testing.assert_allclose(run(to_onnx(folded), feeds)["y"], run(model, feeds)["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("given", [None, (1, 2, 8, 8)])
def test_a_pool_that_counts_what_a_small_plane_lacks_takes_no_shift(given: tuple[int, ...] | None) -> None:
    """onnxruntime gives one value for a plane that is smaller than the window by less than a stride."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 2, H, W] x) => (float[N, 2, K, L] y)
        <float[2, 2, 1, 1] w = { 2.0, 1.0, 0.5, 4.0 }, float[2, 1, 1] s = { 3.0, -1.0 }>
        { c = Conv (x, w)\np = AveragePool <kernel_shape = [3, 3], strides = [2, 1], count_include_pad = 1> (c)
        y = Add (p, s) }""")
    options = ReadOptions(input_shapes={"x": given} if given else None)
    folded = to_onnx(fold(load(model.SerializeToString(), options=options)).net)
    for shape in ((1, 2, 2, 3), (2, 2, 7, 6)):
        feeds = {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
        np.testing.assert_allclose(run(folded, feeds)["y"], run(model, feeds)["y"], rtol=1e-4, atol=1e-5)


def test_an_affine_is_composed_only_to_a_length_that_the_file_says() -> None:
    """Behind a Flatten of an open plane it would be as long as the plane that was given."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 2, H, W] x) => (float[P, Q] y)
        <float[2] g = { 2.0, -1.0 }, float[2] b = { 0.5, 3.0 }, float[2] m = { 1.0, -2.0 }, float[2] v = { 1.0, 4.0 },
         float[1] s = { 3.0 }>
        { t = Sigmoid (x)\nn = BatchNormalization (t, g, b, m, v)\nf = Flatten (n)\ny = Mul (f, s) }""")
    folded = fold(load(model.SerializeToString(), options=ReadOptions(input_shapes={"x": (1, 2, 4, 4)}))).net
    assert [layer.type for layer in folded.layers] == ["Sigmoid", "BatchNormalization", "Flatten"]
    assert_equal_at(model, folded, ((1, 2, 4, 4), (2, 2, 3, 5)))


def test_an_input_without_a_shape_has_as_many_axes_as_sizes_are_given() -> None:
    """What the weights behind it say of channels is then known, and sizes that are given are still none of the file."""
    values = {"w": weight(2, 3, 3, 3), "s": np.array([2.0, -1.0, 3.0, 0.5]).reshape(4, 1, 1), "u": weight(2, 4, 1, 1)}
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[A] x) => (float[B] y)
        { c = Conv (x, w)\nr = Relu (c)\nk = Concat <axis = 1> (r, c)\nm = Mul (k, s)\ny = Conv (m, u) }""")
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.ClearField("shape")
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()
    )
    folded = fold(load(model.SerializeToString(), options=ReadOptions(input_shapes={"x": (1, 3, 4, 4)}))).net
    assert [layer.type for layer in folded.layers] == ["Conv", "Relu", "Concat", "Conv"]
    assert not to_onnx(folded).graph.input[0].type.tensor_type.HasField("shape")
    assert_equal_at(model, folded, ((1, 3, 4, 4), (2, 3, 3, 5)))


@pytest.mark.parametrize(
    ("layer_type", "first", "left"),
    [("Scale", "data", "x"), ("Scale", "sum", "xy"), ("Bias", "data", "xy"), ("Bias", "sum", "")],
)
def test_a_second_bottom_of_one_number_lies_along_no_axis(layer_type: str, first: str, left: str) -> None:
    """Nor does Caffe ask it for one (scale_layer.cpp): the axis may be one that a sum of everything has not got."""
    result = fold(
        nets.net(f"""
            input: "data" input_shape {{ dim: 2 dim: 3 dim: 4 dim: 4 }}
            layer {{ name: "c" type: "Convolution" bottom: "data" top: "c"
                     convolution_param {{ num_output: 2 kernel_size: 1 }} }}
            layer {{ name: "sum" type: "Reduction" bottom: "c" top: "sum" }}
            layer {{ name: "x" type: "{layer_type}" bottom: "{first}" bottom: "sum" top: "x"
                     {layer_type.lower()}_param {{ axis: 5 }} }}
            layer {{ name: "y" type: "Power" bottom: "x" top: "y" power_param {{ scale: 2 }} }}
        """)
    )
    assert [layer.name for layer in result.net.layers][1:] == ["c", "sum", *left]


@pytest.mark.parametrize("said", ["p", "c, p"])
def test_sizes_that_are_older_than_the_inputs_of_a_model_are_not_believed(said: str) -> None:
    """Who opens the batch or the plane of a model often leaves what is said of the blobs behind as it was."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 2, H, W] x) => (float[1, 2] y)
        <float[2, 2, 1, 1] w = { 2.0, 1.0, 0.5, 4.0 }, float[2] s = { 3.0, -1.0 }, int64[2] plane = { 2, 3 }>
        { c = Conv (x, w)\np = MaxPool <kernel_shape = [2, 2]> (c)\nt = ReduceSum <keepdims = 0> (p, plane)
        y = Add (t, s) }""")
    for name in said.split(", "):
        plane = 4 if name == "c" else 3
        port = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2, plane, plane])
        model.graph.value_info.append(port)
    folded = fold(load(model.SerializeToString())).net
    assert [layer.type for layer in folded.layers] == ["Conv", "MaxPool", "ReduceSum", "Add"]
    assert_equal_at(model, folded, ((1, 2, 4, 4), (1, 2, 3, 6)))


@pytest.mark.parametrize("node", ["o = mine.Odd (x)", "o = Reshape (x, z)"])
def test_sizes_that_a_model_says_of_what_nobody_can_follow_are_believed(node: str) -> None:
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
        g (float[1, 2, 4, 4] x, int64[4] z) => (float[1, 2, 4, 2] y)
        <float[2, 4, 1, 1] w = {{ 2.0, 1.0, 0.5, 4.0, 3.0, -1.0, 2.0, 5.0 }},
         float[4, 1, 1] s = {{ 3.0, -1.0, 2.0, 5.0 }}>
        {{ {node}\nr = Abs (o)\nm = Mul (r, s)\ny = Conv (m, w) }}""")
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("o", onnx.TensorProto.FLOAT, [1, 4, 4, 2]))
    assert [layer.type.split(".")[-1] for layer in fold(load(model.SerializeToString())).net.layers][1:] == [
        "Abs",
        "Conv",
    ]


def test_axes_behind_a_size_that_nobody_knows_are_paired_from_the_back() -> None:
    steps = (Regroup((-1, 4, 3), (-1, 2, 3)),)
    last, middle = (Affine.along(axis, [2.0, -3.0, 0.5, 1.5][:size], -0.25) for axis, size in ((2, 3), (1, 4)))
    assert movement.forward(steps, last).equals(last)
    assert movement.back(steps, last).equals(last)
    x = weight(5, 4, 3)
    np.testing.assert_array_equal((x * last.scale - 0.25).reshape(10, 2, 3), x.reshape(10, 2, 3) * last.scale - 0.25)
    with pytest.raises(Blocked, match="a size that is unknown"):
        movement.forward(steps, middle)


@pytest.mark.parametrize("shapes", [((2, -1, 3), (2, 1, 3)), ((2, 1, 3), (2, -1, 3))])
@pytest.mark.parametrize(("axis", "size"), [(0, 2), (2, 3)])
def test_an_axis_of_size_1_that_a_shape_leaves_open_is_one_axis(
    shapes: tuple[Shape, Shape], axis: int, size: int
) -> None:
    steps, affine = (Regroup(*shapes),), Affine.along(axis, [2.0, -3.0, 0.5][:size], -0.25)
    assert movement.forward(steps, affine).equals(affine)
    assert movement.back(steps, affine).equals(affine)


@pytest.mark.parametrize("reader", ["ReLU", "Odd"])
def test_affines_of_other_numbers_of_channels_do_not_pass_each_other(reader: str) -> None:
    """No Caffe runs such a net, which the shapes in front of it do not tell."""
    result = fold(
        net_of(
            f"""
            layer {{ name: "four" type: "Scale" bottom: "odd" top: "four" }}
            layer {{ name: "shift" type: "Power" bottom: "four" top: "shift" power_param {{ shift: 0.5 }} }}
            layer {{ name: "five" type: "Scale" bottom: "shift" top: "five" }}
            layer {{ name: "last" type: "{reader}" bottom: "five" top: "last" }}
            """,
            four=FACTORS[:1],
            five=[np.array([0.5, -2.0, 3.0, 1.5, -1.0])],
        )
    )
    assert "layer 'shift' (Power): the two affines have different numbers of channels" in str(result.report.records)
    assert [layer.name for layer in result.net.layers][-3:] == ["shift", "five", "last"]
