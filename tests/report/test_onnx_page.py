"""The page on ONNX says of every operator what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnfold.onnx.operators import OPERATORS
from bnfold.report.onnx_page import operator_table

PAGE = Path(__file__).parents[2] / "docs" / "onnx.md"


def test_the_table_of_operators_is_what_the_code_prints() -> None:
    assert operator_table() in PAGE.read_text()


@pytest.mark.parametrize("name", OPERATORS)
def test_each_row_names_its_operator_in_front_of_the_formula(name: str) -> None:
    named, colon, formula = (OPERATORS[name].__doc__ or "").partition(": ")
    assert name in named.split(", ")
    assert colon
    assert formula
