"""The bar of what takes long."""

from contextlib import ExitStack

import numpy as np
import pytest
from onnx_models import classifier
from rich.console import Console

from bnfold.compare.comparison import compare
from bnfold.compare.measure import NamedProgress
from bnfold.report.progress import ProgressLines


def test_the_bar_shows_pieces_and_samples_a_second() -> None:
    with ExitStack() as shown:
        bar = ProgressLines(shown)
        for done in (8, 16, 24):
            bar("comparing", done, 80)
            bar.pieces("comparing", done // 8, 10)
        assert bar._bar is not None
        console = Console(width=120)
        with console.capture() as said:
            console.print(bar._bar.get_renderable())
    assert "24/80" in said.get()
    assert "3 of 10 pieces" in said.get()
    assert "samples/s" in said.get()


def test_the_bar_says_nothing_of_the_pieces_of_what_is_whole() -> None:
    with ExitStack() as shown:
        bar = ProgressLines(shown)
        bar.pieces("comparing", 1, 1)
        assert bar._bar is not None
        console = Console(width=120)
        with console.capture() as said:
            console.print(bar._bar.get_renderable())
    assert "comparing" in said.get()
    assert "pieces" not in said.get()


@pytest.mark.parametrize("columns", [36, 60, 80])
def test_the_bar_of_a_narrow_terminal_cuts_no_number(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with ExitStack() as shown:
        bar = ProgressLines(shown)
        for done in (8, 16, 24):
            bar("comparing with t.onnx", done, 24)
            bar.pieces("comparing with t.onnx", done // 8, 3)
        assert bar._bar is not None
        console = Console(width=columns)
        with console.capture() as said:
            console.print(bar._bar.get_renderable())
    assert "24/24" in said.get()
    assert "0:00:00" in said.get()
    assert "…" not in said.get()
    assert ("samples/s" in said.get()) == (columns >= 60)


def test_a_comparison_tells_its_pieces_to_a_progress_that_wants_them() -> None:
    told: list[tuple[str, int, int]] = []

    class Both:
        def __call__(self, what: str, done: int, total: int) -> None:
            told.append((what, done, total))

        def pieces(self, what: str, done: int, total: int) -> None:
            told.append((f"pieces of {what}", done, total))

    samples = np.random.default_rng(0).normal(size=(40, 3, 8, 8))
    compare(classifier(), classifier(), samples, batch=2, progress=NamedProgress(Both(), ("a",)))
    assert [one for one in told if one[0] == "pieces of a"] == [("pieces of a", 1, 2), ("pieces of a", 2, 2)]
    assert told[-2:] == [("a", 40, 40), ("pieces of a", 2, 2)]
