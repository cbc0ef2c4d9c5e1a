"""Public functions name in their docstrings the errors that they raise themselves."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import bnfold
import bnfold.errors

PACKAGE = Path(bnfold.__file__).parent

TABLES = {
    "caffe/layers": ("ModelError",),
    "caffe/operators": ("Blocked", "ModelError"),
    "onnx/export": ("Refused", "WeightsError"),
    "onnx/operators": ("Blocked", "Unfit"),
}
"""Folder of tables -> what every row may raise, as the type of the table's rows says once for all."""


def kinds(name: str) -> set[str]:
    """An error's name and those of its bases."""
    kind = getattr(bnfold.errors, name, None) or getattr(builtins, name, None)
    return {name} if kind is None else {base.__name__ for base in kind.__mro__}


def raised(node: ast.AST) -> Iterator[str]:
    """The errors that a function makes and raises and does not catch, not those of functions defined in it."""
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
        yield node.exc.func.id
    for part in ast.iter_child_nodes(node):
        if not isinstance(part, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            caught: set[str] = set()
            if isinstance(node, ast.Try) and part in node.body:
                handled = " ".join(ast.unparse(handler.type) for handler in node.handlers if handler.type)
                caught = set(re.findall(r"\w+", handled))
            yield from (error for error in raised(part) if not kinds(error) & caught)


def public(body: list[ast.stmt], owner: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions and methods whose names do not begin with an underscore."""
    for node in body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield owner + node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public(node.body, f"{node.name}.")


def unsaid(source: str, known: tuple[str, ...] = ()) -> Iterator[str]:
    """Functions with the errors that neither their docstrings name behind "Raises" nor all rows of their table."""
    for name, function in public(ast.parse(source).body):
        doc = f"{ast.get_docstring(function)}"
        said = {*re.findall(r"\w+", " ".join(re.split("(?i)raise", doc)[1:])), *known}
        yield from (f"{name}: {error}" for error in raised(function) if not kinds(error) & said and error[0].isupper())


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_functions_name_the_errors_that_they_raise(path: Path) -> None:
    known = TABLES.get(str(path.parent.relative_to(PACKAGE)), ())
    assert list(unsaid(path.read_text(encoding="utf-8"), known)) == []


def test_an_error_that_no_docstring_names_is_found() -> None:
    silent = 'def read(path):\n    """Read."""\n    raise ParseError("x")\n'
    assert list(unsaid(silent)) == ["read: ParseError"]
    assert list(unsaid(silent, ("WeightsError",))) == ["read: ParseError"]
    assert list(unsaid(silent.replace("Read.", "Read. Raises UsageError."))) == ["read: ParseError"]
    assert list(unsaid(silent.replace("Read.", "A ParseError."))) == ["read: ParseError"]
    assert list(unsaid(silent.replace("Read.", "Read. Raises ParseError."))) == []
    assert list(unsaid(silent.replace("Read.", "Read. Raises BnfoldError."))) == []
    assert list(unsaid("class Reader:\n    " + silent.replace("\n", "\n    "))) == ["Reader.read: ParseError"]
    assert list(unsaid(silent.replace("def read", "def _read"))) == []
    handled = 'def read(path):\n    try:\n        raise ParseError("x")\n    except OSError:\n        pass\n'
    assert list(unsaid(handled)) == ["read: ParseError"]
    assert list(unsaid(handled.replace("OSError", "(OSError, BnfoldError)"))) == []
