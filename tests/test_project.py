"""The project itself: its public names, the sizes of its files, and what its pages promise."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import bnfold

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "bnfold"
LONGEST = 700  # 400 lines are a smell, not a law; cli.py lists every option
GENERATED = {"dialects.py", "caffe_pb2.py", "caffe_pb2.pyi"}

# Written apart, so that this file is not found by its own search.
MACHINE = ["/" + "work/", "/" + "root/", "/" + "home/", "/" + "Users/"]
REGISTRIES = ["py" + "pi.org", "python" + "hosted.org", "conda" + ".io", "ana" + "conda.org"]


def committed() -> list[Path]:
    """Every file that git knows, but for goldens, which are binary or come from elsewhere as they are."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs the git repository")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    paths = [ROOT / name for name in listed.decode().split("\0") if name and not name.startswith("tests/golden/")]
    return [path for path in paths if path.is_file()]


def python(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_public_names_are_sorted_and_can_all_be_had() -> None:
    assert bnfold.__all__ == sorted(bnfold.__all__)
    assert dir(bnfold) == bnfold.__all__
    for name in bnfold.__all__:
        assert getattr(bnfold, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nix'"):
        bnfold.nix  # type: ignore[attr-defined]  # noqa: B018


def test_the_map_of_compare_names_each_of_its_modules() -> None:
    folder = PACKAGE / "compare"
    said = re.findall(r"^    ([a-z_, ]+?)  ", (folder / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
    named = sorted(name for row in said for name in row.split(", "))
    assert named == sorted({path.stem for path in folder.glob("*.py")} - {"__init__", "comparison"})


def test_no_two_classes_have_one_name() -> None:
    sources = [path for path in PACKAGE.rglob("*.py") if path.name not in GENERATED]
    names = [name for path in sources for name in re.findall(r"(?m)^class (\w+)", path.read_text(encoding="utf-8"))]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def test_importing_the_package_waits_for_nothing() -> None:
    python("import sys, bnfold; assert not {'google', 'numpy', 'onnx', 'onnxruntime'} & set(sys.modules)")


def test_fold_is_the_function_and_never_the_package_of_that_name() -> None:
    python(
        "import bnfold\n"
        "assert callable(bnfold.fold)\n"
        "import bnfold.algebra.affine, bnfold.algebra.sweep, bnfold.compare.comparison, bnfold.onnx\n"
        "assert callable(bnfold.fold) and callable(bnfold.compare)\n"
    )
    python("import bnfold.algebra.sweep\nimport bnfold\nassert callable(bnfold.fold)")
    python("from bnfold.algebra.affine import Affine\nfrom bnfold import fold\nassert callable(fold)")


FIRST = """
import builtins, importlib, sys

unsure, really = set(), builtins.__import__

def looking(name, scope=None, local=None, wanted=(), level=0):
    assert level == 0 or not (scope or {}).get("__package__", "").startswith("bnfold"), "an import by a relative name"
    if name.partition(".")[0] == "bnfold":
        parts = name.split(".")
        looked_at = {".".join(parts[:end + 1]) for end in range(len(parts))} | {f"{name}.{one}" for one in wanted or ()}
        loaded = [(one, module) for one, module in sys.modules.items() if one.partition(".")[0] == "bnfold"]
        begun = [one for one, module in loaded if module.__spec__._initializing]
        for place, one in enumerate(begun):
            if one in looked_at:
                unsure.update(other for other in begun[place + 1:] if not other.startswith(f"{one}."))
    return really(name, scope, local, wanted, level)

builtins.__import__ = looking
for name in names:
    importlib.import_module(name)
builtins.__import__ = really
for name in sorted(unsure):
    for loaded in [other for other in sys.modules if other.partition(".")[0] == "bnfold"]:
        if loaded != "bnfold.caffe.caffe_pb2": del sys.modules[loaded]
    importlib.import_module(name)
"""
"""Imports each module once, and first those that looked at a module which was not complete then.

Another one looked at nothing but complete modules, those that it began, and the packages around it, which begin before
it whoever asks for it: imported first, it meets the same.
"""


def test_every_module_can_be_imported_first() -> None:
    modules = [path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py"]
    names = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in modules)
    python(f"names = {names}\n{FIRST}")


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in PACKAGE.rglob("*.py*")
        if path.suffix in (".py", ".pyi")
        and path.name not in GENERATED
        and (lines := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST
    }
    assert not long


def test_every_module_says_what_it_is_for() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.name not in GENERATED:
            assert path.read_text(encoding="utf-8").startswith('"""'), path


def test_there_is_no_drawer_for_odds_and_ends() -> None:
    assert not [path for path in committed() if re.fullmatch(r"(utils?|helpers?|misc|common)\.py", path.name)]


@pytest.mark.parametrize("words", [MACHINE, REGISTRIES], ids=["paths of a machine", "package registries"])
def test_no_committed_file_names(words: list[str]) -> None:
    found = []
    for path in committed():
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{path.relative_to(ROOT)}: {word}" for word in words if word in text]
    assert not found


def test_there_is_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert version("bnfold") == project["version"]
    shown = subprocess.run([sys.executable, "-m", "bnfold", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout == f"bnfold, version {project['version']}\n"
    # The changelog names every release; until there is one it has what is to come.
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert headings[0] in ("Unreleased", project["version"])


def test_the_readme_gives_two_commands_and_ci_calls_the_second() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line for line in readme.splitlines() if line.startswith("python3 -m venv ")]
    assert len(commands) == 2
    main_job, tests = commands
    assert "bnfold fold sample_models/" in main_job
    assert "pytest" in tests
    assert "pytest" not in main_job
    for path in re.findall(r"(sample_models/\S+|constraints\.txt)", main_job):
        assert (ROOT / path).exists(), path
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    (extract,) = re.findall(r"^tests=\"\$\(sed .*\)\"$", script, re.MULTILINE)
    called = re.findall(r"^eval (\"\$\{tests.*\}\")$", script, re.MULTILINE)
    shown = "; ".join([extract, *(f"echo {part}" for part in called)])
    found = subprocess.run(["bash", "-c", shown], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert " && ".join(found.splitlines()) == tests
    for word in ("ruff check", "ruff format --check", "mypy", "lint-imports", "mkdocs build --quiet --strict"):
        assert word in script


def test_the_readme_links_by_addresses_that_a_package_index_can_follow() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    links = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(links) > 5
    for link in links:
        found = re.fullmatch(rf"{re.escape(urls['Repository'])}/(?:blob|raw)/main/(.+)", link)
        assert found is not None, link
        assert (ROOT / found[1]).is_file(), link


def test_the_top_level_holds_what_the_design_says() -> None:
    allowed = {
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "README.md",
        "SECURITY.md",
        "benchmarks",
        "bnfold",
        "constraints.txt",
        "docs",
        "proto",
        "pyproject.toml",
        "sample_models",
        "tests",
    }
    there = {path.relative_to(ROOT).parts[0] for path in committed()}
    assert {name for name in there if not name.startswith(".")} <= allowed


def test_every_command_that_the_readme_shows_has_options_that_exist() -> None:
    cli = importlib.import_module("bnfold.cli")
    known = {
        name: {flag for option in command.params for flag in option.opts} for name, command in cli.main.commands.items()
    }
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command, rest in re.findall(r"bnfold (fold|export|convert|inspect|diff) (.*)", readme):
        assert set(re.findall(r"(?<=\s)-{1,2}[a-z][a-z-]*", rest.partition("`")[0])) <= known[command], (command, rest)
