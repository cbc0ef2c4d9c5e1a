"""Random networks, folded: every blob that survives keeps its value to 1e-9 in float64, and nothing movable is left."""

from __future__ import annotations

import random
import re
from collections import Counter

import numpy as np
from algebra.random_nets import prototxt
from algebra.running import assert_same, net_of, run, run_versions
from seeds import seeded

from bnfold.algebra import Kept, fold
from bnfold.caffe.write import prototxt_text


@seeded(200)
def test_every_blob_that_survives_keeps_its_value(seed: int) -> None:
    net = net_of(prototxt(seed), seed)
    folded = fold(net).net
    assert folded.outputs == net.outputs
    before, after = run_versions(net), run_versions(folded)
    assert after.keys() >= {*net.inputs, *net.outputs}
    assert_same(before, after)
    # A file gives versions of one blob the same name again, so it is another net to look at. Only an input keeps its
    # name there even if the layer that wrote on it is gone.
    before, after = run(net), run(folded)
    assert after.keys() >= {net.public_name(blob) for blob in (*net.inputs, *net.outputs)}
    assert_same({blob: value for blob, value in before.items() if blob not in net.inputs}, after)


@seeded(200)
def test_nothing_that_could_move_is_left_and_the_input_is_untouched(seed: int) -> None:
    net = net_of(prototxt(seed), seed)
    layers = [(layer.name, layer.type, *layer.bottoms, *layer.tops) for layer in net.layers]
    kept = [(layer.param, layer.param.SerializeToString(), layer.blobs.stored) for layer in net.layers]
    values = [[blob.copy() for blob in layer.blobs] for layer in net.layers]
    public, outputs = dict(net.public), list(net.outputs)
    once = fold(net)
    assert layers == [(layer.name, layer.type, *layer.bottoms, *layer.tops) for layer in net.layers]
    for layer, (param, message, stored), arrays in zip(net.layers, kept, values, strict=True):
        assert layer.param is param
        assert param.SerializeToString() == message
        assert layer.blobs.stored is stored
        assert all(map(np.array_equal, layer.blobs, arrays))
    assert (net.public, net.outputs) == (public, outputs)

    again = fold(once.net)
    assert all(isinstance(record, Kept) for record in again.report.records), again.report.records
    assert prototxt_text(again.net) == prototxt_text(once.net)
    for one, other in zip(once.net.layers, again.net.layers, strict=True):
        assert (one.bottoms, one.tops) == (other.bottoms, other.tops)
        assert one.blobs.stored == other.blobs.stored


@seeded(100)
def test_neither_the_order_of_the_layers_nor_a_split_changes_what_is_left(seed: int) -> None:
    choose, text = random.Random(seed), prototxt(seed)
    net = net_of(text, seed)
    weights = {layer.name: list(layer.blobs) for layer in net.layers if layer.blobs}
    other = net_of("\n".join(split(ordered(text.split("\n"), choose), choose)), seed, **weights)
    once, again = fold(net).net, fold(other).net
    kinds = [Counter(layer.type for layer in each.layers if layer.type != "Split") for each in (once, again)]
    assert kinds[0] == kinds[1]
    before, after = run(once), run(again)
    outputs = {net.public_name(blob) for blob in net.outputs} & before.keys() & after.keys()
    assert_same({blob: before[blob] for blob in outputs}, after)


def blobs_of(line: str, word: str) -> list[str]:
    return re.findall(rf'\b{word}: "([^"]+)"', line)


def ordered(lines: list[str], choose: random.Random) -> list[str]:
    """The layers in another order, in which each reads the same version of every blob."""
    waits: list[set[int]] = []
    writer: dict[str, int] = {}
    readers: dict[str, set[int]] = {}
    for number, line in enumerate(lines):
        bottoms, tops = blobs_of(line, "bottom"), blobs_of(line, "top")
        waits.append({writer[blob] for blob in (*bottoms, *tops) if blob in writer})
        waits[-1].update(*(readers.get(top, set()) for top in tops))
        for bottom in bottoms:
            readers.setdefault(bottom, set()).add(number)
        for top in tops:
            writer[top], readers[top] = number, set()
    order: list[int] = []
    while len(order) < len(lines):
        left = set(range(len(lines))).difference(order)
        order.append(choose.choice([number for number in sorted(left) if waits[number] <= set(order)]))
    return [lines[number] for number in order]


def split(lines: list[str], choose: random.Random) -> list[str]:
    """Some blobs that no layer writes in place, read behind a Split."""
    in_place = {blob for line in lines for blob in blobs_of(line, "top") if blob in blobs_of(line, "bottom")}
    result: list[str] = []
    for line in lines:
        for blob in dict.fromkeys(blobs_of(line, "bottom")):
            if blob not in in_place and choose.random() < 0.3:
                name = f"apart{len(result)}"  # the net itself may have a split0
                result.append(f'layer {{ name: "{name}" type: "Split" bottom: "{blob}" top: "{name}" }}')
                line = line.replace(f'bottom: "{blob}"', f'bottom: "{name}"')
        result.append(line)
    return result
