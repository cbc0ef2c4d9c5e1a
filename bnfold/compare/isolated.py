"""A network in a process of its own, for models whose operators may loop for ever or take the process along.

The child is this package, started by the same interpreter, so that neither notebooks nor a script without a main guard
are in its way, on any system. It is asked through its standard input and answers through its standard output:

    length of the header (8 bytes, little endian), header (JSON), the arrays' values one behind the other

Ctrl-C ends the child, which cannot be interrupted itself while onnxruntime computes; a child whose parent is gone
leaves.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, Any, Unpack

import numpy as np

from bnfold.compare.threads import Threads, result_of
from bnfold.errors import BnfoldError, ModelError, UsageError
from bnfold.net import Array
from bnfold.runtime import Execution, Session, SessionOptions, TensorPort, give_back, to_host

if TYPE_CHECKING:
    from onnx import ModelProto

    from bnfold.onnx.graph import WeightStore

Message = tuple[dict[str, Any], list[Array]]
INTERVAL = 0.5  # seconds: Windows hands Ctrl-C over between two waits, and never during one
START = "from bnfold.compare.isolated import serve; serve()"


class Child:
    """A process that runs one network after the other, and ends with this object."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl-C in a terminal goes to its whole group
        )
        self.close = weakref.finalize(self, _end, self.process)
        self._pool = Threads(1, "bnfold-isolated")

    @property
    def is_there(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def asked(self, header: dict[str, Any], arrays: list[Array], doing: str) -> Message:
        """What it answers; whatever interrupts the waiting ends it.

        Raises:
            ModelError: it died while `doing` what it was asked for, or says so.
            UsageError: it says so.
        """
        try:
            # No method of this object: a thread keeps what it was called with for a moment after it has answered.
            answer: Future[Message | None] = self._pool.submit(_exchanged, self.process, header, arrays)
            message = result_of(answer, INTERVAL)
        except BaseException:
            self.close()
            raise
        if message is None:
            raise ModelError(f"onnxruntime died while {doing}: {_cause(self.process.wait())}")
        if "error" in message[0]:
            raise ERRORS.get(message[0]["error"], ModelError)(message[0]["message"])
        return message

    def leave_to(self, store: WeightStore) -> None:
        """Close its network, and leave it to the store."""
        try:
            assert self.process.stdin is not None
            _write(self.process.stdin, {}, [])
        except (OSError, ValueError):  # it is gone
            self.close()
        else:
            store.add_idle(self)


class IsolatedSession(Session):
    """As `Session`, in a process of its own, which ends with this object or with the store that it is left to.

    Args:
        model: as `Session` takes it.
        store: has processes that wait, one of which is taken, and left to it again.
        options: as `Session` takes them.

    Raises:
        ModelError: onnxruntime does not accept the model, or dies of it.
    """

    def __init__(
        self,
        model: ModelProto | bytes | str | os.PathLike[str],
        store: WeightStore | None = None,
        **options: Unpack[SessionOptions],
    ) -> None:
        waiting = None if store is None else store.idle_process()
        self._child = waiting if isinstance(waiting, Child) and waiting.is_there else Child()
        if store is not None:
            weakref.finalize(self, self._child.leave_to, store)
        source = os.fspath(model) if isinstance(model, str | os.PathLike) else model
        content = b""
        if not isinstance(source, str):
            content, source = source if isinstance(source, bytes) else source.SerializeToString(), ""
        if folder := options.get("folder"):
            options["folder"] = os.fspath(folder)
        about = {"model": source, **options}
        answer, _ = self._child.asked(
            about, [np.frombuffer(content, np.uint8)], f"loading '{source}'" if source else "loading"
        )
        self.inputs, self.outputs = (
            {name: TensorPort(tuple(shape), np.dtype(dtype)) for name, (shape, dtype) in answer[ports].items()}
            for ports in ("inputs", "outputs")
        )
        fallback = answer["execution"].pop("fallback")
        self.execution = Execution(**answer["execution"], fallback=None if fallback is None else tuple(fallback))

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Compute the outputs; as `Session.run`."""
        names = list(self.outputs if outputs is None else outputs)
        given = self._checked(feeds)
        arrays = [array.reshape(np.shape(feeds[name])) for name, array in given.items()]  # a scalar had become a row
        answer, values = self._child.asked({"inputs": list(given), "outputs": names}, arrays, "running it")
        return dict(zip(answer["outputs"], values, strict=True))


def _exchanged(child: subprocess.Popen[bytes], header: dict[str, Any], arrays: list[Array]) -> Message | None:
    """The answer, None where the child is gone."""
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        _write(child.stdin, header, arrays)
        return _read(child.stdout)
    except (OSError, EOFError, ValueError):
        return None


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    for pipe in (child.stdin, child.stdout):
        with suppress(OSError):
            if pipe is not None:
                pipe.close()
    child.wait()


def _cause(code: int) -> str:
    """Why a child is gone, by its exit status."""
    if code >= 0:
        return f"it left with {code}"
    with suppress(ValueError):
        return f"it was ended by {signal.Signals(-code).name}"
    return f"it was ended by signal {-code}"


ERRORS: dict[str, type[BnfoldError]] = {"ModelError": ModelError, "UsageError": UsageError}


# The child.


def serve() -> None:
    """Answer whatever comes until there is nobody any more who asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):  # libraries print
        os.dup2(nothing, descriptor)
    waiting: SimpleQueue[Message] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests, waiting), daemon=True).start()
    session: Session | None = None
    while True:
        session = _answered(answers, session, *waiting.get())
        give_back()


def _answered(
    answers: IO[bytes], session: Session | None, header: dict[str, Any], arrays: list[Array]
) -> Session | None:
    """Answer one message, of which nothing is held while the next one is waited for; the session, while there is one.

    Of a model the answer is what it takes and gives, of inputs what they give. What names neither has no answer, and
    closes the session.
    """
    try:
        if "model" in header:
            session = Session(header.pop("model") or arrays[0].tobytes(), **header)
            _write(answers, _described(session), [])
        elif session is not None and header:
            values = session.run(dict(zip(header["inputs"], arrays, strict=True)), header["outputs"])
            _write(answers, {"outputs": list(values)}, [to_host(value) for value in values.values()])
        else:
            session = None
    except BnfoldError as error:
        _write(answers, {"error": type(error).__name__, "message": str(error)}, [])
    return session


def _listen(requests: IO[bytes], waiting: SimpleQueue[Message]) -> None:
    """Read even while a network runs, so that it is noticed when the parent is gone."""
    with suppress(BaseException):
        while True:
            waiting.put(_read(requests))
    os._exit(0)


def _described(session: Session) -> dict[str, Any]:
    ports = {
        side: {name: (port.shape, port.dtype.str) for name, port in there.items()}
        for side, there in (("inputs", session.inputs), ("outputs", session.outputs))
    }
    return {**ports, "execution": asdict(session.execution) | {"values": "host"}}


# Both sides.


def _write(pipe: IO[bytes], header: dict[str, Any], arrays: list[Array]) -> None:
    arrays = [np.asarray(array, order="C") for array in arrays]
    text = json.dumps({**header, "arrays": [(array.dtype.str, array.shape) for array in arrays]}).encode()
    pipe.write(len(text).to_bytes(8, "little") + text)
    for array in arrays:
        pipe.write(array.reshape(-1).view(np.uint8).data)
    pipe.flush()


def _read(pipe: IO[bytes]) -> Message:
    """One message. Raises EOFError."""
    header: dict[str, Any] = json.loads(_exactly(pipe, int.from_bytes(_exactly(pipe, 8), "little")))
    arrays = []
    for name, shape in header.pop("arrays"):
        dtype = np.dtype(name)
        content = _exactly(pipe, math.prod(shape) * dtype.itemsize)
        arrays.append(np.frombuffer(content, dtype).reshape(shape))
    return header, arrays


def _exactly(pipe: IO[bytes], size: int) -> bytearray:
    room = bytearray(size)
    view, done = memoryview(room), 0
    while done < size:
        count = pipe.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        done += count
    return room
