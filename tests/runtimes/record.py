"""What every runtime made of every case: record.json, which runtimes are held to and docs/runtimes.md is made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtimes.harness import FORMS, Verdict, Worker, case_of, judge_case

RECORD = Path(__file__).with_name("record.json")


@dataclass(frozen=True, slots=True)
class Entry:
    """One runtime's.

    Attributes:
        versions: of the packages that matter.
        cases: for each case the verdicts in the order of FORMS.
        untried: the cases that it was not asked yet, and the day when that was written down.
    """

    versions: Mapping[str, str]
    cases: Mapping[str, tuple[Verdict, ...]]
    untried: Mapping[str, str] = field(default_factory=dict)


def try_out(python: Path, engine: str, names: Iterable[str]) -> Entry:
    """Run the cases in one runtime."""
    with Worker(python, engine) as worker:
        cases = {name: tuple(judge_case(worker, case_of(name), form) for form in FORMS) for name in names}
        return Entry(worker.versions, cases)


def read() -> dict[str, Entry]:
    """The record by the runtimes' names."""
    stored: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    return {
        name: Entry(
            entry["versions"],
            {case: tuple(map(Verdict.parse, verdicts)) for case, verdicts in entry["cases"].items()},
            entry["not tried"],
        )
        for name, entry in stored.items()
    }


def write(record: Mapping[str, Entry]) -> None:
    """Store the record, with one line for each case. A golden is equal or not; by how little is noise."""
    blocks = []
    for name, entry in record.items():
        lines = [
            f"      {json.dumps(case)}: {json.dumps([_text(case, one) for one in verdicts], ensure_ascii=False)}"
            for case, verdicts in entry.cases.items()
        ]
        cases = ",\n".join(lines)
        blocks.append(
            f'  {json.dumps(name)}: {{\n    "versions": {json.dumps(entry.versions)},\n'
            f'    "not tried": {json.dumps(entry.untried)},\n'
            f'    "cases": {{\n{cases}\n    }}\n  }}'
        )
    RECORD.write_text("{\n" + ",\n".join(blocks) + "\n}\n", encoding="utf-8")


def _text(case: str, verdict: Verdict) -> str:
    return "equal" if verdict.kind == "equal" and "/" not in case else str(verdict)
