"""What a comparison costs beside running both networks: one measurement, as JSON, in a process of its own.

    python benchmarks/comparing.py REFERENCE CANDIDATE [--provider NAME] [--count N] [--workers N ...]

Every figure is for one more sample: twice as many samples are taken as well, and the difference counts, so that
reading models, making sessions and starting workers are in none of them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bnfold.compare.comparison import Comparison
from bnfold.compare.models import open_model
from bnfold.onnx.graph import WeightStore
from bnfold.options import CompareOptions


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("reference")
    parser.add_argument("candidate")
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="*", default=[])
    given = parser.parse_args()
    options = CompareOptions(provider=given.provider, batch=given.batch)
    models = [open_model(path, "model", options) for path in (given.reference, given.candidate)]
    name, feed = next(iter(models[0].feeds.items()))
    shape = [int(size or 1) for size in feed.shape[1:]]
    images = np.random.default_rng(0).standard_normal((2 * given.count, *shape), np.float32)

    with WeightStore() as shelf:
        sessions = [model.session([], shelf, provider=given.provider) for model in models]

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
        ways |= {f"{number} workers": comparing(cluster=number) for number in given.workers}
        each = {way: per_sample(run, given.count, given.rounds) for way, run in ways.items()}
    found: dict[str, Any] = {
        "processors": len(os.sched_getaffinity(0)),
        "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        **each,
    }
    print(json.dumps(found))


def per_sample(run: Callable[[int], None], count: int, rounds: int) -> float:
    """The median seconds of one more sample."""
    run(count)
    return statistics.median(_took(run, 2 * count) - _took(run, count) for _ in range(rounds)) / count


def _took(run: Callable[[int], None], count: int) -> float:
    began = time.perf_counter()
    run(count)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
