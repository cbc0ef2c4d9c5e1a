"""Reading files without reading them: mapped into memory, page by page as they are touched."""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path

from bnfold.errors import ParseError
from bnfold.io.files import interrupted


def map_file(path: Path) -> mmap.mmap:
    """The contents of a file; they stay valid when another file is renamed over it. Raises ParseError."""
    try:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ParseError("is not a regular file", path)
            if status.st_size == 0:
                raise ParseError("is empty", path)
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        reason = interrupted(path) or getattr(error, "strerror", None) or error
        raise ParseError(f"cannot be read: {reason}", path) from None


def forget(buffer: mmap.mmap, begin: int = 0, end: int | None = None) -> None:
    """Give back the memory of pages that were read; they are mapped again when they are touched.

    Args:
        buffer: a mapped file.
        begin, end: a span of it, `begin` at the start of a page; all of it by default.
    """
    if hasattr(mmap, "MADV_DONTNEED"):
        buffer.madvise(mmap.MADV_DONTNEED, begin, (len(buffer) if end is None else end) - begin)
