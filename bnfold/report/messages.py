"""What a command says when something stops it: one sentence for each exception, and for each wrong command line."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import pairwise, takewhile
from pathlib import Path
from typing import NamedTuple

from bnfold.errors import BnfoldError
from bnfold.options import TEXT, WEIGHTS
from bnfold.report.words import on_one_line, shortened, visible

DISTRIBUTIONS = {"PIL": "Pillow", "google": "protobuf"}
"""Module -> the package that has it, where the two have different names."""
OF_MEMORY = ("memory", "failed to map segment")
"""Words of the loader where it was given no memory."""
CUT_SHORT = "code that Python keeps of a module is cut short, as by a full disk; remove the folders __pycache__"
LISTED = "\n  "
"""What stands in front of each line of a list in a message."""
UNUSABLE, FAULTY = 2, 70
"""Exit codes: wrong usage or a file that cannot be used; a fault of bnfold itself."""
OUTPUT = ("-o", "--output")
MEANT = {"compare": "diff", "version": "--version"}
"""What is called otherwise elsewhere -> what it is called here."""
NO_NUMBER = {"float": "no number", "integer": "no whole number"}
"""What click calls a kind of number -> what a word is that it cannot read as one."""


def message_of(error: Exception) -> tuple[str, int]:
    """The message for an exception, and the exit code."""
    if isinstance(error, BnfoldError):
        lines = str(error).split(LISTED)  # other line ends belong to names of files and layers
        return with_notes(shortened(LISTED.join(map(on_one_line, lines))), error), UNUSABLE
    if isinstance(error, MemoryError):
        return with_notes("out of memory", error, "nothing was left half-written"), UNUSABLE
    if isinstance(error, OSError):
        # Files that are read or written have their own sentences; this is what the system refuses otherwise.
        try:
            os.getcwd()
        except OSError:
            return with_notes("the folder that this was started in is gone; go to another one", error), UNUSABLE
        name = f"{on_one_line(str(error.filename))}: " if error.filename is not None else ""
        return with_notes(f"the system refuses: {name}{error.strerror or error}", error), UNUSABLE
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return with_notes("the system allows no further thread (see `ulimit -u` and `ulimit -v`)", error), UNUSABLE
    if isinstance(error, ImportError) and not (error.name or "").startswith("bnfold"):
        return with_notes(not_loaded(error), error), UNUSABLE
    if isinstance(error, SystemError):  # what C code makes of an allocation that failed
        return with_notes(f"Python itself failed (out of memory?): {error}", error), UNUSABLE
    if isinstance(error, EOFError):
        return with_notes(CUT_SHORT, error), UNUSABLE
    # Python would leave with 1, which means here that two networks differ.
    with suppress(OSError, MemoryError):
        import traceback

        traceback.print_exception(error)
    return "this is a fault of bnfold and not of your files; please report it", FAULTY


def not_loaded(error: ImportError) -> str:
    """What keeps a library from being loaded, and what to do: it is missing, it is broken, or memory is short."""
    package = (error.name or "").partition(".")[0]
    # numpy says on several lines what the loader said on one.
    reason = visible(" ".join(str(error).strip().splitlines()[-1:]))
    name = visible(DISTRIBUTIONS.get(package, package))
    if isinstance(error, ModuleNotFoundError) and package:
        if error.name == package:
            return f"the Python package {name} is missing; 'pip install {name}' installs it"
        return (
            f"the Python package {name} is incomplete: {reason}; 'pip install --force-reinstall {name}' may repair it"
        )
    if any(word in str(error) for word in OF_MEMORY):
        return f"a library cannot be loaded (out of memory?): {reason}"
    again = f"; 'pip install --force-reinstall {name}' may repair it" if name else ""
    return f"a library cannot be loaded: {reason}{again}"


def with_notes(message: str, error: BaseException, otherwise: str = "") -> str:
    """A message with what became of the files, as it was noted on the exception."""
    return "; ".join([message, *map(on_one_line, getattr(error, "__notes__", [otherwise] if otherwise else []))])


def usage_message(message: str, command: str, words: Sequence[str], commands: Collection[str]) -> str:
    """The message for a wrong command line; a file whose name begins with a dash was taken for options.

    Args:
        message: what click says.
        command: the command whose help tells more.
        words: the command line.
        commands: the names of all commands.
    """
    sentence = visible(message.rstrip(".").replace("\n", " "))
    options = takewhile(lambda word: word != "--", words)
    file = visible(next((word for word in options if word.startswith("-") and os.path.isfile(word)), ""))
    sentence += f"; write the file '{file}' as './{file}', since options begin with a dash" if file else ""
    if sentence.startswith("No such option") and words[0] not in commands and not {*words}.isdisjoint(commands):
        sentence += "; a command stands in front of its options"
    if sentence.startswith("No such command") and words[0] in MEANT:
        sentence += f". Did you mean '{MEANT[words[0]]}'?"
    if sentence.startswith("No such command") and os.path.isfile(words[0]):
        sentence = f"a command stands in front of a file, as in 'bnfold inspect {visible(words[0])}'"
    sentence = re.sub(" is not a valid (integer|float)( range)?$", lambda kind: f" is {NO_NUMBER[kind[1]]}", sentence)
    return f"{sentence} ('{command} --help' lists what there is)"


def missing_message(message: str, places: Sequence[str], example: str) -> str:
    """What to add to a command line.

    Args:
        message: what click says.
        places: the arguments that there are.
        example: a command line that has what is missing.
    """
    if "'-o'" in message and len(places) > 1 and places[-1].lower().endswith((".onnx", ".prototxt")):
        return f"outputs are named with -o, as in '-o {on_one_line(places[-1])}'"
    return f"{message.rstrip('.')}, as in '{example}'"


class ValueInFront(NamedTuple):
    """An option and its value, behind which a word stands; it may be one that can be given several times."""

    option: str
    value: str
    repeatable: bool


def extra_argument_message(
    command: str, places: Sequence[str], extra: Sequence[str], words: list[str], in_front: ValueInFront | None = None
) -> str:
    """What to write instead of a file in a place where there is none.

    Args:
        command: its name.
        places: the arguments that have a place.
        extra: those behind them.
        words: the command line, without the command.
        in_front: what stands in front of the first of `extra`, if it is the value of an option.
    """
    behind = words[words.index("--") :] if "--" in words else []
    if option := next((word for word in behind[1:] if word.startswith("-") and not os.path.isfile(word)), ""):
        return f"{visible(option)} stands after '--', which only files may follow; put options before it"
    file, suffix = visible(extra[0]), Path(extra[0]).suffix.lower()
    if in_front is not None and in_front.option in OUTPUT and suffix in (*WEIGHTS, ".data"):
        return f"{file} is one file too many: {_behind_output(in_front, suffix)}"
    networks = [word for word in places if word.lower().endswith(TEXT)]
    if suffix in WEIGHTS and len(networks) > 1 and command not in ("diff", "inspect"):
        return f"{visible(networks[0])} stands in front of the network: outputs are named with -o"
    if suffix in (".onnx", ".prototxt", *WEIGHTS):
        return f"{file} is one file too many: {_instead_of_model(command, places, extra)}"
    if in_front is not None:
        return f"{file} is one argument too many: {_behind_value(in_front, file)}"
    if command == "diff":
        return f"{file} is one argument too many: two models are compared, and data are named with --data"
    return f"{file} is one argument too many"


def _instead_of_model(command: str, places: Sequence[str], extra: Sequence[str]) -> str:
    """What to do with a file of a model that is one too many."""
    suffix = Path(extra[0]).suffix.lower()
    if command == "diff":
        pairs = (
            f"{first}:{second}"
            for first, second in pairwise([*places, *extra])
            if first.lower().endswith(TEXT) and second.lower().endswith(WEIGHTS) and ":" not in second
        )
        joined = visible(next(pairs, "NET.prototxt:WEIGHTS.caffemodel"))
        return f"two models are compared, and a prototxt with its caffemodel is one of them: write {joined}"
    if suffix in WEIGHTS:
        return "several caffemodels are joined by commas, as in a.caffemodel,b.caffemodel"
    if command == "inspect":
        return "one network is inspected at a time, and 'bnfold diff' compares two"
    return f"outputs are named with -o, as in '-o {visible(extra[0])}'"


def _behind_value(before: ValueInFront, word: str) -> str:
    """What to do with a word behind the value of an option that takes one."""
    if before.repeatable:
        return f"{before.option} takes one value, and is repeated for the next: '{before.option} {word}'"
    return f"{before.option} takes one value, and has {visible(before.value)}"


def _behind_output(before: ValueInFront, suffix: str) -> str:
    """What to do with a file of weights behind the name of an output, which -o alone tells where to write."""
    kind, name = Path(before.value).suffix.lower(), visible(before.value)
    if kind == ".onnx" and suffix == ".data":
        return f"{before.option} takes one name, and --external-data writes the weights to {name}.data"
    if kind == ".prototxt" and suffix != ".data":
        beside = visible(str(Path(before.value).with_suffix(".caffemodel")))
        return f"{before.option} takes one name, beside which the weights are written, to {beside}"
    return f"{before.option} takes one name"
