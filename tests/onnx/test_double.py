"""An ONNX model in float64 computes what it computes in float32, and rounds a hundred million times finer."""

import math
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from onnx_models import change, classifier, model
from scipy import special

from bnfold.errors import UnsupportedError
from bnfold.net import Array
from bnfold.onnx.double import in_double
from bnfold.onnx.error_function import erf
from bnfold.onnx.evaluator import Evaluator
from bnfold.onnx.fused_operators import FUSED_OPERATORS
from bnfold.runtime import Session

IMAGES = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)


def test_every_blob_is_that_of_float32_up_to_its_rounding() -> None:
    blobs = ["conv1", "relu1", "conv2", "pool", "fc", "prob"]
    exact = Evaluator.of_model(classifier(), (), None, blobs).run({"data": IMAGES})
    assert {values.dtype for values in exact.values()} == {np.dtype(np.float64)}
    exposed = classifier()
    for blob in blobs[:-1]:
        exposed.graph.output.append(helper.make_empty_tensor_value_info(blob))
    for name, values in Session(exposed).run({"data": IMAGES}).items():
        assert np.abs(values - exact[name]).max() < 1e-5
        assert np.abs(values - exact[name]).max() > 0


@pytest.mark.parametrize("opset", [7, 9, 13, 14, 17])
@pytest.mark.parametrize("attributes", [{}, {"epsilon": 0.5}])
def test_a_normalisation_is_by_its_stored_statistics_at_every_opset(opset: int, attributes: dict[str, Any]) -> None:
    random = np.random.default_rng(2)
    names = ["gamma", "beta", "mean", "variance"]
    weights = {name: random.uniform(0.5, 2, 3).astype(np.float32) for name in names}
    node = helper.make_node("BatchNormalization", ["data", *names], ["bn"], **attributes)
    made = model([node], {"data": IMAGES.shape}, ["bn"], weights, opset)
    exact = Evaluator.of_model(made, (), None, ["bn"]).run({"data": IMAGES})["bn"]
    assert np.abs(Session(made).run({"data": IMAGES})["bn"] - exact).max() < 1e-5


@pytest.mark.parametrize("opset", [9, 11, 13, 17])
@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("Erf", {}),
        ("Hardmax", {}),
        ("Hardmax", {"axis": 2}),
        ("Hardmax", {"axis": -1}),
        ("LRN", {"size": 3, "alpha": 0.5}),
        ("LRN", {"size": 5, "alpha": 0.5, "beta": 0.3, "bias": 2.0}),
        ("LogSoftmax", {"axis": 2}),
        ("LpNormalization", {"axis": 1, "p": 1}),
        ("LpNormalization", {"axis": 2}),
        ("MaxPool", {"kernel_shape": [3, 3], "pads": [1, 1, 2, 0]}),
        ("MaxPool", {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}),
        ("MaxPool", {"kernel_shape": [3, 2], "pads": [1, 0, 2, 1], "strides": [2, 1]}),
        ("MeanVarianceNormalization", {"axes": [0, 2, 3]}),
        ("MeanVarianceNormalization", {"axes": [1, -1]}),
        ("Softmax", {}),
        ("Softmax", {"axis": 1}),
        ("Softmax", {"axis": 3}),
    ],
)
def test_an_operator_is_what_it_is_at_its_opset(operator: str, attributes: dict[str, Any], opset: int) -> None:
    node = helper.make_node(operator, ["data"], ["y"], **attributes)
    made = model([node], {"data": IMAGES.shape}, ["y"], {}, opset)
    exact = Evaluator.of_model(made, (), None, ["y"]).run({"data": IMAGES})["y"]
    assert exact.dtype == np.float64
    assert np.abs(Session(made).run({"data": IMAGES})["y"] - exact).max() < 1e-5


@pytest.mark.parametrize(("opset", "held"), [(18, 2), (21, 4)])
def test_groups_are_normalised_in_float64_whatever_type_the_node_names(opset: int, held: int) -> None:
    random = np.random.default_rng(3)
    data = random.normal(2, 1, (2, 4, 3, 5)).astype(np.float32)
    weights = {name: random.normal(size=held).astype(np.float32) for name in ("scale", "bias")}
    node = helper.make_node("GroupNormalization", ["data", *weights], ["y"], num_groups=2, epsilon=0.5)
    made = model([node], {"data": data.shape}, ["y"], weights, opset)
    exact = Evaluator.of_model(made, (), None, ["y"]).run({"data": data})["y"]
    groups = data.astype(np.float64).reshape(2, 2, 30)
    normal = (groups - groups.mean(2, keepdims=True)) / np.sqrt(groups.var(2, keepdims=True) + 0.5)
    scale, bias = (np.repeat(values.astype(np.float64), 4 // held).reshape(4, 1, 1) for values in weights.values())
    assert exact == pytest.approx(normal.reshape(data.shape) * scale + bias, rel=1e-12, abs=1e-12)
    assert np.abs(Session(made).run({"data": data})["y"] - exact).max() < 1e-5


@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("post_transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"])
def test_a_linear_regressor_has_the_function_behind_its_scores_that_onnxruntime_takes(
    post_transform: str, targets: int
) -> None:
    """PROBIT has values from 0 to 1 alone."""
    node = helper.make_node(
        "LinearRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        coefficients=np.random.default_rng(0).uniform(0.01, 0.2, 4 * targets).tolist(),
        targets=targets,
        post_transform=post_transform,
    )
    made = model([node], {"x": (5, 4)}, ["y"], {}, 17)
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    x = np.random.default_rng(1).uniform(0.1, 1, (5, 4)).astype(np.float32)
    exact = Evaluator.of_model(made, (), None, ["y"]).run({"x": x})["y"]
    assert exact.dtype == np.float64
    assert np.abs(Session(made).run({"x": x})["y"] - exact).max() < 1e-5


@pytest.mark.parametrize("value", [0.1, -3e5])
def test_what_is_constant_is_centred_to_0(value: float) -> None:
    node = helper.make_node("MeanVarianceNormalization", ["data"], ["y"], axes=[2, 3])
    made = model([node], {"data": IMAGES.shape}, ["y"], {}, 17)
    assert not Evaluator.of_model(made, (), None, ["y"]).run({"data": np.full_like(IMAGES, value)})["y"].any()


@pytest.mark.parametrize("opset", [10, 15, 16])
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize(("samples", "scale"), [(1, 1.0), (0, 0.7), (2, 1.0)])
def test_regions_lie_where_they_do_at_each_opset(mode: str, opset: int, samples: int, scale: float) -> None:
    regions = [
        [0.5, 0.5, 6, 5],
        [2, 1, 7, 7],
        [-3, -2, 3, 2],
        [5, 4, 12, 30],
        [6, 5, 2, 1],
        [3, 3, 3, 3],
        [40, 9, 50, 20],
    ]
    attributes: dict[str, Any] = {
        "output_height": 2,
        "output_width": 3,
        "sampling_ratio": samples,
        "spatial_scale": scale,
    }
    node = helper.make_node("RoiAlign", ["data", "regions", "which"], ["y"], mode=mode, **attributes)
    weights = {"regions": np.array(regions, np.float32), "which": np.array([1, 0, 1, 0, 0, 1, 1])}
    made = model([node], {"data": IMAGES.shape}, ["y"], weights, opset)
    exact = Evaluator.of_model(made, (), None, []).run({"data": IMAGES})["y"]
    found = Session(made).run({"data": IMAGES})["y"]
    assert len({value for value in found.ravel().tolist() if value}) > 50
    assert np.abs(found - exact).max() < 1e-5


@pytest.mark.parametrize("scale", [1.0, 0.5, 1 / 3])
def test_regions_are_pooled_in_the_bins_in_which_onnxruntime_pools_them(scale: float) -> None:
    random = np.random.default_rng(3)
    corners = random.integers(-8, 30, (60, 4)) / 2  # halves too, sides below 0, and regions outside of the image
    regions = np.column_stack([random.integers(0, len(IMAGES), 60), corners]).astype(np.float32)
    for shape in ([1, 1], [2, 3], [7, 6]):
        node = helper.make_node("MaxRoiPool", ["data", "regions"], ["y"], pooled_shape=shape, spatial_scale=scale)
        made = model([node], {"data": IMAGES.shape}, ["y"], {"regions": regions}, 17)
        exact = Evaluator.of_model(made, (), None, []).run({"data": IMAGES})["y"]
        assert np.array_equal(exact, Session(made).run({"data": IMAGES})["y"])
        assert (exact == 0).any()
        assert len({*exact.ravel().tolist()}) > 30


@pytest.mark.parametrize(
    ("batch", "shape"), [(0, (4, 2)), (0, (3,)), (0, (2, 5, 1)), (1, (2, 7, 2)), (1, (2, 3, 4, 1)), (2, (2, 3, 5, 1))]
)
def test_places_of_several_axes_are_gathered_as_onnxruntime_gathers_them(batch: int, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(2)
    data = random.normal(size=(2, 3, 4, 5)).astype(np.float32)
    sizes = np.array(data.shape[batch : batch + shape[-1]])
    weights: dict[str, Array] = {"index": random.integers(-sizes, sizes, shape)}
    node = helper.make_node("GatherND", ["data", "index"], ["y"], batch_dims=batch)
    made = model([node], {"data": data.shape}, ["y"], weights, 17)
    exact = Evaluator.of_model(made, (), None, []).run({"data": data})["y"]
    assert np.array_equal(exact, Session(made).run({"data": data})["y"])


def test_erf_is_within_two_units_in_the_last_place() -> None:
    """Of Python's, which is within one: at the ends of each approximation, and more values than a piece has."""
    random = np.random.default_rng(2)
    ends = [*(near + step * 2.0**-48 for near in (0.84375, 6.0) for step in range(-40, 40)), 0.5, 4.0, 27.0, 1e308]
    data = np.concatenate(
        [ends, random.normal(size=9000), random.uniform(0, 7, 9000), 10 ** random.uniform(-320, 1, 900)]
    )
    data *= random.choice([-1.0, 1.0], data.size)
    exact = np.array([math.erf(value) for value in data])
    found = erf(data.reshape(4, -1)).reshape(-1)
    assert (np.abs(found - exact) <= 2 * np.spacing(np.abs(exact))).all()
    assert (np.signbit(found) == np.signbit(data)).all()


@pytest.mark.parametrize("value", [0.0, 5e-324, 2.0**-1030, np.inf, np.nan, 6.0, 1e200])
def test_erf_at_the_ends_is_that_of_python(value: float) -> None:
    with np.errstate(all="raise", under="ignore"):
        found = erf(np.array([value, -value]))
    assert np.array_equal(found, [math.erf(value), math.erf(-value)], equal_nan=True)
    assert value != 0 or np.signbit(found).tolist() == [False, True]


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_has_all_digits_of_float64(approximate: str) -> None:
    """Near 0 it is x/2, as the next term of its series is 2**-60 of that."""
    node = helper.make_node("Gelu", ["data"], ["y"], approximate=approximate)
    data = np.array([2.0**-60, -(2.0**-61), 1.5, -2.5])
    exact = Evaluator.of_model(model([node], {"data": data.shape}, ["y"], {}, 20), (), None, []).run({"data": data})[
        "y"
    ]
    x = data[2:]
    share = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)) if approximate == "tanh" else special.erf(x / 2**0.5)
    assert np.array_equal(exact[:2], data[:2] / 2)
    assert np.abs(exact[2:] - x / 2 * (1 + share)).max() < 1e-15


@pytest.mark.parametrize(
    ("reduction", "opset"),
    [("none", 9), ("none", 10), ("none", 11), ("none", 18), ("add", 18), ("mul", 18), ("max", 18), ("min", 18)],
)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_elements_are_scattered_as_onnxruntime_scatters_them(axis: int, reduction: str, opset: int) -> None:
    random = np.random.default_rng(2)
    index = random.permuted(np.tile(np.arange(-3, 3), (5, 2, 1)), axis=2)[..., :3] if reduction == "none" else None
    index = random.integers(-3, 3, (5, 2, 3)) if index is None else index
    index = np.moveaxis(index, 2, axis)
    operator = "ScatterElements" if opset > 10 else "Scatter"
    node = helper.make_node(operator, ["data", "index", "update"], ["y"], axis=axis)
    if reduction != "none":
        node.attribute.append(helper.make_attribute("reduction", reduction))
    data, update = random.normal(size=(6, 6, 6)), random.normal(size=index.shape)
    feeds = {"data": data.astype(np.float32)}
    weights = {"index": index, "update": update.astype(np.float32)}
    made = model([node], {"data": data.shape}, ["y"], weights, opset)
    exact = Evaluator.of_model(made, (), None, []).run(feeds)["y"]
    found = Session(made).run(feeds)["y"]
    assert (found != feeds["data"]).any()
    assert np.abs(found - exact).max() < 1e-6


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose", "RoiAlign"])
def test_no_image_and_no_region_make_none(operator: str) -> None:
    """A detector that finds nothing hands nothing on to what stands behind."""
    weights: dict[str, Array] = {"w": np.ones((2, 2, 3, 3), np.float32)}
    node = helper.make_node(operator, ["data", "w"], ["y"])
    feeds = {"data": IMAGES[:0, :2]}
    if operator == "RoiAlign":
        node = helper.make_node(operator, ["data", "regions", "which"], ["y"], output_height=2)
        weights = {"regions": np.ones((0, 4), np.float32), "which": np.ones(0, np.int64)}
        feeds = {"data": IMAGES}
    made = model([node], {"data": ("N", *feeds["data"].shape[1:])}, ["y"], weights, 16)
    exact = Evaluator.of_model(made, (), None, []).run(feeds)["y"]
    assert exact.shape == Session(made).run(feeds)["y"].shape


POOLS: list[dict[str, Any]] = [
    {"kernel_shape": [2, 3], "auto_pad": "VALID", "dilations": [2, 2], "strides": [2, 1]},
    {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "dilations": [2, 2]},
    {"kernel_shape": [3, 4], "auto_pad": "SAME_LOWER", "strides": [1, 5]},
    {"kernel_shape": [2, 3], "ceil_mode": 1, "pads": [1, 1, 0, 1], "strides": [2, 2]},
    {"kernel_shape": [5, 5], "ceil_mode": 1, "pads": [2, 1, 0, 2], "strides": [3, 3]},
    {"kernel_shape": [3, 4], "ceil_mode": 1, "pads": [1, 1, 1, 1], "strides": [3, 4]},
    {"kernel_shape": [5, 4], "ceil_mode": 1, "strides": [5, 4]},
    {"kernel_shape": [1, 2], "ceil_mode": 1, "pads": [0, 1, 0, 1], "strides": [5, 4]},
]


@pytest.mark.parametrize("attributes", POOLS)
@pytest.mark.parametrize(
    ("operator", "further"),
    [
        ("AveragePool", {}),
        ("AveragePool", {"count_include_pad": 1}),
        ("LpPool", {}),
        ("LpPool", {"p": 3}),
        ("MaxPool", {}),
    ],
)
def test_windows_of_a_pool_lie_where_onnxruntime_lays_them(
    operator: str, further: dict[str, Any], attributes: dict[str, Any]
) -> None:
    node = helper.make_node(operator, ["data"], ["y"], **attributes, **further)
    same_in_double(model([node], {"data": IMAGES.shape}, ["y"], {}, 19))


@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize("padding_mode", ["border", "reflection", "zeros"])
@pytest.mark.parametrize(
    ("mode", "opset"), [("bicubic", 16), ("bilinear", 16), ("nearest", 16), ("cubic", 20), ("linear", 20)]
)
def test_a_grid_is_sampled_as_onnxruntime_samples_it(
    mode: str, opset: int, padding_mode: str, align_corners: int
) -> None:
    grid = np.random.default_rng(6).uniform(-1.4, 1.4, (2, 5, 6, 2)).astype(np.float32)
    said: dict[str, Any] = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    node = helper.make_node("GridSample", ["data", "grid"], ["y"], **said)
    same_in_double(model([node], {"data": IMAGES.shape}, ["y"], {"grid": grid}, opset))


@pytest.mark.parametrize("padding_mode", ["border", "reflection", "zeros"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_volumes_are_sampled_as_onnxruntime_samples_them(mode: str, padding_mode: str) -> None:
    grid = np.random.default_rng(6).uniform(-1.4, 1.4, (2, 3, 2, 5, 3)).astype(np.float32)
    node = helper.make_node("GridSample", ["data", "grid"], ["y"], mode=mode, padding_mode=padding_mode)
    made = model([node], {"data": (2, 3, 2, 4, 8)}, ["y"], {"grid": grid}, 20)
    feeds = {"data": IMAGES.reshape(2, 3, 2, 4, 8)}
    exact = Evaluator.of_model(made, (), None, []).run(feeds)["y"]
    assert np.abs(Session(made).run(feeds)["y"] - exact).max() < 1e-5


@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize(
    "said",
    [
        {},
        {"pads": [1, 2, 1, 0], "strides": [2, 1]},
        {"dilations": [2, 1], "group": 2},
        {"offset_group": 2, "pads": [3, 3, 3, 3]},
    ],
)
def test_a_deformed_convolution_is_that_of_onnxruntime(
    said: dict[str, Any], with_mask: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnfold.onnx.sampling_operators.TAKEN", 600)  # some rows at a time
    random = np.random.default_rng(4)
    data = random.normal(size=(2, 4, 7, 6)).astype(np.float32)
    taps, count, pads = 3 * 2, said.get("offset_group", 1), said.get("pads", [0] * 4)
    reach = [(size - 1) * step + 1 for size, step in zip((3, 2), said.get("dilations", [1, 1]), strict=True)]
    sizes = [
        (data.shape[2 + axis] + pads[axis] + pads[2 + axis] - reach[axis]) // said.get("strides", [1, 1])[axis] + 1
        for axis in (0, 1)
    ]
    weights = {
        "weight": random.normal(size=(6, 4 // said.get("group", 1), 3, 2)).astype(np.float32),
        "offset": random.normal(size=(2, 2 * taps * count, *sizes), scale=2).astype(np.float32),
        "bias": random.normal(size=6).astype(np.float32),
        "mask": random.normal(size=(2, taps * count, *sizes)).astype(np.float32),
    }
    if not with_mask:
        del weights["mask"]
    node = helper.make_node("DeformConv", ["data", *weights], ["y"], **said)
    made = model([node], {"data": data.shape}, ["y"], weights, 19)
    exact = Evaluator.of_model(made, (), None, []).run({"data": data})["y"]
    found = Session(made).run({"data": data})["y"]
    assert np.abs(found).max() > 1
    assert np.abs(found - exact).max() < 1e-4


@pytest.mark.parametrize("said", [{}, {"pads": [1, 0, 2, 1], "strides": [2, 1]}, {"dilations": [2, 1]}])
def test_windows_are_summed_where_onnxruntime_sums_them(said: dict[str, Any]) -> None:
    pads, (down, across) = said.get("pads", [0] * 4), said.get("strides", [1, 1])
    tall, wide = ((size - 1) * step + 1 for size, step in zip((2, 3), said.get("dilations", [1, 1]), strict=True))
    count = ((7 + pads[0] + pads[2] - tall) // down + 1) * ((6 + pads[1] + pads[3] - wide) // across + 1)
    data = np.random.default_rng(4).normal(size=(2, 3 * 6, count)).astype(np.float32)
    node = helper.make_node("Col2Im", ["data", "sizes", "kernel"], ["y"], **said)
    weights: dict[str, Array] = {"sizes": np.array([7, 6]), "kernel": np.array([2, 3])}
    made = model([node], {"data": data.shape}, ["y"], weights, 18)
    exact = Evaluator.of_model(made, (), None, []).run({"data": data})["y"]
    assert np.abs(Session(made).run({"data": data})["y"] - exact).max() < 1e-5


@pytest.mark.parametrize(
    ("reduction", "opset"), [("none", 11), ("none", 18), ("add", 18), ("mul", 18), ("max", 18), ("min", 18)]
)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_slices_are_scattered_as_onnxruntime_scatters_them(axes: int, reduction: str, opset: int) -> None:
    random = np.random.default_rng(2)
    rows = np.array([4, -1, 0, 1] if reduction == "none" else [4, -1, 4, 0])
    index = np.stack([rows, rows[::-1], rows][:axes], axis=-1).reshape(2, 2, axes)
    node = helper.make_node("ScatterND", ["data", "index", "update"], ["y"])
    if reduction != "none":
        node.attribute.append(helper.make_attribute("reduction", reduction))
    data, update = random.normal(size=(6, 6, 6)), random.normal(size=(2, 2, *(6,) * (3 - axes)))
    feeds = {"data": data.astype(np.float32)}
    made = model([node], {"data": data.shape}, ["y"], {"index": index, "update": update.astype(np.float32)}, opset)
    exact = Evaluator.of_model(made, (), None, []).run(feeds)["y"]
    found = Session(made).run(feeds)["y"]
    assert (found != feeds["data"]).any()
    assert np.abs(found - exact).max() < 1e-6


@pytest.mark.parametrize("operator", ["Col2Im", "DeformConv", "GridSample", "ScatterND"])
def test_no_operator_takes_a_value_at_a_time(operator: str) -> None:
    """Python calls as many functions for many values as for few."""
    random = np.random.default_rng(3)

    def calls(size: int) -> int:
        count = 0

        def called(*_: object) -> None:
            nonlocal count
            count += 1

        data = random.normal(size=(1, 4, size, size))
        feeds: dict[str, Array] = {
            "Col2Im": {"data": data.reshape(1, 4, -1), "s": np.array([size + 1] * 2), "k": np.array([2, 2])},
            "DeformConv": {
                "data": data,
                "w": random.normal(size=(2, 4, 1, 1)),
                "o": random.normal(size=(1, 2, size, size)),
            },
            "GridSample": {"data": data, "g": random.uniform(-1, 1, (1, size, size, 2))},
            "ScatterND": {"data": data[0, 0], "i": np.arange(size).reshape(-1, 1), "u": data[0, 1]},
        }[operator]
        node = helper.make_node(operator, [*feeds], ["y"])
        types = {np.dtype(np.float64): TensorProto.DOUBLE, np.dtype(np.int64): TensorProto.INT64}
        ports = [helper.make_tensor_value_info(name, types[given.dtype], None) for name, given in feeds.items()]
        graph = helper.make_graph([node], "test", ports, [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)])
        opset = helper.make_opsetid("", 19)
        evaluator = Evaluator.of_model(helper.make_model(graph, opset_imports=[opset], ir_version=9), (), None, [])
        sys.setprofile(called)
        try:
            evaluator.run(feeds)
        finally:
            sys.setprofile(None)
        return count

    few = calls(6)
    assert calls(20) < few + 50


def test_a_grid_is_sampled_at_places_that_are_not_rounded_to_float32() -> None:
    node = helper.make_node("GridSample", ["data", "grid"], ["y"])
    ports = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in ("data", "grid", "y")]
    graph = helper.make_graph([node], "test", ports[:2], ports[2:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    feeds = {"data": np.arange(8.0).reshape(1, 1, 1, 8), "grid": np.array([[[[0.3, 0.0]]]])}
    found = Evaluator.of_model(made, (), None, []).run(feeds)["y"]
    assert abs(found.item() - (1.3 * 8 - 1) / 2) < 1e-14


@pytest.mark.parametrize("size", [(2, 3, 4, 5), (2, 3, 2, 3, 4)])
@pytest.mark.parametrize("align_corners", [0, 1])
def test_an_affine_grid_is_that_of_onnxruntime_in_float64(size: tuple[int, ...], align_corners: int) -> None:
    axes = len(size) - 2
    theta = np.random.default_rng(4).normal(size=(2, axes, axes + 1)).astype(np.float32)
    node = helper.make_node("AffineGrid", ["theta", "size"], ["y"], align_corners=align_corners)
    made = model([node], {"theta": theta.shape}, ["y"], {"size": np.array(size)}, 20)
    exact = Evaluator.of_model(made, (), None, []).run({"theta": theta})["y"]
    assert not np.array_equal(exact, exact.astype(np.float32))
    np.testing.assert_allclose(Session(made).run({"theta": theta})["y"], exact, atol=1e-6)


@pytest.mark.parametrize("shape", [None, (2, 3, 8, 8), (2, 3, 9, 11)])
def test_what_was_pooled_goes_to_places_of_the_shape_that_is_asked_for(shape: tuple[int, ...] | None) -> None:
    made = onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["": 17]>
        graph (float[2, 3, 8, 8] data) => (float[n, c, h, w] y)
        <int64[4] shape = {{{", ".join(map(str, shape or (0,) * 4))}}}> {{
            pooled, places = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (data)
            y = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (pooled, places{", shape" if shape else ""})
        }}""")
    same_in_double(made)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("aligned", ["align_corners", "half_pixel", "asymmetric"])
@pytest.mark.parametrize("scales", [(0.7, 0.6), (1.3, 2.45), (0.9, 0.29), (1.1, 0.3)])
def test_a_scaled_plane_has_the_size_and_the_corners_that_onnxruntime_gives_it(
    scales: tuple[float, float], aligned: str, mode: str
) -> None:
    node = helper.make_node("Resize", ["data", "", "s"], ["y"], coordinate_transformation_mode=aligned, mode=mode)
    data = np.random.default_rng(4).normal(size=(1, 2, 10, 9)).astype(np.float32)
    made = model([node], {"data": data.shape}, ["y"], {"s": np.array([1, 1, *scales], np.float32)}, 13)
    exact, found = (
        Evaluator.of_model(made, (), None, []).run({"data": data})["y"],
        Session(made).run({"data": data})["y"],
    )
    assert exact.shape == found.shape
    np.testing.assert_allclose(found, exact, atol=1e-4)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("opset", [7, 9])
@pytest.mark.parametrize("scales", [(2.0, 2.0), (1.3, 2.7), (1.0, 3.0), (2.45, 1.1)])
def test_a_plane_is_enlarged_as_onnxruntime_enlarges_it(scales: tuple[float, float], opset: int, mode: str) -> None:
    data, every = np.random.default_rng(5).normal(size=(2, 3, 5, 20)).astype(np.float32), [1.0, 1.0, *scales]
    said: dict[str, Any] = {"scales": every} if opset == 7 else {}
    node = helper.make_node("Upsample", ["data", *["scales"] * (opset > 7)], ["y"], mode=mode, **said)
    made = model([node], {"data": data.shape}, ["y"], {"scales": np.array(every, np.float32)}, opset)
    exact = Evaluator.of_model(made, (), None, []).run({"data": data})["y"]
    found = Session(made).run({"data": data})["y"]
    assert exact.dtype == np.float64
    assert found.shape == exact.shape
    assert np.abs(found - exact).max() < 1e-5


@pytest.mark.parametrize(("starts", "end", "step"), [(5, 2**31 - 1, -1), (5, 2**63 - 1, -2), (1, 2**31 - 1, 2)])
def test_the_largest_integer_is_the_end_of_a_slice_in_its_direction(starts: int, end: int, step: int) -> None:
    said = {"from": starts, "to": end, "axis": 2, "step": step}
    node = helper.make_node("Slice", ["data", *said], ["y"])
    same_in_double(model([node], {"data": IMAGES.shape}, ["y"], {name: np.array([one]) for name, one in said.items()}))


@pytest.mark.parametrize("opset", [9, 11])
@pytest.mark.parametrize("axes", [[3, 0], [0, 3]])
def test_axes_that_are_put_in_are_those_of_what_is_made(axes: list[int], opset: int) -> None:
    node = helper.make_node("Unsqueeze", ["data"], ["y"], axes=axes)
    same_in_double(model([node], {"data": IMAGES.shape}, ["y"], {}, opset))


@pytest.mark.parametrize("sizes", [[15, 14], [16, 16], [17, 17]])
def test_a_deconvolution_may_be_told_its_size(sizes: list[int]) -> None:
    weight = np.random.default_rng(3).normal(size=(3, 2, 3, 2)).astype(np.float32)
    node = helper.make_node("ConvTranspose", ["data", "w"], ["y"], strides=[2, 2], output_shape=sizes)
    same_in_double(model([node], {"data": IMAGES.shape}, ["y"], {"w": weight}))


@pytest.mark.parametrize(("operator", "gates", "activations"), [("LSTM", 4, 3), ("GRU", 3, 2), ("RNN", 1, 1)])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    ("places", "attributes"),
    [
        ("w r b", {}),
        ("w r b", {"activations": ["ScaledTanh", "Affine", "Softplus"]}),
        ("w r b lengths", {}),
        ("w r b lengths h c p", {}),
        ("w r  lengths h c", {"clip": 0.6}),
        ("w r b  h c p", {"clip": 0.3, "input_forget": 1}),
        ("w r b lengths", {"linear_before_reset": 1}),
        ("w r b", {"activations": ["HardSigmoid", "Softsign", "Elu"], "activation_alpha": [0.3, 0.7, 0.3, 0.7]}),
        (
            "w r b",
            {"activations": ["LeakyRelu", "ThresholdedRelu", "Relu"], "activation_alpha": [0.3] * 4, "clip": 2.0},
        ),
    ],
)
def test_a_recurrent_network_does_all_that_it_is_told(
    operator: str, gates: int, activations: int, direction: str, places: str, attributes: dict[str, Any]
) -> None:
    """onnx's own knows no lengths, no clip and few activations."""
    random, ways = np.random.default_rng(7), 2 if direction == "bidirectional" else 1
    shapes = {"w": (ways, gates * 4, 3), "r": (ways, gates * 4, 4), "b": (ways, gates * 8), "h": (ways, 2, 4),
              "c": (ways, 2, 4), "p": (ways, 12)}  # fmt: skip
    stored = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    stored |= {"c": 2 * stored["c"], "lengths": np.array([3, 5], np.int32)}
    own = {"GRU": {"linear_before_reset"}, "LSTM": {"input_forget"}}.get(operator, set())
    told = {key: said for key, said in attributes.items() if key in own or not key.startswith(("input", "linear"))}
    if "activations" in told:
        told["activations"] = told["activations"][:activations] * ways
    read = [name for name in places.split(" ") if operator == "LSTM" or name not in ("c", "p")]
    made_of = ["y", "y_h", "y_c"][: 3 if operator == "LSTM" else 2]
    node = helper.make_node(operator, ["x", *read], made_of, hidden_size=4, direction=direction, **told)
    made = model([node], {"x": (5, 2, 3)}, made_of, {name: stored[name] for name in read if name})
    feeds = {"x": random.normal(size=(5, 2, 3)).astype(np.float32)}
    exact = Evaluator.of_model(made, (), None, []).run(feeds)
    for name, found in Session(made).run(feeds).items():
        assert exact[name].dtype == np.float64
        np.testing.assert_allclose(exact[name], found, rtol=1e-5, atol=1e-5)


def test_a_recurrent_network_may_have_the_batch_in_front() -> None:
    """onnxruntime runs none; what ONNX says of the layout is where axes lie."""
    random = np.random.default_rng(8)
    names = {"w": (2, 16, 3), "r": (2, 16, 4), "b": (2, 32), "lengths": (), "h": (2, 2, 4), "c": (2, 2, 4)}
    stored = {name: random.normal(size=shape).astype(np.float32) for name, shape in names.items()}
    stored["lengths"], x = np.array([3, 5], np.int32), random.normal(size=(5, 2, 3)).astype(np.float32)
    found = []
    for layout in (0, 1):
        node = helper.make_node(
            "LSTM", ["x", *names], ["y", "y_h", "y_c"], layout=layout, hidden_size=4, direction="bidirectional"
        )
        if layout:
            x = x.swapaxes(0, 1)
            stored |= {name: stored[name].swapaxes(0, 1) for name in ("h", "c")}
        made = model([node], {"x": x.shape}, ["y", "y_h", "y_c"], stored)
        found.append(Evaluator.of_model(made, (), None, []).run({"x": x}))
    assert np.array_equal(found[0]["y"].transpose(2, 0, 1, 3), found[1]["y"])
    assert all(np.array_equal(found[0][name].swapaxes(0, 1), found[1][name]) for name in ("y_h", "y_c"))


def same_in_double(made: onnx.ModelProto) -> None:
    exact, found = (
        Evaluator.of_model(made, (), None, []).run({"data": IMAGES})["y"],
        Session(made).run({"data": IMAGES})["y"],
    )
    assert exact.dtype == np.float64
    assert exact.shape == found.shape
    assert np.abs(found - exact).max() < 1e-5


@pytest.mark.parametrize(("axis", "shape"), [(-1, (2, 3, 90)), (2, (2, 2, 70)), (1, (2, 5, 90)), (0, (1, 2, 3))])
def test_elements_are_gathered_from_an_axis_of_any_length(axis: int, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(9)
    data = random.normal(size=(2, 3, 90)).astype(np.float32)
    index = random.integers(-data.shape[axis], data.shape[axis], shape)
    made = model(
        [helper.make_node("GatherElements", ["data", "i"], ["y"], axis=axis)], {"data": data.shape}, ["y"], {"i": index}
    )
    exact, found = (
        Evaluator.of_model(made, (), None, []).run({"data": data})["y"],
        Session(made).run({"data": data})["y"],
    )
    assert exact.dtype == np.float64
    np.testing.assert_array_equal(exact.astype(np.float32), found)


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("depth", [np.array(4), np.array([4])])
def test_the_depth_of_one_hot_is_a_number_or_a_vector_of_one(depth: Array, axis: int) -> None:
    made = model(
        [helper.make_node("OneHot", ["i", "depth", "ends"], ["y"], axis=axis)],
        {"x": (1,)},
        ["y"],
        {"i": np.array([[3, 0, -2], [1, 4, -4]]), "depth": depth, "ends": np.array([-1.5, 2.5], np.float32)},
    )
    feeds = {"x": np.zeros(1, np.float32)}
    exact, found = Evaluator.of_model(made, (), None, []).run(feeds)["y"], Session(made).run(feeds)["y"]
    np.testing.assert_array_equal(exact, found)


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"])
@pytest.mark.parametrize("plane", [(7,), (3, 5), (2, 3, 5)])
def test_a_global_pool_takes_planes_of_any_number_of_axes(operator: str, plane: tuple[int, ...]) -> None:
    data = np.random.default_rng(5).normal(size=(2, 3, *plane)).astype(np.float32)
    made = model([helper.make_node(operator, ["data"], ["y"])], {"data": data.shape}, ["y"], {})
    exact, found = (
        Evaluator.of_model(made, (), None, []).run({"data": data})["y"],
        Session(made).run({"data": data})["y"],
    )
    assert exact.shape == found.shape
    assert np.abs(found - exact).max() < 1e-5


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("group", [1, 2, 6])
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"strides": [2, 1], "dilations": [1, 2]},
        {"pads": [1, 0, 2, 1], "strides": [3, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
    ],
)
def test_a_convolution_is_what_it_is_for_every_group(operator: str, group: int, attributes: dict[str, Any]) -> None:
    """onnx's reference arithmetic gives every group of a ConvTranspose the first one's bias, where it runs."""
    random = np.random.default_rng(3)
    data = random.normal(size=(2, 6, 8, 9)).astype(np.float32)
    shape = (12, 6 // group, 3, 2) if operator == "Conv" else (6, 12 // group, 3, 2)
    weights = {"w": random.normal(size=shape).astype(np.float32), "b": random.normal(size=12).astype(np.float32)}
    node = helper.make_node(operator, ["data", "w", "b"], ["y"], group=group, **attributes)
    made = model([node], {"data": data.shape}, ["y"], weights)
    exact = Evaluator.of_model(made, (), None, []).run({"data": data})["y"]
    found = Session(made).run({"data": data})["y"]
    assert exact.dtype == np.float64
    assert exact.shape == found.shape
    assert np.abs(found - exact).max() < 1e-4


@pytest.mark.parametrize("auto_pad", ["SAME_LOWER", "SAME_UPPER"])
@pytest.mark.parametrize("operator", ["Conv", "LpPool"])
@pytest.mark.parametrize("kernel", [1, 2])
@pytest.mark.parametrize("stride", [2, 3, 4, 5, 6])
def test_strides_skip_the_pixels_that_onnxruntime_skips(stride: int, kernel: int, operator: str, auto_pad: str) -> None:
    random = np.random.default_rng(3)
    weights = {"w": random.normal(size=(3, 3, kernel, kernel)).astype(np.float32)} if operator == "Conv" else {}
    shaped: dict[str, Any] = {} if weights else {"kernel_shape": [kernel] * 2}
    node = helper.make_node(operator, ["data", *weights], ["y"], auto_pad=auto_pad, strides=[stride] * 2, **shaped)
    for size in (5, 6, 8, 12):
        data = random.normal(size=(2, 3, size, size + 1)).astype(np.float32)
        made = model([node], {"data": data.shape}, ["y"], weights, 18)
        exact = Evaluator.of_model(made, (), None, []).run({"data": data})["y"]
        np.testing.assert_allclose(Session(made).run({"data": data})["y"], exact, atol=1e-5)


def test_a_convolution_takes_the_memory_of_a_few_blobs() -> None:
    """The windows of all samples at once, as onnx has them, are 49 blobs."""
    made = model(
        [helper.make_node("Conv", ["data", "w"], ["y"], pads=[3, 3, 3, 3])],
        {"data": (8, 4, 128, 128)},
        ["y"],
        {"w": np.ones((4, 4, 7, 7), np.float32)},
    )
    exact, data = Evaluator.of_model(made, (), None, []), np.ones((8, 4, 128, 128))
    tracemalloc.start()
    try:
        exact.run({"data": data})
        assert tracemalloc.get_traced_memory()[1] < 10 * data.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize(
    ("shape", "axes"), [((2, 3, 4), [1, -1]), ((2, 3, 4), []), ((2, 0, 4), [1]), ((2, 0, 4), []), ((2, 0, 4), [0])]
)
def test_a_mean_is_that_of_onnxruntime_and_quiet_where_it_is_of_nothing(
    shape: tuple[int, ...], axes: list[int], opset: int, keepdims: int
) -> None:
    listed = opset >= 18 and axes
    said: dict[str, Any] = {"axes": axes} if axes and not listed else {}
    node = helper.make_node("ReduceMean", ["x", "axes"] if listed else ["x"], ["y"], keepdims=keepdims, **said)
    made = model([node], {"x": shape}, ["y"], {"axes": np.array(axes, np.int64)} if listed else {}, opset)
    feeds = {"x": np.random.default_rng(3).normal(size=shape).astype(np.float32)}
    found, wanted = Evaluator.of_model(made, (), None, []).run(feeds)["y"], Session(made).run(feeds)["y"]
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_an_output_without_a_name_is_no_input_that_is_not_given() -> None:
    random = np.random.default_rng(4)
    weights = {name: random.normal(size=(1, 16, size)).astype(np.float32) for name, size in (("w", 3), ("r", 4))}
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r"], ["", "state"], hidden_size=4),
        helper.make_node("Clip", ["state", "", "high"], ["y"]),
    ]
    made = model(nodes, {"x": (5, 2, 3)}, ["y"], weights | {"high": np.array(9, np.float32)})
    feeds = {"x": random.normal(size=(5, 2, 3)).astype(np.float32)}
    exact = Evaluator.of_model(made, (), None, ["y"]).run(feeds)["y"]
    np.testing.assert_allclose(exact, Session(made).run(feeds)["y"], atol=1e-6)


def test_constants_casts_and_bodies_become_double() -> None:
    body = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array([0.1], np.float32))),
         helper.make_node("Mul", ["y", "c"], ["z"])],
        "body", [], [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )  # fmt: skip
    nodes = [
        helper.make_node("Constant", [], ["k"], value_float=0.1),
        helper.make_node("Cast", ["whole"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "k"], ["y"]),
        helper.make_node("If", ["flag"], ["out"], then_branch=body, else_branch=body),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("whole", TensorProto.INT64, [3]),
         helper.make_tensor_value_info("flag", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [3])],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = Evaluator.of_model(made, (), None, []).run({"whole": np.array([1, 2, 3]), "flag": np.array(True)})
    tenth = np.float64(np.float32(0.1))
    assert found["out"].dtype == np.float64
    assert np.array_equal(found["out"], (np.array([1.0, 2.0, 3.0]) + tenth) * tenth)


@pytest.mark.parametrize(
    "nodes",
    [
        "made = ConstantOfShape (sizes)",
        "size = Constant <value_int: int = 8> () made = HannWindow (size)",
        "size = Constant <value_int: int = 8> () made = HammingWindow <periodic: int = 0> (size)",
        "size = Constant <value_int: int = 8> () made = BlackmanWindow <output_datatype: int = 1> (size)",
        """bands, length, rate = Split <num_outputs: int = 3> (numbers)
        one = Squeeze (bands) two = Squeeze (length) three = Squeeze (rate)
        low = Constant <value_float: float = 0.0> () high = Constant <value_float: float = 4000.0> ()
        weights = MelWeightMatrix (one, two, three, low, high) made = Transpose (weights)""",
        "mixed, , , made = Attention <softmax_precision: int = 1, qk_matmul_output_mode: int = 3> (data, data, data)",
    ],
)
def test_what_is_float32_unless_it_is_told_otherwise_becomes_double(nodes: str) -> None:
    made = onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["": {23 if "Attention" in nodes else 18}]>
        graph (float[2, 3, 8, 8] data) => (float[2, 3, 8, 8] y)
        <int64[1] sizes = {{8}}, int64[3] numbers = {{8, 14, 8192}}> {{ {nodes} y = Add (data, made) }}""")
    same_in_double(made)
    exact = Evaluator.of_model(made, (), None, ["made"]).run({"data": IMAGES})["made"]
    assert exact.dtype == np.float64
    if "Window" in nodes or "Attention" in nodes:
        assert not np.array_equal(exact, exact.astype(np.float32))


@pytest.mark.parametrize("reads", ["rounds, yes", "rounds, ", ", small"])
@pytest.mark.parametrize("made", ["turned", "line", "at"])
def test_a_loop_stacks_what_its_rounds_make(made: str, reads: str) -> None:
    shape = {"turned": "", "line": "[2]", "at": "[2, 3, 8, 8]"}[made]
    until = "less = Less (turned, two)" if "small" in reads else "less = Identity (goes_on)"
    made_by_body = f"""line_of = ReduceMean <axes = [1, 2, 3], keepdims: int = 0> (at)
        turned = Cast <to: int = 1> (turn) two = Constant <value_float: float = 2.0> () {until}
        line = Mul (line_of, turned) next = Sin (at) out = Identity ({made})"""
    body = f"""body (int64 turn, bool goes_on, float[2, 3, 8, 8] at)
        => (bool less, float[2, 3, 8, 8] next, float{shape} out) {{ {made_by_body} }}"""
    rank = "[3]" if not shape else f"[3, {shape[1:]}"
    same_in_double(
        onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["": 17]>
        graph (float[2, 3, 8, 8] data) => (float{rank} y) <int64 rounds = {{3}}, bool yes = {{1}}, bool small = {{1}}>
        {{
            last, y = Loop <body = {body}> ({reads}, data)
        }}""")
    )


def test_a_loop_of_no_round_makes_nothing_of_the_shape_that_its_body_says() -> None:
    made = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 17]>
        graph (float[2, 3, 8, 8] data) => (float[n, 2, 3, 8, 8] y, int64[n] turns, float[2, 3, 8, 8] last)
        <int64 rounds = {0}, bool yes = {1}>
        {
            last, y, turns = Loop <body = body (int64 turn, bool goes_on, float[2, 3, 8, 8] at)
                => (bool more, float[2, 3, 8, 8] next, float[2, 3, 8, 8] out, int64 at_turn) {
                    more = Identity (goes_on) next = Sin (at) out = Cos (at) at_turn = Identity (turn)
                }> (rounds, yes, data)
        }""")
    exact = Evaluator.of_model(made, (), None, []).run({"data": IMAGES})
    given = Session(made).run({"data": IMAGES})
    assert {name: values.shape for name, values in exact.items()} == {
        name: values.shape for name, values in given.items()
    }
    assert exact["turns"].dtype == np.int64
    np.testing.assert_array_equal(exact["last"], IMAGES.astype(np.float64))


def test_an_input_that_is_a_list_of_tensors_is_none_that_is_fed() -> None:
    made = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 17]>
        graph (seq(float[2]) list, float[2, 3, 8, 8] data) => (float[2, 3, 8, 8] y) { y = Sin (data) }""")
    exact = Evaluator.of_model(made, (), None, []).run({"data": IMAGES})["y"]
    np.testing.assert_array_equal(exact, np.sin(IMAGES.astype(np.float64)))


def test_what_is_wanted_is_kept_and_nothing_else() -> None:
    evaluator = Evaluator.of_model(classifier(), (), None, ["conv1", "relu1", "pool"])
    every = evaluator.run({"data": IMAGES})
    assert list(every) == ["prob", "conv1", "relu1", "pool"]
    some = evaluator.run({"data": IMAGES}, ["relu1", "prob"])
    assert list(some) == ["prob", "relu1"]
    assert all(np.array_equal(values, every[name]) for name, values in some.items())


def test_half_precision_is_widened() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float16)
    made = model([helper.make_node("MatMul", ["x", "w"], ["y"], "mm")], {"x": (2, 4)}, ["y"], {"w": weight},
                 dtype=TensorProto.FLOAT16)  # fmt: skip
    double = in_double(made, (), None)
    assert {tensor.data_type for tensor in double.graph.initializer} == {TensorProto.DOUBLE}
    x = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float16)
    found = Evaluator.of_model(made, (), None, []).run({"x": x})["y"]
    assert np.array_equal(found, x.astype(np.float64) @ weight.astype(np.float64))


def test_external_weights_are_read(tmp_path: Path) -> None:
    onnx.save_model(classifier(), tmp_path / "a.onnx", save_as_external_data=True, location="a.bin", size_threshold=0)
    bare = onnx.load(tmp_path / "a.onnx", load_external_data=False)
    found = Evaluator.of_model(bare, (), tmp_path, []).run({"data": IMAGES})["prob"]
    assert np.array_equal(found, Evaluator.of_model(classifier(), (), None, []).run({"data": IMAGES})["prob"])
    other = Evaluator.of_model(change(classifier(), "fc_b", (0,), 1.0), (), None, []).run({"data": IMAGES})["prob"]
    assert not np.array_equal(found, other)


@pytest.mark.parametrize(
    ("opset", "scales", "attributes"),
    [
        (10, (), {}),
        (13, (4,), {"axis": 0}),
        (19, (3,), {}),
        (21, (2, 3), {"axis": 0, "block_size": 2}),
        (23, (), {"output_dtype": TensorProto.FLOAT}),
    ],
)
def test_weights_that_are_dequantised_have_a_double(
    opset: int, scales: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    random = np.random.default_rng(7)
    weights: dict[str, Array] = {
        "q": random.integers(-128, 128, (4, 3)).astype(np.int8),
        "scale": random.uniform(0.01, 0.1, scales).astype(np.float32),
        "zero": random.integers(-9, 9, scales).astype(np.int8),
    }
    nodes = [
        helper.make_node("DequantizeLinear", [*weights], ["w"], **attributes),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    made = model(nodes, {"x": (2, 4)}, ["y"], weights, opset)
    x = random.normal(size=(2, 4)).astype(np.float32)
    exact = Evaluator.of_model(made, (), None, []).run({"x": x})["y"]
    assert exact.dtype == np.float64
    np.testing.assert_allclose(Session(made).run({"x": x})["y"], exact, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "said", "given", "number"),
    [
        ("k = Constant <value_float = @number> () z = Mul (a, k)", "<number>", "<number = 0.7>", 0.7),
        ("k = Constant <value_floats = @number> () z = Mul (a, k)", "<number>", "<number = [0.7, 0.3]>", [0.7, 0.3]),
        ("k = Constant <value_float = @number> () z = Mul (a, k)", "<number: float = 0.7>", "", 0.7),
        ("k = Cast <to = @type> (a) z = Cast <to = 1> (k)", "<type>", "<type = 10>", 1.0),
        ("z = LeakyRelu <alpha = @number> (a)", "<number>", "<number = 0.3>", 0.3),
    ],
)
def test_what_a_call_says_of_a_function_has_a_double(
    body: str, said: str, given: str, number: float | list[float]
) -> None:
    """A Cast to float16 rounds where networks run, and not in float64."""
    made = parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : 17, "own" : 1]>
        net (float[3,2] x) => (float[3,2] y) {{ b = own.F {given} (x) y = Sin (b) }}
        <domain: "own", opset_import: ["" : 17]> F {said} (a) => (z) {{ {body} }}"""
    )
    x = np.random.default_rng(7).normal(size=(3, 2)).astype(np.float32)
    exact = Evaluator.of_model(made, (), None, []).run({"x": x})["y"]
    wanted = x * np.float64(np.array(number, np.float32))
    wanted = np.maximum(x, wanted) if "Leaky" in body else wanted
    np.testing.assert_allclose(exact, np.sin(wanted), rtol=1e-14)
    assert np.abs(Session(made).run({"x": x})["y"] - exact).max() < 1e-3


def test_functions_that_call_each_other_without_end_have_no_double() -> None:
    made = parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 17, "own" : 1]>
        net (float[3] x) => (float[3] y) { y = own.F (x) }
        <domain: "own", opset_import: ["own" : 1]> F (a) => (z) { z = own.F (a) }"""
    )
    with pytest.raises(UnsupportedError, match="a function calls itself"):
        in_double(made, (), None)


def test_unknown_operators_have_no_double() -> None:
    odd = helper.make_graph(
        [helper.make_node("Odd", ["x"], ["y"], domain="mine")],
        "g",
        [helper.make_tensor_value_info("x", 1, [2])],
        [helper.make_tensor_value_info("y", 1, [2])],
    )
    made = helper.make_model(odd, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)])
    with pytest.raises(UnsupportedError, match="cannot take the network"):
        Evaluator.of_model(made, (), None, [])


def test_an_operator_without_reference_is_named_without_all_that_have_one() -> None:
    made = model([helper.make_node("Multinomial", ["x"], ["y"])], {"x": (1, 3)}, ["y"])
    with pytest.raises(
        UnsupportedError, match=r"\(No registered implementation for operator 'Multinomial' and .{,20}\)$"
    ):
        Evaluator.of_model(made, (), None, [])


def test_what_a_left_out_input_meets_is_no_value_of_the_network() -> None:
    """An output without a name has the name of an input that is left out."""
    nodes = [
        helper.make_node("Dropout", ["x"], ["y", ""]),
        helper.make_node("Split", ["y"], ["", "z"], axis=1),
        helper.make_node("Clip", ["scale", "", "most"], ["sizes"]),
    ]
    weights = {"scale": np.ones(2, np.float32), "most": np.full((), 3, np.float32)}
    made = model(nodes, {"x": (1, 4)}, ["z"], weights, opset=13)
    assert Evaluator.of_model(made, (), None, []).real_values() == {"x", "y", "z"}


def test_what_sizes_are_made_of_is_no_value_of_the_network_and_what_meets_one_is() -> None:
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["y"]),
        helper.make_node("Constant", [], ["more"], value_float=2.0),
        helper.make_node("Constant", [], ["idle"], value_float=3.0),
        helper.make_node("Mul", ["y", "more"], ["m"]),
        helper.make_node("Add", ["m", "bias"], ["z"]),
        helper.make_node("Shape", ["z"], ["sizes"]),
        helper.make_node("Cast", ["sizes"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["real", "half"], ["fewer"]),
    ]
    weights = {"scales": np.array([1, 1, 2, 2], np.float32), "bias": np.ones((), np.float32)}
    made = model(nodes, {"x": (1, 3, 2, 2)}, ["z", "fewer"], weights | {"half": np.full((), 0.5, np.float32)})
    found = Evaluator.of_model(made, (), None, []).real_values()
    assert found == {"x", "y", "more", "m", "bias", "z"}


@pytest.mark.parametrize("center_point_box", [0, 1])
@pytest.mark.parametrize("given", ["", "fewer", "most", "most overlap", "most overlap least", "most - least"])
def test_boxes_are_suppressed_as_onnxruntime_suppresses_them(center_point_box: int, given: str) -> None:
    random = np.random.default_rng(5)
    boxes = random.uniform(0.2, 1, (2, 60, 4)).astype(np.float32)
    scores = random.choice(np.linspace(0, 1, 30, dtype=np.float32), (2, 3, 60))  # some are equal
    weights = {"most": np.array([9]), "overlap": np.array([0.4], np.float32), "least": np.array([0.5], np.float32)}
    weights["fewer"] = np.array([-1])
    names = ["" if name == "-" else name for name in given.split()]
    node = helper.make_node("NonMaxSuppression", ["boxes", "scores", *names], ["y"], center_point_box=center_point_box)
    weights = {name: weights[name] for name in names if name}
    made = model([node], {"boxes": boxes.shape, "scores": scores.shape}, ["y"], weights, 13)
    made.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    feeds = {"boxes": boxes, "scores": scores}
    chosen = Session(made).run(feeds)["y"]
    assert bool(chosen.size) == given.startswith("most")
    np.testing.assert_array_equal(Evaluator.of_model(made, (), None, ["y"]).run(feeds)["y"], chosen)


def test_thousands_of_boxes_of_classes_apart_are_suppressed_as_onnxruntime_suppresses_them() -> None:
    random = np.random.default_rng(7)
    corners = random.uniform(0, 20, (1, 3000, 2)) + 25.0 * random.integers(0, 40, (1, 3000, 1))
    boxes = np.concatenate([corners, corners + random.uniform(-9, 9, corners.shape)], axis=2).astype(np.float32)
    boxes[:, 5:9, 2:] = boxes[:, 5:9, :2]  # without an area
    boxes[:, 9] = boxes[:, 8]
    scores = random.uniform(0, 1, (1, 1, 3000)).astype(np.float32)
    for overlap in (0.0, 0.3, 0.6):
        node = helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "overlap"], ["y"])
        weights = {"most": np.array([5000]), "overlap": np.array([overlap], np.float32)}
        made = model([node], {"boxes": boxes.shape, "scores": scores.shape}, ["y"], weights, 13)
        made.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
        feeds = {"boxes": boxes, "scores": scores}
        chosen = Session(made).run(feeds)["y"]
        assert 40 < len(chosen) < 3000
        np.testing.assert_array_equal(Evaluator.of_model(made, (), None, ["y"]).run(feeds)["y"], chosen)


def test_of_a_node_one_output_may_be_known_and_the_other_one_not_wanted() -> None:
    made = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4] x) => (float[2] y) {
            two = Constant <value = int64[1] {2}> ()
            most, places = TopK (x, two)
            y = Gather (x, places)
        }"""
    )
    feeds, known = {"x": np.array([3, -1, 2, 5], np.float32)}, {"places": np.array([1, 2])}
    truth = Evaluator.of_model(made, (), None, ["most"])
    assert truth.run(feeds)["y"].tolist() == [5, 3]
    assert dict(truth.each(feeds, ["y"], known=known))["y"].tolist() == [-1, 2]
    assert [values.tolist() for _, values in truth.each(feeds, known=known)] == [[5, 3], [-1, 2]]


FUSED = [
    "BiasGelu (x, b4)",
    "FastGelu (x, b4)",
    "FastGelu (x)",
    "Gelu (x)",
    "QuickGelu (x)",
    "QuickGelu <alpha = 0.5> (x)",
    "FusedMatMul <alpha = 0.5> (x, w45)",
    "FusedMatMul <transA = 1> (x, w35)",
    "FusedMatMul <transB = 1> (x, w54)",
    "SkipLayerNormalization <epsilon = 0.01> (x, x234, b4, b4, b4)",
    "SkipLayerNormalization (x, x234, b4)",
    "SkipSimplifiedLayerNormalization <epsilon = 0.01> (x, x234, b4, b4)",
    "SimplifiedLayerNormalization <epsilon = 0.01> (x, b4)",
    "SimplifiedLayerNormalization (x, b4)",
    'FusedConv <activation = "Relu"> (x, w5323, b5)',
    'FusedConv <activation = "Clip", activation_params = [-1.0, 2.0], auto_pad = "SAME_UPPER"> (x, w5323, b5)',
    'FusedConv <activation = "HardSigmoid", activation_params = [0.02, 0.4], strides = [2, 1]> (x, w5323)',
    'FusedConv <activation = "LeakyRelu", activation_params = [0.3], pads = [1, 1, 1, 1]> (x, w5323, b5)',
    'FusedConv <activation = "Sigmoid", dilations = [2, 1]> (x, w5323, b5)',
    'FusedConv <activation = "Tanh", group = 3, pads = [0, 0, 1, 1]> (x, w3122, b3, x2366)',
    'FusedGemm <activation = "Relu", alpha = 2.0, beta = 0.5> (x, w45, b5)',
    'FusedGemm <activation = "LeakyRelu", activation_alpha = 0.3, transB = 1> (x, w54, b5)',
    'FusedGemm <activation = "Tanh", transA = 1> (x, w35)',
]


@pytest.mark.parametrize("made", FUSED)
def test_what_onnxruntime_makes_of_several_nodes_is_computed_in_float64(made: str) -> None:
    """Each input but x is as large as the digits behind its name say."""
    shape = {"FusedC": (2, 3, 6, 6), "FusedG": (3, 4)}.get(made[:6], (2, 3, 4))
    outputs = "y, , , z" if made.startswith("Skip") else "y"
    domain = "" if made.startswith("Simplified") else "com.microsoft."
    read = {one for one in made[made.rindex("(") + 1 : -1].split(", ") if one != "x"}
    ports = ", ".join(f"float {name}" for name in outputs.replace(", ,", "").split(", "))
    parsed = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        g (float[{",".join(map(str, shape))}] x) => ({ports}) {{ {outputs} = {domain}{made} }}"""
    )
    random = np.random.default_rng(0)
    for name in read:
        values = random.normal(size=tuple(map(int, name[1:]))).astype(np.float32)
        parsed.graph.initializer.append(numpy_helper.from_array(values, name))
    x = random.normal(size=shape).astype(np.float32)
    for output in parsed.graph.output:
        output.type.tensor_type.ClearField("shape")
    found = Evaluator(in_double(parsed, (), None), ()).run({"x": x})
    for name, wanted in Session(parsed).run({"x": x}).items():
        assert found[name].dtype == np.float64
        np.testing.assert_allclose(found[name], wanted, rtol=1e-5, atol=1e-5)


def test_a_product_that_moves_its_batch_has_no_form_in_float64() -> None:
    parsed = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> g (float[4,2,4] x) => (float y)
        { y = com.microsoft.FusedMatMul <transBatchA = 1> (x, x) }"""
    )
    with pytest.raises(UnsupportedError, match="FusedMatMul moves the batch"):
        Evaluator(in_double(parsed, (), None), ()).run({"x": np.zeros((4, 2, 4))})


def test_each_of_these_operators_is_tried() -> None:
    assert {made.split()[0] for made in FUSED} == {operator.__name__ for operator in FUSED_OPERATORS}
