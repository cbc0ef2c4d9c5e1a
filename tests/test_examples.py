"""Every example that the docstrings and the pages give, run as a user would: in a folder with a model of such names."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from present import present

import bnfold

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "sample_models"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def examples() -> Iterator[doctest.DocTest]:
    """The examples of every module; what a module has and `bnfold` can be used in them."""
    inner = (module.name for module in pkgutil.walk_packages(bnfold.__path__, "bnfold."))
    for module in ("bnfold", *inner):
        if ">>>" not in Path(str(present(find_spec(module)).origin)).read_text(encoding="utf-8"):
            continue  # to look through all that every module has takes two seconds
        found = doctest.DocTestFinder().find(importlib.import_module(module), extraglobs={"bnfold": bnfold})
        yield from (test for test in found if test.examples)


def blocks() -> Iterator[tuple[str, str]]:
    """Every Python block of the pages."""
    for page in PAGES:
        for number, code in enumerate(
            re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
        ):
            yield f"{page.name}-{number}", code


EXAMPLES = list(examples())
BLOCKS = dict(blocks())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that examples name; those that a step before would have written are there, too."""
    for source, name in (
        ("digits_resnet.prototxt", "deploy.prototxt"),
        ("digits_resnet.caffemodel", "net.caffemodel"),
        ("digits_train_test.prototxt", "train_val.prototxt"),
    ):
        shutil.copy(SAMPLES / source, tmp_path / name)
    shutil.copytree(SAMPLES / "digits", tmp_path / "images")
    net = bnfold.load(tmp_path / "deploy.prototxt", tmp_path / "net.caffemodel")
    bnfold.save_onnx(net, tmp_path / "model.onnx")
    bnfold.save_onnx(bnfold.fold(net).net, tmp_path / "folded.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_gives_what_it_says(example: doctest.DocTest, folder: Path) -> None:
    told: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example, out=told.append)
    assert not told, "".join(told)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_of_python_in_a_page_runs(name: str, folder: Path) -> None:
    exec(compile(BLOCKS[name], name, "exec"), {"bnfold": bnfold})


def test_every_example_is_one_that_is_run() -> None:
    run = [line.source for example in EXAMPLES for line in example.examples]
    written = 0
    for path in (ROOT / "bnfold").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        written += len(re.findall(r"^ *>>> ", text, re.M))
        assert "doctest: " + "+SKIP" not in text, path
        for following in re.findall(r"^ *Examples?:\n(.*)", text, re.M):
            assert following.strip().startswith(">>> "), (path, following)
    assert len(run) == written > 30


def test_every_public_function_has_an_example() -> None:
    shown = {example.name.rpartition(".")[2] for example in EXAMPLES}
    functions = {name for name in bnfold.__all__ if name[0].islower()}
    assert functions <= shown


def test_the_reference_has_every_public_name() -> None:
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    listed = [name.rpartition(".")[2] for name in re.findall(r"^::: (bnfold\S+)$", page, re.M)]
    assert sorted(listed) == bnfold.__all__
