"""The pictures of the plan: every layer has a place, edges go down, and kinds of change are drawn once."""

import zlib
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bnfold
from bnfold.compare.records import RunReport
from bnfold.report.html import as_html
from bnfold.report.layout import place
from bnfold.report.picture import changes, legend
from bnfold.report.png import data_uri, png

SAMPLES = Path(__file__).parents[2] / "sample_models"


def folded(name: str):
    net = bnfold.load(SAMPLES / f"{name}.prototxt", SAMPLES / f"{name}.caffemodel", input_shapes={"data": (1, 1, 8, 8)})
    return net, bnfold.fold(net)


def test_rows_follow_the_longest_way_and_nodes_do_not_overlap():
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
def test_a_chain_is_one_column(size):
    nodes = [f"n{index}" for index in range(size)]
    layout = place(nodes, list(pairwise(nodes)))
    assert (layout.columns, layout.rows) == (1, size)


def test_an_empty_graph_has_no_size():
    assert place([], []).rows == 0


def test_a_small_network_is_drawn_whole_with_its_roles():
    net, result = folded("digits_cifar10")
    drawn, hidden = changes(net, result.net, result.report)
    assert len(drawn) == 1
    assert hidden == 0
    before = {node.name: node.role for node in drawn[0].before.nodes}
    assert set(before) == {layer.name for layer in net.layers}
    assert (before["bn1"], before["pool1"], before["conv1"]) == ("gone", "through", "into")
    assert "bn1" not in {node.name for node in drawn[0].after.nodes}
    assert {role for role, _ in legend(drawn)} == {"gone", "into", "through", "rest"}


def test_a_larger_network_shows_each_kind_of_change_once():
    net, result = folded("digits_resnet")
    drawn, hidden = changes(net, result.net, result.report)
    assert hidden == 0
    assert sum(1 + len(change.twins) for change in drawn) == 15  # convolutions that took a BatchNorm and a Scale
    assert all(len(change.before.nodes) - len(change.after.nodes) == 2 for change in drawn)


def test_the_pictures_are_in_the_page():
    net, result = folded("digits_train_test")
    page = as_html(RunReport(net, result.net, result.report, (), (), (bnfold.compare(net, result.net),)))
    assert page.count('class="node gone"') == len(net.layers) - len(result.net.layers) + 1  # one in the legend
    assert "<title>bn1 (BatchNorm)</title>" in page


def test_equal_reports_are_equal_pages():
    pages = []
    for _ in range(2):
        net, result = folded("digits_train_test")
        pages.append(as_html(RunReport(net, result.net, result.report, (), (), (bnfold.compare(net, result.net),))))
    assert pages[0] == pages[1]


def test_a_png_holds_the_pixels():
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(png(picture)))), picture)
    assert data_uri(None) == ""
    assert zlib.crc32(png(picture)) == zlib.crc32(png(picture.copy()))
