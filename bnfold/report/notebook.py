"""A record in a notebook: its one line, and a small table below."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

from bnfold.algebra.records import FoldReport
from bnfold.compare.records import DiffReport
from bnfold.errors import counted
from bnfold.net import Net, sizes, why_broken
from bnfold.report.causes import kept_by_cause
from bnfold.report.figures import small

MAX_ROWS = 12  # rows


def net_summary(net: Net) -> str:
    """The types of layers, and how many there are of each."""
    if why_broken(net):
        return _summary(repr(net), (), ())
    types = Counter(layer.type for layer in net.layers)
    inputs = ", ".join(f"{name} {sizes(shape)}" for name, shape in net.inputs.items())
    ends = f"inputs: {inputs}; outputs: {', '.join(net.outputs)}"
    return _summary(repr(net), ("layer type", "layers"), types.most_common(), ends)


def fold_summary(report: FoldReport) -> str:
    """What stays and why."""
    rows = [(f"{len(records)} {records[0].type}", cause) for cause, records in kept_by_cause(report.kept)]
    return _summary(repr(report), ("kept", "why"), rows)


def diff_summary(report: DiffReport) -> str:
    """The verdict, and the blobs that differ most."""
    worst = sorted(report.blobs, key=lambda blob: (not blob.is_output, -blob.judged))
    rows = [(blob.blob, blob.layer, small(blob.judged), small(blob.max_abs)) for blob in worst]
    return _summary(report.verdict, ("blob", "layer", "of range", "max abs"), rows, report.data)


def _summary(line: str, heads: Sequence[str], rows: Sequence[Sequence[object]], below: str = "") -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows[:MAX_ROWS])
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if rows else ""
    more = f"<p>and {counted(len(rows) - MAX_ROWS, 'more row')}</p>" if len(rows) > MAX_ROWS else ""
    return f"<div><p><b>{escape(line)}</b></p>{table}{more}{f'<p>{escape(below)}</p>' if below else ''}</div>"
