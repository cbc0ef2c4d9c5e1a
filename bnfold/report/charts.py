"""The plots of the page: drawn by pygal, then stripped of what a page that asks nobody must not hold.

pygal was chosen because it is small, pure Python, and draws with classes and a style sheet, so that a plot takes
its colours from the page's custom properties and follows light, dark and print. Its scripts (loaded from the net),
its comments (which carry the date) and its `desc` elements are taken out; the latter become native tooltips.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

from bnfold.compare.records import BlobDiff, DiffReport, Histogram
from bnfold.report import figures
from bnfold.report.figures import small
from bnfold.report.words import visible

SVG = "{http://www.w3.org/2000/svg}"
FLOOR = 1e-12  # below, an error is drawn as nothing
WIDTH, HEIGHT = 960, 340


def depth_chart(report: DiffReport, name: str) -> str:
    """The error of every blob through the depth of the net, with the tolerance as a line."""
    blobs = report.blobs
    errors = [blob.max_rel for blob in blobs]
    finite = [error for error in [*errors, *(blob.l2_rel for blob in blobs)] if FLOOR < error < math.inf]
    low = min([*finite, report.tolerance or 1.0])
    high = max([*finite, report.tolerance])
    floor, ceiling = 10.0 ** (math.floor(math.log10(low)) - 1), 10.0 ** math.ceil(math.log10(high) + 0.1)

    def points(values: Sequence[float]) -> list[dict[str, Any]]:
        return [
            {"value": min(max(value, floor), ceiling), "label": f"{blob.blob}: {small(value)}"}
            for blob, value in zip(blobs, values, strict=True)
        ]

    chart = _chart(
        "Line",
        name,
        logarithmic=True,
        dots_size=2.5,
        show_x_labels=False,
        margin_top=4,
        y_labels=_decades(floor, ceiling),
    )
    chart.x_title = "blobs in order of execution"
    chart.range = floor, ceiling
    chart.add("max |e| / range", points(errors))
    chart.add("relative L2", points([blob.l2_rel for blob in blobs]))
    chart.add("tolerance", [max(report.tolerance, floor)] * len(blobs), show_dots=False)
    return _svg(chart)


def histogram_chart(blob: BlobDiff, name: str) -> str:
    """How many values have an error of which size, one bar per half a decade."""
    chart = _chart("Bar", name, width=480, height=240, show_legend=False, margin=8, max_scale=4)
    bars = halves(blob.histogram)
    # Where bars are narrow, only whole decades and the zeros are labelled, so that labels do not touch.
    chart.x_labels = [label if len(bars) <= 9 or label[0] != "3" else "" for label, _ in bars]
    chart.x_title = "|e|"
    chart.add(
        "values", [{"value": number, "label": f"{label}: {figures.count(number, 'value')}"} for label, number in bars]
    )
    return _svg(chart)


def halves(histogram: Histogram) -> list[tuple[str, int]]:
    """The histogram's bins put together to half decades, the exact zeros first; label and count.

    Example:
        >>> halves(Histogram(5, -7.0, 0.125, (1, 2, 3, 4, 5)))
        [('0', 5), ('1e-7', 10), ('3e-7', 5)]
    """
    bars: dict[int, int] = {}
    for index, count in enumerate(histogram.counts):
        half = math.floor((histogram.low + index * histogram.step) * 2 + 1e-9)
        bars[half] = bars.get(half, 0) + count
    shown = range(min(bars), max(bars) + 1) if bars else range(0)
    labels = [(f"{1 if half % 2 == 0 else 3}e{half // 2}", bars.get(half, 0)) for half in shown]
    return [("0", histogram.zero), *labels]


def _decades(floor: float, ceiling: float) -> list[float]:
    low, high = round(math.log10(floor)), round(math.log10(ceiling))
    step = 1 if high - low <= 10 else 2
    return [10.0**exponent for exponent in range(low, high + 1, step)]


def load_pygal() -> Any:
    """The module, without the import hook that it leaves behind.

    The hook looks for maps, which are not drawn here, and lacks `find_spec`: Python 3.11 warns of it at every later
    import of something that is not installed, as Pillow tries with its optional formats.

    Raises:
        ImportError: pygal is not installed.
    """
    import pygal  # type: ignore[import-untyped]

    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "pygal"]
    return pygal


def _chart(kind: str, name: str, **settings: Any) -> Any:
    pygal = load_pygal()
    from pygal.style import Style  # type: ignore[import-untyped]

    style = Style(
        background="transparent",
        plot_background="transparent",
        foreground="var(--ink)",
        foreground_strong="var(--ink)",
        foreground_subtle="var(--quiet)",
        colors=("var(--plot-1)", "var(--plot-2)", "var(--bad)"),
        font_family="inherit",
        label_font_size=13,
        major_label_font_size=13,
        legend_font_size=14,
        title_font_size=14,
    )
    chart = getattr(pygal, kind)(
        **{
            "disable_xml_declaration": True,
            "height": HEIGHT,
            "js": [],
            "legend_at_bottom": True,
            "style": style,
            "value_formatter": lambda value: f"{value:.0e}" if settings.get("logarithmic") else f"{value:,.0f}",
            "width": WIDTH,
        }
        | settings
    )
    chart.uuid = name  # random by default; equal reports shall be equal files
    return chart


def _svg(chart: Any) -> str:
    # Names may hold characters that XML has not.
    root = ET.fromstring(visible(chart.render()))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{SVG}script":
                parent.remove(child)
            elif child.tag == f"{SVG}desc":
                parent.remove(child)
                if "label" in child.get("class", "").split() or child.get("class") is None:
                    ET.SubElement(parent, f"{SVG}title").text = child.text
    root.set("role", "img")
    ET.register_namespace("", SVG[1:-1])
    ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    return ET.tostring(root, encoding="unicode")
