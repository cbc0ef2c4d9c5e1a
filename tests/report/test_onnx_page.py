"""The page on ONNX says of every operator what the code says."""

from __future__ import annotations

from pathlib import Path

from bnfold.report.onnx_page import operator_table

PAGE = Path(__file__).parents[2] / "docs" / "onnx.md"


def test_the_table_of_operators_is_what_the_code_prints() -> None:
    assert operator_table() in PAGE.read_text()
