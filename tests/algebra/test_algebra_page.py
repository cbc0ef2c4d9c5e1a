"""docs/algebra.md speaks of every row of the tables, in both languages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bnfold.caffe import operators as caffe
from bnfold.onnx import operators as onnx

PAGE = (Path(__file__).parents[2] / "docs" / "algebra.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("op_type", sorted({*caffe.OPERATORS, *onnx.OPERATORS}))
def test_the_page_on_the_algebra_has_every_row(op_type: str) -> None:
    assert re.search(rf"\b{op_type}\b", PAGE)
