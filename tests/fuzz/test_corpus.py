"""Everything that a fuzzer ever stumbled over, and every golden, goes through the harness at each run of the tests."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from fuzz.harness import CORPUS, GOLDEN, TARGETS, text
from growing import growth, seconds


def inputs(target: str) -> list[Path]:
    """The corpus of a target; a target without one would be an oversight."""
    found = sorted((CORPUS / target).iterdir())
    assert found
    return found


@pytest.mark.parametrize(
    ("target", "path"), [pytest.param(name, path, id=path.name) for name in TARGETS for path in inputs(name)]
)
def test_the_corpus_ends_in_sentences(target: str, path: Path) -> None:
    TARGETS[target](path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_of_the_corpus_takes_long(target: str) -> None:
    """A whole detector takes 20 to 200 times as long as they do."""
    detector = partial(text, (GOLDEN / "ssd_detector_with_bn" / "net.prototxt").read_bytes())
    once = seconds(detector)
    for path in inputs(target):
        work = partial(TARGETS[target], path.read_bytes())
        if seconds(work) >= 5 * once:  # perhaps since the machine was busy
            times = growth(detector, work, below=5)
            assert times < 5, f"{path.name} takes {times:.1f} times as long as a detector"


@pytest.mark.parametrize(("target", "name"), [("text", "net.prototxt"), ("wire", "net.caffemodel")])
def test_the_goldens_pass_the_harness(target: str, name: str) -> None:
    files = sorted(GOLDEN.glob(f"*/{name}"))
    assert len(files) > 100
    for file in files:
        TARGETS[target](file.read_bytes())
