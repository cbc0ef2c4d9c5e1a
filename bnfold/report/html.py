"""The report as one page that asks nobody: style, script, charts and pictures are inside; a policy forbids the rest.

jinja2 escapes every name; the one script is allowed by its hash, so that a name that smuggles another in cannot run it.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from bnfold.algebra.records import Dropped
from bnfold.compare.metrics import PAGE, Metric
from bnfold.compare.records import BlobDiff, DiffReport, RunReport, SampleDiff
from bnfold.errors import UsageError
from bnfold.report import figures
from bnfold.report.charts import DepthChart, HistogramChart, depth_chart, histogram_chart
from bnfold.report.columns import cell, columns
from bnfold.report.data import installed_version
from bnfold.report.picture import Change, changes, legend
from bnfold.report.png import data_uri

SAMPLES = 500  # rows of the table of samples; the JSON has all
HISTOGRAMS = 6


@dataclass(frozen=True, slots=True)
class Histogrammed:
    """A blob with the picture of its errors."""

    blob: BlobDiff
    chart: HistogramChart


@dataclass(frozen=True, slots=True)
class Proof:
    """One comparison with what the page draws of it."""

    report: DiffReport
    depth: DepthChart | None
    histograms: Sequence[Histogrammed]
    samples: Sequence[SampleDiff]

    @property
    def columns(self) -> Sequence[Metric]:
        """The metrics that the table of blobs shows."""
        return columns(PAGE, self.report.blobs)


def as_html(run: RunReport, title: str = "bnfold report") -> str:
    """The whole run as a page.

    Args:
        run: what a run did and found.
        title: of the page.

    Raises:
        UsageError: jinja2 (the extra `html`) is not installed.
    """
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError:
        raise UsageError("an HTML report needs jinja2: pip install 'bnfold[html]'") from None
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(_asset)
    )
    environment.filters |= FILTERS
    script = _asset("page.js")
    drawn, hidden = _pictures(run)
    records = run.fold.records if run.fold is not None else []
    return environment.get_template("page.html").render(
        run=run,
        drawn=drawn,
        dropped=[record.layer for record in records if isinstance(record, Dropped)],
        hidden=hidden,
        legend=legend(drawn),
        proofs=[_proof(report) for report in run.proofs],
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=_asset("page.css"),
        title=title,
        verdict=run.verdict,
        version=installed_version(),
    )


def _asset(name: str) -> str:
    return (files("bnfold.report") / name).read_text(encoding="utf-8")


def _pictures(run: RunReport) -> tuple[list[Change], int]:
    if run.fold is None or run.original is None or run.folded is None:
        return [], 0
    return changes(run.original, run.folded, run.fold)


def _proof(report: DiffReport) -> Proof:
    worst = sorted(report.blobs, key=lambda blob: (not blob.is_output, -blob.max_rel))[:HISTOGRAMS]
    charts = [Histogrammed(blob, histogram_chart(blob)) for blob in worst]
    samples = sorted(report.samples, key=lambda sample: -sample.max_rel)[:SAMPLES]
    return Proof(report, depth_chart(report) if report.blobs else None, charts, samples)


def sort_key(value: object) -> str:
    """A number as JavaScript's `Number` reads it; what is none sorts last."""
    if not isinstance(value, int | float) or math.isnan(value):
        return "-Infinity"
    return repr(value) if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


FILTERS = {
    "bits": figures.bits,
    "cell": cell,
    "count": figures.count,
    "data_uri": data_uri,
    "decibels": figures.decibels,
    "dims": figures.dims,
    "names": figures.names,
    "near_one": figures.near_one,
    "ordinary": figures.ordinary,
    "percent": figures.percent,
    "small": figures.small,
    "sort_key": sort_key,
}
