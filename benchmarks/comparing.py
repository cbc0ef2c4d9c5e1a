"""What a comparison costs beside running both networks: one measurement, as JSON, in a process of its own.

    python benchmarks/comparing.py REFERENCE CANDIDATE [--provider NAME] [--count N] [--terms]
    python benchmarks/comparing.py REFERENCE CANDIDATE --workers 0 1 2 4 --count 16384

Every figure is for one more sample: twice as many samples are taken as well, and the difference counts, so that
reading models, making sessions and starting workers are in none of them. All ways take turns in each round, and the
ratios are those of one round; "processor" is the time of all processors in this process, which other work on the
machine stretches less than the clock. `--terms` adds what the time of a sample is made of.

Where numba is installed, a comparison of so many values is measured by compiled code.

`--workers` measures nothing but how fast so many workers are (0: this process): samples a second from the first
merged piece to the last, so that starting them is not in it. A piece is 16 runs, so it takes some thousand samples.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bnfold.compare.backends import MANY, worthwhile
from bnfold.compare.batches import BatchLayout, Run
from bnfold.compare.comparison import Comparison
from bnfold.compare.engine import PIECE
from bnfold.compare.measure import Measurement, MeasurePlan
from bnfold.compare.merging import merge
from bnfold.compare.models import Model, open_model
from bnfold.compare.pairing import pair
from bnfold.data.datasets import open_samples
from bnfold.data.samples import Arrays
from bnfold.onnx.graph import WeightStore
from bnfold.options import CompareOptions

IMAGES = 64  # that are written and decoded


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("reference")
    parser.add_argument("candidate")
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--count", type=int, default=32, help="onnxruntime's memory has settled after four runs")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="*", default=[])
    parser.add_argument("--terms", action="store_true")
    given = parser.parse_args()
    options = CompareOptions(provider=given.provider, batch=given.batch)
    models = [open_model(path, "model", options) for path in (given.reference, given.candidate)]
    name, feed = next(iter(models[0].feeds.items()))
    shape = [int(size or 1) for size in feed.shape[1:]]
    images = np.random.default_rng(0).standard_normal((2 * given.count, *shape), np.float32)

    if given.workers:
        print(json.dumps({"samples/s": by_workers(given, {name: images[: given.count]})}))
        return
    with WeightStore() as store:
        sessions = [model.session([], store, provider=given.provider) for model in models]

        def bare(count: int) -> None:
            for start in range(0, count, given.batch):
                for session in sessions:
                    session.run({next(iter(session.inputs)): images[start : start + given.batch]})

        def comparing(**changes: Any) -> Callable[[int], None]:
            def run(count: int) -> None:
                chosen = CompareOptions(**{"provider": given.provider, "batch": given.batch, **changes})
                Comparison(given.reference, {name: images[:count]}, chosen).against(given.candidate)

            return run

        ways = {"bare": bare, "outputs": comparing(layers=False), "every blob": comparing()}
        found: dict[str, Any] = {"processors": len(os.sched_getaffinity(0)), **per_sample(ways, given)}
        found["resident"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if given.terms:
            found["terms"] = terms(models, store, images[: given.batch], given)
    print(json.dumps(found))


class PieceStamps:
    """A progress that keeps when how many pieces were merged."""

    def __init__(self) -> None:
        self.merged: list[tuple[float, int]] = []

    def __call__(self, *_samples: int) -> None:
        """Samples come piece by piece only from workers."""

    def pieces(self, done: int, _total: int) -> None:
        """So many pieces are merged."""
        self.merged.append((time.perf_counter(), done))


def by_workers(given: argparse.Namespace, samples: dict[str, Any]) -> dict[str, float]:
    """For each number of workers the median of samples a second, every blob compared."""
    found: dict[int, list[float]] = {number: [] for number in given.workers}
    for _ in range(given.rounds):
        for number in given.workers:
            stamps = PieceStamps()
            options = CompareOptions(provider=given.provider, batch=given.batch, cluster=number or None)
            Comparison(given.reference, samples, options).against(given.candidate, stamps)
            (began, first), (ended, last) = stamps.merged[0], stamps.merged[-1]
            found[number].append((last - first) * PIECE * given.batch / (ended - began))
    return {str(number): statistics.median(rates) for number, rates in found.items()}


def per_sample(ways: dict[str, Callable[[int], None]], given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """For each way the median of what one more sample takes: seconds, processor seconds, and their ratios to bare."""
    for run in ways.values():
        run(given.count)
    rounds: list[dict[str, tuple[float, float]]] = []
    for _ in range(given.rounds):
        rounds.append({})
        for way, run in ways.items():
            twice, once = took(run, 2 * given.count), took(run, given.count)
            rounds[-1][way] = (twice[0] - once[0]) / given.count, (twice[1] - once[1]) / given.count
    return {
        way: {
            "seconds": statistics.median(one[way][0] for one in rounds),
            "processor": statistics.median(one[way][1] for one in rounds),
            "ratio": statistics.median(one[way][0] / one["bare"][0] for one in rounds),
            "processor ratio": statistics.median(one[way][1] / one["bare"][1] for one in rounds),
        }
        for way in ways
    }


def took(run: Callable[[int], None], count: int) -> tuple[float, float]:
    """Seconds by the clock, and of the processors."""
    began, spent = time.perf_counter(), time.process_time()
    run(count)
    return time.perf_counter() - began, time.process_time() - spent


def terms(models: Sequence[Model], store: WeightStore, images: Any, given: argparse.Namespace) -> dict[str, float]:
    """Processor seconds of one sample in each part of a comparison, by the model of `docs/scale.md`.

    Returns:
        decode (a JPEG of 500 x 375 to the input's size), run (both networks with every blob as an output), measure,
        merge (of one piece of 16 runs), and how many pairs of values a sample has.
    """
    count = len(images)
    pairs = pair(models[0].writers, models[1].writers, {}, folded=True)
    blobs = [list(pairs), list(dict.fromkeys(pairs.values()))]
    sessions = [
        model.session(names, store, provider=given.provider) for model, names in zip(models, blobs, strict=True)
    ]
    feeds = models[0].feeds
    plan = MeasurePlan(pairs, BatchLayout(feeds, count, batched=True), 1e-4, compiled=worthwhile(MANY))
    samples = Arrays({next(iter(feeds)): images})
    best: dict[str, list[float]] = {"decode": [], "run": [], "measure": [], "merge": []}

    def timed(what: str, times: int, run: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = run()
        best[what].append((time.process_time() - began) / times)
        return result

    def run() -> list[dict[str, Any]]:
        return [
            session.run({next(iter(session.inputs)): images}, names)
            for session, names in zip(sessions, blobs, strict=True)
        ]

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as one:
        decoded = open_samples(photographs(Path(folder)), feeds, None, None)
        values = 0
        for _ in range(given.rounds + 1):
            timed("decode", IMAGES, lambda: [decoded.sample(number) for number in range(IMAGES)])
            outs = timed("run", count, run)
            values = sum(int(np.prod(outs[0][name].shape)) for name in pairs)
            measured = Measurement.begun(plan)
            timed("measure", count, measured.add(plan, Run(range(count), {}), outs[0], outs[1], samples, {}, one))
            timed("merge", PIECE * count, partial(merge, measured, copy.deepcopy(measured)))
            del outs
    return {**{what: statistics.median(times[1:]) for what, times in best.items()}, "pairs": values / count}


def photographs(folder: Path) -> Path:
    """A folder of images that are as hard to decode as photographs."""
    from PIL import Image

    random = np.random.default_rng(1)
    for number in range(IMAGES):
        coarse = Image.fromarray(random.integers(0, 255, (24, 32, 3), np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)
    return folder


if __name__ == "__main__":
    main()
