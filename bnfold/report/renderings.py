"""Every rendering of a run or of an inspection, by the name that the command line has for it.

They are made when they are asked for, since a page takes longer than a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import UsageError

if TYPE_CHECKING:
    from bnfold.advice.records import Inspection
    from bnfold.algebra import FoldReport, FoldResult
    from bnfold.compare.records import DiffReport
    from bnfold.io.environment import Environment
    from bnfold.report.grid import Part
    from bnfold.report.run import RunReport

Facts = Callable[[], "Environment"]
Renderings = dict[str, Callable[[], Any]]
EXTRAS = {"html": ("jinja2",)}
SUFFIXES = {".json": "json", ".html": "html", ".htm": "html", ".md": "markdown", ".markdown": "markdown"}


def require_possible(paths: Mapping[str, Path]) -> None:
    """Stop before any work where a rendering could not be made at its end, or would be taken for another one.

    Args:
        paths: rendering -> the file that is to hold it, or -.

    Raises:
        UsageError: with what to install, or the option that the file's suffix means.
    """
    for name, path in paths.items():
        if missing := [package for package in EXTRAS.get(name, ()) if find_spec(package) is None]:
            raise UsageError(f"--{name} needs {' and '.join(missing)}: pip install 'bnfold[{name}]'")
        meant = SUFFIXES.get(path.suffix.lower(), name)
        if meant != name:
            raise UsageError(f"--{name} {path}: a file called so holds what --{meant} writes")


def of_run(run: RunReport, facts: Facts | None = None, verbosity: int = 0, files: Sequence[Path] = ()) -> Renderings:
    """What a run did and found.

    Args:
        run: the records.
        facts: gives the environment, when a rendering is made that holds it.
        verbosity, files: of the text; see `bnfold.report.text.as_text`.
    """

    def html() -> str:
        from bnfold.report.html import as_html

        return as_html(run, facts and facts())

    def json() -> str:
        from bnfold.report.data import as_json

        return as_json(run, facts and facts())

    def markdown() -> str:
        from bnfold.report.markdown import as_markdown

        return as_markdown(run)

    def text() -> list[Part]:
        from bnfold.report.text import as_text

        return as_text(run, verbosity=verbosity, files=files)

    def data() -> dict[str, Any]:
        from bnfold.report.data import as_data

        return as_data(run, facts and facts())

    def notebook() -> str:
        from bnfold.report.notebook import diff_summary, fold_summary

        fold = fold_summary(run.fold) if run.fold is not None else ""
        return fold + "".join(map(diff_summary, run.proofs))

    return {"dict": data, "html": html, "json": json, "markdown": markdown, "notebook": notebook, "text": text}


def of_inspection(inspection: Inspection, verbosity: int = 0) -> Renderings:
    """What folding would do."""
    from bnfold.report import plan

    def html() -> str:
        from bnfold.report.html import as_html
        from bnfold.report.run import RunReport

        return as_html(RunReport(inspection.net, None, inspection.fold, notes=tuple(inspection.net.notes)))

    def notebook() -> str:
        from bnfold.report.notebook import fold_summary

        return fold_summary(inspection.fold)

    return {
        "dict": lambda: plan.as_data(inspection),
        "html": html,
        "json": lambda: plan.as_json(inspection),
        "markdown": lambda: plan.as_markdown(inspection),
        "notebook": notebook,
        "text": lambda: plan.as_text(inspection, verbosity=verbosity),
    }


def of_record(record: RunReport | DiffReport | FoldReport | FoldResult | Inspection) -> Renderings:
    """Of any record that renders itself (`bnfold.io.rendered`); a part is rendered as a run of nothing else."""
    from bnfold.advice.records import Inspection
    from bnfold.algebra import FoldReport, FoldResult
    from bnfold.compare.records import DiffReport
    from bnfold.report.run import RunReport

    if isinstance(record, Inspection):
        return of_inspection(record)
    if isinstance(record, DiffReport):
        return of_run(RunReport(proofs=(record,)))
    if isinstance(record, FoldReport):
        return of_run(RunReport(fold=record))
    if isinstance(record, FoldResult):
        return of_run(RunReport(folded=record.net, fold=record.report))
    return of_run(record)
