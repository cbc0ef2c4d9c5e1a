"""What README quotes is what the commands print."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from command_line import Run

from bnfold.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\w*\n(.*?)^```$", README, re.M | re.S)
ERROR = re.compile(r"\d\.\de-\d\d")
SHAPED = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 8, 8] } } }\n'


def quoted(begin: str) -> str:
    """The block that begins so, on one line; errors depend on the processor."""
    (block,) = [block for block in BLOCKS if block.startswith(begin)]
    return ERROR.sub("#", " ".join(block.split()))


def test_the_first_command_prints_what_is_shown(run: Run, tmp_path: Path) -> None:
    (line,) = [line for line in README.splitlines() if line.startswith("python3 -m venv") and "bnfold fold" in line]
    shutil.copytree(ROOT / "sample_models", tmp_path / "sample_models")
    (tmp_path / ".venv").mkdir()
    printed = run(*shlex.split(line.partition(".venv/bin/bnfold ")[2]))
    assert printed.code == 0
    assert ERROR.sub("#", " ".join(printed.out.split())) == quoted("The networks compute the same")
    # All that it leaves in a clone lies in .venv, which git ignores.
    assert {path.name for path in tmp_path.iterdir()} == {"sample_models", ".venv", "net.prototxt", "net.caffemodel"}
    assert len(list((tmp_path / "sample_models").rglob("*"))) == len(list((ROOT / "sample_models").rglob("*")))


@pytest.mark.parametrize("name", ["data_scale", "bn3"])
def test_the_layers_that_stay_are_explained_as_shown(run: Run, tmp_path: Path, name: str) -> None:
    affine = {
        "data_scale": 'type: "Scale" scale_param { bias_term: true }',
        "bn3": 'type: "BatchNorm" batch_norm_param { use_global_stats: false }',
    }[name]
    net = (
        f'layer {{ name: "{name}" {affine} bottom: "data" top: "data" }}\n'
        'layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"'
        " convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }\n"
    )
    (tmp_path / "kept.prototxt").write_text(SHAPED + net)
    printed = " ".join(run("inspect", "kept.prototxt").out.split())
    (said,) = [line for line in re.split(r" (?=kept 1 )", quoted("kept 1 ")) if name in line]
    assert said in printed


@pytest.mark.parametrize("name", [name for name in main.commands if name != "help"])
def test_a_page_explains_each_option(name: str) -> None:
    said = README + "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    words = set(re.findall(r"--[a-z0-9][\w-]*", said))
    options = [param for param in main.commands[name].params if not getattr(param, "hidden", True)]
    assert [one.name for one in options if words.isdisjoint([*one.opts, *one.secondary_opts])] == []


def test_the_table_of_tools_says_what_the_measured_one_does() -> None:
    def table(text: str, heading: str) -> dict[str, list[str]]:
        rows = [row.strip("| ").split(" | ") for row in text.partition(heading)[2].partition("\n\n")[0].splitlines()]
        return {name: figures for name, *figures in rows[2:]}

    page = (ROOT / "docs" / "onnx.md").read_text(encoding="utf-8")
    measured = table(page, "| tool | models | affines | left | wrong | failed | names with another value | seconds |")
    wanted = {name: figures[2:6] for name, figures in measured.items()}
    shown = table(README, "| | affines left | models with wrong results | models that fail |")
    assert len(wanted) == 6
    assert shown == wanted
