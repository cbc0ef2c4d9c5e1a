"""The report as one page that asks nobody: style, script, charts and pictures are inside; a policy forbids the rest.

jinja2 escapes every name; the one script is allowed by its hash, so that a name that smuggles another in cannot run it.
The templates lie beside this file: `page.html` is the page, `proof.html` one comparison, `network.html` what was
folded, `charts.html` the charts and `tables.html` every table.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from bnfold.compare.records import BlobDiff, DiffReport
from bnfold.errors import UsageError, counted, few
from bnfold.io.versions import installed
from bnfold.report import figures, tables
from bnfold.report.causes import kept_by_cause, said_once
from bnfold.report.charts import DepthChart, HistogramChart, depth_chart, histogram_chart
from bnfold.report.cost import COSTS, changes
from bnfold.report.picture import Pictures, pictures
from bnfold.report.png import data_uri
from bnfold.report.run import RunReport
from bnfold.report.words import visible

if TYPE_CHECKING:
    from markupsafe import Markup

    from bnfold.io.environment import Environment

HISTOGRAMS = 6
SMALL = 48  # layers of a network whose picture is open from the start


@dataclass(frozen=True, slots=True)
class Proof:
    """One comparison with what the page draws of it; `anchor` is the id of its section."""

    report: DiffReport
    anchor: str
    depth: DepthChart | None
    histograms: Sequence[tuple[BlobDiff, HistogramChart]]
    blobs: tables.Table
    samples: tables.Table
    flips: tables.Table | None
    boxes: tables.Table | None
    ranges: tables.Table | None


def as_html(run: RunReport, environment: Environment | None = None) -> str:
    """The whole run as a page.

    Args:
        run: what a run did and found.
        environment: how it came about; left out where the same run has to give the same page.

    Raises:
        UsageError: jinja2 (the extra `html`) is not installed.
    """
    try:
        from jinja2 import Environment as Templates
        from jinja2 import FunctionLoader, StrictUndefined
    except ImportError:
        raise UsageError("an HTML report needs jinja2: pip install 'bnfold[html]'") from None
    templates = Templates(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(_asset)
    )
    templates.filters |= FILTERS
    script = _asset("page.js")
    drawn = _pictures(run)
    nodes = {outcome.name: f"#node-{outcome.row}" for outcome in drawn.outcomes} if drawn is not None else {}
    proofs = [_proof(report, f"proof-{number}", nodes) for number, report in enumerate(run.proofs, start=1)]
    page = templates.get_template("page.html").render(
        run=run,
        drawn=drawn,
        costs=changes(run),
        headings=COSTS,
        environment=environment,
        kept=kept_by_cause(run.fold.kept) if run.fold is not None else [],
        layers=tables.layer_table(drawn.outcomes, _errors(proofs)) if drawn is not None else None,
        name=title_of(run),
        open_picture=drawn is not None and len(drawn.before.nodes) <= SMALL,
        proofs=proofs,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=_asset("page.css"),
        verdict=run.verdict,
        version=installed("bnfold"),
    )
    return visible(page)


def title_of(run: RunReport) -> str:
    """What the network is called: its own name, or that of its file; or how many comparisons of several there are."""
    if run.original is not None:
        return run.original.name or Path(run.original.file).stem or "network"
    names = {Path(proof.reference).stem for proof in run.proofs}
    return names.pop() if len(names) == 1 else counted(len(run.proofs), "comparison") if names else "network"


def _asset(name: str) -> str:
    return (files("bnfold.report") / name).read_text(encoding="utf-8")


def _pictures(run: RunReport) -> Pictures | None:
    if run.fold is None or run.original is None or run.folded is None:
        return None
    return pictures(run.original, run.folded, run.fold)


def _proof(report: DiffReport, anchor: str, nodes: dict[str, str]) -> Proof:
    finite = [blob for blob in report.blobs if not blob.says_nothing]
    worst = sorted(finite, key=lambda blob: (not blob.is_output, -blob.judged))[:HISTOGRAMS]
    samples = sorted(report.samples, key=lambda sample: -sample.max_rel)
    classifier, detector = report.classifier, report.detector
    return Proof(
        report,
        anchor,
        depth_chart(report) if finite else None,
        [(blob, histogram_chart(blob)) for blob in worst],
        tables.blob_table(report, f"{anchor}-blob", nodes),
        tables.sample_table(samples, f"{anchor}-samples"),
        tables.flip_table(classifier, f"{anchor}-flips") if classifier is not None and classifier.flips else None,
        tables.box_table(detector, f"{anchor}-boxes") if detector and (detector.missed or detector.extra) else None,
        tables.range_table(report.ranges, f"{anchor}-ranges") if report.ranges else None,
    )


def _errors(proofs: Sequence[Proof]) -> dict[str, tuple[float, str]]:
    """Layer -> the largest error of what it writes in any comparison, and the row that tells of it."""
    errors: dict[str, tuple[float, str]] = {}
    for proof in proofs:
        for place, blob in enumerate(proof.report.blobs):
            if not blob.says_nothing and blob.judged >= errors.get(blob.layer, (-1.0, ""))[0]:
                errors[blob.layer] = (blob.judged, f"#{proof.blobs.name}-{place}")
    return errors


def whole(text: str) -> Markup:
    """A sentence as HTML in which no number breaks over lines."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"(?<![\w.])\d[\d.]*(?:e[-+]\d+| %)", r"<span class=number>\g<0></span>", str(escape(text))))


FILTERS = {
    "bytes": figures.size,
    "class_name": figures.class_name,
    "count": counted,
    "data_uri": data_uri,
    "names": few,
    "ordinary": figures.ordinary,
    "percent": lambda share: whole(figures.percent(share)),
    "same_answer": lambda found: whole(figures.same_answer(found)),
    "said_once": said_once,
    "small": lambda value: whole(figures.small(value)),
    "whole": whole,
}
