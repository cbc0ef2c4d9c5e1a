"""What stands behind a layer of Caffe that cannot be run: shapes that are assumed, and faults there that are found."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import nets
import numpy as np
import pytest

import bnfold
from bnfold.compare.assumed_shapes import assumed_shapes
from bnfold.net import Blobs, Layer, Net

FIRST = """
    input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
    layer { name: "a" type: "Convolution" bottom: "data" top: "a" convolution_param { num_output: 4 kernel_size: 3 } }
    layer { name: "odd" type: "Odd" bottom: "a" top: "odd" }
"""
FOLDED = """
    layer { name: "b" type: "Convolution" bottom: "odd" top: "b" convolution_param { num_output: 4 kernel_size: 3 } }
    layer { name: "bn" type: "BatchNorm" bottom: "b" top: "bn" }
    layer { name: "scale" type: "Scale" bottom: "bn" top: "scale" scale_param { bias_term: true } }
    layer { name: "relu" type: "ReLU" bottom: "scale" top: "relu" }
"""


def given(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    return [np.random.default_rng(len(shape)).normal(0, 1, shape).astype(np.float32) for shape in shapes]


def whole() -> Net:
    vectors = [np.array([3, -1, 2, 0.5]), np.array([1, 2, 0.5, 4]), np.array([1.0])]
    learned = {"b": given((4, 4, 3, 3), (4,)), "bn": vectors, "scale": [np.array([1, -2, 3, -4]), np.arange(4) + 1.0]}
    return nets.net(FIRST + FOLDED, odd=given((4,)), **learned)


def _percent(layer: Layer) -> None:
    weight = layer.blobs[0].copy()
    weight[2] *= 1.01
    layer.blobs = Blobs([weight, *layer.blobs.stored[1:]])


def _without_bias(layer: Layer) -> None:
    layer.blobs = Blobs([layer.blobs[0], np.zeros_like(layer.blobs[1])])


def _swapped(layer: Layer) -> None:
    layer.blobs = Blobs([layer.blobs[0][[1, 0, 2, 3]], *layer.blobs.stored[1:]])


WRONG = (_percent, _without_bias, _swapped)


def require_faults_to_fail(net: Net, folded: Net, name: str, data: np.ndarray | None = None, *, layers: bool) -> None:
    """Assert that a right fold of a net fails once the weights of the layer of that name are wrong in any way."""
    for wrong in WRONG:
        other = folded.copy()
        wrong(other[name])
        assert not bnfold.compare(net, other, data, layers=layers).passed, wrong


@pytest.mark.parametrize("data", [None, np.ones((5, 3, 8, 8), np.float32)], ids=["noise", "data"])
@pytest.mark.parametrize("layers", [True, False])
def test_folds_behind_a_layer_that_cannot_be_run_are_proved(layers: bool, data: np.ndarray | None) -> None:
    net = whole()
    folded = bnfold.fold(net)
    assert {record.layer for record in folded.report.folded} == {"bn", "scale"}
    report = bnfold.compare(net, folded.net, data, layers=layers)
    assert report.passed
    assert {"a", "relu"} <= {blob.blob for blob in report.blobs} | {"a"}
    assert [note for note in report.notes if "'odd' (1x4x6x6)" in note]
    require_faults_to_fail(net, folded.net, "b", data, layers=layers)


@pytest.mark.parametrize("wrong", [*WRONG, None])
@pytest.mark.parametrize("layers", [True, False])
def test_a_fault_in_front_of_it_or_in_it_does_not_pass_by_what_it_is_fed(
    wrong: Callable[[Layer], None] | None, layers: bool
) -> None:
    """In front of it a fault shows in what it reads; where it is another layer, nothing behind it is proved."""
    net = whole()
    other = bnfold.fold(net).net
    if wrong is not None:
        wrong(other["a"])
    else:
        other["odd"].blobs = Blobs([other["odd"].blobs[0] * 2])
    report = bnfold.compare(net, other, layers=layers)
    assert not report.passed
    if wrong is None:
        assert "relu" not in {blob.blob for blob in report.blobs}
        assert "1 stands behind layer 'odd', which cannot be run" in report.verdict


@pytest.mark.parametrize("layers", [True, False])
def test_what_another_network_cannot_read_is_not_fed(layers: bool) -> None:
    """Of the layer behind it the candidate has learned for other channels, or other sizes."""
    net = whole()
    for width in (3, 7):
        other = net.copy()
        other["b"].blobs = Blobs(given((4, width, 3, 3), (4,)))
        for one, another in ((net, other), (other, net)):
            report = bnfold.compare(one, another, layers=layers)
            assert not report.passed
            assert "no output was compared" in report.verdict


def test_a_blob_that_is_fed_is_paired_by_the_user_with_its_own_alone() -> None:
    net = whole()
    folded = bnfold.fold(net).net
    renamed = folded.called({"odd": "other"})
    assert bnfold.compare(net, renamed, map={"odd": "other"}).passed
    text = (FIRST + FOLDED).replace('top: "odd"', 'top: "other"').replace('bottom: "odd"', 'bottom: "other"')
    written = nets.net(text, **{layer.name: layer.blobs for layer in net.layers})
    assert bnfold.compare(net, bnfold.fold(written).net, map={"odd": "other"}).passed
    for candidate, partner in ((renamed, "a"), (folded, "none")):
        with pytest.raises(bnfold.UsageError, match="has no blob 'odd'"):
            bnfold.compare(net, candidate, map={"odd": partner})


SHAPES = {
    "as its bottom": ("", {}, (1, 4, 6, 6)),
    "other channels": (
        """layer { name: "b" type: "Convolution" bottom: "odd" top: "b"
                   convolution_param { num_output: 2 kernel_size: 1 } }""",
        {"b": given((2, 7, 1, 1), (2,))},
        (1, 7, 6, 6),
    ),
    "a smaller plane": (
        """layer { name: "b" type: "Scale" bottom: "odd" top: "b" }
        layer { name: "fc" type: "InnerProduct" bottom: "b" top: "fc" inner_product_param { num_output: 2 } }""",
        {"b": given((4,)), "fc": given((2, 36), (2,))},
        (1, 4, 3, 3),
    ),
    "a vector": (
        'layer { name: "fc" type: "InnerProduct" bottom: "odd" top: "fc" inner_product_param { num_output: 2 } }',
        {"fc": given((2, 11), (2,))},
        (1, 11),
    ),
    "as what it meets": (
        """layer { name: "p" type: "Pooling" bottom: "a" top: "p" pooling_param { kernel_size: 2 stride: 2 } }
        layer { name: "e" type: "Eltwise" bottom: "odd" bottom: "p" top: "e" }""",
        {},
        (1, 4, 3, 3),
    ),
    "what a Concat needs": (
        """layer { name: "cat" type: "Concat" bottom: "odd" bottom: "a" top: "cat" }
        layer { name: "s" type: "Scale" bottom: "cat" top: "s" }""",
        {"s": given((13,))},
        (1, 9, 6, 6),
    ),
    "a plane that is met later": (
        """layer { name: "s" type: "Scale" bottom: "odd" top: "s" }
        layer { name: "c" type: "Convolution" bottom: "a" top: "c" convolution_param { num_output: 3 kernel_size: 4 } }
        layer { name: "e" type: "Eltwise" bottom: "s" bottom: "c" top: "e" }""",
        {"s": given((3,)), "c": given((3, 4, 4, 4), (3,))},
        (1, 3, 3, 3),
    ),
    "a vector that it meets": (
        """layer { name: "v" type: "InnerProduct" bottom: "a" top: "v" inner_product_param { num_output: 7 } }
        layer { name: "e" type: "Eltwise" bottom: "odd" bottom: "v" top: "e" }""",
        {"v": given((7, 144), (7,))},
        (1, 7),
    ),
    "flattened": (
        """layer { name: "v" type: "InnerProduct" bottom: "a" top: "v" inner_product_param { num_output: 7 } }
        layer { name: "cat" type: "Concat" bottom: "odd" bottom: "v" top: "cat" }
        layer { name: "fc" type: "InnerProduct" bottom: "cat" top: "fc" inner_product_param { num_output: 2 } }""",
        {"v": given((7, 144), (7,)), "fc": given((2, 151), (2,))},
        (1, 144),
    ),
    "a plane like no other": (
        """layer { name: "s" type: "Scale" bottom: "odd" top: "s" }
        layer { name: "fc" type: "InnerProduct" bottom: "s" top: "fc" inner_product_param { num_output: 2 } }""",
        {"s": given((4,)), "fc": given((2, 100), (2,))},
        (1, 4, 5, 5),
    ),
    "turned": (
        """layer { name: "f" type: "Flatten" bottom: "odd" top: "f" flatten_param { axis: 2 } }
        layer { name: "s" type: "Scale" bottom: "f" top: "s" }""",
        {"s": given((6,))},
        (1, 6, 4, 6),
    ),
    "none that fits": (
        """layer { name: "b" type: "Scale" bottom: "odd" top: "b" }
        layer { name: "fc" type: "InnerProduct" bottom: "b" top: "fc" inner_product_param { num_output: 2 } }""",
        {"b": given((4,)), "fc": given((2, 37), (2,))},
        None,
    ),
}


@pytest.mark.parametrize("case", SHAPES)
def test_a_shape_is_assumed_that_all_behind_it_can_read(case: str) -> None:
    behind, learned, shape = SHAPES[case]
    assert assumed_shapes(nets.net(FIRST + behind, **learned))["odd"] == shape


def test_what_is_assumed_has_as_many_rows_as_what_it_meets() -> None:
    """An InnerProduct alone would read the one row of the vector that its weights tell."""
    meets = """layer { name: "fc" type: "InnerProduct" bottom: "odd" top: "fc" inner_product_param { num_output: 144 } }
        layer { name: "f" type: "Flatten" bottom: "a" top: "f" }
        layer { name: "e" type: "Eltwise" bottom: "fc" bottom: "f" top: "e" }"""
    net = nets.net(FIRST.replace("dim: 1", "dim: 5") + meets, fc=given((144, 11), (144,)))
    assert assumed_shapes(net)["odd"] == (5, 11)


@pytest.mark.parametrize("window", ["kernel_size: 3 stride: 1 pad: 1", "kernel_h: 1 kernel_w: 3 stride: 1 pad_w: 1"])
def test_a_window_that_is_wider_than_what_a_layer_reads_is_not_assumed_to_lie_in_it(window: str) -> None:
    net = nets.net(
        f"""
        input: "data" input_shape {{ dim: 1 dim: 4 dim: 8 dim: 8 }}
        layer {{ name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param {{ pool: AVE global_pooling: true }} }}
        layer {{ name: "odd" type: "Odd" bottom: "p" top: "odd" }}
        layer {{ name: "max" type: "Pooling" bottom: "odd" top: "max" pooling_param {{ {window} }} }}
        """
    )
    wider = net.copy()
    param = deepcopy(wider["max"].param)
    param.pooling_param.ClearField("kernel_size")
    param.pooling_param.ClearField("pad")
    param.pooling_param.kernel_h, param.pooling_param.kernel_w = (1, 5) if "kernel_h" in window else (3, 5)
    param.pooling_param.pad_h, param.pooling_param.pad_w = (0, 2) if "kernel_h" in window else (1, 2)
    wider["max"].param = param
    assert bnfold.compare(net, net.copy()).passed
    assert not bnfold.compare(net, wider).passed


@pytest.mark.parametrize(
    ("kind", "side", "windows"), [("Convolution", 3, "pad: 1"), ("Deconvolution", 4, "pad: 1 stride: 2")]
)
@pytest.mark.parametrize("layers", [True, False])
def test_every_tap_behind_what_cannot_be_run_is_proved(kind: str, side: int, windows: str, layers: bool) -> None:
    """On the plane of 1x1 that the unknown layer reads, the middle of the kernel alone would meet it."""
    net = nets.net(
        f"""
        input: "data" input_shape {{ dim: 1 dim: 4 dim: 8 dim: 8 }}
        layer {{ name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param {{ pool: AVE global_pooling: true }} }}
        layer {{ name: "odd" type: "Odd" bottom: "p" top: "odd" }}
        layer {{ name: "b" type: "{kind}" bottom: "odd" top: "b"
                convolution_param {{ num_output: 4 kernel_size: {side} {windows} }} }}
        layer {{ name: "bn" type: "BatchNorm" bottom: "b" top: "bn" }}
        layer {{ name: "max" type: "Pooling" bottom: "bn" top: "max"
                pooling_param {{ kernel_size: 3 stride: 1 pad: 1 }} }}
        """,
        odd=[],
        b=given((4, 4, side, side), (4,)),
        bn=[np.array([3, -1, 2, 0.5]), np.array([1, 2, 0.5, 4]), np.array([1.0])],
    )
    folded = bnfold.fold(net)
    assert [record.layer for record in folded.report.folded] == ["bn"]
    assert bnfold.compare(net, folded.net, layers=layers).passed
    for tap in np.ndindex(side, side):
        other = folded.net.copy()
        weight = other["b"].blobs[0].copy()
        weight[:, :, *tap] *= 1.5
        other["b"].blobs = Blobs([weight, *other["b"].blobs.stored[1:]])
        assert not bnfold.compare(net, other, layers=layers).passed, tap
    other = folded.net.copy()
    wider = deepcopy(other["max"].param)
    wider.pooling_param.kernel_size, wider.pooling_param.pad = 5, 2
    other["max"].param = wider
    assert not bnfold.compare(net, other, layers=layers).passed


def small(count: int, features: int) -> Net:
    """Planes of 1x1, which layers read that nobody knows, and behind each a convolution whose middle meets it."""
    learned: dict[str, list[np.ndarray]] = {}
    text = 'input: "data" input_shape { dim: 1 dim: 4 dim: 1 dim: 1 }'
    for place in range(count):
        text += f"""
        layer {{ name: "odd{place}" type: "Odd" bottom: "data" top: "odd{place}" }}
        layer {{ name: "b{place}" type: "Convolution" bottom: "odd{place}" top: "b{place}"
                convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 }} }}
        layer {{ name: "s{place}" type: "Scale" bottom: "b{place}" top: "s{place}" }}"""
        learned |= {f"odd{place}": [], f"b{place}": given((4, 4, 3, 3), (4,)), f"s{place}": given((4,))}
    if features:
        text += """layer { name: "fc" type: "InnerProduct" bottom: "s0" top: "fc"
                inner_product_param { num_output: 2 } }"""
        learned["fc"] = given((2, features), (2,))
    return nets.net(text, **learned)


@pytest.mark.parametrize("layers", [True, False])
def test_taps_behind_many_layers_that_cannot_be_run_are_proved(layers: bool) -> None:
    net = small(70, 0)
    folded = bnfold.fold(net).net
    report = bnfold.compare(net, folded, layers=layers)
    assert report.passed
    assert not [note for note in report.notes if "not proved" in note]
    weight = folded["b69"].blobs[0].copy()
    weight[1, :, 0, 2] *= 1.5
    folded["b69"].blobs = Blobs([weight, *folded["b69"].blobs.stored[1:]])
    assert not bnfold.compare(net, folded, layers=layers).passed


@pytest.mark.parametrize(("features", "passes"), [(4, True), (16, False)])
def test_taps_that_meet_nothing_on_the_only_plane_that_fits_are_not_proved(features: int, passes: bool) -> None:
    net = small(1, features)
    folded = bnfold.fold(net).net
    weight = folded["b0"].blobs[0].copy()
    weight[1, :, 0, 2] *= 1.5
    folded["b0"].blobs = Blobs([weight, *folded["b0"].blobs.stored[1:]])
    report = bnfold.compare(net, folded)
    assert report.passed == passes
    assert any("layer 'b0': a part of the kernel" in note for note in report.notes) == passes


def split(*read: str) -> Net:
    """Two convolutions, each copied twice by a Split, and a layer that nobody knows, which reads some of these."""
    bottoms = " ".join(f'bottom: "{blob}"' for blob in read)
    conv = 'type: "Convolution" bottom: "data" convolution_param { num_output: 4 kernel_size: 3 }'
    return nets.net(
        f"""
        input: "data" input_shape {{ dim: 2 dim: 3 dim: 8 dim: 8 }}
        layer {{ name: "one" top: "one" {conv} }}
        layer {{ name: "bn" type: "BatchNorm" bottom: "one" top: "one" }}
        layer {{ name: "two" top: "two" {conv} }}
        layer {{ name: "split1" type: "Split" bottom: "one" top: "a" top: "b" }}
        layer {{ name: "split2" type: "Split" bottom: "two" top: "c" top: "d" }}
        layer {{ name: "odd" type: "Odd" {bottoms} top: "y" }}
        """
    )


@pytest.mark.parametrize("layers", [True, False])
def test_tops_of_a_split_are_one_another_to_what_cannot_be_run(layers: bool) -> None:
    reference = split("a", "b", "c", "d")
    assert bnfold.compare(reference, bnfold.fold(reference).net, layers=layers).passed
    for read in (("b", "a", "d", "c"), ("a", "a", "c", "c"), ("one", "b", "two", "c")):
        assert bnfold.compare(reference, split(*read), layers=layers).passed
    for read in (("c", "b", "a", "d"), ("a", "c", "b", "d"), ("a", "b", "one", "d")):
        report = bnfold.compare(reference, split(*read), layers=layers)
        assert not report.passed
        assert "the candidate makes output 'y' by other settings or weights, or of another blob" in report.verdict


SIDE = """
    layer { name: "side" type: "ReLU" bottom: "data" top: "side" }
    layer { name: "c" type: "Convolution" bottom: "a" top: "c" convolution_param { num_output: 4 kernel_size: 3 } }
"""


def _other_weight(net: Net) -> None:
    net["odd"].blobs = Blobs([net["odd"].blobs[0] * np.array([1, 1, 1.01, 1], np.float32)])


def _other_settings(net: Net) -> None:
    net["odd"].param = deepcopy(net["odd"].param)
    net["odd"].param.python_param.param_str = "another"


def _other_type(net: Net) -> None:
    net["odd"].type = "Even"


def _other_bottom(net: Net) -> None:
    net["odd"].bottoms = ["data"]


def _more_bottoms(net: Net) -> None:
    net["odd"].bottoms = ["a", "data"]


def _without_weights(net: Net) -> None:
    net["odd"].blobs = Blobs([])


def _left_out(net: Net) -> None:
    net["b"].bottoms = ["a"]
    net.layers.remove(net["odd"])


def _put_in(net: Net) -> None:
    net["side"].type = "Odd"
    net["side"].name = "new"


@pytest.mark.parametrize("layers", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        _other_weight,
        _without_weights,
        _other_settings,
        _other_type,
        _other_bottom,
        _more_bottoms,
        _left_out,
        _put_in,
    ],
)
def test_another_layer_that_cannot_be_run_does_not_pass_by_other_outputs(
    change: Callable[[Net], None], layers: bool
) -> None:
    """Nothing that is compared depends on it: what it makes is an output, or read by what makes one."""
    learned = {"b": given((4, 4, 3, 3), (4,)), "odd": given((4,))}
    reference = nets.net(FIRST + SIDE + FOLDED.split('layer { name: "bn"')[0], **learned)
    same, other = reference.copy(), reference.copy()
    for said in (same["odd"], same["side"]):  # of training alone
        said.param = deepcopy(said.param)
        said.param.loss_weight.append(0.5)
    same["odd"].blobs = Blobs([np.asarray(same["odd"].blobs[0]).astype(np.float16).astype(np.float32)])
    assert bnfold.compare(reference, same, layers=layers).passed
    change(other)
    report = bnfold.compare(reference, other, layers=layers)
    name = "side" if change is _put_in else "b"
    assert not report.passed
    assert f"the candidate makes output '{name}' by other settings or weights, or of another blob" in report.verdict


@pytest.mark.parametrize("layers", [True, False])
def test_versions_of_a_blob_in_place_are_told_apart_where_the_last_cannot_be_run(layers: bool) -> None:
    """In the folded file the convolution's own top is what the normalisation makes in the other."""
    start = """
        input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
        layer { name: "c" type: "Convolution" bottom: "data" top: "c"
                convolution_param { num_output: 4 kernel_size: 3 } }
        %s
        layer { name: "odd" type: "Odd" bottom: "c" top: "c" }
        layer { name: "side" type: "ReLU" bottom: "data" top: "side" }
    """
    factor = np.array([3, -1, 2, 0.5], np.float32)
    scale = 'layer { name: "s" type: "Scale" bottom: "c" top: "c" }'
    conv, bias = given((4, 3, 3, 3), (4,))
    net = nets.net(start % scale, c=[conv, bias], s=[factor], odd=[])
    folded = nets.net(start % "", c=[conv * factor.reshape(4, 1, 1, 1), bias * factor], odd=[])
    report = bnfold.compare(net, folded, layers=layers)
    assert report.passed, report.verdict
    assert {(blob.blob, blob.partner) for blob in report.blobs} == {("c@s", "c@c"), ("side", "side")}
    require_faults_to_fail(net, folded, "c", layers=layers)


TWO = """
    input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
    layer { name: "a" type: "Convolution" bottom: "data" top: "a" convolution_param { num_output: 4 kernel_size: 3 } }
    layer { name: "s" type: "Scale" bottom: "a" top: "s" }
"""


def two(behind: str, **learned: list[np.ndarray]) -> tuple[Net, Net]:
    """A net in front of layers that cannot be run, and its fold."""
    net = nets.net(TWO + behind, s=given((4,)), **learned)
    folded = bnfold.fold(net)
    assert "s" in {record.layer for record in folded.report.folded}
    return net, folded.net


@pytest.mark.parametrize("layers", [True, False])
def test_where_one_layer_is_another_what_stands_behind_others_is_still_compared(layers: bool) -> None:
    net, other = two(
        """layer { name: "odd" type: "Odd" bottom: "s" top: "odd" }
        layer { name: "even" type: "Even" bottom: "s" top: "even" }
        layer { name: "b" type: "Convolution" bottom: "odd" top: "b"
                convolution_param { num_output: 4 kernel_size: 3 } }
        layer { name: "c" type: "Convolution" bottom: "even" top: "c"
                convolution_param { num_output: 4 kernel_size: 3 } }
        """,
        b=given((4, 4, 3, 3), (4,)),
        c=given((4, 4, 3, 3), (4,)),
        odd=[],
        even=given((4,)),
    )
    other["even"].blobs = Blobs([other["even"].blobs[0] * 2])
    report = bnfold.compare(net, other, layers=layers)
    assert not report.passed
    assert {blob.blob for blob in report.outputs} == {"b"}
    assert "differs by" not in report.verdict
    _percent(other["b"])
    assert "blob 'b' differs by" in bnfold.compare(net, other, layers=layers).verdict


@pytest.mark.parametrize("layers", [True, False])
def test_what_a_copy_in_front_of_it_was_made_of_is_compared(layers: bool) -> None:
    """The candidate has no Dropout: the layer reads the blob itself."""
    behind = 'layer {{ name: "odd" type: "Odd" bottom: "{}" top: "odd" }}'
    net, _ = two('layer { name: "d" type: "Dropout" bottom: "s" top: "d" }' + behind.format("d"), odd=[])
    other = bnfold.fold(two(behind.format("s"), odd=[])[0]).net
    assert bnfold.compare(net, other, layers=layers).passed
    require_faults_to_fail(net, other, "a", layers=layers)


@pytest.mark.parametrize("layers", [True, False])
def test_outputs_that_cannot_be_run_are_told_from_one_another(layers: bool) -> None:
    net, folded = two(
        """layer { name: "odd" type: "Odd" bottom: "s" top: "odd" }
        layer { name: "even" type: "Even" bottom: "s" top: "even" }""",
        odd=[],
        even=[],
    )
    assert bnfold.compare(net, folded, layers=layers).passed
    folded["odd"].tops, folded["even"].tops = folded["even"].tops, folded["odd"].tops
    assert not bnfold.compare(net, folded, layers=layers).passed


@pytest.mark.parametrize("layers", [True, False])
def test_layers_that_cannot_be_run_may_read_one_another(layers: bool) -> None:
    """What the first makes is fed to none, since nothing that all its readers take has been found."""
    net, folded = two(
        """layer { name: "odd" type: "Odd" bottom: "s" top: "odd" }
        layer { name: "b" type: "Scale" bottom: "odd" top: "b" }
        layer { name: "fc" type: "InnerProduct" bottom: "b" top: "fc" inner_product_param { num_output: 2 } }
        layer { name: "even" type: "Even" bottom: "odd" bottom: "fc" top: "even" }""",
        odd=[],
        even=[],
        b=given((4,)),
        fc=given((2, 37), (2,)),
    )
    report = bnfold.compare(net, folded, layers=layers)
    assert report.passed, report.verdict
    require_faults_to_fail(net, folded, "a", layers=layers)


@pytest.mark.parametrize("layers", [True, False])
def test_layers_of_one_name_that_cannot_be_run_are_partners_in_their_order(layers: bool) -> None:
    net, folded = two(
        """layer { name: "odd" type: "Odd" bottom: "s" top: "one" }
        layer { name: "odd" type: "Odd" bottom: "data" top: "two" }""",
    )
    assert bnfold.compare(net, folded, layers=layers).passed
    folded.layers[-1].bottoms = ["s"]
    assert not bnfold.compare(net, folded, layers=layers).passed


@pytest.mark.parametrize("layers", [True, False])
def test_other_weights_behind_what_nothing_can_be_fed_to_are_said_not_to_be_proved(layers: bool) -> None:
    """No plane of 4 channels has 37 values. A fold may change such weights, so that they are no fault of themselves."""
    net, folded = two(
        """layer { name: "odd" type: "Odd" bottom: "s" top: "odd" }
        layer { name: "side" type: "ReLU" bottom: "s" top: "side" }
        layer { name: "b" type: "Scale" bottom: "odd" top: "b" }
        layer { name: "fc" type: "InnerProduct" bottom: "b" top: "fc" inner_product_param { num_output: 2 } }""",
        odd=[],
        b=given((4,)),
        fc=given((2, 37), (2,)),
    )
    for change in (None, _percent_of_fc):
        other = folded.copy()
        if change is not None:
            change(other)
        report = bnfold.compare(net, other, layers=layers)
        assert report.passed
        assert {blob.blob for blob in report.outputs} == {"side"}
        said = [note for note in report.notes if note.startswith("output 'fc': behind what cannot be run the layers")]
        assert bool(said) == (change is not None)


def _percent_of_fc(net: Net) -> None:
    net["fc"].blobs = Blobs([net["fc"].blobs[0] * np.array([[1.01], [1]], np.float32), net["fc"].blobs[1]])
