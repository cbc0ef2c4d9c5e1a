"""Fixtures of the tests of reading and writing Caffe files."""

from __future__ import annotations

from pathlib import Path

import pytest
from saving import CAFFEMODEL, PROTOTXT, Load, Read, Save

import bnfold
from bnfold.caffe.weights import WeightsFile, read_weights
from bnfold.net import Net
from bnfold.options import Dialect


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(prototxt: str = PROTOTXT, caffemodel: bytes = CAFFEMODEL) -> Net:
        (tmp_path / "net.prototxt").write_text(prototxt)
        (tmp_path / "net.caffemodel").write_bytes(caffemodel)
        return bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")

    return load


@pytest.fixture
def saved(tmp_path: Path) -> Save:
    def saved(net: Net, strip: bool = False, dialect: Dialect = "bvlc") -> tuple[str, bytes]:
        bnfold.save_caffe(net, tmp_path / "out.prototxt", strip=strip, dialect=dialect)
        return (tmp_path / "out.prototxt").read_text(), (tmp_path / "out.caffemodel").read_bytes()

    return saved


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(*content: bytes) -> WeightsFile:
        path = tmp_path / "net.caffemodel"
        path.write_bytes(b"".join(content))
        return read_weights(path)

    return read
