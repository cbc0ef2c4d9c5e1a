"""onnx's own models and node tests load, and come out as they were where nothing folds."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto
from onnx_cases import error, run
from present import present

from bnfold import fold, save_onnx
from bnfold.algebra.records import Kept
from bnfold.net import Array, Shape
from bnfold.onnx.read import load_bytes

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"


def folded(data: bytes) -> tuple[bytes, bool]:
    """The model after the fold, and whether anything was found to do."""
    result = fold(load_bytes(data))
    stream = BytesIO()
    save_onnx(result.net, stream)
    return stream.getvalue(), any(not isinstance(record, Kept) for record in result.report.records)


@pytest.mark.parametrize("path", sorted(DATA.rglob("*.onnx")), ids=lambda path: path.parent.name)
def test_a_stored_model_is_valid_after_the_fold_and_as_it_was_where_nothing_folds(path: Path) -> None:
    before = path.read_bytes()
    after, changed = folded(before)
    assert changed or after == before
    onnx.checker.check_model(ModelProto.FromString(after))


def zeros_of_a_pool(
    padded: Array, shape: Shape, _kernel: Shape, _strides: Shape, out: Shape, *_: Any, **__: Any
) -> Array:
    """As many values as onnx's own example of a pool computes."""
    return np.zeros((*shape[:2], *out), padded.dtype)


@pytest.mark.slow
def test_node_tests_are_as_they_were_where_nothing_folds_and_give_the_same_where_something_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Not what three large pools should give, which nobody asks, nor the text of each case: ten seconds.
    monkeypatch.setattr("onnx.reference.ops.op_pool_common.pool", zeros_of_a_pool)
    monkeypatch.setattr("onnx.backend.test.case.base.process_snippet", lambda _operator, name, _export: (name, ""))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, of the operators at their limits
        from onnx.backend.test.case.node import collect_testcases

        cases = [case for case in collect_testcases(None) if case.model is not None]
    assert len(cases) > 1000
    checked = 0
    for case in cases:
        before = present(case.model).SerializeToString()
        after, changed = folded(before)
        if not changed:
            assert after == before, case.name
            continue
        feeds, _ = present(case.data_sets)[0]
        names = [port.name for port in present(case.model).graph.input]
        given = {name: np.asarray(value) for name, value in zip(names, feeds, strict=False)}
        try:
            expected = run(before, given)
        except Exception:  # onnxruntime has no kernel for every type and opset
            continue
        got = run(after, given)
        for name, value in expected.items():
            if np.asarray(value).dtype.kind in "fc":
                assert error(got[name], value) < 1e-3, (case.name, name)
            else:
                assert np.array_equal(got[name], value), (case.name, name)
        checked += 1
    assert checked > 20
