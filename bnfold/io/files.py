"""Writing files whole or not at all, and several of them so that a crash never leaves a new one beside an old one.

    with OutputSet(inputs=[source]) as outputs:
        outputs.open(path).write(...)          # any number of files
                                               # here all of them appear; on any exception none does

Each file is written without a name, or under one that nobody looks for, in the folder of its target, and flushed to
the disk. One file then replaces its target by a rename, which is atomic. Several cannot: so first *all* old ones are
moved aside to NAME.bnfold-old, then all new ones get their names, then the old ones are deleted. A crash in between
leaves at least one name missing (and so cannot be overlooked) and the old files beside it; the next run onto the same
names puts them back first, and `interrupted` tells a reader what happened.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import TypeAlias

from bnfold.errors import UsageError, WriteError
from bnfold.io.interruption import held_back
from bnfold.io.streaming import LARGE, Stream

StrPath: TypeAlias = str | os.PathLike[str]
Bytes: TypeAlias = bytes | bytearray | memoryview

OLD_SUFFIX = ".bnfold-old"
NEW_SUFFIX = ".bnfold-new"
_LONG_TO_FREE = 1 << 24


def interrupted(path: StrPath) -> str:
    """A sentence for somebody who does not find `path` because a run was killed while it replaced it, or ""."""
    if os.path.exists(path) or "\0" in str(path):
        return ""
    aside = Path(f"{os.path.realpath(path)}{OLD_SUFFIX}")
    return f"a run was killed while it replaced this file; the old one is {aside}: rename it" if aside.exists() else ""


class Output:
    """One file in the making; everything that can be written to a binary file can be written here."""

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self.target = target
        self._pending = bytearray()
        self._fd, self._name = _create(target)
        self._stream = Stream(self._fd)
        with contextlib.suppress(OSError):
            # The file that is replaced may be readable by its group, or by its owner alone.
            os.fchmod(self._fd, stat.S_IMODE(target.stat().st_mode))

    def write(self, data: Bytes) -> int:
        """Append `data`, with a contiguous buffer, which nobody may change before `finish`.

        Raises:
            WriteError: of this or of an earlier write.
        """
        view = memoryview(data)
        if view.nbytes < LARGE:
            self._pending += view
            if len(self._pending) >= LARGE:
                self.flush()
        else:
            self.flush()
            self._write(view.cast("B"))
        return view.nbytes

    def flush(self) -> None:
        """Hand on what was written so far. Raises WriteError."""
        pending, self._pending = self._pending, bytearray()
        self._write(memoryview(pending))

    def finish(self) -> None:
        """Flush to the disk; the file is complete and has no name yet. Raises WriteError."""
        self.flush()
        with _sentences(self.path):
            self._stream.drain()
            os.fsync(self._fd)

    def place(self, name: Path) -> None:
        """Call the finished file `name`, in place of a file of that name. Raises OSError."""
        if self._name is None:
            linked = name.with_name(_hidden(name, NEW_SUFFIX))
            linked.unlink(missing_ok=True)
            # Without a folder's descriptor Python calls link(2), which never follows; the path is absolute anyway.
            os.link(f"/proc/self/fd/{self._fd}", linked, src_dir_fd=self._fd, follow_symlinks=True)
            self._name = linked
        with _freed_beside(name):
            os.replace(self._name, name)
        self._name = None
        self.close()

    def close(self) -> None:
        """Give the file up, unless it was placed. Does nothing the second time."""
        self._stream.stop()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._name is not None:
            with contextlib.suppress(OSError):
                self._name.unlink(missing_ok=True)
            self._name = None

    def _write(self, view: memoryview) -> None:
        with _sentences(self.path):
            self._stream.write(view)


class OutputSet:
    """Files that appear together when the `with` block ends well, and not at all when it does not.

    Args:
        inputs: the files that are being read. Writing onto one is refused, unless `in_place` (safe with a mapped
            file: its old contents live until it is unmapped).
        in_place: allow it.
    """

    def __init__(self, inputs: Iterable[StrPath] = (), *, in_place: bool = False) -> None:
        self._inputs = [] if in_place else [Path(path) for path in inputs]
        self._outputs: dict[Path, Output] = {}

    def open(self, path: StrPath) -> Output:
        """Begin a file. A symbolic link is written through.

        Raises:
            UsageError: `path` is an input, or was opened before.
            WriteError: there cannot be such a file.
        """
        path = Path(path)
        with _sentences(path):
            target = Path(os.path.realpath(path))
            if target in self._outputs:
                raise UsageError(f"{path}: two outputs of one run cannot be the same file")
            if target.exists():
                self._check_replaceable(path, target)
            elif target.is_symlink():
                raise WriteError(f"{path}: is a symbolic link that leads back to itself")
            if not target.parent.is_dir():
                raise WriteError(f"{path}: there is no folder {target.parent}")
            output = self._outputs[target] = Output(path, target)
        return output

    def write_text(self, path: StrPath, text: str) -> None:
        """Make a text file of `text`, in UTF-8. Raises as `open`."""
        self.open(path).write(text.encode("utf-8", "surrogateescape"))

    def __enter__(self) -> OutputSet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._commit()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Give up what has not got its name; does nothing after the end of the `with` block."""
        for output in self._outputs.values():
            output.close()

    def _check_replaceable(self, path: Path, target: Path) -> None:
        if any(source.exists() and source.samefile(target) for source in self._inputs):
            raise UsageError(f"{path}: is an input of this run; give another name, or --in-place to replace it")
        if target.is_dir():
            raise WriteError(f"{path}: is a folder; give the name of a file")
        if not target.is_file():
            raise WriteError(f"{path}: is not a regular file")
        if not os.access(target, os.W_OK):
            raise WriteError(f"{path}: is read-only")

    def _commit(self) -> None:
        outputs = list(self._outputs.values())
        for output in outputs:
            output.finish()
        with held_back():
            if len(outputs) == 1:
                with _sentences(outputs[0].path):
                    outputs[0].place(outputs[0].target)
                _sync_folders(outputs)
            elif outputs:
                _replace_together(outputs)


def require_writable(paths: Iterable[StrPath], inputs: Iterable[StrPath] = (), *, in_place: bool = False) -> None:
    """Raise now what writing onto `paths` as one set would raise later; see `OutputSet`."""
    outputs = OutputSet(inputs, in_place=in_place)
    try:
        for path in paths:
            outputs.open(path)
    finally:
        outputs.abandon()


def recover(paths: Iterable[StrPath]) -> None:
    """Clear up after a run that was killed while it replaced `paths`, one set, which are to be read now.

    Raises:
        WriteError: an old file cannot be put back.
    """
    targets = [Path(os.path.realpath(path)) for path in paths]
    asides = [Path(f"{target}{OLD_SUFFIX}") for target in targets]
    _finish_interrupted([pair for pair in zip(targets, asides, strict=True) if pair[1].exists()])


def _replace_together(outputs: list[Output]) -> None:
    """Give all outputs their names, as the top of this file says; puts the old files back when that fails."""
    asides = {output: Path(f"{output.target}{OLD_SUFFIX}") for output in outputs}
    old = [output for output in outputs if asides[output].exists()]
    _finish_interrupted([(output.target, asides[output]) for output in old])
    undo: list[Callable[[], None]] = []
    try:
        for output in outputs:
            with _sentences(output.path):
                if output.target.exists():
                    os.replace(output.target, asides[output])
                    undo.append(_Restore(asides[output], output.target))
        if undo:
            _sync_folders(outputs)
        moved = list(undo)
        for output in outputs:
            with _sentences(output.path):
                output.place(output.target)
                undo.append(output.target.unlink)
    except BaseException:
        for step in reversed(undo):
            with contextlib.suppress(OSError):
                step()
        raise
    _sync_folders(outputs)
    if moved:
        for aside in asides.values():
            with contextlib.suppress(OSError), _freed_beside(aside):
                aside.unlink(missing_ok=True)


class _Restore:
    """A step of undoing: call a file that was moved aside by its name again."""

    def __init__(self, aside: Path, target: Path) -> None:
        self._aside, self._target = aside, target

    def __call__(self) -> None:
        os.replace(self._aside, self._target)


def _finish_interrupted(pairs: list[tuple[Path, Path]]) -> None:
    """Clear up after a run that was killed while it replaced these files: (target, where the old one is)."""
    was_complete = all(target.exists() for target, _ in pairs)
    for target, aside in pairs:
        with _sentences(target):
            if was_complete:
                aside.unlink()
            else:
                os.replace(aside, target)


def _create(target: Path) -> tuple[int, Path | None]:
    """A new file in the folder of `target`: its descriptor and its name, None where the system can do without.

    A file without a name vanishes with the process, so that not even `kill -9` leaves it behind.
    """
    if hasattr(os, "O_TMPFILE"):
        with contextlib.suppress(OSError):
            fd = os.open(target.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666)
            if os.path.exists(f"/proc/self/fd/{fd}"):
                return fd, None
            os.close(fd)
    name = target.with_name(_hidden(target, f".{os.urandom(4).hex()}{NEW_SUFFIX}"))
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.open(name, flags, 0o666), name


def _hidden(target: Path, suffix: str) -> str:
    return f".{target.name[:60]}{suffix}"  # a name may have 255 bytes, and a character four


def _sync_folders(outputs: list[Output]) -> None:
    """Make renames survive a power cut, where the system lets a folder be flushed."""
    for folder in {output.target.parent for output in outputs}:
        with contextlib.suppress(OSError):
            fd = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


@contextlib.contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """Turn what the system says into a sentence about `path`."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise WriteError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from None


@contextlib.contextmanager
def _freed_beside(path: Path) -> Iterator[None]:
    """Let the file `path` lose its name in the body, and its pages and blocks beside whatever comes next.

    The system frees a file when its last descriptor is closed, and takes its time for a large one.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK) if os.name == "posix" else -1
    except OSError:
        fd = -1
    try:
        yield
    finally:
        if fd >= 0 and os.fstat(fd).st_size >= _LONG_TO_FREE:
            Thread(target=os.close, args=(fd,)).start()
        elif fd >= 0:
            os.close(fd)
