"""The report as data: a dictionary of plain values, and JSON of it. Its schema is docs/report.schema.json.

A change of the schema that could break a reader raises `VERSION`; a new key does not.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bnfold.algebra.records import FoldReport
from bnfold.compare.records import BlobDiff, ClassifierDiff, DiffReport, Flip, Histogram, LayerRange, SampleDiff
from bnfold.io.environment import Environment
from bnfold.io.versions import installed
from bnfold.report.run import RunReport

SCHEMA, VERSION = "bnfold-report", 2


def as_data(run: RunReport, environment: Environment | None = None) -> dict[str, Any]:
    """A run as dictionaries, lists, strings, numbers, booleans and None.

    A number that is not finite (an error against nothing, the signal-to-noise ratio of equal blobs) becomes None,
    which JSON can say; so do the figures of what has no finite value.
    """
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "bnfold": installed("bnfold"),
        "passed": run.passed,
        "verdict": run.verdict,
        "fold": None if run.fold is None else fold_data(run.fold),
        "comparisons": [plain(proof) for proof in run.proofs],
        "written": [str(path) for path in run.written],
        "notes": list(run.notes),
        "environment": plain(environment),
    }


def as_json(run: RunReport, environment: Environment | None = None) -> str:
    """The same as text."""
    return json_text(as_data(run, environment))


def json_text(data: dict[str, Any]) -> str:
    """Data as JSON, which is UTF-8, with a line break at the end; a byte of a name that is not is written `\\udce9`."""
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(errors="backslashreplace").decode()


def fold_data(report: FoldReport) -> dict[str, Any]:
    """What folding did; each record says its `kind`."""
    data: dict[str, Any] = {
        field.name: getattr(report, field.name)
        for field in dataclasses.fields(report)
        if field.name not in ("records", "shapes")
    }
    data["records"] = [{"kind": type(record).__name__.lower(), **plain(record)} for record in report.records]
    return data


def plain(value: Any) -> Any:
    """Any record as plain values; properties that a reader would compute again are written out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        left_out = LEFT_OUT.get(type(value), ())
        data = {
            field.name: plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.name not in left_out
        }
        if isinstance(value, BlobDiff):  # its metrics stand beside what it is
            data |= plain(value.figures)
        if isinstance(value, BlobDiff | SampleDiff) and value.says_nothing:
            data = {name: None if isinstance(figure, float) else figure for name, figure in data.items()}
        return data | {name: plain(getattr(value, name)) for name in ADDED.get(type(value), ())}
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value]


ADDED: dict[type, tuple[str, ...]] = {
    ClassifierDiff: ("top1_drop",),
    DiffReport: ("passed", "verdict"),
    Histogram: ("total",),
    LayerRange: ("bits_lost",),
}
LEFT_OUT: dict[type, tuple[str, ...]] = {BlobDiff: ("figures",), Flip: ("picture",)}
