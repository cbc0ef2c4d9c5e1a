"""How many wrong folds the default proof of `bnfold fold` lets pass: single channels of folded layers times 1.5.

    python tests/mutations.py [--per-layer K] [--factor F] [NET ...]

A net is a folder with net.prototxt and net.caffemodel; by default the small trained nets of the zoo in ../shared.
Each is folded, written as Caffe and read back, as a proof does; then one channel of the weights of one folded layer is
wrong. A variant counts if it changes any blob of the folded net by more than the tolerance of the blob's range, for a
sample of data that the proof does not know: pixels, and noise of eight magnitudes. Of these the proof has to fail.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np
from cases import ZOO, Array, Case

import bnfold
from bnfold.algebra.frontend import with_stored_statistics
from bnfold.algebra.records import Folded
from bnfold.caffe.layers import infer_shapes
from bnfold.compare.comparison import Comparison
from bnfold.compare.pairing import named_as
from bnfold.net import Blobs, Net
from bnfold.onnx import to_onnx
from bnfold.options import TOLERANCES, CompareOptions
from bnfold.runtime import Session

TOLERANCE = TOLERANCES["float32"]
SCALES = (1 / 64, 1 / 16, 1 / 4, 1.0, 4.0, 16.0, 64.0, 128.0)
LARGEST = 4_000_000
TOGETHER = 8  # variants that are compared in one pass

Place = tuple[str, int]
"""A layer and one of its output channels."""


@dataclass
class Result:
    """What became of the variants of one net."""

    name: str
    variants: int = 0
    changing: int = 0
    passed: list[Place] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def failed(self) -> int:
        return self.changing - len(self.passed)


def measure(
    name: str, original: Net, folded: Net, layers: Sequence[str], per_layer: int, factor: float, options: CompareOptions
) -> Result:
    """Judge variants of `folded`, each with one channel of one of `layers` times `factor`."""
    start = time.perf_counter()
    result = Result(name)
    proof, probe = Comparison(original, options=options), Probe(folded)
    waiting: list[tuple[Place, Net]] = []
    for place, variant in variants(folded, layers, per_layer, factor):
        result.variants += 1
        if probe.changes(variant):
            result.changing += 1
            waiting.append((place, variant))
        if len(waiting) == TOGETHER:
            result.passed += passing(proof, waiting)
            waiting.clear()
    if waiting:
        result.passed += passing(proof, waiting)
    result.seconds = time.perf_counter() - start
    return result


def passing(proof: Comparison, waiting: Sequence[tuple[Place, Net]]) -> list[Place]:
    """The variants that the proof takes for equal."""
    reports = proof.against_all([variant for _, variant in waiting], folded=[True] * len(waiting))
    return [place for (place, _), report in zip(waiting, reports, strict=True) if report.passed]


def variants(folded: Net, layers: Sequence[str], per_layer: int, factor: float) -> Iterator[tuple[Place, Net]]:
    """The wrong nets: of each layer up to `per_layer` channels, evenly spread."""
    for name in layers:
        layer = next(layer for layer in folded.layers if layer.name == name)
        weight = np.asarray(layer.blobs[0])
        axis = 1 if layer.type == "Deconvolution" else 0
        count = weight.shape[axis]
        for channel in np.unique(np.linspace(0, count - 1, min(per_layer, count)).round().astype(int)).tolist():
            wrong = weight.copy()
            wrong[(slice(None),) * axis + (channel,)] *= factor
            variant = folded.copy()
            changed = next(layer for layer in variant.layers if layer.name == name)
            changed.blobs = Blobs([wrong, *layer.blobs.stored[1:]])
            yield (name, channel), variant


class Probe:
    """Whether a variant computes anything else than the folded net, on data that the proof does not know."""

    def __init__(self, folded: Net) -> None:
        self._blobs = [top for layer in folded.layers for top in layer.tops if layer.type != "Input"]
        self._feeds = list(_feeds(folded))
        self._right = self._run(folded)

    def changes(self, variant: Net) -> bool:
        """Whether any blob differs by more than the tolerance of its range in any sample."""
        return any(
            any(_far(right[blob], wrong[blob]) for blob in right)
            for right, wrong in zip(self._right, self._run(variant), strict=True)
        )

    def _run(self, net: Net) -> list[dict[str, Array]]:
        session = Session(to_onnx(net, outputs=self._blobs))
        return [session.run(feeds) for feeds in self._feeds]


def _far(right: Array, wrong: Array) -> bool:
    if right.shape != wrong.shape:
        return True
    both = np.isfinite(right) & np.isfinite(wrong)
    if not both.any():
        return bool((np.isfinite(right) != np.isfinite(wrong)).any())
    r, w = right[both].astype(np.float64), wrong[both].astype(np.float64)
    return bool(np.abs(w - r).max() > TOLERANCE * (np.ptp(r) or np.abs(r).max() or 1.0))


def _feeds(net: Net) -> Iterator[dict[str, Array]]:
    random = np.random.default_rng(20)
    yield {name: random.integers(0, 256, shape).astype(np.float32) for name, shape in net.inputs.items()}
    for scale in SCALES:
        yield {name: random.normal(0, scale, shape).astype(np.float32) for name, shape in net.inputs.items()}


def of_case(case: Case, per_layer: int, factor: float, options: CompareOptions = CompareOptions()) -> Result:
    """Fold a case as `bnfold fold --assume-global-stats` does, and measure its variants."""
    original = case.load()
    result = bnfold.fold(original, assume_global_stats=True)
    original = with_stored_statistics(original, result.net)
    into = {name for record in result.report.records if isinstance(record, Folded) for name in record.into}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "folded.prototxt")
        bnfold.save_caffe(result.net, path)
        shapes = {name: shape for name, shape in original.inputs.items() if shape}
        read = bnfold.load(path, path.with_suffix(".caffemodel"), input_shapes=shapes)
        written = named_as(read, result.net)
        layers = [layer.name for layer in written.layers if layer.name in into and layer.blobs]
        return measure(case.name, original, written, layers, per_layer, factor, options)


def small() -> Iterator[Path]:
    """The trained nets of the zoo whose blobs hold at most `LARGEST` values."""
    for path in sorted(ZOO.glob("trained/*/net.prototxt")):
        shapes = infer_shapes(Case(path.parent).load()).values()
        if sum(prod(shape) for shape in shapes if shape is not None) <= LARGEST:
            yield path.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", type=Path, metavar="NET")
    parser.add_argument("--per-layer", type=int, default=3, help="channels per layer")
    parser.add_argument("--factor", type=float, default=1.5)
    parser.add_argument("--outputs-only", action="store_true", help="measure what the outputs alone would find")
    args = parser.parse_args()
    nets = args.nets or list(small())
    if not nets:
        parser.error(f"there is no zoo at {ZOO}: name folders that have a net.prototxt and a net.caffemodel")
    options = CompareOptions(layers=not args.outputs_only)
    results = []
    print(
        "| net | wrong variants | of them change a blob | fail the proof | share | seconds |\n|---|---|---|---|---|---|"
    )
    for folder in nets:
        result = of_case(Case(folder), args.per_layer, args.factor, options)
        if result.variants:
            results.append(result)
            print(_row(result), flush=True)
    total = Result("all", *(sum(getattr(result, name) for result in results) for name in ("variants", "changing")))
    total.passed = [place for result in results for place in result.passed]
    total.seconds = sum(result.seconds for result in results)
    print(_row(total))
    for result in results:
        for layer, channel in result.passed:
            print(f"{result.name}: channel {channel} of '{layer}' passes")


def _row(result: Result) -> str:
    share = result.failed / max(result.changing, 1)
    return (
        f"| {result.name} | {result.variants} | {result.changing} | {result.failed} | {share:.2%} "
        f"| {result.seconds:.0f} |"
    )


if __name__ == "__main__":
    main()
