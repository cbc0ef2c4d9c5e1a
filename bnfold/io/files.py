"""Writing files whole or not at all, and several of them so that a crash never leaves a new one beside an old one.

    with OutputSet(inputs=[source]) as outputs:
        outputs.open(path).write(...)          # any number of files
        outputs.finish()                       # optional: all are complete, and lie where `outputs.staged` says
                                               # here all of them appear; on any exception none does

Each file is written under its own name in a hidden folder of its own beside its target, and flushed to the disk. One
file then replaces its target by a rename, which is atomic. Several cannot: so first *all* old ones are moved aside to
NAME.bnfold-old, then all new ones get their names, then the old ones are deleted. A crash in between leaves at least
one name missing (and so cannot be overlooked) and the old files beside it; the next run onto the same names puts them
back first, and `interrupted` tells a reader what happened. Two runs do so one after the other, and the second, which
finds another file than the one that it set out to replace, says so and replaces nothing. A run holds a lock on its
hidden folder, so that the next one can tell what a killed run left, and removes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import warnings
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

try:
    import fcntl
except ImportError:  # Windows, where nothing below is locked
    fcntl = None  # type: ignore[assignment]

from bnfold.errors import Guesses, LeftoverWarning, UsageError, WriteError, did_you_mean, few, is_or_are
from bnfold.io.signals import defer_signals

StrPath: TypeAlias = str | os.PathLike[str]
Bytes: TypeAlias = bytes | bytearray | memoryview

OLD_SUFFIX = ".bnfold-old"
FAILED_SUFFIX = ".failed"
STAGING_PREFIX = ".bnfold-"
MAX_NAME = 255
"""Bytes that a name may have, on every file system that we know of."""
MOST_NAMES = 1_000  # of a folder, that are looked through for one that was meant
STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
MAX_LINKS = 40
BUFFER = 1 << 16
"""Bytes that are collected before they are written; what is larger is written at once."""
AHEAD = 1 << 24
"""Bytes after which the disk is told to begin, so that flushing in the end waits for the last of them alone."""
FAILING = frozenset({errno.EIO, errno.ENOSPC, getattr(errno, "EDQUOT", errno.EIO)})
"""What a flush says of a disk; all else is said by a system that lets no folder be flushed."""


def os_path(given: StrPath | os.PathLike[bytes]) -> str:
    """The path that a caller gave, whatever kind of object says it. Raises UsageError where it can be none."""
    try:
        path = os.fsdecode(given)
        os.fsencode(path)
    except UnicodeEncodeError:
        raise UsageError(f"{path!a}: no file can have this name, which has an unpaired surrogate") from None
    except Exception as error:  # whatever its own __fspath__ raises
        raise UsageError(f"a {type(given).__name__} is not a valid path: {error}") from None
    if "\0" in path or not path:
        raise UsageError(f"{path!a}: no file can have this name, which {'has a NUL' if path else 'is empty'}")
    require_local(path)
    return path


def require_local(path: str) -> None:
    """Stop where a path is an address, of which `Path` would make another word. Raises UsageError."""
    if re.match("(https?|ftp|s3|gs|hf)://", path):
        raise UsageError(f"'{path}' is an address on the network; fetch it first, and give the file")
    if path.startswith("file://"):
        raise UsageError(f"'{path}' is an address of a file; give its path alone, '{path.removeprefix('file://')}'")


def interrupted(path: StrPath) -> str:
    """A sentence for somebody who does not find `path` because a run was killed while it replaced it, or ""."""
    aside = "" if "\0" in str(path) else _beside(Path(os.path.realpath(path)), OLD_SUFFIX)
    if os.path.exists(path) or not os.path.exists(aside):
        return ""
    return f"a run was killed while it replaced this file; the old one is {aside}: rename it"


def data_file(path: Path) -> Path:
    """Where an ONNX model has its weights if they are not in it: beside the file itself, where a link leads to it."""
    return (Path(os.path.realpath(path)) if os.path.islink(path) else path).with_name(f"{path.name}.data")


def descriptor_of(path: StrPath) -> int | None:
    """The open descriptor that a name like `/dev/stdout` or `/dev/fd/63` stands for; None for any other name."""
    text = os.path.abspath(path)
    for _ in range(MAX_LINKS):
        if text in STREAMS:
            return STREAMS[text]
        if found := re.fullmatch(r"/(?:dev|proc/(?:self|\d+))/fd/(\d+)", text):
            return int(found[1])
        if not os.path.islink(text):
            return None
        text = os.path.abspath(os.path.join(os.path.dirname(text), os.readlink(text)))
    return None


def is_stream(path: StrPath) -> bool:
    """Whether `path` is something that is open already, or a device, so that writing to it replaces nothing."""
    if descriptor_of(path) is not None:
        return True
    try:
        return stat.S_ISCHR(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


class Output:
    """One file in the making; everything that can be written to a binary file can be written here.

    Attributes:
        path: what the user called it.
        target: the file that will have this name, behind any symbolic link.
        staged: where it lies until then.
    """

    def __init__(self, path: Path, target: Path, staged: Path) -> None:
        self.path, self.target, self.staged = path, target, staged
        self._replaced = _identity(target)
        self._finished: tuple[int, int, int, int] | None = None
        self._file = staged.open("xb", buffering=BUFFER)
        self._written = self._begun = 0  # bytes, and how many of them the disk was told to take
        with contextlib.suppress(OSError):
            # The file that is replaced may be readable by its group, or by its owner alone.
            staged.chmod(stat.S_IMODE(target.stat().st_mode))

    def write(self, data: Bytes) -> int:
        """Append `data`, a contiguous buffer, which may be used again at once. Raises WriteError."""
        try:
            written = self._file.write(data)
        except (OSError, ValueError) as error:
            raise _cannot_be_written(self.path, error) from None
        self._written += written
        if self._written - self._begun >= AHEAD:
            self._begin_flush()
        return written

    def _begin_flush(self) -> None:
        """Have the disk take what is written while more is computed; the pages stay in memory, since they are dirty.

        Linux begins to write pages that it is told nobody needs, and drops only those that are written already.
        """
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):  # a file system may know no advice
                os.posix_fadvise(self._file.fileno(), self._begun, self._written - self._begun, os.POSIX_FADV_DONTNEED)
        self._begun = self._written

    def finish(self) -> None:
        """Flush to the disk; the file is complete. Does nothing the second time. Raises WriteError."""
        with _sentences(self.path):
            if not self._file.closed:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                self._finished = _identity(self.staged)

    def check(self) -> None:
        """Stop where somebody else has changed or removed this file since it was finished, or its target before.

        Raises:
            WriteError: with what to do.
        """
        if _identity(self.staged) != self._finished:
            raise WriteError(
                f"{self.path}: somebody changed or removed the new file before it got this name; nothing was replaced, "
                "so run again"
            )
        if _identity(self.target) != self._replaced:
            raise WriteError(
                f"{self.path}: another run wrote it meanwhile, and what it wrote stays; nothing was replaced, so run "
                "again if this result is wanted"
            )

    def place(self, name: Path) -> None:
        """Call the finished file `name`, in place of a file of that name. Raises OSError."""
        os.replace(self.staged, name)

    def discard(self) -> None:
        """Give the file up, unless it was placed. Does nothing the second time."""
        with contextlib.suppress(OSError):  # a full disk cannot take what is still to be written
            self._file.close()
        with contextlib.suppress(OSError):
            os.unlink(self.staged)


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
        self._staging: dict[Path, tuple[Path, _Lock | None]] = {}  # folder of a target -> hidden folder in it, its lock
        self._left: list[str] = []  # what a `LeftoverWarning` says in the end
        self._idle: list[str] = []  # what it says besides, if the files get their names
        # Ctrl-C may come before `discard` has begun, or between a folder and its place in the table.
        weakref.finalize(self, _remove_left, self._staging, os.getpid())

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
            if target.is_symlink():
                raise WriteError(f"{path}: is a symbolic link that leads back to itself")
            if not target.parent.is_dir():
                raise WriteError(f"{path}: there is no folder {target.parent}; make it first")
            with _locked([target.parent]):  # or a file could come and go while it is looked at
                if target.exists():
                    self._check_replaceable(path, target)
                output = self._outputs[target] = Output(path, target, self._staged(path, target))
        return output

    def write_text(self, path: StrPath, text: str) -> None:
        """Make a text file of `text`, in UTF-8, or write it to a stream like `/dev/stdout`. Raises as `open`."""
        content = text.encode("utf-8", "surrogateescape")
        if is_stream(path):
            _write_stream(Path(path), content)
        else:
            self.open(path).write(content)

    def open_alone(self, path: Path) -> Output:
        """As `open`, for an ONNX model that has its weights itself; warns where those of another stay beside it."""
        output = self.open(path)
        if os.path.lexists(data := data_file(path)):
            self._idle.append(f"{data}: stays as it was; {path} has its weights itself now and does not read it")
        return output

    def staged(self, path: StrPath) -> Path:
        """Where the file that was opened as `path` lies until it has its name; it has the suffix of `path`."""
        # A link on the way may be gone by now, so the target is not asked.
        return next(output.staged for output in self._outputs.values() if output.path == Path(path))

    def finish(self) -> None:
        """Complete all files, which can then be read where they lie. Raises WriteError."""
        for output in self._outputs.values():
            output.finish()

    def keep_failed(self) -> list[Path]:
        """Leave each finished file as NAME.failed, and its target as it is; returns these names. Raises WriteError."""
        kept = []
        for output in self._outputs.values():
            with _sentences(output.path):
                kept.append(_beside(output.path, FAILED_SUFFIX))
                output.place(_beside(output.target, FAILED_SUFFIX))
        self.discard()
        return kept

    def discard(self) -> None:
        """Give up what has not got its name; does nothing after the end of the `with` block. Warns of what is left."""
        with defer_signals():
            for output in self._outputs.values():
                output.discard()
            self._outputs.clear()
            for folder, lock in self._staging.values():
                self._left += _remove_hidden(folder)
                if lock is not None:
                    lock.give_back()
            self._staging.clear()
            left, self._left = self._left, []
        for sentence in dict.fromkeys(left):
            warnings.warn(sentence, LeftoverWarning, stacklevel=3)

    def __enter__(self) -> OutputSet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._commit()
        finally:
            self.discard()

    def _staged(self, path: Path, target: Path) -> Path:
        """Where `target` lies until it has its name: a hidden folder keeps names whole, however long they are."""
        if target.parent not in self._staging:
            _clear_abandoned(target.parent)
            folder = target.parent / f"{STAGING_PREFIX}{os.urandom(8).hex()}"
            self._staging[target.parent] = folder, None
            folder.mkdir(0o700)
            self._staging[target.parent] = folder, _Lock(folder)
        # A link may lead to a name without the suffix by which the file is known.
        name = target.name if target.suffix == path.suffix else target.name + path.suffix
        return self._staging[target.parent][0] / name

    def _check_replaceable(self, path: Path, target: Path) -> None:
        if any(is_same_file(source, target) for source in self._inputs):
            raise UsageError(f"{path}: is an input of this run; give another name, or --in-place to replace it")
        if target.is_dir():
            raise WriteError(f"{path}: is a folder; give the name of a file")
        if not target.is_file():
            raise WriteError(f"{path}: is not a regular file; give another name")
        if not os.access(target, os.W_OK):
            raise WriteError(f"{path}: is read-only; give another name")

    def _commit(self) -> None:
        self.finish()
        outputs = list(self._outputs.values())
        with _locked(self._staging), defer_signals():
            for output in outputs:
                output.check()
            if len(outputs) == 1:
                with _sentences(outputs[0].path):
                    outputs[0].place(outputs[0].target)
                self._left += _sync(self._staging)
            elif outputs:
                self._left += _replace_together(outputs)
        self._left += self._idle


def require_writable(paths: Iterable[StrPath], inputs: Iterable[StrPath], *, in_place: bool) -> None:
    """Raise now what writing onto `paths` as one set would raise later; see `OutputSet`."""
    outputs = OutputSet(inputs, in_place=in_place)
    try:
        for path in paths:
            if not is_stream(path):
                outputs.open(path)
    finally:
        outputs.discard()


def absence(path: StrPath) -> str:
    """Why nothing can be read at a path, as the end of a sentence; "" where something is there."""
    try:
        os.stat(path)
    except PermissionError as error:  # of a folder on the way
        return f"cannot be read: {error.strerror}"
    except (OSError, ValueError):  # also where no file can have the name
        return "does not exist"
    return ""


def names_in(folder: StrPath) -> list[str]:
    """The first names of a folder, in order; none where it cannot be looked through."""
    try:
        with os.scandir(folder or os.curdir) as entries:
            return sorted(entry.name for entry in islice(entries, MOST_NAMES))
    except (OSError, ValueError):  # there is none, or a NUL is in its name
        return []


def nearby(path: StrPath) -> str:
    """The names beside a path that a user may have meant, or "" where it is there itself or none is like it.

    ` (there are 'net.prototxt', 'net.caffemodel')` where a suffix is missing, else ` (did you mean 'net.onnx'?)`.
    """
    folder, name = os.path.split(path)
    names = names_in(folder)
    if name in names:
        return ""
    if beside := [f"'{one}'" for one in names if name and one.startswith(f"{name}.")]:
        return f" (there {is_or_are(beside)} {few(beside)})"
    # A suffix is in common with many a file that is not meant.
    stem, *_ = os.path.splitext(name)
    return Guesses().at(name, [one for one in names if did_you_mean(stem, [os.path.splitext(one)[0]])])


def is_same_file(one: StrPath, other: StrPath) -> bool:
    """Whether two paths lead to one file, and there is one."""
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def require_suffix(path: StrPath, meant: str, others: Collection[str]) -> None:
    """Stop where a file would be written under a name that promises one of some other formats. Raises UsageError."""
    if Path(path).suffix.lower() in others:
        raise UsageError(f"{path}: what is written there is {meant}; give a name that says so")


def require_unread(paths: Iterable[StrPath], reads: Iterable[StrPath]) -> None:
    """Stop where a file that is to be written is one of those that are read.

    Args:
        paths: what is to be written.
        reads: files, and folders with all that is in them.

    Raises:
        UsageError: with the first one.
    """
    there = {path: os.path.realpath(path) for path in paths if os.path.isfile(path) and not is_stream(path)}
    if not there:
        return
    for read in reads:
        place = os.path.realpath(read)
        for path, target in there.items():
            if os.path.isdir(place) and os.path.commonpath([place, target]) == place:
                raise UsageError(
                    f"{path}: is an input of this run, since it lies in the folder {read}; write it elsewhere"
                )
            if is_same_file(place, target):
                raise UsageError(f"{path}: is an input of this run, so it cannot be written as well; give another name")


def recover(paths: Iterable[StrPath]) -> None:
    """Clear up after a run that was killed while it replaced `paths`, one set, which are to be read now.

    Raises:
        WriteError: an old file cannot be put back.
    """
    pairs = [(target, _beside(target, OLD_SUFFIX)) for target in map(Path, map(os.path.realpath, paths))]
    if any(aside.exists() for _, aside in pairs):
        with _locked({target.parent for target, _ in pairs}):  # not of a run that is about to end
            _finish_interrupted(pairs)


def _write_stream(path: Path, content: bytes) -> None:
    """Append to what is open already: opened once more, a file would be written from its beginning."""
    with _sentences(path):
        descriptor = descriptor_of(path)
        with os.fdopen(os.dup(descriptor), "wb") if descriptor is not None else path.open("wb") as stream:
            stream.write(content)


def _replace_together(outputs: list[Output]) -> list[str]:
    """Give all outputs their names, as the top of this file says; puts the old files back when that fails.

    Returns:
        Sentences on what is left.
    """
    asides = {output: _beside(output.target, OLD_SUFFIX) for output in outputs}
    folders = {output.target.parent for output in outputs}
    _finish_interrupted([(output.target, asides[output]) for output in outputs])
    undo: list[Callable[[], None]] = []
    left: list[str] = []
    try:
        for output in outputs:
            with _sentences(output.path):
                if output.target.exists():
                    os.replace(output.target, asides[output])
                    undo.append(partial(os.replace, asides[output], output.target))
        if undo:
            left += _sync(folders)
        moved = list(undo)
        for output in outputs:
            with _sentences(output.path):
                output.place(output.target)
                undo.append(output.target.unlink)
    except BaseException as error:
        for step in reversed(undo):
            with contextlib.suppress(OSError):
                step()
        for output, aside in asides.items():
            if interrupted(output.path):
                error.add_note(f"the old {output.path} could not be put back, and is {aside}")
        raise
    left += _sync(folders)
    if moved:
        for aside in asides.values():
            try:
                aside.unlink(missing_ok=True)
            except OSError as error:
                left.append(f"{aside}: the old file could not be removed ({error.strerror}); the new one is whole")
    return left


def _finish_interrupted(pairs: Iterable[tuple[Path, Path]]) -> None:
    """Clear up after a run that was killed while it replaced some files: (target, where the old one is, if it is)."""
    left = [(target, aside) for target, aside in pairs if aside.exists()]
    was_complete = all(target.exists() for target, _ in left)
    for target, aside in left:
        with _sentences(target):
            if was_complete:
                aside.unlink()
            else:
                os.replace(aside, target)


def _beside(target: Path, suffix: str) -> Path:
    """NAME and the suffix; where that is too long, the name cut and told from its like by a hash of the whole."""
    name = os.fsencode(target.name)
    if len(name) + len(suffix) <= MAX_NAME:
        return target.parent / (target.name + suffix)  # the root has no name
    from hashlib import sha256

    told_apart = f"~{sha256(name).hexdigest()[:16]}{suffix}"
    return target.with_name(name[: MAX_NAME - len(told_apart)].decode(errors="ignore") + told_apart)


def _identity(path: Path) -> tuple[int, int, int, int] | None:
    """Device, inode, time of change and size, by which a file that was changed is told; None where none is."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


@contextlib.contextmanager
def _locked(folders: Iterable[Path]) -> Iterator[None]:
    """Let no other run rename in these folders, where the system can lock a folder."""
    # In one order, or two runs could wait for each other.
    locks = [_Lock(folder) for folder in sorted(folders)]
    try:
        yield
    finally:
        for lock in locks:
            lock.give_back()


class _Lock:
    """A lock on a folder, which ends with `give_back`, or with this object, as behind a Ctrl-C.

    Attributes:
        is_held: whether it was had: not where somebody else has it (if not to `wait`), or the system has no such locks.
    """

    _fd = -1  # also where Ctrl-C comes before `__init__` has begun, and `__del__` all the same

    def __init__(self, folder: Path, *, wait: bool = True) -> None:
        self.is_held = False
        if fcntl is None:
            return
        with contextlib.suppress(OSError):  # some network file systems cannot
            self._fd = os.open(folder, os.O_RDONLY)
            fcntl.flock(self._fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.is_held = True

    def give_back(self) -> None:
        """Let others have it. Closing is not enough: a process that the host forked meanwhile has the file, too."""
        with defer_signals():
            fd, self._fd = self._fd, -1
            if fd >= 0:
                with contextlib.suppress(OSError):
                    fcntl.flock(fd, fcntl.LOCK_UN)
                os.close(fd)

    __del__ = give_back


def _clear_abandoned(folder: Path) -> None:
    """Remove what runs that were killed have left in `folder`: hidden folders of ours that nobody holds."""
    for left in folder.glob(f"{STAGING_PREFIX}{'[0-9a-f]' * 16}"):
        lock = _Lock(left, wait=False)
        if lock.is_held:
            _remove_hidden(left)
        lock.give_back()


def _remove_hidden(folder: Path) -> list[str]:
    """Remove a hidden folder of ours with what has not got its name. Returns a sentence on what is left."""
    try:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        return [f"{folder}: this folder could not be removed ({error.strerror}); nothing in it is needed"]
    return []


def _remove_left(staging: dict[Path, tuple[Path, _Lock | None]], process: int) -> None:
    """Remove what a set has left that is gone, or lives at the end of its process; a forked one has it, too."""
    if process == os.getpid():
        for folder, _ in staging.values():
            _remove_hidden(folder)


def _sync(folders: Iterable[Path]) -> list[str]:
    """Make renames survive a power cut, where the system lets a folder be flushed.

    Returns:
        A sentence on each folder that the disk did not take.
    """
    left = []
    for folder in folders:
        try:
            fd = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno in FAILING:
                fate = "so its files may be the old ones again after a power cut; is the disk failing?"
                left.append(f"{folder}: the names in it could not be flushed ({error.strerror}), {fate}")
    return left


@contextlib.contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """Turn what the system says into a sentence about `path`."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _cannot_be_written(path, error) from None


def _cannot_be_written(path: Path, error: Exception) -> WriteError:
    return WriteError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}")
