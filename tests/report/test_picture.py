"""The pictures of the plan: every layer has a place, edges go down, and kinds of change are drawn once."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from growing import growth
from PIL import Image

import bnfold
from bnfold.algebra.records import Moved
from bnfold.caffe.read import build
from bnfold.caffe.text import parse_prototxt
from bnfold.net import Net
from bnfold.report.causes import kept_by_cause
from bnfold.report.figures import small
from bnfold.report.html import as_html
from bnfold.report.layout import place
from bnfold.report.picture import pictures
from bnfold.report.png import data_uri, png
from bnfold.report.run import RunReport

SAMPLES = Path(__file__).parents[2] / "sample_models"


def folded(name: str) -> tuple[Net, bnfold.FoldResult]:
    net = bnfold.load(SAMPLES / f"{name}.prototxt", SAMPLES / f"{name}.caffemodel", input_shapes={"data": (1, 1, 8, 8)})
    return net, bnfold.fold(net)


def test_rows_follow_the_longest_way_and_nodes_do_not_overlap() -> None:
    nodes = ["a", "b", "c", "d", "e"]
    edges = [("a", "b"), ("b", "c"), ("a", "d"), ("d", "e"), ("c", "e"), ("a", "e")]
    layout = place(nodes, edges)
    assert {node: row for node, (_, row) in layout.places.items()} == {"a": 0, "b": 1, "c": 2, "d": 1, "e": 3}
    assert len(layout.paths[("a", "e")]) == 4  # the long edge passes rows 1 and 2 beside their nodes
    for row in range(4):
        inside = [column for column, at in layout.places.values() if at == row]
        inside += [path[row][0] for path in [layout.paths[("a", "e")]] if 0 < row < 3]
        gaps = np.diff(sorted(inside))
        assert (gaps > 0.999).all()
    assert min(column for column, _ in layout.places.values()) >= 0


@pytest.mark.parametrize("size", [1, 400])
def test_a_chain_is_one_column(size: int) -> None:
    nodes = [f"n{index}" for index in range(size)]
    layout = place(nodes, list(pairwise(nodes)))
    assert (layout.columns, layout.rows) == (1, size)


def test_an_empty_graph_has_no_size() -> None:
    assert place([], []).rows == 0


def test_a_network_is_drawn_whole_with_what_became_of_each_layer() -> None:
    net, result = folded("digits_cifar10")
    drawn = pictures(net, result.net, result.report)
    before = {node.name: node.role for node in drawn.before.nodes}
    assert list(before) == [layer.name for layer in net.layers]
    assert (before["bn1"], before["pool1"], before["conv1"]) == ("gone", "through", "into")
    assert [node.name for node in drawn.after.nodes] == [layer.name for layer in result.net.layers]
    assert {role for role, _ in drawn.legend} == {"gone", "into", "through", "rest"}
    outcomes = {outcome.name: outcome for outcome in drawn.outcomes}
    assert outcomes["bn1"].into == ("conv1",)
    assert outcomes["bn1"].through == ("pool1",)


def test_a_normalisation_whose_scale_and_bias_went_forward_is_not_drawn_as_gone() -> None:
    net, result = folded("digits_cifar10")
    moved = replace(result.report, records=[Moved("pool1", "LayerNormalization", ("conv1",), through=("bn1",))])
    drawn = {node.name: node.role for node in pictures(net, net, moved).before.nodes}
    assert (drawn["pool1"], drawn["conv1"], drawn["bn1"]) == ("rest", "into", "through")


def test_layers_of_one_name_or_of_none_are_drawn_apart() -> None:
    text = 'name: "twins" layer { name: "data" type: "Input" top: "a" input_param { shape { dim: [1, 2, 3, 3] } } }'
    text += ' layer { name: "same" type: "ReLU" bottom: "a" top: "b" } layer { type: "Sigmoid" bottom: "b" top: "c" }'
    text += ' layer { name: "same" type: "TanH" bottom: "c" top: "d" } layer { type: "AbsVal" bottom: "d" top: "e" }'
    net = build(parse_prototxt(text))
    result = bnfold.fold(net)
    drawn = pictures(net, result.net, result.report)
    assert [node.type for node in drawn.before.nodes] == [layer.type for layer in net.layers]
    assert len({(node.x, node.y) for node in drawn.before.nodes}) == 5
    assert "TanH" in as_html(RunReport(net, result.net, result.report))


def test_a_long_edge_is_drawn_without_a_stand_in_on_each_row() -> None:
    nodes = [f"n{index}" for index in range(300)]
    layout = place(nodes, [*pairwise(nodes), ("n0", "n299")])
    assert len(layout.paths[("n0", "n299")]) == 2


@pytest.mark.slow
def test_a_page_of_ten_times_the_layers_takes_ten_times_the_time() -> None:
    def page(layers: int) -> Callable[[], str]:
        net = build(parse_prototxt(chain(layers)))
        result = bnfold.fold(net)
        return lambda: as_html(RunReport(net, result.net, result.report))

    page(40)()  # imports and templates
    assert growth(page(400), page(4000), below=20) < 20


def chain(layers: int) -> str:
    """Affines that stay, each between two sigmoids."""
    power = (
        'layer {{ name: "p{0}" type: "Power" bottom: "x{0}" top: "y{0}" power_param {{ scale: 1.5 shift: 0.1 }} }}\n'
    )
    sigmoid = 'layer {{ name: "s{0}" type: "Sigmoid" bottom: "y{0}" top: "x{1}" }}\n'
    text = 'name: "chain" layer { name: "data" type: "Input" top: "x0" input_param { shape { dim: [1, 2, 2, 2] } } }\n'
    return text + "".join((power + sigmoid).format(index, index + 1) for index in range(layers // 2))


def test_what_stays_is_grouped_by_its_cause() -> None:
    net = build(parse_prototxt(chain(40)))
    ((cause, records),) = kept_by_cause(list(bnfold.fold(net).report.kept)[1:-1])
    assert len(records) == 18
    assert "Sigmoid" in cause
    assert "p3" not in cause


def test_the_pictures_are_in_the_page() -> None:
    net, result = folded("digits_train_test")
    proof = bnfold.compare(net, result.net)
    page = as_html(RunReport(net, result.net, result.report, proofs=(proof,)))
    gone = len(net.layers) - len(result.net.layers)
    largest = max(proof.blobs, key=lambda blob: blob.judged)
    place = proof.blobs.index(largest)
    assert f'<a href="#proof-1-blob-{place}">{small(largest.judged)}</a>' in page  # beside its layer
    assert page.count('class="node gone"') == 2 * gone + 1  # in the picture and in the strip, and one in the legend
    assert "<title>bn1 (BatchNorm)</title>" in page


def test_equal_reports_are_equal_pages() -> None:
    pages = []
    for _ in range(2):
        net, result = folded("digits_train_test")
        pages.append(as_html(RunReport(net, result.net, result.report, proofs=(bnfold.compare(net, result.net),))))
    assert pages[0] == pages[1]


def test_a_png_holds_the_pixels() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(png(picture)))), picture)
    assert data_uri(None) == ""


@pytest.mark.parametrize("missing", ["original", "folded", "fold"])
def test_a_run_without_a_net_or_its_fold_has_a_page_without_pictures(missing: str) -> None:
    net, result = folded("digits_cifar10")
    run = RunReport(net, result.net, result.report)
    assert "<svg" in as_html(run)
    assert "<svg" not in as_html(replace(run, **{missing: None}))  # type: ignore[arg-type]
