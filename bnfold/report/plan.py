"""The rendering of an inspection: what would fold, what would stay and why, what the prototxt should say instead."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Group, RenderableType
from rich.text import Text

from bnfold.report.data import fold_data, installed_version, plain
from bnfold.report.figures import count
from bnfold.report.text import fold_text

if TYPE_CHECKING:
    from bnfold.advice import Finding
    from bnfold.fold.records import FoldReport
    from bnfold.net import Net

SCHEMA, VERSION = "bnfold-inspection", 1
ROWS = 40
STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


class Inspected(Protocol):
    """What is rendered; `bnfold.pipeline.Inspection` is one."""

    @property
    def net(self) -> Net:
        """The network as it was read."""

    @property
    def fold(self) -> FoldReport:
        """What folding would do."""

    @property
    def findings(self) -> Sequence[Finding]:
        """The advice."""

    @property
    def has_weights(self) -> bool:
        """Whether the plan was made with the network's own weights."""


def as_text(inspection: Inspected) -> RenderableType:
    """For `rich.console.Console.print`."""
    parts: list[RenderableType] = [Text(f"note: {note}", style="yellow") for note in inspection.net.notes]
    if not inspection.has_weights:
        parts.append(Text("note: no weights were given, so the plan assumes scales of both signs", style="yellow"))
    parts += fold_text(inspection.fold, ROWS)
    parts.append(Text(count(len(inspection.findings), "finding") if inspection.findings else "no findings"))
    for finding in inspection.findings:
        place = f"line {finding.line}: " if finding.line else ""
        parts.append(
            Text.assemble(
                (f"{finding.severity}: ", STYLES[finding.severity]),
                (finding.rule, "bold"),
                f" {place}{finding.message}",
            )
        )
        parts.append(Text(f"    why: {finding.why}", style="dim"))
        parts.append(Text(f"    instead: {finding.instead}", style="dim"))
    return Group(*parts)


def as_json(inspection: Inspected) -> str:
    """The same as data, with a line break at the end."""
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "version": VERSION,
        "bnfold": installed_version(),
        "net": inspection.net.name,
        "has_weights": inspection.has_weights,
        "plan": fold_data(inspection.fold),
        "findings": [plain(finding) for finding in inspection.findings],
        "notes": list(inspection.net.notes),
    }
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
