"""What a shell offers at a tab, by click's own machinery: files wherever a file is asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete

from bnfold.cli import main

MODEL = ["prototxt", "caffemodel"]
DATA = ["--data", "--mean"]
REPORTS = ["--json", "--html", "--markdown"]
ASK_FOR_FILES = {
    "fold": [*MODEL, "-o", *DATA, *REPORTS],
    "export": [*MODEL, "-o"],
    "convert": [*MODEL, "-o"],
    "inspect": [*MODEL, "--json"],
    "diff": ["reference", "candidate", "--pairs", "--checkpoint", *DATA, *REPORTS],
    "help": [],
}


def offered(*words: str, begun: str = "") -> list[tuple[str, str]]:
    """(kind, value) of what is offered behind some words and the beginning of the next."""
    found = BashComplete(main, {}, "bnfold", "_BNFOLD_COMPLETE").get_completions(list(words), begun)
    return [(one.type, one.value) for one in found]


@pytest.mark.parametrize("command", main.commands)
def test_every_argument_and_option_that_takes_a_file_offers_files(command: str) -> None:
    params = main.commands[command].params
    arguments = [param for param in params if isinstance(param, click.Argument)]
    before = [(param.opts[0], ["net.prototxt"] * place) for place, param in enumerate(arguments)]
    before += [
        (param.opts[0], [param.opts[0]]) for param in params if isinstance(param, click.Option) and not param.is_flag
    ]
    found = [name for name, words in before if offered(command, *words, begun="ne") == [("file", "ne")]]
    assert sorted(found) == sorted(ASK_FOR_FILES[command])


def test_files_are_offered_between_options_and_behind_a_colon() -> None:
    assert offered("fold", "--no-verify", begun="n") == [("file", "n")]
    assert offered("fold", "net.prototxt", "-o", "out.onnx", begun="n") == [("file", "n")]
    assert offered("fold", "--json", "a.json", "--json", "b.json", begun="n") == [("file", "n")]  # refused once it runs
    assert offered("diff", "net.prototxt", ":", begun="n") == [("file", "n")]  # bash makes three words of it


def test_commands_options_and_choices_are_offered() -> None:
    assert offered(begun="ex") == [("plain", "export")]
    assert [value for _, value in offered("help")] == [*main.commands]
    assert offered("help", begun="di") == [("plain", "diff")]
    assert ("plain", "--keep-failed") in offered("fold", "net.prototxt", begun="--ke")
    assert offered("fold", "--dialect") == [("plain", "bvlc"), ("plain", "keep")]


def test_the_environment_of_a_shell_is_understood() -> None:
    asked = {"_BNFOLD_COMPLETE": "bash_complete", "COMP_WORDS": "bnfold diff a.onnx b", "COMP_CWORD": "3"}
    program = "from bnfold.cli import main; main(prog_name='bnfold')"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("file,b\n", "", 0)
    for shell in ("bash", "zsh", "fish"):
        asked = {"_BNFOLD_COMPLETE": f"{shell}_source"}
        done = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, **asked}, capture_output=True, text=True, check=False
        )
        assert "bnfold" in done.stdout, shell


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_shows_a_description_behind_its_comma(tmp_path: Path) -> None:
    program = tmp_path / "bnfold"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parent.parent)!r})\n"
        "from bnfold.cli import main\nmain(prog_name='bnfold')\n"
    )
    program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    script = 'env _BNFOLD_COMPLETE=fish_source bnfold | source; complete --do-complete "bnfold fold --mem"'
    done = subprocess.run(
        ["fish", "-c", script], env={**os.environ, "PATH": path, "HOME": str(tmp_path)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    (memory,) = [param for param in main.commands["fold"].params if param.name == "memory"]
    assert isinstance(memory, click.Option)
    assert "," in str(memory.help)
    assert done.stdout == f"--memory\t{memory.help}\n"
