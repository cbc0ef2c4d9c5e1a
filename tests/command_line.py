"""What the tests of the command line share: a folder with a model, and a command run in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cases import golden

GOLDEN = golden("seed_resnet_bn_scale")
TEXT = GOLDEN.prototxt.read_text(encoding="utf-8")
MODEL = GOLDEN.caffemodel.read_bytes()
NET = ("net.prototxt", "net.caffemodel")
FOLD = ("fold", *NET, "-o", "out.prototxt")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command left, and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


def files(folder: Path = Path()) -> dict[str, bytes | None]:
    """The contents of every file; None for a folder."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.iterdir()}
