"""How much memory a comparison may use, and whether a network can be run in it: a text says how large its blobs are."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path

from bnfold.caffe.layers import infer_shapes
from bnfold.compare.batches import BatchLayout
from bnfold.errors import UsageError
from bnfold.net import Net

SHARE = 0.5  # of the free memory, by default: the networks' own working memory and the page cache want some
VALUE = 4  # bytes
LIVE = 3  # blobs of the largest size that are in memory at once, where not all are kept


def check_memory(net: Net) -> None:
    """Refuse a comparison whose networks could not be run in the memory that is free, even if no blob is kept.

    Args:
        net: one of two nets of like size.

    Raises:
        UsageError: with both sizes, and what to do.
    """
    sizes = [prod(shape) for shape in infer_shapes(net).values() if shape is not None]
    _require(sum(prod(shape) for shape in net.inputs.values()) + LIVE * max(sizes, default=0))


def check_inputs(layout: BatchLayout) -> None:
    """The same by what is fed alone, where nothing says how large the other blobs are; raises as `check_memory`."""
    shapes = [(layout.batch, *feed.shape[1:]) if layout.batched else feed.shape for feed in layout.feeds.values()]
    _require(sum(prod(size or 1 for size in shape) for shape in shapes))


def _require(values: int) -> None:
    """Memory for so many values in both networks."""
    free, needed = available_memory(), 2 * VALUE * values
    if free is not None and needed > free:
        raise UsageError(
            f"comparing takes about {_gib(needed)} for the blobs of both networks, and {_gib(free)} are free: give "
            "smaller inputs by --input-shape or --batch, or --no-verify"
        )


def budget_of(memory: int | None) -> int | None:
    """Bytes that blobs may take: what was asked for, else a share of what is free; None where the system is silent."""
    if memory is not None:
        return memory
    free = available_memory()
    return None if free is None else int(SHARE * free)


def available_memory() -> int | None:
    """Bytes that can be had without driving out others, here or in our control group; None where nothing says it."""
    known = [free for free in (_free_in_machine(), *map(_free_in_group, GROUPS)) if free is not None]
    return min(known, default=None)


def _free_in_machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def _free_in_group(files: tuple[str, str]) -> int | None:
    """What a container may still take; what the system can take back at once counts as taken."""
    try:
        limit, used = (Path(file).read_text().strip() for file in files)
        return max(0, int(limit) - int(used)) if limit.isdigit() else None
    except (OSError, ValueError):
        return None


GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""The limit and the use of a control group, in its second version and its first."""


def _gib(size: int) -> str:
    return f"{size / (1 << 30):,.1f} GiB"
