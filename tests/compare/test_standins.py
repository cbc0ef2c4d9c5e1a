"""Inputs that are no images get values that a network can mean; data may leave out what follows from the network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nets
import numpy as np
import onnx.parser
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, shape_inference
from onnx_models import model
from onnx_texts import model as text_model

import bnfold
from bnfold.compare.batches import layout_of
from bnfold.compare.comparison import compare
from bnfold.compare.models import open_model
from bnfold.compare.open_sizes import with_usual_sizes
from bnfold.compare.standins import stand_ins
from bnfold.data.samples import Feed
from bnfold.data.standins import Continuation, Fixed, ImageInfo, Indices, Places, Priors, Regions, StandIn, Unread
from bnfold.errors import ModelError, UsageError
from bnfold.onnx import to_onnx
from bnfold.options import CompareOptions


def test_rows_that_belong_together_are_samples_where_each_input_has_one() -> None:
    for rows, batched in ((1, True), (4, False)):
        rois = Feed((rows, 5), np.dtype(np.float32), Regions(8, 8))
        feeds = {"data": Feed((rows, 3, 8, 8), np.dtype(np.float32)), "rois": rois}
        assert layout_of(feeds, feeds, {name: name for name in feeds}).batched == batched


AFFINES = """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "sc1" type: "Scale" bottom: "conv1" top: "conv1" scale_param { bias_term: true } }
"""
ROIS = f"""
input: "data" input_shape {{ dim: 1 dim: 3 dim: 24 dim: 24 }}
input: "rois" input_shape {{ dim: 4 dim: 5 }}
{AFFINES}
layer {{ name: "pool" type: "ROIPooling" bottom: "conv1" bottom: "rois" top: "pool"
  roi_pooling_param {{ pooled_w: 2 pooled_h: 2 spatial_scale: 0.5 }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param {{ num_output: 3 }} }}
"""
CAPTION = """
input: "cont" input_shape { dim: 3 dim: 2 }
input: "words" input_shape { dim: 3 dim: 2 }
input: "features" input_shape { dim: 2 dim: 6 }
layer { name: "embedding" type: "Embed" bottom: "words" top: "embedded" embed_param { input_dim: 12 num_output: 5 } }
layer { name: "lstm" type: "LSTM" bottom: "embedded" bottom: "cont" bottom: "features" top: "lstm"
  recurrent_param { num_output: 4 } }
layer { name: "predict" type: "InnerProduct" bottom: "lstm" top: "predict"
  inner_product_param { num_output: 7 axis: 2 } }
layer { name: "sc" type: "Scale" bottom: "predict" top: "predict" scale_param { axis: 2 bias_term: true } }
"""
UNREAD = 'input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 } input: "%s" input_shape { dim: 1 dim: 3 }' + AFFINES


def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_reader_of_an_input_says_what_it_means() -> None:
    text = """
    input: "data" input_shape { dim: 1 dim: 4 dim: 6 dim: 8 }
    input: "im_info" input_shape { dim: 1 dim: 3 }
    input: "moves" input_shape { dim: 1 dim: 8 dim: 3 dim: 4 }
    input: "mask" input_shape { dim: 1 dim: 4 dim: 6 dim: 8 }
    input: "order" input_shape { dim: 2 }
    input: "chosen" input_shape { dim: 3 }
    layer { name: "up" type: "Upsample" bottom: "data" bottom: "mask" top: "up" upsample_param { scale: 2 } }
    layer { name: "ordered" type: "BatchReindex" bottom: "data" bottom: "order" top: "ordered" }
    layer { name: "few" type: "GatherV2" bottom: "data" bottom: "chosen" top: "few" gather_v2_param { axis: -2 } }
    layer { name: "pooled" type: "Pooling" bottom: "data" top: "pooled" pooling_param { kernel_size: 2 stride: 2 } }
    layer { name: "said" type: "Reshape" bottom: "im_info" top: "said" reshape_param { shape { dim: 1 dim: 3 } } }
    layer { name: "proposal" type: "Proposal" bottom: "pooled" bottom: "moves" bottom: "said" top: "rois" }
    """
    assert stand_ins(nets.net(text)) == {
        "im_info": ImageInfo(6, 8),
        "mask": Places(12 * 16),
        "order": Indices(1),
        "chosen": Indices(6),
    }
    python = "python_param { module: 'rpn.proposal_layer' layer: 'ProposalLayer' param_str: \"'feat_stride': 2\" }"
    in_python = text.replace('type: "Proposal"', 'type: "Python"').replace('top: "rois"', f'top: "rois" {python}')
    assert stand_ins(nets.net(in_python))["im_info"] == ImageInfo(6, 8)
    of_maps = text.replace('bottom: "pooled" bottom: "moves"', 'bottom: "data" bottom: "moves"')
    assert stand_ins(nets.net(of_maps))["im_info"] == ImageInfo(96, 128)
    assert stand_ins(nets.net(CAPTION)) == {"cont": Continuation(3), "words": Indices(12)}
    assert stand_ins(nets.net(ROIS)) == {"rois": Regions(44, 44)}
    assert stand_ins(nets.net(UNREAD % "im_info")) == {"im_info": Unread()}


def test_stand_ins_are_what_they_say() -> None:
    rows = Regions(20, 30).draw(random(), (50, 5))
    assert (rows[:, 0] == 0).all()
    assert (rows[:, 1:3] <= rows[:, 3:]).all()
    assert rows.min() >= 0
    assert (rows[:, [2, 4]].max(), rows[:, [1, 3]].max()) <= (19, 29)
    assert ImageInfo(600, 800).draw(random(), (2, 3)).tolist() == [[600, 800, 1]] * 2
    assert ImageInfo(600, 800).draw(random(), (1, 4)).tolist() == [[600, 800, 1, 1]]
    assert ImageInfo(600, 800).draw(random(), (2, 2)).tolist() == [[600, 800]] * 2
    assert Fixed((0, 0, -1)).draw(random(), (2,)).tolist() == [0, -1]
    assert Fixed((3, 4)).draw(random(), ()).tolist() == 4
    assert Continuation(3).draw(random(), (3, 2)).tolist() == [[0, 0], [1, 1], [1, 1]]
    assert Continuation(1).draw(random(), (2,)).tolist() == [0, 0]
    assert set(Indices(4).draw(random(), (200,))) == {0, 1, 2, 3}
    mask = Places(16).draw(random(), (2, 3, 2, 2))
    assert all(len(set(plane)) == 4 for plane in mask.reshape(6, 4).tolist())
    assert 0 <= mask.min() < mask.max() < 16
    priors = Priors().draw(random(), (1, 2, 12))
    corners = priors[0, 0].reshape(3, 4)
    assert (corners[:, :2] <= corners[:, 2:]).all()
    assert 0 <= corners.min() < corners.max() <= 1
    np.testing.assert_array_equal(
        priors[0, 1].reshape(3, 4), np.tile(np.array([0.1, 0.1, 0.2, 0.2], np.float32), (3, 1))
    )


def test_what_follows_from_the_network_is_the_same_in_every_sample() -> None:
    for meaning in (ImageInfo(9, 9), Continuation(2), Fixed((1, 2)), Unread()):
        assert meaning.fixed
        first, second = (meaning.draw(np.random.default_rng(seed), (2, 4)) for seed in (1, 2))
        np.testing.assert_array_equal(first, second)
    for other in (Regions(9, 9), Indices(9), Places(9), Priors()):
        assert not other.fixed


@pytest.mark.parametrize(
    "meaning", [Regions(9, 9), ImageInfo(9, 9), Continuation(3), Indices(2), Places(4), Priors(), Fixed((0, 1))]
)
def test_stand_ins_fill_whatever_shape_there_is(meaning: StandIn) -> None:
    for shape in ((1,), (4, 5), (7, 3), (2, 2, 2, 2), (0, 5)):
        values = meaning.draw(random(), shape)
        assert values.shape == shape
        assert values.dtype == np.float32
        assert np.isfinite(values).all()


@pytest.mark.parametrize("text", [ROIS, CAPTION, UNREAD % "im_info", UNREAD % "prev_pose"])
def test_nets_with_inputs_that_are_no_images_are_proved_on_values_they_can_mean(text: str) -> None:
    net = nets.net(text)
    report = compare(net, bnfold.fold(net).net)
    assert report.passed, report.verdict
    assert all(blob.finite == blob.values for blob in report.outputs)
    head = report.outputs[0]
    assert head.high > head.low


def test_the_report_says_what_such_inputs_were_fed() -> None:
    net = nets.net(ROIS)
    assert compare(net, net).data.endswith("seed 0; 'rois': regions inside 44x44")


def test_regions_of_one_image_are_one_sample_even_where_their_number_is_the_batch() -> None:
    net = nets.net(ROIS.replace("dim: 1 dim: 3", "dim: 4 dim: 3", 1))
    report = compare(net, net)
    assert len(report.samples) == 3
    assert report.outputs[0].shape == (4, 3)


def test_arrays_may_have_first_axes_of_their_own() -> None:
    net = nets.net(CAPTION)
    arrays = {
        "cont": np.array([[0, 0], [1, 1], [1, 1]], np.float32),
        "words": np.arange(6, dtype=np.float32).reshape(3, 2),
        "features": random().standard_normal((2, 6), np.float32),
    }
    report = compare(net, net, arrays)
    assert len(report.samples) == 1
    twice = {name: np.concatenate([array, array]) for name, array in arrays.items()}
    assert len(compare(net, net, twice).samples) == 2
    apart = {name: np.stack([array, array]) for name, array in arrays.items()}
    assert len(compare(net, net, apart).samples) == 2


def test_arrays_of_a_file_may_have_first_axes_of_their_own(tmp_path: Path) -> None:
    net = nets.net(ROIS)
    rois = Regions(44, 44).draw(random(), (4, 5))
    np.savez(tmp_path / "d.npz", data=random().standard_normal((1, 3, 24, 24), np.float32), rois=rois)
    report = compare(net, bnfold.fold(net).net, tmp_path / "d.npz")
    assert report.passed
    assert report.data == f"1 sample of {tmp_path / 'd.npz'}"


def test_one_row_of_an_input_goes_with_all_samples_of_the_others() -> None:
    net = nets.net(
        'input: "data" input_shape { dim: 1 dim: 3 dim: 2 dim: 2 } input: "shift" input_shape { dim: 1 dim: 3 }'
        'layer { name: "bias" type: "Bias" bottom: "data" bottom: "shift" top: "out" bias_param { axis: 0 } }'
    )
    arrays = {"data": random().standard_normal((5, 3, 2, 2), np.float32), "shift": np.ones((1, 3), np.float32)}
    report = compare(net, net, arrays)
    assert len(report.samples) == 5
    assert report.data == "5 samples of given arrays, 'shift' the same for all"
    with pytest.raises(UsageError, match="unequal numbers of samples: 5 for 'data', 2 for 'shift'"):
        compare(net, net, arrays | {"shift": np.ones((2, 3), np.float32)})


def test_data_may_leave_out_what_follows_from_the_network() -> None:
    net = nets.net(UNREAD % "im_info")
    images = random().standard_normal((2, 3, 8, 8), np.float32)
    assert compare(net, net, images).passed
    assert compare(net, net, {"data": images}).passed


def roi_align() -> ModelProto:
    nodes = [
        helper.make_node("Conv", ["data", "w"], ["map"], "map"),
        helper.make_node("RoiAlign", ["map", "rois", "which"], ["pool"], "pool", output_height=2, output_width=2),
    ]
    weights = {"w": np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)}
    made = model(nodes, {"data": (1, 3, 24, 24), "rois": (5, 4)}, ["pool"], weights)
    made.graph.input.append(helper.make_tensor_value_info("which", TensorProto.INT64, (5,)))
    return made


def embedding() -> ModelProto:
    nodes = [
        helper.make_node("Cast", ["words"], ["places"], "places", to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "places"], ["y"], "y"),
    ]
    table = {"table": np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)}
    return model(nodes, {"words": (3, 2)}, ["y"], table)


def looked_up(*arithmetic: str) -> ModelProto:
    """A table of 12 rows, and whole numbers of which these nodes make the place."""
    ports, nodes = "(int64[3,2] said) => (float[3,2,5] y)", " ".join(arithmetic)
    text = f'<ir_version: 8, opset_import: ["" : 17]> g {ports} {{ {nodes} y = Gather (table, place) }}'
    made = onnx.parser.parse_model(text)
    table = random().normal(size=(12, 5)).astype(np.float32)
    values = {"table": table, "none": np.array([0]), "two": np.array(2), "rows": np.array([12])}
    made.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    return made


BELOW = "below = Less (said, none)"
WRAPPED = (
    (BELOW, "more = Add (said, rows)", "place = Where (below, more, said)"),
    # As tf2onnx writes the same.
    (
        *(BELOW, "not = Not (below)", "one = Cast <to = 7> (below)", "other = Cast <to = 7> (not)"),
        *("more = Add (said, rows)", "a = Mul (one, more)", "b = Mul (said, other)", "place = Add (a, b)"),
    ),
)


@pytest.mark.parametrize("arithmetic", WRAPPED, ids=["Where", "Mul"])
def test_places_that_arithmetic_makes_are_those_of_the_whole_table(arithmetic: Sequence[str]) -> None:
    made, wrong = looked_up(*arithmetic), looked_up(*arithmetic)
    table = numpy_helper.to_array(wrong.graph.initializer[0]).copy()
    table[4:] += 0.5
    wrong.graph.initializer[0].CopyFrom(numpy_helper.from_array(table, "table"))
    assert compare(made, made).data.endswith("'said': whole numbers below 12")
    assert not compare(made, wrong).passed


BRANCHES = """y = If (is) <
    then_branch = taken () => (float[3,2] a) { a = MatMul (x, then) },
    else_branch = left () => (float[3,2] b) { b = MatMul (x, else) }
>"""
KNOWN = {
    "a branch": ("int64[1] said", f"one = Squeeze (said) is = Equal (rate, one) {BRANCHES}", "any of 16000, 0"),
    "OneHot": (
        *("int64[3] said", "hot = OneHot (said, depth, ends) y = MatMul (hot, table)", "whole numbers below 40"),
    ),
    "OneHot, as JAX writes it": (
        "int64[3,1] said",
        "wide = Expand (said, shape) row = Expand (counts, shape) is = Equal (wide, row) hot = Cast <to = 1> (is)"
        " y = MatMul (hot, table)",
        "whole numbers below 40",
    ),
}


def knowing(inputs: str, nodes: str, wrong: bool = False) -> ModelProto:
    """A model that compares an input with numbers; the wrong one has others behind those that are not 0 or 1."""
    text = f'<ir_version: 8, opset_import: ["" : 17]> g (float[3,4] x, {inputs}) => (float[3,2] y) {{ {nodes} }}'
    made = onnx.parser.parse_model(text)
    then, other, table = (random().normal(size=(size, 2)).astype(np.float32) for size in (4, 4, 40))
    if wrong:
        then, table = then + 1, table + (np.arange(40) > 1)[:, None].astype(np.float32)
    values = {"rate": np.array(16000), "depth": np.array(40), "ends": np.array([0, 1], np.float32), "then": then}
    values |= {"else": other - 2, "table": table, "counts": np.arange(40)[None], "shape": np.array([3, 40])}
    made.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    return made


@pytest.mark.parametrize(("inputs", "nodes", "said"), KNOWN.values(), ids=KNOWN)
def test_an_input_takes_the_numbers_with_which_a_model_compares_it(inputs: str, nodes: str, said: str) -> None:
    made = knowing(inputs, nodes)
    report = compare(made, made)
    assert report.passed, report.verdict
    assert report.data.endswith(f"'said': {said}")
    assert not compare(made, knowing(inputs, nodes, wrong=True)).passed


@pytest.mark.parametrize(
    ("sizes", "said", "shape"),
    [("3,16", "any of 16000", (3, 16)), ("3,64", "any of 16000, 0", (3, 64)), ("3,N", "any of 16000, 0", (3, 64))],
)
def test_numbers_and_sizes_are_those_that_the_reference_takes(sizes: str, said: str, shape: tuple[int, ...]) -> None:
    """As Silero's voice detector, which takes 512 values at 16,000 Hz, and 256 at 8,000."""
    few = "left () => (float[K,L] b) { sizes = Add (said, few) b = Reshape (x, sizes) }"
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[{sizes}] x, int64 said) => (float[P,Q] y)
        <int64 rate = {{16000}}, int64[2] few = {{1, 192}}> {{ is = Equal (said, rate)
        y = If (is) <then_branch = taken () => (float[3,M] a) {{ a = Abs (x) }}, else_branch = {few}> }}"""
    made = open_model(onnx.parser.parse_model(text), "reference", CompareOptions())
    layout, note = with_usual_sizes(made, layout_of(made.feeds, made.feeds, {name: name for name in made.feeds}))
    assert str(layout.feeds["said"].meaning) == said
    assert layout.feeds["x"].shape == shape
    assert bool(note) == ("N" in sizes)


def read_by(op_type: str, before: int = 1, sizes: tuple[int, ...] = (1,), outputs: int = 1, **more: Any) -> ModelProto:
    """A Conv, and a node that reads its top, and behind so many others whole numbers that are an input."""
    nodes = [
        helper.make_node("Conv", ["data", "w"], ["map"], "map"),
        helper.make_node(op_type, ["map", *[""] * (before - 1), "said"], ["y", "rest"][:outputs], "y", **more),
    ]
    weights = {"w": random().normal(size=(4, 3, 1, 1)).astype(np.float32)}
    made = model(nodes[:1], {"data": (1, 3, 8, 6)}, ["map"], weights)
    made.graph.node.append(nodes[1])
    kind = TensorProto.FLOAT if (op_type, before) == ("Resize", 2) else TensorProto.INT64
    kind = TensorProto.BOOL if op_type == "Dropout" else kind
    made.graph.input.append(helper.make_tensor_value_info("said", kind, sizes))
    made.graph.output[0].CopyFrom(helper.make_empty_tensor_value_info("y"))
    return shape_inference.infer_shapes(made)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (read_by("Dropout", 2, ()), "0"),
        (read_by("Expand", 1, (4,)), "whole numbers from 1 on below 2"),
        (read_by("Gather", 1, (6,), axis=2), "whole numbers below 8"),
        (read_by("GatherND", 1, (3, 3)), "whole numbers below 1"),
        (looked_up("place = Add (said, two)"), "whole numbers below 10"),
        (looked_up("place = Sub (said, two)"), "whole numbers below 12"),
        (looked_up("other = Add (said, none) place = Mul (said, other)"), "whole numbers below 4"),
        (read_by("Reshape", 1, (2,)), "0, 0, 0, -1"),
        (read_by("Resize", 2, (4,)), "1, 1, 2, 2"),
        (read_by("Resize", 3, (4,)), "1, 4, 16, 12"),
        (read_by("Tile", 1, (4,)), "whole numbers from 1 on below 3"),
        (read_by("TopK", 1, (1,), 2), "whole numbers from 1 on below 7"),
    ],
)
def test_what_an_operator_of_onnx_takes_for_sizes_and_places_is_in_its_range(made: ModelProto, said: str) -> None:
    report = compare(made, made)
    assert report.passed, report.verdict
    assert report.outputs[0].high > report.outputs[0].low
    assert report.data.endswith(f"'said': {said}")


def test_the_steps_of_a_sequence_are_not_left_out() -> None:
    nodes = [helper.make_node("LSTM", ["data", "w", "r", "", "said"], ["y"], "y", hidden_size=2)]
    weights = {"w": random().normal(size=(1, 8, 3)), "r": random().normal(size=(1, 8, 2))}
    made = model(nodes, {"data": (7, 1, 3)}, ["y"], {name: one.astype(np.float32) for name, one in weights.items()})
    made.graph.input.append(helper.make_tensor_value_info("said", TensorProto.INT32, (1,)))
    assert compare(made, made).data.endswith("'said': whole numbers from 1 on below 8")


PADDED = """<ir_version: 8, opset_import: ["": 17]> g (int64[1,6] said) => (float[1,6,2] y)
<int64 one = {1}, int64 padding = {7}, float off = {OFF}, float on = {1}> {
  next = Add (said, one) is = Equal (next, padding) factor = Where (is, off, on)
  axis = Constant <value_ints = [2]> () column = Unsqueeze (factor, axis)
  embedded = Gather (table, said) y = Mul (embedded, column) }"""


def test_numbers_that_a_model_compares_its_indices_with_are_among_them() -> None:
    """As of a padding, which makes the mask of an attention: of a vocabulary chance hardly draws it."""
    table = random().normal(size=(1000, 2)).astype(np.float32)
    made, wrong = (text_model(PADDED.replace("OFF", off), table=table) for off in ("0", "1"))
    report = compare(made, made)
    assert report.passed
    assert report.data.endswith("'said': whole numbers below 1,000, one in 4 of them 6")
    assert not compare(made, wrong, layers=False).passed


MASKED = """<ir_version: 8, opset_import: ["": 17]> g (float[1,6] x, float[1,6] said) => (float[1,6] y)
<float one = {1}, float far = {-10000}> { u = Unsqueeze (said, one_axis) s = Squeeze (u, one_axis) MASK
  scores = Add (x, mask) y = Softmax (scores) }"""


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ("rest = Sub (one, s) mask = Mul (rest, far)", "; 'said': whole numbers below 2"),
        ("mask = Mul (far, s)", "; 'said': whole numbers below 2"),
        ("mask = Sub (one, s)", ", seed 0"),
    ],
)
def test_a_mask_of_real_values_is_0_or_1(mask: str, said: str) -> None:
    """Else a few scores are ahead by thousands, whatever makes them."""
    made = text_model(MASKED.replace("MASK", mask), one_axis=np.array([1]))
    report = compare(made, made)
    assert report.passed
    assert report.data.endswith(said)


SAID_SIZES = """<ir_version: 8, opset_import: ["" : 17]> net (float[2,12,4] x, int64SAID) => (float[q,r,s] y)
<int64 zero = {0}, int64 one = {1}, int64[1] first = {0}, int64[1] axis = {1}, float k = {2.0}>
{ NODES y = Mul (m, k) }"""


@pytest.mark.parametrize(
    ("inputs", "nodes", "said"),
    [
        ("[1] said", "m = Slice (x, first, said, axis)", "whole numbers from 6 on below 13"),
        ("[2] said", "m, o = Split <axis = 1> (x, said)", "6, 6"),
        ("[3] said", "m, o, p = Split <axis = 1> (x, said)", "4, 4, 4"),
        (
            " said",
            "r = Range (zero, said, one) f = Cast <to = 1> (r) u = Unsqueeze (f, axis) m = Mul (x, u)",
            "any of 12, 1",
        ),
        (
            " said",
            "r = Range (zero, said, one) m = Gather <axis = 1> (x, r)",
            "any of 12, 4, 1",
        ),  # of 0 nothing is left
        ("[1] said", "e = Add (said, one) m = Slice (x, said, e, axis)", "any of 4, 1, 0"),
    ],
)
def test_numbers_that_cut_a_blob_leave_most_of_it(inputs: str, nodes: str, said: str) -> None:
    made = text_model(SAID_SIZES.replace("SAID", inputs).replace("NODES", nodes))
    report = compare(made, made)
    assert report.passed
    assert report.data.endswith(f"'said': {said}")


def test_where_no_number_is_taken_the_sentence_says_whose_is_to_be_given() -> None:
    odd = text_model(
        SAID_SIZES.replace("SAID", "[2] said").replace("NODES", "s = Mul (said, z) m = Reshape (x, s)"), z=np.array([5])
    )
    with pytest.raises(ModelError, match=r"what input 'said' may hold is not known, .*: give some by --data"):
        compare(odd, odd)


COUNTED = """<ir_version: 8, opset_import: ["" : 17]> net (float[B,A,4] x, int64[B,AUX] said) => (float[q,r,s] y)
<int64 no = {0}, int64 one = {1}> { SAID f = Cast <to = 1> (m) g = Unsqueeze (f, last) y = Mul (x, g) }"""
STEPS = "s = Shape <start = 1, end = 2> (x) n = Squeeze (s) t = Range (no, n, one) m = Less (t, said)"
STORED = "t = Constant <value = int64[9] {0, 1, 2, 3, 4, 5, 6, 7, 8}> ()"
LONGEST = "n = ReduceMax <keepdims = 0> (said) t = Range (no, n, one) m = Less (t, said)"


@pytest.mark.parametrize(
    ("name", "sizes", "nodes", "said"),
    [
        ("x_lengths", ("n", "t", "1"), STEPS, "lengths up to 16"),
        ("seq_len", ("1", "9", "1"), STEPS, "lengths up to 9"),
        ("lens", ("1", "t", "1"), LONGEST, "lengths of 16"),
        ("lens", ("n", "t", "1"), LONGEST, "lengths up to 16"),
        ("attention_mask", ("n", "t", "t"), "m = Identity (said)", "1, and one in 4 of them 0"),
        ("key_padding_mask", ("n", "t", "t"), "m = Identity (said)", "whole numbers below 2"),
        ("unknown", ("n", "t", "1"), STEPS, "lengths up to 16"),
        ("unknown", ("n", "9", "1"), f"{STORED} m = Greater (said, t)", "lengths up to 9"),
        ("unknown", ("n", "t", "1"), LONGEST, "any of 16, 1"),
    ],
)
def test_lengths_and_masks_let_most_steps_count(name: str, sizes: Sequence[str], nodes: str, said: str) -> None:
    text = COUNTED.replace("AUX", sizes[2]).replace("B,", sizes[0] + ",").replace("A,", sizes[1] + ",")
    made = text_model(text.replace("SAID", nodes).replace("said", name), last=np.array([2]))
    report = compare(made, made)
    assert report.passed
    assert report.data.endswith(f"'{name}': {said}")


def test_an_input_in_a_type_that_numpy_has_not_is_fed_in_float32() -> None:
    nodes = [helper.make_node("Cast", ["data"], ["y"], "y", to=TensorProto.FLOAT)]
    made = model(nodes, {"data": (1, 3)}, ["y"], dtype=TensorProto.BFLOAT16)
    report = compare(made, made)
    assert report.passed, report.verdict
    assert report.outputs[0].high > report.outputs[0].low


@pytest.mark.parametrize(
    ("dtype", "shape", "said"),
    [
        (TensorProto.UINT8, (1, 4, 5, 3), "below 256"),
        (TensorProto.UINT8, (40, 5, 3), "below 256"),
        (TensorProto.INT8, (1, 60), "from -128 on below 128"),  # what was quantised
        (TensorProto.INT16, (1, 60), "from -32768 on below 32,768"),  # a sound
        (TensorProto.UINT8, (1, 60), "below 2"),  # which may be a mask
        (TensorProto.INT64, (1, 4, 5, 3), "below 2"),
    ],
)
def test_bytes_of_an_image_and_signals_take_all_their_values(dtype: int, shape: tuple[int, ...], said: str) -> None:
    nodes = [helper.make_node("Cast", ["data"], ["y"], "y", to=TensorProto.FLOAT)]
    made = model(nodes, {"data": shape}, ["y"], dtype=dtype)
    report = compare(made, made)
    assert report.data.endswith(f"'data': whole numbers {said}")
    limits = np.iinfo(helper.tensor_dtype_to_np_dtype(dtype))
    assert report.outputs[0].high >= (1 if said == "below 2" else 0.7 * limits.max)


def test_the_size_of_an_image_is_known_by_its_name_to_an_onnx_model() -> None:
    nodes = [helper.make_node("Mul", ["data", "im_info"], ["y"], "y")]
    for height, width, said in ((40, 3, "40x3"), (4, 3, "64x48")):
        made = model(nodes, {"data": (1, 1, height, width), "im_info": (1, 3)}, ["y"])
        assert compare(made, made).data.endswith(f"'im_info': an image of {said}, scale 1")


@pytest.mark.parametrize("made", [roi_align(), embedding(), to_onnx(nets.net(ROIS)), to_onnx(nets.net(CAPTION))])
def test_onnx_models_with_inputs_that_are_no_images_are_compared_on_values_they_can_mean(made: ModelProto) -> None:
    report = compare(made, made)
    assert report.passed, report.verdict
    assert all(blob.finite == blob.values for blob in report.outputs)
    assert report.outputs[0].high > report.outputs[0].low
