"""Everything that a fuzzer ever stumbled over, and every golden, goes through the harness at each run of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.harness import CORPUS, GOLDEN, TARGETS, limited


def inputs(target: str) -> list[Path]:
    """The corpus of a target; a target without one would be an oversight."""
    found = sorted((CORPUS / target).iterdir())
    assert found
    return found


@pytest.mark.parametrize(
    ("target", "path"), [pytest.param(name, path, id=path.name) for name in TARGETS for path in inputs(name)]
)
def test_the_corpus_ends_in_sentences(target: str, path: Path) -> None:
    limited(TARGETS[target])(path.read_bytes())


@pytest.mark.parametrize(("target", "name"), [("text", "net.prototxt"), ("wire", "net.caffemodel")])
def test_the_goldens_pass_the_harness(target: str, name: str) -> None:
    files = sorted(GOLDEN.glob(f"*/{name}"))
    assert len(files) > 100
    for file in files:
        limited(TARGETS[target])(file.read_bytes())
