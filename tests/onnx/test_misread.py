"""Nodes of which onnx infers another shape than runtimes make: nothing is folded by a size that is wrong."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_cases import error, run
from onnx_texts import folded, model, net_of, types, values

from bnfold.onnx.read import ONNX

SUMMED = """<ir_version: 8, opset_import: ["" : %d]> g (float[%s] x) => (float[N, C, H, W] y) {
    %s
    c = Conv (p, w)
    s = ReduceSum %s
    y = Add (s, k) }"""
POOL = "p = %sPool <kernel_shape = [3, 3], pads = [0, 0, 2, 2], strides = [2, 2], ceil_mode = 1> (x)"
DILATED = 'p = %sPool <kernel_shape = [2, 2], dilations = [2, 2], auto_pad = "SAME_UPPER"> (x)'
UPWARD = 'p = ConvTranspose <strides = [2, 2], output_padding = [0, 1], auto_pad = "SAME_UPPER"> (x, u)'
RESIZE = 'p = Resize <axes = [%s], keep_aspect_ratio_policy = "not_larger"> (x, , , sizes)'
STFT = "d = STFT %s (x, step, window) p = Transpose <perm = [0, 3, 1, 2]> (d)"
NUMBERS = {"axes": [2, 3], "one": [1], "sizes": [9, 12], "step": 4}
PLANE, SIGNAL = "2, 2, 6, 6", "2, 16, 1"


def summed(opset: int, node: str, shape: str = PLANE) -> onnx.ModelProto:
    """A node, a convolution of what it makes, and a bias behind the sum over the plane."""
    text = SUMMED % (opset, shape, node, "<axes = [2, 3]> (c)" if opset < 13 else "(c, axes)")
    numbers = {name: np.array(value) for name, value in NUMBERS.items()}
    return model(text, w=values(3, 2, 1, 1), k=values(3, 1, 1), u=values(2, 2, 3, 3), window=values(8), **numbers)


@pytest.mark.parametrize(
    ("opset", "node", "shape", "is_known"),
    [
        (11, POOL % "Max", PLANE, False),
        (11, POOL % "Average", PLANE, False),
        (18, POOL % "Lp", PLANE, False),
        (22, POOL % "Max", PLANE, True),
        (11, POOL.replace("[0, 0, 2, 2]", "[0, 0, 1, 1]") % "Max", PLANE, True),
        (18, RESIZE % "-1, -2", PLANE, False),
        (18, RESIZE % "3, 2", PLANE, True),
        (12, DILATED % "Max", PLANE, False),
        (19, DILATED % "Average", PLANE, False),
        (11, UPWARD, PLANE, False),
        (11, UPWARD.replace("[0, 1]", "[0, 0]"), PLANE, True),
        (17, STFT % "", SIGNAL, True),
        (17, STFT % "<onesided = 0>", SIGNAL, True),
    ],
)
def test_a_shift_passes_a_sum_only_where_its_size_is_what_a_runtime_makes(
    opset: int, node: str, shape: str, is_known: bool
) -> None:
    before = summed(opset, node, shape)
    x = {"x": values(*map(int, shape.split(",")))}
    made = run(before, x, ["p", "y"])
    for said in (before, onnx.shape_inference.infer_shapes(before)):
        after = folded(said)
        assert ("Add" not in types(after)) == is_known
        assert error(run(after, x)["y"], made["y"]) < 2e-5
        inferred, truth = ONNX.shapes(net_of(said))["p"], made["p"].shape
        if is_known or inferred is None:
            assert inferred == (truth if is_known else None)
        else:
            assert inferred[:2] == truth[:2]
            assert max(inferred[2:]) < 0


@pytest.mark.parametrize("opset", [11, 13])
def test_a_squeeze_of_no_axes_has_no_shape_that_is_known(opset: int) -> None:
    """onnxruntime makes (4, 4) of it, where an axis 1 is another one than of the (1, 4, 1, 4) that onnx infers."""
    axes = "(x)" if opset < 13 else "(x, none)"
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]> g (float[1, 4, 1, 4] x) => (float[N] y) {{
        q = Squeeze {axes} a = Mul (q, k) m = ReduceMean <axes = [1], keepdims = 0> (a) y = MatMul (m, w) }}"""
    constants = {"none": np.zeros(0, np.int64)} if opset >= 13 else {}
    before = model(text, k=values(4), w=values(4, 3), **constants)
    if opset < 13:
        before.graph.node[0].attribute.append(
            onnx.helper.make_attribute("axes", [], attr_type=onnx.AttributeProto.INTS)
        )
    x = {"x": values(1, 4, 1, 4)}
    assert error(run(folded(before), x)["y"], run(before, x)["y"]) < 2e-5
    assert ONNX.shapes(net_of(before))["q"] is None


def test_a_pool_of_a_plane_that_nodes_compute_has_no_size_that_is_wrong() -> None:
    """onnx is asked again when the plane is known, which it does not find out itself."""
    shape = "z = Shape (x) o = Div (z, one) r = Reshape (x, o)"
    before = summed(13, f"{shape} {POOL % 'Max'}".replace("(x)", "(r)").replace("Shape (r)", "Shape (x)"))
    assert ONNX.shapes(net_of(before))["r"] == (2, 2, 6, 6)
    assert ONNX.shapes(net_of(before))["p"] is None


@pytest.mark.parametrize("opset", [9, 13])
def test_a_normalisation_of_which_onnx_infers_nothing_keeps_the_shape(opset: int) -> None:
    """Without `axes`, of which it knows no default since opset 13."""
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]> g (float[1, 3, 4, 4] x) => (float[N, C, H, W] y) {{
        n = MeanVarianceNormalization (x) m = Mul (n, k) y = Add (m, b) }}"""
    before = model(text, k=values(3, 1, 1), b=values(3, 1, 1, seed=2))
    x = {"x": values(1, 3, 4, 4, seed=3)}
    after = folded(before)
    assert types(after) == ["MeanVarianceNormalization", "BatchNormalization"]
    assert error(run(after, x)["y"], run(before, x)["y"]) < 2e-5


@pytest.mark.parametrize(
    ("opset", "node"),
    [
        (9, "p = Upsample (x, ninth)"),
        (10, "p = Resize (x, ninth)"),
        (11, 'p = Resize <mode = "linear"> (x, none, ninth)'),
        (13, "q = Constant <value = float[4] {1, 1, 1.8888888, 1.8888888}> () p = Resize (x, , q)"),
        (18, 'p = Resize <axes = [3, 2], mode = "linear"> (x, , pair)'),
    ],
)
def test_a_size_that_rounding_decides_is_open(opset: int, node: str) -> None:
    """9 times 1.8888888 is 16.999999, and 17 in float32, which is what was meant and what onnxruntime makes."""
    before = summed(opset, node, "2, 2, 9, 9")
    scales = np.array([1, 1, 17 / 9, 17 / 9], np.float32)
    for name, array in (("ninth", scales), ("pair", scales[2:]), ("none", scales[:0])):
        before.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    x = {"x": values(2, 2, 9, 9)}
    made = run(before, x, ["p", "y"])
    assert made["p"].shape == (2, 2, 17, 17)
    assert error(run(folded(before), x)["y"], made["y"]) < 2e-5
    shape = ONNX.shapes(net_of(before))["p"]
    assert shape is not None
    assert shape[:2] == (2, 2)
    assert max(shape[2:]) < 0
