"""What the words of a command line mean, and what to say where they mean nothing. Knows no click."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bnfold.report.words import visible

WEIGHTS = (".caffemodel", ".h5")
# Options that mean something only beside others.
FOR_ONNX = ("opset", "dynamic_batch", "external_data", "allow_custom_ops")
FOR_CAFFE = ("strip", "dialect")
COMPARING = (
    "tolerance", "seed", "exact", "min_agreement", "max_top1_drop", "provider", "reference_provider", "tf32", "memory",
    "sample_limit", "sample_seed",
)  # fmt: skip
PREPARING = ("mean", "scale", "swap_channels", "resize", "crop")
PROVING = (*COMPARING, *PREPARING, "data", "keep_failed", "outputs_only")


def sizes(text: str) -> tuple[int, ...]:
    """`1,3,224,224` or `1x3x224x224`. Raises ValueError for anything else."""
    sizes = tuple(int(size) for size in text.replace("x", ",").split(","))
    if min(sizes) < 1:
        raise ValueError
    return sizes


def count_of_bytes(text: str) -> int:
    """`500M`, `4G` or a plain number. Raises ValueError for anything else."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "B")
    size = int(float(number) * 2.0 ** (10 * "BKMGT".index(unit)))
    if size < 1:
        raise ValueError
    return size


def plane(text: str) -> tuple[int, int]:
    """Height and width, or one number for both. Raises ValueError for anything else."""
    height, width = (sizes(text) * 2)[:2] if text.isdigit() else sizes(text)
    return height, width


def named(read: Callable[[str], Any], text: str) -> tuple[str, Any]:
    """`NAME=VALUE`, whose value `read` reads. Raises ValueError for anything else."""
    name, _, rest = text.rpartition("=")
    if not name or not rest:
        raise ValueError
    return name, read(rest)


def too_many(command: str, extra: list[str]) -> str:
    """What to write instead of a file in a place where there is none."""
    name = visible(extra[0])
    if Path(extra[0]).suffix in (".onnx", ".prototxt") and command != "inspect":
        return f"{name} is one file too many: what is written stands behind -o, as in '-o {name}'"
    if Path(extra[0]).suffix in (".caffemodel", ".h5"):
        return f"{name} is one file too many: several caffemodels are joined by commas, as in a.caffemodel,b.caffemodel"
    return f"{name} is one argument too many"
