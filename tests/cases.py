"""Cases for end-to-end tests: a folder with a net and the outputs that a real Caffe gave, and how outputs compare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bnfold.caffe.read import load
from bnfold.net import Net
from bnfold.onnx import to_onnx
from bnfold.runtime import Session

Array = npt.NDArray[Any]

TESTS = Path(__file__).parent
GOLDEN = TESTS / "golden"
ZOO = TESTS.parent.parent / "shared" / "zoo"

# Of an output's range, against Caffe's own float32.
TOLERANCE = 2e-5
# Two float32 programs differ by more in deep nets.
DEEP_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Case:
    """A folder of the goldens or of the zoo."""

    folder: Path
    zero_scale_factor: Literal["caffe", "one"] | None = None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def prototxt(self) -> Path:
        return self.folder / "net.prototxt"

    @property
    def caffemodel(self) -> Path:
        return self.folder / "net.caffemodel"

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]] | None:
        path = self.folder / "input_shapes.json"
        if not path.exists():
            return None
        return {name: tuple(shape) for name, shape in json.loads(path.read_text()).items()}

    def load(self, prototxt: Path | None = None, caffemodel: Path | None = None) -> Net:
        """The net as it is, or what was made of it, read in the same way.

        A golden as it is, which some hundred tests read, is read once in a process; each gets a copy.
        """
        if prototxt is None and caffemodel is None and self.folder.parent == GOLDEN:
            return _read_once(self).copy()
        return self._read(prototxt, caffemodel)

    def _read(self, prototxt: Path | None = None, caffemodel: Path | None = None) -> Net:
        return load(
            prototxt or self.prototxt,
            caffemodel or self.caffemodel,
            input_shapes=self.input_shapes,
            zero_scale_factor=self.zero_scale_factor,
        )

    @property
    def inputs(self) -> dict[str, Array]:
        arrays = load_arrays(self.folder / "inputs.npz")
        shapes = self.input_shapes or {}
        return {name: array.reshape(shapes.get(name, array.shape)) for name, array in arrays.items()}

    @property
    def answers(self) -> dict[str, Array]:
        return load_arrays(self.folder / "outputs.npz")


@cache
def _read_once(case: Case) -> Net:
    return case._read()


# scale_factor 0 beside statistics: the golden is BVLC's answer, and without that word loading stops.
ZERO_FACTOR = {"bn_scale_factor_zero"}


def golden(name: str) -> Case:
    return Case(GOLDEN / name, "caffe" if name in ZERO_FACTOR else None)


def goldens() -> list[str]:
    return sorted(path.parent.name for path in GOLDEN.glob("*/net.prototxt"))


def load_arrays(path: Path) -> dict[str, Array]:
    with np.load(path) as arrays:
        return dict(arrays)


def by_onnxruntime(net: Net, inputs: Mapping[str, Array]) -> dict[str, Array]:
    session = Session(to_onnx(net), threads=1)
    return session.run({name: inputs[name] for name in session.inputs})


def distance(ours: Array, answer: Array) -> float:
    """The largest difference, relative to the answer's range; -FLT_MAX, from an empty window, is no part of a range."""
    assert ours.shape == answer.shape
    empty = answer == np.finfo(np.float32).min
    assert (ours[empty] == answer[empty]).all()
    ours, answer = ours[~empty].astype(np.float64), answer[~empty].astype(np.float64)
    extent = max(float(np.ptp(answer)), float(np.abs(answer).max())) or 1.0
    worst = float(np.abs(ours - answer).max())
    assert np.isfinite(worst), "not finite"
    return worst / extent


def assert_answers(ours: Mapping[str, Array], answers: Mapping[str, Array], tolerance: float) -> None:
    """The same outputs, and each within `tolerance` of the answer's range."""
    assert sorted(ours) == sorted(answers)
    far = {name: distance(ours[name], answer) for name, answer in answers.items()}
    assert max(far.values()) <= tolerance, far
