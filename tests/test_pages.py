"""The pages say what the tables of the program say, about every layer, operator, metric and rule."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pages
import pytest
from onnx import defs

from bnfold.caffe import operators as caffe_operators
from bnfold.caffe.layers import LAYERS
from bnfold.compare import pointers, saturation, standins
from bnfold.onnx.constants import ELEMENTWISE, EXPRESSIONS
from bnfold.onnx.export.network import FUNCTIONS, REASONS, SOURCES
from bnfold.onnx.operators import OPERATORS

ROOT = Path(__file__).resolve().parents[1]

# What the facts call the dialects that the page names.
SPELLED = {
    "bvlc": "BVLC",
    "ssd": "SSD",
    "nvcaffe017": "NVCaffe 0.17",
    "nvcaffe015": "NVCaffe 0.15",
    "pspnet": "PSPNet",
    "segnet": "SegNet",
    "mobilenetyolo": "MobileNet-YOLO",
    "intel": "Intel",
    "vitis": "Vitis",
    "ncnn": "ncnn",
    "tengine": "Tengine",
    "mace": "MACE",
    "x2paddle": "X2Paddle",
    "ti": "TI",
    "minicaffe": "minicaffe",
    "soeaver": "soeaver's",
    "synopsys": "Synopsys",
    "flownet2": "FlowNet2",
    "ducha": "ducha-aiki's",
    "openvino": "OpenVINO's training Caffe",
}


def dialects_of_parameters() -> dict[str, set[str]]:
    """Which dialects have a `*_param` in a layer, by its name without underscores."""
    found: dict[str, set[str]] = {}
    with (ROOT / "proto" / "schema.tsv").open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["message"] == "LayerParameter" and row["field"].endswith("_param"):
                name = row["field"].removesuffix("_param").replace("_", "").lower()
                found.setdefault(name, set()).update(SPELLED[dialect] for dialect in row["dialects"].split(","))
    return found


@pytest.mark.parametrize("name", pages.GENERATED)
def test_a_page_has_what_the_tables_give(name: str) -> None:
    page, generated = (pages.DOCS / name).read_text(encoding="utf-8"), pages.GENERATED[name]()
    assert generated in page
    assert pages.with_generated(page, generated) == page, "run python docs/pages.py"


@pytest.mark.parametrize("name", pages.GENERATED)
def test_a_stale_page_is_made_anew(name: str) -> None:
    page, generated = (pages.DOCS / name).read_text(encoding="utf-8"), pages.GENERATED[name]()
    assert pages.with_generated(page.replace(generated.splitlines()[-1], "stale"), generated) == page


@pytest.mark.parametrize("layer_type", sorted(LAYERS))
def test_the_dialects_of_a_layer_are_those_of_the_facts(layer_type: str) -> None:
    messages = list(LAYERS[layer_type].reads)
    own = dialects_of_parameters().get(messages[0].removesuffix("_param").replace("_", "").lower() if messages else "")
    named = set(LAYERS[layer_type].dialects.split(", ")) - {""}
    if not named:
        # Intel's parameters of Split do nothing at inference.
        assert own is None or "BVLC" in own or layer_type == "Split"
    elif (
        own is not None
        and "BVLC" not in own
        and layer_type not in ("DetectionOutputRefine", "Norm", "PriorBoxClustered", "SeLU", "SyncBN")
    ):
        # The facts list what five dialects added, and a layer that they took over is none of that. By SSD's norm_param
        # a Norm tells that it is none.
        assert own <= named
    assert named <= {
        *SPELLED.values(),
        "SENet",
        "GENet",
        "brocolli",
        "C3D",
        "PVANet",
        "CRNN",
        "NormFace",
        "Dynamic Network Surgery",
        "forks whose schema is not known here",
    }


def test_every_layer_has_a_form_or_a_reason() -> None:
    inputs = SOURCES | {"DummyData"}  # which reading makes an Input of
    assert set(LAYERS) <= set(FUNCTIONS) | set(REASONS) | inputs
    assert not set(FUNCTIONS) & set(REASONS)
    assert set(FUNCTIONS) <= set(LAYERS)
    for layer_type in LAYERS:
        assert pages.onnx(layer_type), f"{layer_type}: nothing is said of its ONNX form"


@pytest.mark.parametrize("layer_type", sorted(LAYERS))
def test_a_layer_is_said_to_do_something_where_the_laws_know_it(layer_type: str) -> None:
    assert bool(pages.fold(layer_type)) == (layer_type in caffe_operators.OPERATORS)


def test_no_words_are_left_about_layers_that_are_gone() -> None:
    assert set(pages.CALLED) <= set(LAYERS)


def test_every_golden_named_is_there() -> None:
    for cases in pages.cases_of_types(pages.GOLDENS).values():
        assert all((pages.GOLDENS / case).is_dir() for case in cases)


def test_a_layer_without_a_golden_is_held_to_the_reference() -> None:
    reference = (ROOT / "tests" / "reference" / "layers.py").read_text()
    tested_alone = {"DepthwiseDeconvolution", "HardSigmoid", "HardSwish", "Mish", "Proposal", "Yolov3DetectionOutput"}
    for layer_type in set(FUNCTIONS) - set(pages.cases_of_types(pages.GOLDENS)):
        assert f'"{layer_type}":' in reference or layer_type in tested_alone, layer_type


@pytest.mark.parametrize("layer_type", FUNCTIONS)
def test_each_form_names_its_operators_or_its_source(layer_type: str) -> None:
    said = (FUNCTIONS[layer_type].__doc__ or "").partition("\n")[0]
    operators = {schema.name for schema in defs.get_all_schemas()}
    assert operators.intersection(re.findall(r"\w+", said)) or re.search(r"\w+\.(c|cpp|cu|hpp|py)\b", said)


@pytest.mark.parametrize("name", OPERATORS)
def test_each_row_names_its_operator_in_front_of_the_formula(name: str) -> None:
    named, colon, formula = (OPERATORS[name].__doc__ or "").partition(": ")
    assert name in named.split(", ")
    assert colon
    assert formula


@pytest.mark.parametrize("page", sorted(path.name for path in pages.DOCS.glob("*.md")))
def test_no_cell_of_a_table_holds_a_bar_which_would_end_it(page: str) -> None:
    """GitHub splits a row at every bar, in code too."""
    tables = re.findall(r"(?m)(?:^\|.*\n)+", (pages.DOCS / page).read_text(encoding="utf-8"))
    bars = [{len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()} for table in tables]
    assert [len(numbers) for numbers in bars] == [1] * len(bars)


def test_the_page_on_onnx_names_every_operator_of_which_constants_are_made() -> None:
    """But for arithmetic on each value, comparison and choice, which it names together."""
    page = (pages.DOCS / "onnx.md").read_text(encoding="utf-8")
    listed = page.partition("expression of ")[2].partition("\n\n")[0]
    together = {*ELEMENTWISE, "Constant", "Equal", "Mod", "Where"}
    assert {name for name in EXPRESSIONS if name not in listed} <= together


REPORT = (pages.DOCS / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("begins", "types"),
    [
        ("| behind | an output is saturated where |", {*saturation.COUNTS}),
        ("| input | gets |", {layer_type for layer_type, _ in (*standins.READERS, *standins.ONNX_READERS)}),
        ("| value | where |", {*pointers.ONNX_POINTERS}),
    ],
)
def test_a_table_of_the_page_of_reports_names_every_type_that_the_program_knows(begins: str, types: set[str]) -> None:
    table = REPORT.partition(begins)[2].partition("\n\n")[0]
    assert [one for one in sorted(types) if not re.search(rf"\b{one}\b", table, re.IGNORECASE)] == []
