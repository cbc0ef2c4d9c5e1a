"""docs/algebra.md speaks of every row of the tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnfold.caffe.operators import OPERATORS

PAGE = (Path(__file__).parents[2] / "docs" / "algebra.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", sorted(OPERATORS))
def test_the_page_on_the_algebra_has_every_row(kind: str) -> None:
    assert kind in PAGE
