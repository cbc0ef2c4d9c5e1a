"""Write into these pages what the program's own tables say: `python docs/pages.py`.

`tests/test_pages.py` fails when a page is stale.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bnfold.advice.rules import RULES
from bnfold.caffe.layer_types import LOSSES, METRICS
from bnfold.caffe.layers import LAYERS
from bnfold.caffe.operators import AFFINES, BACKWARD_ONLY, FORWARD_ONLY, LINEAR, OPERATORS, PASSING
from bnfold.compare import metrics
from bnfold.errors import few
from bnfold.onnx import operators as onnx_operators
from bnfold.onnx.export.network import FORMS, FUNCTIONS, OPSETS, REASONS, SOURCES

DOCS = Path(__file__).parent
GOLDENS = DOCS.parent / "tests" / "golden"

SHOWN = 3
"""How many goldens are named for a layer."""

MARK = "<!-- Made by `python docs/pages.py`, up to the end of the {}. -->\n\n"
"""The line in front of what is generated."""

CALLED: Mapping[str, str] = {
    "BatchNorm": "bn",
    "Convolution": "conv",
    "Deconvolution": "deconv",
    "InnerProduct": "ip",
    "Pooling": "pool",
}
"""What goldens are called that are about a layer, where they do not use its whole name."""


ROLES: Mapping[str, str] = {
    "affine": "an affine, or a join",
    "join": "joins blobs",
    "linear": "absorbs",
    "movement": "moves data",
    "passing": "passes",
}
"""Module of `bnfold.onnx.operators` -> what its operators are to the laws."""


def main() -> None:
    """Write all pages."""
    for name, generated in GENERATED.items():
        page = DOCS / name
        page.write_text(with_generated(page.read_text(encoding="utf-8"), generated()), encoding="utf-8")


def with_generated(page: str, generated: str) -> str:
    """A page with what is generated behind its mark."""
    if MARK.format("page") in page:
        return page.partition(MARK.format("page"))[0] + MARK.format("page") + generated
    before, mark, old = page.partition(MARK.format("table"))
    return before + mark + generated + "".join(old.partition("\n\n")[1:]).removeprefix("\n")


def layers() -> str:
    """The page of supported layers, `docs/layers.md`."""
    cases = cases_of_types(GOLDENS)
    known = sorted(LAYERS, key=lambda layer_type: (layer_type.lower(), layer_type))
    table = ["| layer | dialects | fold | ONNX | opsets | notes | goldens |", "|---|---|---|---|---|---|---|"]
    for layer_type in known:
        opsets = f"{OPSETS.start} to {OPSETS.stop - 1}" if layer_type in FUNCTIONS else ""
        cells = (
            layer_type,
            LAYERS[layer_type].dialects,
            fold(layer_type),
            onnx(layer_type),
            opsets,
            LAYERS[layer_type].note,
            few(cases.get(layer_type, []), SHOWN),
        )
        table.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join([*table, "", *_unwritten(), *_training()])


def fold(layer_type: str) -> str:
    """What a layer is to the algebra."""
    roles = ["affine"] * (layer_type in AFFINES)
    if layer_type in LINEAR:
        ways = ["back"] * (layer_type not in FORWARD_ONLY) + ["forward"] * (layer_type not in BACKWARD_ONLY)
        roles.append(f"absorbs {' and '.join(ways)}")
    if layer_type in PASSING:
        law = (PASSING[layer_type].__doc__ or "").partition("\n")[0]
        roles.append(f"passes: {law.removesuffix('.')}")
    said = "; ".join(roles or ["alias"] * (layer_type in OPERATORS))
    return said[:1].upper() + said[1:]


def onnx(layer_type: str) -> str:
    """What a layer is in ONNX."""
    if layer_type in FUNCTIONS:
        return (FUNCTIONS[layer_type].__doc__ or "").partition("\n")[0].removesuffix(".")
    if layer_type in SOURCES or layer_type.endswith("Data"):
        return "a graph input"
    return f"*refused: {REASONS[layer_type]}*"


def cases_of_types(goldens: Path) -> dict[str, list[str]]:
    """The goldens with each layer type: those that are called like it first, then those with the fewest layers."""
    found: dict[str, list[tuple[bool, int, str]]] = {}
    for prototxt in sorted(goldens.glob("*/net.prototxt")):
        name = prototxt.parent.name
        types = re.findall(r'(?m)\btype\s*:\s*"(\w+)"', prototxt.read_text())
        for layer_type in set(types):
            called = layer_type.lower() in name.replace("_", "") or CALLED.get(layer_type, layer_type) in name.split(
                "_"
            )
            found.setdefault(layer_type, []).append((not called, len(types), name))
    return {layer_type: [name for *_, name in sorted(cases)] for layer_type, cases in found.items()}


def _unwritten() -> Iterator[str]:
    yield "## Layers without an ONNX form\n"
    yield "All of a network are named at once; `--allow-custom-ops` writes them as nodes of the domain `caffe`.\n"
    yield "| layer | why |\n|---|---|"
    for layer_type, reason in sorted({**REASONS, **FORMS}.items()):
        yield f"| {layer_type} | {reason} |"
    yield ""


def _training() -> Iterator[str]:
    yield "## Layers of training\n"
    yield "Data layers become inputs. What judges predictions goes, and so does what only labels feed:\n"
    yield "| layer | at inference |\n|---|---|"
    for layer_type, loss in sorted(LOSSES.items()):
        yield f"| {layer_type} | {loss.becomes or 'its prediction'} |"
    for layer_type in sorted({"Accuracy", *METRICS}):
        yield f"| {layer_type} | nothing |"
    yield ""


def operators() -> str:
    """The table of docs/onnx.md: for each operator type that the laws know its name, what it is to them, and how."""
    rows = ["| operator | to the laws | as |", "|---|---|---|"]
    for op_type, rule in sorted(onnx_operators.OPERATORS.items()):
        role = ROLES[rule.__module__.rpartition(".")[2]]
        said = (rule.__doc__ or "").partition("\n")[0].partition(": ")[2].rstrip(".").replace("|", "\\|")
        rows.append(f"| {op_type} | {role} | {said} |")
    return "\n".join(rows) + "\n"


def columns() -> str:
    """The table of metrics of docs/report.md."""
    rows = [f"| `{row.name}` | {row.heading} | {row.formula} |" for row in metrics.METRICS]
    return "\n".join(["| JSON | shown as | formula |", "|---|---|---|", *rows]) + "\n"


def rules() -> str:
    """The rules of docs/advice.md: a table, then a section for each with what it looks for, why, and what to write."""
    table = ["| rule | severity | looks for |", "|---|---|---|"]
    sections = []
    for name, rule in RULES.items():
        summary, *details = inspect.getdoc(rule.check).split("\n\n")  # type: ignore[union-attr]
        looks_for = " ".join([summary, *details]).replace("\n", " ")
        in_short = summary.replace("\n", " ").removesuffix(".").replace("|", r"\|")
        table.append(f"| [{name}](#{name}) | {rule.severity} | {in_short} |")
        sections.append(f"### {name}\n\n{looks_for}\n\n**Why:** {rule.why}.\n\n**Instead:** {rule.instead}.")
    return "\n".join(table) + "\n\n" + "\n\n".join(sections) + "\n"


GENERATED: Mapping[str, Callable[[], str]] = {
    "advice.md": rules,
    "layers.md": layers,
    "onnx.md": operators,
    "report.md": columns,
}

if __name__ == "__main__":
    main()
