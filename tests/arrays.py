"""Arrays of an `.npz`, read at once so that no file stays open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def stored(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Name -> array."""
    with np.load(path) as file:
        return dict(file)
