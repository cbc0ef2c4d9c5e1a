"""Reading files: mapped into memory, page by page as they are touched, or whole; never one that could wait for ever.

Only regular files are opened, but for what the shell has opened already: `/dev/stdin`, and the `/dev/fd/63` that
stands for `<(cat net.prototxt)`. Such a stream gives its contents once, so they are kept for whoever asks again.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Self

from bnfold.errors import ParseError, UsageError
from bnfold.io.files import descriptor_of, interrupted, names_in, nearby
from bnfold.io.formats import EXPORT

_PIECE = 1 << 20
_streams: dict[tuple[int, int], mmap.mmap] = {}
"""(device, inode) of a stream that was read to its end -> its contents."""


class MappedFile(mmap.mmap):
    """A file that is mapped into memory, whose contents change where somebody writes to the file.

    Args:
        descriptor: the open file.
        path: what the user called it.
    """

    def __new__(cls, descriptor: int, path: Path) -> Self:  # noqa: ARG004 - as `__init__`
        """Map all of it."""
        return super().__new__(cls, descriptor, 0, access=mmap.ACCESS_READ)

    def __init__(self, descriptor: int, path: Path) -> None:
        self._path, self._place, self._before = path, os.path.abspath(path), os.fstat(descriptor)

    def require_unchanged(self) -> None:
        """Stop where it was written to since; what was replaced or removed lives on as it was. Raises ParseError."""
        try:
            now = os.stat(self._place)
        except OSError:
            return
        before = self._before
        written = (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns)
        if written and os.path.samestat(now, before):
            raise ParseError(
                "was written to after it was read, so its weights may be others; load it again", self._path
            )

    def require_other(self, file: object) -> None:
        """Stop where an open file is this one, parts of which would be gone before they are read. Raises UsageError."""
        try:
            there = os.fstat(file.fileno())  # type: ignore[attr-defined]
        except (AttributeError, OSError, TypeError, ValueError):  # no file, but something else that can be written to
            return
        if os.path.samestat(there, self._before):
            raise UsageError(
                f"{self._path}: the weights of the net are still read from this open file; give its path, so that it "
                "is replaced as a whole"
            )


def require_unchanged(buffers: Iterable[object]) -> None:
    """Stop where one of them is a mapped file that was written to since. Raises ParseError."""
    for buffer in buffers:
        if isinstance(buffer, MappedFile):
            buffer.require_unchanged()


def require_other(buffers: Iterable[object], file: object) -> None:
    """Stop where an open file that is to be written is one of them. Raises UsageError."""
    for buffer in buffers:
        if isinstance(buffer, MappedFile):
            buffer.require_other(file)


def map_file(path: Path) -> mmap.mmap:
    """The contents of a file; they stay valid when another file is renamed over it. Raises ParseError."""
    descriptor = _stream(path)
    if descriptor is not None:
        return _drained(path, descriptor)
    with open_regular(path) as file:
        try:
            if os.fstat(file.fileno()).st_size == 0:
                raise ParseError("is empty", path)
            return MappedFile(file.fileno(), path)
        except (OSError, ValueError) as error:
            raise ParseError(f"cannot be read: {getattr(error, 'strerror', None) or error}", path) from None


def read_file(path: Path, most: int) -> bytes:
    """The first `most` bytes of a file. Raises ParseError."""
    descriptor = _stream(path)
    if descriptor is not None:
        return _drained(path, descriptor)[:most]
    with open_regular(path) as file:
        try:
            # In pieces: asked for all at once, Python takes the memory for all of it before it reads.
            pieces = []
            while most > 0 and (piece := file.read(min(_PIECE, most))):
                pieces.append(piece)
                most -= len(piece)
            return b"".join(pieces)
        except OSError as error:
            raise ParseError(f"cannot be read: {error.strerror or error}", path) from None


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, unless it is a pipe, a device or a folder: some of them wait for ever.

    Raises:
        ParseError: it is none, or cannot be opened.
    """
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            mode = os.fstat(fd).st_mode
            if stat.S_ISDIR(mode):
                raise ParseError(f"is a folder; {_instead_of(path)}", path)
            if not stat.S_ISREG(mode):
                raise ParseError("is not a regular file; copy what it holds into one", path)
            return os.fdopen(fd, "rb")
        except BaseException:
            os.close(fd)
            raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = interrupted(path) or getattr(error, "strerror", None) or error
        if isinstance(error, FileNotFoundError) and not interrupted(path):
            reason = f"{reason}{nearby(path)}"
            if path.is_symlink():
                reason = f"it is a symbolic link to {os.readlink(path)}, which does not exist"
        if str(path) == "-":
            reason = f"{reason}; standard input is called /dev/stdin"
        raise ParseError(f"cannot be read: {reason}", path) from None


def _instead_of(folder: Path) -> str:
    """What to give in the place of a folder: a model in it where there is one alone."""
    names = names_in(folder)
    if "saved_model.pb" in names or folder.suffix.lower() == ".mlpackage":
        return f"it holds a model of {'TensorFlow' if 'saved_model.pb' in names else 'Core ML'}: {EXPORT}"
    models = [name for name in names if name.lower().endswith((".onnx", ".prototxt"))]
    return f"give a file, as '{folder / models[0]}'" if len(models) == 1 else "give a file"


def release_pages(buffer: mmap.mmap) -> None:
    """Give back the memory of a mapped file's pages that were read; they are read again when they are touched."""
    if hasattr(mmap, "MADV_DONTNEED"):
        buffer.madvise(mmap.MADV_DONTNEED)


def _stream(path: Path) -> int | None:
    """The descriptor that `path` stands for, if it is open and no regular file."""
    descriptor = descriptor_of(path)
    if descriptor is None:
        return None
    try:
        return None if stat.S_ISREG(os.fstat(descriptor).st_mode) else descriptor
    except OSError:
        return None


def _drained(path: Path, descriptor: int) -> mmap.mmap:
    """What a stream holds, read to its end the first time."""
    status = os.fstat(descriptor)
    key = status.st_dev, status.st_ino
    if key not in _streams:
        try:
            with os.fdopen(os.dup(descriptor), "rb") as stream:
                content = stream.read()
        except OSError as error:
            raise ParseError(f"cannot be read: {error.strerror or error}", path) from None
        if not content:
            raise ParseError("is empty", path)
        _streams[key] = mmap.mmap(-1, len(content))
        _streams[key].write(content)
    return _streams[key]
