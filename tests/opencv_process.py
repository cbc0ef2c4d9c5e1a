"""OpenCV's Caffe reader in a process of its own: now and then it divides by zero and would take the tests along."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

TRIES = 3


def forward(prototxt: Path, caffemodel: Path, inputs: Mapping[str, np.ndarray], layer: str) -> np.ndarray:
    """What OpenCV computes for one layer, without its own fusion and Winograd."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "inputs.npz", **dict[str, Any](inputs))
        command = [sys.executable, __file__, str(prototxt), str(caffemodel), folder, layer]
        for _ in range(TRIES):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode >= 0:  # a negative one is a signal
                break
        assert done.returncode == 0, done.stderr
        output: np.ndarray = np.load(Path(folder) / "output.npy")
        return output


def main(prototxt: str, caffemodel: str, folder: str, layer: str) -> None:
    """The child."""
    import cv2

    net = cv2.dnn.readNetFromCaffe(prototxt, caffemodel)
    net.enableFusion(False)
    net.enableWinograd(False)
    with np.load(Path(folder) / "inputs.npz") as inputs:
        for name in inputs.files:
            net.setInput(inputs[name], name)
    np.save(Path(folder) / "output.npy", net.forward(layer))


if __name__ == "__main__":
    main(*sys.argv[1:])
