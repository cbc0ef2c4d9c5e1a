"""Folding takes time in proportion to the layers, and depth is no matter of recursion."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from algebra.running import net_of
from algebra.texts import bn, conv, data, layer, power, scale
from growing import growth

from bnfold.algebra import fold
from bnfold.algebra.plan import Budget
from bnfold.algebra.records import Blocked
from bnfold.caffe.frontend import Caffe
from bnfold.net import Layer, Net

# Time and depth.


def chain(count: int) -> Net:
    """As many times: convolution, batch norm, scale, relu."""
    text = data(2)
    previous = "data"
    one = "convolution_param { num_output: 2 kernel_size: 1 }"
    for i in range(count // 4):
        text += conv(f"c{i}", previous, "", one) + bn(f"b{i}", f"c{i}", f"c{i}") + scale(f"s{i}", f"c{i}", f"c{i}")
        text += layer(f"r{i}", "ReLU", f"c{i}", f"c{i}")
        previous = f"c{i}"
    return net_of(text)


def relus(count: int, end: str) -> Net:
    """One affine behind as many ReLUs."""
    text, previous = data(2) + conv("c", "data", "", "convolution_param { num_output: 2 kernel_size: 1 }"), "c"
    for i in range(count):
        text += layer(f"r{i}", "ReLU", previous, f"r{i}")
        previous = f"r{i}"
    return net_of(text + power("p", previous, "", end))


def scales(count: int) -> Net:
    """As many affines behind one ReLU, all of which go through it."""
    text, previous = data(2) + conv("c", "data") + layer("r", "ReLU", "c"), "r"
    for i in range(count):
        text += power(f"p{i}", previous, f"p{i}", "scale: 2" if i % 2 else "scale: 0.5")
        previous = f"p{i}"
    return net_of(text)


def stuck(count: int) -> Net:
    """Affines that can go nowhere, one in front of each of many layers that let nothing pass."""
    text, previous = data(2), "data"
    for i in range(count // 2):
        text += power(f"p{i}", previous) + layer(f"t{i}", "TanH", f"p{i}")
        previous = f"t{i}"
    return net_of(text)


def joined(count: int, layer_type: str) -> Net:
    """As many branches with an affine each, joined by one layer, which all of them go through or none does."""
    text, branches = data(2), ""
    for i in range(count):
        text += layer(f"t{i}", "TanH", "data", f"t{i}") + power(f"p{i}", f"t{i}", f"p{i}", "scale: 2 shift: 1")
        branches += f' bottom: "p{i}"'
    text += f'layer {{ name: "j" type: "{layer_type}"{branches} top: "j" }}'
    return net_of(text + layer("end", "TanH", "j") if layer_type == "Eltwise" else text + power("end", "j"))


@pytest.mark.parametrize("layer_type", ["Concat", "Eltwise"])
def test_branches_that_carry_nothing_cost_next_to_nothing(layer_type: str) -> None:
    """Each affine passes the layer that joins all branches by itself, so what the others cost is paid for each."""
    small, large = joined(60, layer_type), joined(240, layer_type)
    assert growth(lambda: fold(small), lambda: fold(large), below=8) < 8


def test_of_the_many_that_read_a_blob_no_more_than_two_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    reads_values = Caffe.reads_values

    def counted(front: Caffe, of: Layer, index: int) -> bool:
        asked.append(of.name)
        return reads_values(front, of, index)

    monkeypatch.setattr(Caffe, "reads_values", counted)
    costs = []
    for count in (50, 100):
        text = data(2)
        for i in range(count):
            text += layer(f"r{i}", "ReLU", "data", f"r{i}") + power(f"p{i}", f"r{i}", f"p{i}", "scale: 2")
        assert len(fold(net_of(text)).report.kept) == count
        costs.append(len(asked))
        asked.clear()
    assert costs[1] < 3 * costs[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "count"),
    [
        (chain, 2000),
        (lambda n: relus(n, "scale: 2"), 500),
        (lambda n: relus(n, "scale: 0"), 500),
        (scales, 500),
        (stuck, 500),
    ],
    ids=["chain", "relus", "zero", "scales", "stuck"],
)
def test_ten_times_the_layers_take_about_ten_times_as_long(make: Callable[[int], Net], count: int) -> None:
    small, large = make(count), make(10 * count)
    assert growth(lambda: fold(small), lambda: fold(large), below=25) < 25


def test_an_affine_next_to_its_layer_folds_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def spent(_: Budget) -> None:
        raise Blocked("no step is left")

    monkeypatch.setattr(Budget, "spend", spent)
    result = fold(net_of(data() + conv("c", "data") + bn("b", "c") + layer("r", "ReLU", "b") + power("p", "r")))
    assert [record.layer for record in result.report.folded] == ["b"]
    (kept,) = result.report.kept
    assert "no step is left" in kept.reason


def test_an_affine_crosses_thousands_of_layers_without_recursion() -> None:
    result = fold(relus(5000, "scale: 2"))
    (folded,) = result.report.folded
    assert len(folded.through) == 5000


def test_an_affine_is_refused_behind_thousands_of_layers_without_recursion() -> None:
    text, previous = data(2), "data"
    for i in range(5000):
        text += layer(f"r{i}", "ReLU", previous, f"r{i}")
        previous = f"r{i}"
    (kept,) = fold(net_of(text + power("p", previous))).report.kept
    assert "'data' is an input of the network" in kept.reason
