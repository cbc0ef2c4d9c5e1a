"""Bytes reach a file in order, beside the work that makes them, and what goes wrong there is raised here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bnfold.io.streaming import LARGE, Stream


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    yield fd
    os.close(fd)


def test_small_and_large_pieces_arrive_in_order_and_nothing_else(descriptor: int) -> None:
    rng = np.random.default_rng(0)
    sizes = [3, LARGE, 1, 5 * LARGE, 0, LARGE - 1, 80 * LARGE, 7] * 3
    pieces = [rng.bytes(size) for size in sizes]
    stream = Stream(descriptor)
    for piece in pieces:
        stream.write(memoryview(piece))
    stream.drain()
    os.lseek(descriptor, 0, os.SEEK_SET)
    # More than was written would show, too: room is reserved in advance.
    assert os.read(descriptor, 1 << 28) == b"".join(pieces)


def test_what_the_system_refuses_is_raised_by_a_later_call(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    stream, other = Stream(fd), Stream(fd)
    try:
        with pytest.raises(OSError, match="descriptor"):
            write_often(stream)
        other.write(memoryview(bytes(LARGE)))
        with pytest.raises(OSError, match="descriptor"):
            other.drain()
    finally:
        stream.stop()
        other.stop()
        os.close(fd)


def write_often(stream: Stream) -> None:
    for _ in range(100):
        stream.write(memoryview(bytes(LARGE)))


def test_stopping_twice_and_before_anything_was_written_does_nothing(descriptor: int) -> None:
    stream = Stream(descriptor)
    stream.stop()
    stream.stop()
    assert os.fstat(descriptor).st_size == 0


def test_where_no_room_can_be_reserved_it_is_written_all_the_same(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(*arguments: int) -> None:
        asked.append(arguments)
        raise OSError

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    stream = Stream(descriptor)
    for number in range(3):
        stream.write(memoryview(bytes([number]) * LARGE))
    stream.drain()
    assert len(asked) == 1
    assert os.fstat(descriptor).st_size == 3 * LARGE
