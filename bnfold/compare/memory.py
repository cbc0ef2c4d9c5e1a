"""Whether there is room to run a network: the sizes of its blobs come from a text, which may say any."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path

from bnfold.caffe.layers import infer_shapes
from bnfold.errors import UsageError
from bnfold.net import Net

VALUE = 4  # bytes
LIVE = 3  # blobs of the largest size that are in memory at once, where not all are kept


def check_memory(net: Net, layers: bool) -> None:
    """Refuse a comparison whose blobs would not fit into the memory that is free.

    Args:
        net: one of two nets of like size.
        layers: every blob is kept for comparing, and not the outputs alone.

    Raises:
        UsageError: with both sizes, and what to do.
    """
    free = available_memory()
    if free is None:
        return
    sizes = [prod(shape) for shape in infer_shapes(net).values() if shape is not None]
    inputs = sum(prod(shape) for shape in net.inputs.values())
    values = sum(sizes) if layers else inputs + LIVE * max(sizes, default=0)
    needed = 2 * VALUE * values
    if needed > free:
        raise UsageError(
            f"comparing takes about {_gib(needed)} for the blobs of both networks, and {_gib(free)} are free: give "
            "smaller inputs by --input-shape or --batch, or --no-verify"
        )


def available_memory() -> int | None:
    """Bytes that can be had without driving out others; None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def _gib(size: int) -> str:
    return f"{size / (1 << 30):,.1f} GiB"
