"""How a report came about: the command, the date, the versions, and every file with its size and hash."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bnfold.io.versions import installed

PACKAGES = ("bnfold", "numpy", "onnx", "onnxruntime", "protobuf")


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file that was read or written.

    Attributes:
        path: as the user called it.
        role: `read` or `written`.
        size: in bytes.
        sha256: of its contents, in hexadecimal digits; empty where it could not be read again.
    """

    path: str
    role: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Environment:
    """What somebody needs in order to do the same again.

    Attributes:
        command: the command line; empty for a call of the library.
        started: when, in UTC, as ISO 8601.
        seconds: how long it took.
        platform: operating system and processor.
        versions: package -> version, Python among them.
        files: what was read and written.
    """

    command: str
    started: str
    seconds: float
    platform: str
    versions: dict[str, str]
    files: tuple[FileFacts, ...] = ()


def environment(
    command: str,
    started: float,
    read: Iterable[Path] = (),
    written: Iterable[Path] = (),
    data: Iterable[str | Path | None] = (),
) -> Environment:
    """The facts as they are now.

    Args:
        command: the command line.
        started: when it began, in seconds since the epoch.
        read, written: the files.
        data: what was named beside the models, of which those are told that are a file: no folder, number or pipe.
    """
    also = [Path(name) for name in dict.fromkeys(data) if name and os.path.isfile(name)]
    facts = [*(_facts(path, "read") for path in (*read, *also)), *(_facts(path, "written") for path in written)]
    return Environment(
        command=command,
        started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        seconds=round(time.time() - started, 3),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        versions={"python": platform.python_version(), **{name: installed(name) for name in PACKAGES}},
        files=tuple(facts),
    )


def _facts(path: Path, role: str) -> FileFacts:
    if not os.path.isfile(path):  # a pipe was read once, and a device has no contents
        return FileFacts(str(path), role, 0, "")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileFacts(str(path), role, path.stat().st_size, digest)
    except OSError:
        return FileFacts(str(path), role, 0, "")
