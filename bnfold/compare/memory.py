"""How much memory a comparison may take, and what networks need of it.

A process takes what it had before, the weights that its sessions map, the blobs that were asked for until they are
measured, and what a run holds meanwhile. All but the first are known before anything runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from bnfold.caffe.layers import infer_shapes
from bnfold.compare.batches import BatchLayout
from bnfold.errors import UsageError
from bnfold.net import Net, Shape
from bnfold.runtime import control_files

if TYPE_CHECKING:
    from bnfold.compare.models import Model

SHARE = 0.5  # of the free memory, by default: others on the machine and the page cache want some
VALUE = 4  # bytes
LIVE = 3  # blobs of the largest size that are in memory at once, where not all are kept
LOOSE = 2  # such blobs that stay with the allocator, more or less of them by chance, where sizes are open
CAST = 3  # of the size of a blob of float16, where it is cast to float32 beside it
DOUBLES = 4  # blobs of the largest size that an operator makes in float64 before it gives one
OWN = 48 << 20  # what threads, the allocator and modules that are imported late take besides
THREAD = 4 << 20  # what a thread that measures keeps (`backends`), with its stack
COMPILED = 184 << 20  # what numba takes when it makes the code, which is for many values; 133 where that was kept
CHILD = 64 << 20  # of the process that a network has of its own
BARE = 128 << 20  # of a process, where the system does not say


def check_memory(net: Net) -> dict[str, Shape | None]:
    """Refuse a comparison of two nets of the size of this one that could not be run in the memory that is free, even if
    no blob is kept.

    Returns:
        The shape of each blob, None where it is unknown.

    Raises:
        UsageError: with both sizes, and what to do.
    """
    shapes = infer_shapes(net)
    sizes = [prod(shape) for shape in shapes.values() if shape is not None]
    _require(sum(prod(shape) for shape in net.inputs.values()) + LIVE * max(sizes, default=0))
    return shapes


def check_inputs(layout: BatchLayout) -> None:
    """The same by what is fed alone, where nothing says how large the other blobs are; raises as `check_memory`."""
    shapes = [(layout.batch, *feed.shape[1:]) if layout.batched else feed.shape for feed in layout.feeds.values()]
    _require(sum(prod(size or 1 for size in shape) for shape in shapes))


def _require(values: int) -> None:
    """Raise UsageError where so many values in both networks are more than the free memory."""
    free, needed = available_memory(), 2 * VALUE * values
    if free is not None and needed > free:
        raise UsageError(
            f"comparing takes about {gib(needed)} for the blobs of both networks, and {gib(free)} are free: give "
            "smaller inputs by --input-shape or --batch, or --no-verify"
        )


@dataclass(frozen=True, slots=True)
class Needs:
    """The memory that a network needs.

    Attributes:
        weights: bytes that its session maps, and every run reads; the process that it has of its own among them.
        working: bytes that a run holds at the most of what nobody asked for.
        sizes: blob -> bytes, where its shape is known before it runs; twice them where another process sends it.
        widening: how many times as large the values are in float64.
        double_weights: bytes that the weights take in a float64 run.
        unsized: tensors whose shape does not follow from those of the inputs, in the order in which they are made.
    """

    weights: int
    working: int
    sizes: Mapping[str, int]
    widening: int
    double_weights: int
    unsized: tuple[str, ...]

    @classmethod
    def of(
        cls, model: Model, inputs: Mapping[str, Sequence[int | None]], known: Mapping[str, int], provider: str = "cpu"
    ) -> Needs:
        """What one network needs.

        Args:
            model: the network.
            inputs: input -> shape.
            known: tensor -> bytes, for what has an operator that onnx does not know, or was met in a run.
            provider: what runs it; processors compute values of float16 in float32.
        """
        from bnfold.onnx.graph import inferred, mapped_bytes
        from bnfold.onnx.working_memory import cast_bytes, inner_bytes, sizes_of, working_bytes

        types, values = inferred(model.proto, model.weights, inputs)
        told, inner = sizes_of(types), inner_bytes(model.proto, types, values)
        sizes, unsized = {**known, **told}, tuple(name for name in model.makers if name and name not in told)
        weights, working = mapped_bytes(model.proto, model.weights), working_bytes(model.proto, sizes, inner)
        if provider == "cpu" and model.stored_type == "float16":
            weights, working = weights + cast_bytes(model.proto, model.weights), CAST * working
        if model.is_isolated:
            weights, sizes = weights + CHILD, {name: 2 * size for name, size in sizes.items()}
        if any(None in feed.shape for feed in model.feeds.values()):  # onnxruntime plans no memory beforehand
            working += LOOSE * max(sizes.values(), default=0)
        # A message holds them, and so do the arrays that are read from it.
        return cls(weights, working, sizes, WIDENING.get(model.stored_type, 4), 2 * 8 * model.stored_values, unsized)

    def double_working(self, inputs: int, runs: int) -> int:
        """What float64 runs, of so many bytes of inputs, hold of what nobody asked for, an operator's own among it."""
        return self.widening * (runs * (inputs + self.working) + DOUBLES * max(self.sizes.values(), default=0))


WIDENING = {"float64": 1, "float32": 2}


def memory_budget(memory: int | None, threads: int, processes: int = 1) -> int | None:
    """Bytes for weights, blobs and code in a process that may hold so much in all; None where the system says nothing.

    Args:
        memory: what was asked for; by default a share of what is free, besides what the process holds.
        threads: that measure.
        processes: that have it together, each as much.
    """
    if memory is None:
        free = available_memory()
        return None if free is None else int(SHARE * free) // processes
    return memory // processes - resident_memory() - OWN - THREAD * threads


def resident_memory() -> int:
    """Bytes that this process holds."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return BARE


def available_memory() -> int | None:
    """Bytes that can be had without driving out others, here or in our control groups; None where nothing says it."""
    in_groups = [_free_in_group(files) for files in control_files("memory", LIMITS)]
    return min((free for free in (_free_in_machine(), *in_groups) if free is not None), default=None)


def _free_in_machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def _free_in_group(files: Sequence[Path]) -> int | None:
    """What a container may still take; what the system can take back at once counts as taken."""
    try:
        limit, used = (file.read_text(encoding="ascii").strip() for file in files)
        return max(0, int(limit) - int(used)) if limit.isdigit() else None
    except (OSError, ValueError):
        return None


LIMITS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""The limit and the use of a control group, in its second version and its first."""


def gib(size: int) -> str:
    """A size as users read it."""
    return f"{size / (1 << 30):,.1f} GiB"
