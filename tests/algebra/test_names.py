"""A blob name that survives keeps its value, in memory and in a file, where layers work in place too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import reference
from cases import distance
from nets import net

import bnfold

DATA = 'input: "data" input_shape { dim: 2 dim: 3 dim: 5 dim: 5 }'
ONE_BY_ONE = "convolution_param { num_output: 4 kernel_size: 1 } }"
CONV = 'layer { name: "conv" type: "Convolution" bottom: "data" top: "x" ' + ONE_BY_ONE
RELU = 'layer { name: "relu" type: "ReLU" bottom: "x" top: "x" }'
BN = 'layer { name: "bn" type: "BatchNorm" bottom: "x" top: "x" }'
POOL = 'layer { name: "pool" type: "Pooling" bottom: "x" top: "pool" pooling_param { kernel_size: 2 } }'
DROPOUT = 'layer { name: "drop" type: "Dropout" bottom: "x" top: "x" }'
NEXT = 'layer { name: "next" type: "Convolution" bottom: "x" top: "y" ' + ONE_BY_ONE


def values(prototxt: Path, data: np.ndarray) -> dict[str, np.ndarray]:
    return reference.load(prototxt, prototxt.with_suffix(".caffemodel")).run({"data": data})


def saved(text: str, folder: Path) -> tuple[bnfold.FoldResult, set[str]]:
    """The fold, and the names of the file that it becomes, whose values are checked here."""
    original = net(text)
    result = bnfold.fold(original)
    bnfold.save_caffe(original, folder / "original.prototxt")
    bnfold.save_caffe(result.net, folder / "folded.prototxt")
    data = np.random.default_rng(1).normal(size=original.inputs["data"])
    before, after = values(folder / "original.prototxt", data), values(folder / "folded.prototxt", data)
    for name in before.keys() & after.keys():
        assert distance(after[name], before[name]) < 1e-6, name
    return result, set(after)


def test_a_name_whose_last_version_went_forward_goes_with_it(tmp_path: Path) -> None:
    result, names = saved(DATA + CONV + RELU + BN + NEXT, tmp_path)
    assert [(record.layer, record.into) for record in result.report.folded] == [("bn", ("next",))]
    assert names == {"data", "x@relu", "y"}


def test_an_in_place_dropout_leaves_its_name_to_its_bottom_even_if_others_read_that(tmp_path: Path) -> None:
    _, names = saved(DATA + CONV + RELU + POOL + DROPOUT + NEXT, tmp_path)
    assert names == {"data", "x", "pool", "y"}


def test_an_output_of_an_in_place_dropout_stays_one_that_nobody_reads(tmp_path: Path) -> None:
    _, names = saved(DATA + CONV + RELU + POOL + DROPOUT, tmp_path)
    assert {"x", "pool"} <= names
    for file in ("original", "folded"):
        assert set(reference.load(tmp_path / f"{file}.prototxt").outputs) == {"x", "pool"}
