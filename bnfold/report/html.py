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
from bnfold.compare.records import BlobDiff, DiffReport, SampleDiff
from bnfold.errors import UsageError
from bnfold.report import figures
from bnfold.report.account import Account, verdict
from bnfold.report.charts import DepthChart, HistogramChart, depth_chart, histogram_chart
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
    def exact(self) -> bool:
        """Whether there is a float64 run to hold both against."""
        return any(blob.exact is not None for blob in self.report.blobs)


def as_html(account: Account, title: str = "bnfold report") -> str:
    """The whole account as a page.

    Args:
        account: what a run did and found.
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
    drawn, hidden = _pictures(account)
    records = account.fold.records if account.fold is not None else []
    return environment.get_template("page.html").render(
        account=account,
        drawn=drawn,
        dropped=[record.layer for record in records if isinstance(record, Dropped)],
        hidden=hidden,
        legend=legend(drawn),
        proofs=[_proof(report) for report in account.proofs],
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=_asset("page.css"),
        title=title,
        verdict=verdict(account),
        version=installed_version(),
    )


def _asset(name: str) -> str:
    return (files("bnfold.report") / name).read_text(encoding="utf-8")


def _pictures(account: Account) -> tuple[list[Change], int]:
    if account.fold is None or account.original is None or account.folded is None:
        return [], 0
    return changes(account.original, account.folded, account.fold)


def _proof(report: DiffReport) -> Proof:
    worst = sorted(report.blobs, key=lambda blob: (not blob.is_output, -blob.max_rel))[:HISTOGRAMS]
    charts = [Histogrammed(blob, histogram_chart(blob)) for blob in worst]
    samples = sorted(report.samples, key=lambda sample: -sample.max_rel)[:SAMPLES]
    return Proof(report, depth_chart(report) if report.blobs else None, charts, samples)


def sort_key(value: float | None) -> str:
    """A number as JavaScript's `Number` reads it; what is none sorts last."""
    if value is None or math.isnan(value):
        return "-Infinity"
    return repr(value) if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


FILTERS = {
    "bits": figures.bits,
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
