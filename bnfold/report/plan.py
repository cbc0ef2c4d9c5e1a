"""The rendering of an inspection: what would fold, what would stay and why, what the prototxt should say instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bnfold.errors import counted
from bnfold.report.causes import said_once
from bnfold.report.grid import Part, Style, printed, words
from bnfold.report.text import fold_lines, fold_tables

if TYPE_CHECKING:
    from bnfold.advice.records import Finding, Inspection

SCHEMA, VERSION = "bnfold-inspection", 1
LAYERS = 8  # that are listed under one rule
STYLES: dict[str, Style] = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def as_text(inspection: Inspection, *, verbosity: int = 0) -> list[Part]:
    """For `bnfold.report.grid.printed`: the plan first, then notes, then the findings by rule.

    Args:
        inspection: what was found.
        verbosity: 1 lists every layer, 0 a few of each kind, -1 the plan and the number of findings alone.
    """
    parts: list[Part] = list(fold_lines(inspection.fold, verbosity))
    if verbosity < 0:
        return [*parts, words(counted(len(inspection.findings), "finding"))]
    notes = said_once([*inspection.net.notes, *inspection.fold.notes])
    parts += [words(f"note: {note}", style="yellow") for note in notes]
    if not inspection.has_weights:
        parts.append(words("note: no weights were given, so the plan assumes scales of both signs", style="yellow"))
    if verbosity > 0:
        parts += fold_tables(inspection.fold, 10**9)
    parts += _findings(inspection.findings, 10**9 if verbosity > 0 else LAYERS)
    return parts


def _findings(findings: Sequence[Finding], most: int) -> Iterator[Part]:
    """By rule, in the order in which the rules first speak: the reason once, then the layers."""
    yield words(f"\n{counted(len(findings), 'finding')}" if findings else "\nno findings", style="bold")
    rules: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        rules.setdefault((finding.rule, finding.severity), []).append(finding)
    for (rule, severity), group in rules.items():
        yield words(f"\n{severity}: {rule}", STYLES[severity])
        yield words(f"  why: {group[0].why}", style="dim")
        same = {finding.instead for finding in group}
        if len(same) == 1:
            yield words(f"  instead: {group[0].instead}", style="dim")
        for finding in group[:most]:
            place = f"line {finding.line}, " if finding.line else ""
            yield words(f"  - {place}'{finding.layer}': {finding.message}")
            if len(same) > 1:
                yield words(f"      instead: {finding.instead}", style="dim")
        if len(group) > most:
            yield words(f"  - and {counted(len(group) - most, 'more layer')}; -v lists them", style="dim")


def as_data(inspection: Inspection) -> dict[str, Any]:
    """The same as dictionaries, lists, strings, numbers, booleans and None."""
    from bnfold.io.versions import installed
    from bnfold.report.data import fold_data, plain

    return {
        "schema": SCHEMA,
        "version": VERSION,
        "bnfold": installed("bnfold"),
        "net": inspection.net.name,
        "has_weights": inspection.has_weights,
        "plan": fold_data(inspection.fold),
        "findings": [plain(finding) for finding in inspection.findings],
        "notes": list(inspection.net.notes),
    }


def as_json(inspection: Inspection) -> str:
    """The same as JSON, with a line break at the end."""
    from bnfold.report import data

    return data.json_text(as_data(inspection))


def as_markdown(inspection: Inspection) -> str:
    """The plan and the findings for a pull request."""
    return f"```\n{printed(as_text(inspection))}```\n"
