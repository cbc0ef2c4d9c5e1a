"""scikit-learn's StandardScaler in a file is an affine with a number for each feature."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
from onnx import ModelProto
from onnx_cases import run
from onnx_texts import assert_equal, folded, model, reasons, types, values

from bnfold import compare

pytestmark = pytest.mark.usefixtures("in_one_process")

TEXT = """<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]> g (float[n,4] x) => (float[n,3] y)
{ a = ai.onnx.ml.Scaler <scale = SCALE, offset = OFFSET> (x) m = MatMul (a, w) y = Relu (m) }"""
BATCH_NORM = "BatchNormalization"
SCALE, OFFSET = "[0.5, -2.0, 1.5, 0.25]", "[1.0, -0.5, 0.25, 2.0]"


@pytest.mark.parametrize(("scale", "offset"), [(SCALE, OFFSET), ("[-0.5]", "[1.5]")])
def test_a_scaler_goes_into_the_matmul_behind_it(scale: str, offset: str) -> None:
    before = model(TEXT.replace("SCALE", scale).replace("OFFSET", offset), w=values(4, 3))
    after = folded(before)
    assert types(after) == ["Gemm", "Relu"]
    x = values(5, 4, seed=3)
    assert_equal(before, after, x)


@pytest.mark.parametrize(
    ("nodes", "last"), [("b = Mul (x, c) y = SCALER (b)", "Scaler"), ("a = SCALER (x) y = Mul (a, c)", BATCH_NORM)]
)
def test_a_scaler_and_a_factor_become_one(nodes: str, last: str) -> None:
    """What comes later takes in what is in front of it."""
    nodes = nodes.replace("SCALER", "ai.onnx.ml.Scaler <scale = [0.5, -2.0], offset = [1.0, -0.5]>")
    domains = 'opset_import: ["" : 17, "ai.onnx.ml" : 3]'
    before = model(f"<ir_version: 8, {domains}> g (float[n,2] x) => (float[n,2] y) {{ {nodes} }}", c=values(2))
    after = folded(before)
    assert types(after) == [last]
    x = values(5, 2, seed=3)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["int64", "double"])
def test_what_a_scaler_rounds_to_float32_keeps_it(kind: str) -> None:
    text = TEXT.replace("SCALE", SCALE).replace("OFFSET", OFFSET).replace("(float[n,4] x)", f"({kind}[n,4] x)")
    before = model(text, w=values(4, 3))
    after = folded(before)
    assert types(after) == types(before)
    x = np.array([[3, -4, 5, 7]], {"int64": np.int64, "double": np.float64}[kind])
    np.testing.assert_array_equal(run(after, {"x": x})["y"], run(before, {"x": x})["y"])
    (reason,) = reasons(before)
    assert "what it reads is not float32" in reason


@pytest.mark.parametrize("second", ["[1.5, 0.5, -1.5, 3.0], offset = [-1.0, 0.5, 0.75, 1.0]", "[-0.5], offset = [1.5]"])
def test_two_scalers_become_one(second: str) -> None:
    """Of `t*(s*(x - o) - p)` the scale is `t*s`, and the offset `o + p/s`."""
    nodes = f"a = ai.onnx.ml.Scaler <scale = {SCALE}, offset = {OFFSET}> (x)"
    nodes += f" y = ai.onnx.ml.Scaler <scale = {second}> (a)"
    before = model(TEXT[: TEXT.index("(float")] + f"(float[n,4] x) => (float[n,4] y) {{ {nodes} }}")
    after = folded(before)
    assert types(after) == ["Scaler"]
    assert folded(after) == after
    x = values(5, 4, seed=3)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-5, atol=1e-5)


def test_a_scaler_without_an_offset_that_says_the_same_stays() -> None:
    """`0*(x - o)` adds nothing, whatever o, and what comes behind it does."""
    nodes = "a = ai.onnx.ml.Scaler <scale = [0.0, 2.0], offset = [0.0, 1.0]> (x)"
    nodes += " y = ai.onnx.ml.Scaler <scale = [2.0, -1.0], offset = [3.0, 1.0]> (a)"
    before = model(TEXT[: TEXT.index("(float")] + f"(float[n,2] x) => (float[n,2] y) {{ {nodes} }}")
    after = folded(before)
    assert types(after) == ["Scaler", "Scaler"]
    assert any("operator of another domain" in reason for reason in reasons(before))
    x = values(5, 2, seed=3)
    assert (run(after, {"x": x})["y"][:, 0] == -6).all()


@pytest.mark.parametrize(
    ("front", "kept"),
    [
        ("Imputer <imputed_value_floats = [0.5, -1.0, 2.0, 0.25], replaced_value_float = 3.0>", "Imputer"),
        ('Normalizer <norm = "L2">', "Normalizer"),
        ("Binarizer <threshold = 0.25>", "Binarizer"),
    ],
)
def test_a_scaler_behind_what_keeps_the_columns_goes_into_the_matmul(front: str, kept: str) -> None:
    """onnx infers no shape of what these make."""
    text = TEXT.replace("SCALE", SCALE).replace("OFFSET", OFFSET).replace("a = ", f"f = ai.onnx.ml.{front} (x) a = ")
    before = model(text.replace("> (x) m", "> (f) m"), w=values(4, 3))
    after = folded(before)
    assert types(after) == [kept, "Gemm", "Relu"]
    x = values(5, 4, seed=3)
    x[1, 2] = 3.0
    assert_equal(before, after, x)


def test_a_scaler_passes_the_columns_that_a_selection_takes() -> None:
    """As scikit-learn's SelectKBest and ColumnTransformer write it; the numbers of what is fixed are no columns."""
    nodes = f"a = ai.onnx.ml.Scaler <scale = {SCALE}, offset = {OFFSET}> (x)"
    nodes += " k = Constant <value = int64[2] {3, 1}> () b = ai.onnx.ml.ArrayFeatureExtractor (a, k) y = MatMul (b, w)"
    before = model(TEXT[: TEXT.index("(float")] + f"(float[n,4] x) => (float[n,3] y) {{ {nodes} }}", w=values(2, 3))
    after = folded(before)
    assert types(after) == ["Constant", "ArrayFeatureExtractor", "Gemm"]
    x = values(5, 4, seed=3)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-5, atol=1e-5)


REGRESSOR = "LinearRegressor <coefficients = [1.0, 2.0, -1.0, 0.5, 3.0, -0.5, 0.25, 1.5], targets = 2"
CLASSES = "classlabels_ints = [3, 5]"
CLASSIFIER = f"LinearClassifier <coefficients = [1.0, 2.0, -1.0, 0.5, 3.0, -0.5, 0.25, 1.5], {CLASSES}"
BINARY = f"LinearClassifier <coefficients = [1.0, 2.0, -1.0, 0.5], {CLASSES}, intercepts = [0.75]"


@pytest.mark.parametrize(
    "linear",
    [
        f"y = ai.onnx.ml.{REGRESSOR}> (a)",
        f"y = ai.onnx.ml.{REGRESSOR}, intercepts = [0.5, -1.0]> (a)",
        f'c, y = ai.onnx.ml.{CLASSIFIER}, intercepts = [0.5, -1.0], post_transform = "SOFTMAX"> (a)',
        f'c, y = ai.onnx.ml.{CLASSIFIER}, intercepts = [0.5, -1.0], multi_class = 1, post_transform = "LOGISTIC"> (a)',
        f'c, y = ai.onnx.ml.{BINARY}, post_transform = "LOGISTIC"> (a)',
    ],
)
def test_a_scaler_goes_into_a_linear_model(linear: str) -> None:
    """As scikit-learn's pipelines have them: a StandardScaler, then a LogisticRegression or a LinearRegression."""
    nodes = f"a = ai.onnx.ml.Scaler <scale = {SCALE}, offset = {OFFSET}> (x) {linear}"
    outputs = "float[n,2] y" + ", int64[n] c" * linear.startswith("c")
    before = model(TEXT[: TEXT.index("(float")] + f"(float[n,4] x) => ({outputs}) {{ {nodes} }}")
    after = folded(before)
    assert types(after) == [linear.split("ai.onnx.ml.")[1].split()[0]]
    x = values(16, 4, seed=3)
    wanted, found = run(before, {"x": x}), run(after, {"x": x})
    np.testing.assert_allclose(found["y"], wanted["y"], rtol=1e-5, atol=1e-5)
    assert "c" not in wanted or (set(wanted["c"]) == {3, 5} and (found["c"] == wanted["c"]).all())
    assert compare(before, after).passed
    (coefficients,) = (one for one in after.graph.node[0].attribute if one.name == "coefficients")
    coefficients.floats[1] *= -1
    assert not compare(before, after).passed


def test_what_a_linear_model_gives_and_what_it_rounds_stays() -> None:
    """What comes behind the scores has no coefficients to go into, and doubles would be rounded to float32's."""
    head = TEXT[: TEXT.index("(float")]
    behind = f"s = ai.onnx.ml.{REGRESSOR}> (x) y = Mul (s, k)"
    before = model(f"{head} (float[n,4] x) => (float[n,2] y) {{ {behind} }}", k=values())
    assert types(folded(before)) == types(before)
    assert "its scores are compared" in reasons(before)[0]
    wide = f"a = Mul (x, k) y = ai.onnx.ml.{REGRESSOR}> (a)"
    before = model(f"{head} (double[n,4] x) => (float[n,2] y) {{ {wide} }}", k=values(4, dtype=np.float64))
    assert types(folded(before)) == types(before)
    assert "what it reads is no float32 matrix" in reasons(before)[0]


def labelled(outputs: str, names: str = '["no", "yes"]') -> ModelProto:
    """A classifier behind a Scaler whose labels are text."""
    classifier = f"ai.onnx.ml.{BINARY.replace('ints = [3, 5]', f'strings = {names}')}"
    nodes = f"a = ai.onnx.ml.Scaler <scale = {SCALE}, offset = {OFFSET}> (x) c, y = {classifier}> (a)"
    return model(TEXT[: TEXT.index("(float")] + f"(float[n,4] x) => ({outputs}) {{ {nodes} }}")


@pytest.mark.parametrize("outputs", ["string[n] c, float[n,2] y", "string[n] c"])
@pytest.mark.parametrize("layers", [True, False])
def test_scores_beside_labels_of_text_are_folded_and_compared(outputs: str, layers: bool) -> None:
    before = labelled(outputs)
    after = folded(before)
    assert types(after) == ["LinearClassifier"]
    scores = model(TEXT[: TEXT.index("(float")] + "(float[n,4] x) => (float[n,2] y) { y = Identity (x) }").graph.output
    shown = [deepcopy(one) for one in (before, after)]
    for one in shown:
        del one.graph.output[1:]
        one.graph.output.extend(scores)
    x = values(32, 4, seed=3)
    wanted, found = (run(one, {"x": x}) for one in shown)
    assert (wanted["c"] == found["c"]).all()
    assert {*wanted["c"]} == {"no", "yes"}
    np.testing.assert_allclose(found["y"], wanted["y"], rtol=1e-4, atol=1e-5)
    report = compare(before, after, layers=layers)
    assert report.passed
    assert [blob.blob for blob in report.blobs] == ["y"]
    assert not compare(before, folded(labelled(outputs, '["yes", "no"]')), layers=layers).passed
    for place in range(4):
        wrong = deepcopy(after)
        next(one for one in wrong.graph.node[0].attribute if one.name == "coefficients").floats[place] *= 1.05
        report = compare(before, wrong, layers=layers)
        assert not report.passed
        assert "blob 'y' differs" in report.verdict
