"""The same pass over the data on many processes or machines, by Dask; the only module that knows it.

Each worker opens the networks once, from the same path if it has the same file, else from what is sent once. Pieces are
measured in any order, by whoever is there, and merged in that of the data. Dask does the pieces of a worker that died
again; a piece that fails twice ends the run.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import uuid
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from bnfold.compare.backends import MANY, worthwhile
from bnfold.compare.batches import BatchLayout
from bnfold.compare.checkpoint import digest_of
from bnfold.compare.engine import Engine
from bnfold.compare.measure import Measurement
from bnfold.compare.models import Model, open_model
from bnfold.compare.planning import Networks, Side
from bnfold.compare.threads import Threads, result_of
from bnfold.compare.widening import with_batch
from bnfold.data.samples import Samples
from bnfold.errors import BnfoldError, ModelError, UnsupportedError, UsageError, few
from bnfold.io.signals import defer_signals
from bnfold.options import CompareOptions
from bnfold.runtime import processors

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

    from bnfold.onnx.evaluator import Evaluator

AHEAD = 4  # pieces that are waiting for each worker; more would only wait to be merged
MAX_LOCAL = 512
"""Worker processes that are started on this machine: a number with a digit too many would take all of it."""
FILES, FILES_EACH = 32, 12
"""Descriptors that this process takes for workers that it starts, and for each of them (`ls /proc/PID/fd | wc -l` while
they run). Where there are too few, Dask tries for ever to let a worker in, and nothing ends its start."""
SPACE = 800 << 20
"""Bytes of address space that a worker takes for a small network, with Dask and onnxruntime loaded (`ulimit -v` before
`bnfold diff --cluster 1`). With much less some workers print a traceback, since who started them has gone."""
TRIES = 2
FIRST_WORKER = 10  # seconds until a scheduler without workers is given up
NO_WORKERS = "60s"  # how long it takes until workers that were started here are given up
ASKED_EVERY = 5.0  # seconds between two looks at whether there are workers, where nothing is done meanwhile
GONE_FOR = 60.0  # seconds until workers that somebody else started are given up
AGAIN = "; start again, which with --checkpoint goes on from what was measured"
GONE = f"all workers are gone, and none has come again, as where memory is short{AGAIN}"
SILENT = f"the scheduler has said nothing for {{:g}} seconds, as one that is stopped{AGAIN}"
LOST = f"the connection to the scheduler was lost, or the tasks were cancelled there{AGAIN}"
NOT_STARTED = "--cluster {}: a worker did not start ({}), as where memory is short; try again, or with fewer"
RUN_AGAIN = (
    "--cluster {}: workers do not start, since each runs {} anew; its calls must stand in a file, behind "
    "'if __name__ == \"__main__\":'"
)
# Ctrl-C on a terminal reaches all processes there, and each worker would answer with a traceback. They start with the
# signals of who starts them, which are deferred meanwhile; SIGTERM is how they are told to go.
WITHOUT_SIGINT = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "hasattr(signal, 'pthread_sigmask') and signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})"
)
NO_NUMBA = (
    "there is no numba that works on {}, and the client measures with it; numpy rounds sums in another "
    "order, so the report would depend on who measures what: pip install 'bnfold[fast]' there, or uninstall numba here"
)
UNREAD = "{} cannot load what it is sent ({}); install bnfold, as it is here, in the Python that runs there"
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has no other end for a process
PACKAGES = ("bnfold", "numpy", "onnxruntime", "numba")  # of other versions they would measure something else
EXACT = "exact"  # beside the weights by digest, the float64 run of the reference


@dataclass(frozen=True, slots=True)
class Sent:
    """A network as it is sent to workers: where they may find it, and what it is.

    Attributes:
        name: what the user called it.
        path: where it was read; None where it came from memory.
        digest: of the network with its weights.
        proto: the network without its weights.
        reads, outputs: as of the model.
        batch: the first axis of its inputs, which may be another than that of its file.
    """

    name: str
    path: str | None
    digest: str
    proto: bytes
    reads: Mapping[str, tuple[str, ...]]
    outputs: tuple[str, ...]
    batch: int | None = None

    @classmethod
    def of(cls, model: Model) -> Sent:
        """The network as it is sent."""
        proto = model.proto.SerializeToString()
        batch = next((feed.shape[0] for feed in model.feeds.values() if feed.shape), None)
        return cls(model.name, model.path, digest_of(model), proto, dict(model.reads), tuple(model.outputs), batch)

    def opened(self, options: CompareOptions, weights: Mapping[str, Any]) -> Model:
        """The network on a worker.

        Args:
            options: how it was read.
            weights: digest -> the weights that were sent; nothing where every worker has the file.

        Raises:
            ModelError: it is neither there nor was it sent.
        """
        here = self.found(options)
        if here is not None:
            return here
        if self.digest not in weights:
            raise ModelError(f"{self.name}: this worker has another file, or none, at '{self.path}'; start it anew")
        from bnfold.onnx.graph import sent_model

        proto, stored = sent_model(self.proto, weights[self.digest])
        return Model(self.name, proto, stored, None, None, {}, dict(self.reads), {}, list(self.outputs))

    def found(self, options: CompareOptions) -> Model | None:
        """The network at its path, if it is the same."""
        if self.path is None:
            return None
        with suppress(BnfoldError, OSError):
            model = open_model(self.path, "", options)
            for one in (model, with_batch(model, self.batch) if self.batch else None):
                if one is not None and digest_of(one) == self.digest:
                    return replace(one, reads=dict(self.reads))
        return None


@dataclass(frozen=True, slots=True)
class Work:
    """Everything that a worker has to know.

    Attributes:
        key: of this comparison.
        reference, candidates: the networks.
        sides: for each candidate a `Side` without its network.
        layout, data, options: of the pass.
        share: how many workers share a machine, and so its processors and its memory.
        compiled: whether compiled code measures.
        versions: of `PACKAGES`, where it is asked; workers that come late look for themselves.
    """

    key: str
    reference: Sent
    candidates: tuple[Sent, ...]
    sides: tuple[Side, ...]
    layout: BatchLayout
    data: Samples
    options: CompareOptions
    share: int = 1
    compiled: bool = False
    versions: Mapping[str, str | None] = field(default_factory=dict)


@contextmanager
def connected(cluster: Any) -> Iterator[Client]:
    """A client of a cluster.

    Args:
        cluster: a `distributed.Client`, the address of a scheduler, or a number of local workers to start.

    Raises:
        UsageError: Dask is not installed, nobody answers, or the client is closed or asynchronous.
    """
    try:
        from distributed import Client
        from distributed.utils import silence_logging_cmgr
    except ImportError:
        raise UsageError("a cluster needs dask.distributed: pip install 'bnfold[cluster]'") from None
    if isinstance(cluster, Client):
        if cluster.status in ("closing", "closed") or cluster.asynchronous:
            raise UsageError("the client of the cluster is closed or asynchronous; give an open, synchronous one")
        with _answering(cluster):
            yield cluster
    elif isinstance(cluster, int) or str(cluster).isdecimal():
        with _started(cluster if isinstance(cluster, int) else int(str(cluster)[:9])) as client, _answering(client):
            yield client
    else:
        client = _client_of(str(cluster))
        with silence_logging_cmgr(logging.CRITICAL, "distributed.client"), client, _answering(client):
            yield client


def _client_of(address: str) -> Client:
    """A client of a scheduler.

    One that is frozen takes a connection and says nothing, which Dask bears for ever whatever time it is given. So
    another thread connects, which ends with the process.

    Raises:
        UsageError: none answers there.
    """
    from distributed import Client

    answers: SimpleQueue[Client | Exception] = SimpleQueue()

    def connect() -> None:
        try:
            answers.put(Client(address, timeout=f"{FIRST_WORKER}s"))
        except Exception as error:  # a TypeError without a certificate; whatever Dask makes of another server's words
            answers.put(error)

    with defer_signals():
        Thread(target=connect, daemon=True).start()
    try:
        answer = answers.get(timeout=2 * FIRST_WORKER)
    except Empty:
        answer = TimeoutError(f"it says nothing for {2 * FIRST_WORKER} seconds, as one that is stopped")
    if isinstance(answer, Exception):
        raise UsageError(
            f"--cluster {address}: no Dask scheduler answers there ({answer}); `dask scheduler` starts one"
        )
    return answer


def _workers(client: Client) -> Mapping[str, Any]:
    """The workers that the scheduler knows.

    Raises:
        ModelError: it says nothing, as one that is frozen.
    """
    scheduler: Any = client.scheduler
    try:
        asked = client.sync(scheduler.identity, n_workers=-1, callback_timeout=GONE_FOR)
    except TimeoutError:
        raise ModelError(SILENT.format(GONE_FOR)) from None
    workers: Mapping[str, Any] = asked["workers"]
    return workers


@contextmanager
def _answering(client: Client) -> Iterator[None]:
    """Raise a ModelError in place of whatever Dask raises (a KeyError, say) once its scheduler answers no more."""
    from distributed.comm.core import CommClosedError

    try:
        yield
    except BnfoldError:
        raise
    except Exception as error:  # a client learns that its connection is closed after who asked by it
        if client.status == "running" and not isinstance(error, CommClosedError):
            raise
        raise ModelError(LOST) from None


@contextmanager
def _started(number: int) -> Iterator[Client]:
    """A client of so many workers on this machine, which end with it. Raises UsageError where they do not start."""
    from multiprocessing import resource_tracker

    import dask
    from distributed import Client

    if number > MAX_LOCAL:
        raise UsageError(
            f"--cluster starts at most {MAX_LOCAL:,} processes here; for more, start a scheduler and give its address"
        )
    wanted, allowed = FILES + FILES_EACH * number, limit_of("NOFILE")
    if allowed is not None and wanted > allowed:
        raise UsageError(
            f"--cluster {number}: these workers take up to {wanted:,} open files here, and {allowed:,} are allowed; "
            f"'ulimit -n {wanted}' in front allows more, or take fewer workers"
        )
    if (space := limit_of("AS")) is not None and space < SPACE:
        raise UsageError(
            f"--cluster {number}: each process may use {space >> 20} MB here (ulimit -v), and a worker needs "
            f"{SPACE >> 20} MB at least; allow more, or leave out --cluster"
        )
    with ExitStack() as kept:
        # A piece that kills its worker twice is at fault itself; and Dask may forget workers that all died twice.
        limits = {"allowed-failures": TRIES - 1, "no-workers-timeout": NO_WORKERS}
        kept.enter_context(dask.config.set({f"distributed.scheduler.{name}": limit for name, limit in limits.items()}))
        if os.name == "posix":
            # Whoever starts it lets SIGINT and SIGTERM through again (multiprocessing/resource_tracker.py). It has its
            # own answers to both and none to SIGHUP, which a terminal sends to all: so that stays blocked in it.
            with defer_signals():
                resource_tracker.ensure_running()
        try:
            workers = kept.enter_context(_closed_whole(_local_cluster(number)))
        except (RuntimeError, TimeoutError) as error:
            if (script := _unguarded_script()) is not None:
                raise UsageError(RUN_AGAIN.format(number, script)) from None
            raise UsageError(NOT_STARTED.format(number, error.__cause__ or error)) from None
        with defer_signals():
            client = kept.enter_context(Client(workers))
        yield client


@contextmanager
def _closed_whole(workers: LocalCluster) -> Iterator[LocalCluster]:
    """Local workers, closed by another thread: a second Ctrl-C would cancel that, and Dask wait ten seconds at exit."""
    stopped: KeyboardInterrupt | None = None
    try:
        yield workers
    except KeyboardInterrupt as first:
        stopped = first
    finally:
        with Threads(1) as pool:
            closing = pool.submit(workers.close)
            while not closing.done():
                try:
                    result_of(closing, 0.1)
                except KeyboardInterrupt as further:
                    stopped = stopped or further
        if stopped is not None:
            raise stopped


def _unguarded_script() -> str | None:
    """The script of this process, which a new one runs to have what it defines (multiprocessing/spawn.py), if it never
    asks whether it is that one."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if script == "<stdin>":
        return str(script)
    try:
        return None if script is None or b"__name__" in Path(script).read_bytes() else script
    except OSError:
        return None


def limit_of(kind: str) -> int | None:
    """A limit of this process, as of its descriptors by NOFILE; None where nothing says it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit: int = resource.getrlimit(getattr(resource, f"RLIMIT_{kind}"))[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _local_cluster(number: int) -> LocalCluster:
    """So many workers that have started.

    Dask cannot take down what has half started, so another thread starts it, which no signal stops. Where one comes
    meanwhile, the processes are killed that are there and that still come, by which the start fails at once.
    """
    from distributed import LocalCluster, Nanny
    from distributed.core import Status

    nannies: list[Nanny] = []
    begun, started, ended = list[bool](), list[LocalCluster](), list[bool]()  # what `start` has come to

    class Kept(Nanny):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            nannies.append(self)
            super().__init__(*arguments, **options)

    def start() -> LocalCluster:
        begun.append(True)
        try:
            started.append(
                LocalCluster(
                    n_workers=number,
                    threads_per_worker=1,
                    worker_class=Kept,
                    memory_limit=None,
                    dashboard_address=None,
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # a port that nobody has, and nobody outside
                    silence_logs=50,
                    preload=[WITHOUT_SIGINT],
                )
            )
            return started[0]
        finally:
            ended.append(True)

    with Threads(1) as pool:
        try:
            return result_of(pool.submit(start), 0.1)  # a signal that another thread gets would end no longer wait
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # what has not begun never does
            while begun and not ended:
                with suppress(BaseException):  # one more signal, which would leave it to wait for the start
                    for pid in [nanny.pid for nanny in nannies if nanny.status == Status.init and nanny.pid]:
                        with suppress(OSError):
                            os.kill(pid, KILL)
                    sleep(0.1)
            for cluster in started:
                cluster.close()
            raise


def work_of(engine: Engine, data: Samples, options: CompareOptions, client: Client) -> Work:
    """What the workers of a client need to measure what an engine here would.

    Raises:
        UsageError: there are no workers, or they cannot measure it so, or the samples cannot be sent.
    """
    _workers(client)
    with suppress(TimeoutError):  # nannies may be about to start them anew, or a queue to let them begin
        client.wait_for_workers(1, timeout=FIRST_WORKER)
    places = [worker["host"] for worker in _workers(client).values()]
    if not places:
        raise UsageError(
            f"--cluster: there are no workers, and none has come within {FIRST_WORKER} seconds; `dask worker ADDRESS`, "
            "with that of the scheduler, starts one"
        )
    versions = _require_versions(client, engine.compiled)
    _require_bnfold(client)
    if engine.compiled:
        lacking = [place for place, there in _answers(client, worthwhile, MANY).items() if not there]
        if lacking:
            raise UsageError(NO_NUMBA.format(few(lacking)))
    sides = tuple(_without_model(side) for side in engine.networks.sides)
    reference, *candidates = map(Sent.of, engine.networks.models)
    plain = replace(options, cluster=None, checkpoint=None)
    share = max(map(places.count, places))
    # A key of its own keeps it apart from all else on the scheduler, be it the same comparison once more.
    key = uuid.uuid4().hex
    work = Work(key, reference, tuple(candidates), sides, engine.layout, data, plain, share, engine.compiled, versions)
    try:
        pickle.dumps(work)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise UsageError(
            f"the samples cannot be sent to workers ({error}): give arrays or a path, or leave out --cluster"
        ) from None
    return work


def _without_model(side: Side) -> Any:
    """A side as it is sent to workers, which get the network by itself."""
    nothing: Any = None
    return replace(side, model=nothing, ties=replace(side.ties, candidate=nothing, counts={}))


def _require_versions(client: Client, compiled: bool) -> Mapping[str, str | None]:
    """Raise a UsageError where a worker has other versions of what measures, or no bnfold; else ours.

    The version of numba counts where its code measures.
    """
    found: Any = client.get_versions(packages=list(PACKAGES))
    ours = {name: there for name, there in found["client"]["packages"].items() if compiled or name != "numba"}
    for place, worker in found["workers"].items():
        if other := _other_version(ours, worker["packages"]):
            raise UsageError(f"the worker at {place} {other}")
    return ours


def _require_bnfold(client: Client) -> None:
    """Raise a UsageError where the scheduler or a worker cannot load bnfold; a task would end its worker silently."""
    try:
        client.run_on_scheduler(given, None)
    except OSError:  # the connection, and not what was sent
        raise
    except Exception as error:
        raise UsageError(UNREAD.format("the scheduler", f"{type(error).__name__}: {error}")) from None
    _answers(client, given, None)


def _other_version(ours: Mapping[str, str | None], theirs: Mapping[str, str | None]) -> str:
    """What a worker has that the process which asks has not; empty where they measure the same."""
    for name in PACKAGES:
        here, there = ours.get(name), theirs.get(name)
        if here and here != there and (there or name == "bnfold"):
            has = f"has {name} {there}" if there else f"has no {name}"
            return f"{has}, and the client has {here}; install the same version on both"
    return ""


def measured_pieces(
    client: Client,
    work: Work,
    models: Sequence[Model],
    pieces: Sequence[range],
    first: int,
    *,
    exact: Evaluator | None = None,
) -> Generator[list[Measurement]]:
    """The measurements of all pieces from `first` on, in order, each as soon as workers have measured it.

    Args:
        client: of the cluster.
        work: what is measured.
        models: the reference and the candidates, for workers that have not their files.
        pieces: the runs of each.
        first: the first that is not measured yet.
        exact: the float64 run of the reference, which each worker gets.

    Raises:
        ModelError: a piece failed twice, or all workers are gone.
        UsageError: the float64 run is too large to be sent.
    """
    from distributed import as_completed
    from distributed.protocol.pickle import dumps

    with warnings.catch_warnings():
        # Dask would rather have large data scattered; then it would be lost with the workers that have it.
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
        # A worker ends where it cannot load a task, as without the module of the samples; in a task it is an error.
        sent = client.submit(pickle.loads, dumps(work), key=f"bnfold-{work.key}-work")
        parts = {**_missing(client, work, models), EXACT: _packed(exact)}
        weights = client.submit(given, parts, key=f"bnfold-{work.key}-weights")

    def submit(number: int) -> Any:
        key = f"bnfold-{work.key}-{number}"
        return client.submit(measure_piece, sent, weights, number, key=key, retries=TRIES - 1, pure=False)

    most = AHEAD * max(1, len(_workers(client)))
    # Pieces finish in any order, so the next one to be handed out is counted and not read off those that are under way.
    following = min(first + most, len(pieces))
    waiting = {submit(number): number for number in range(first, following)}
    ready: dict[int, list[Measurement]] = {}
    merged, queue = first, as_completed(list(waiting), raise_errors=False)
    try:
        for future in _as_done(queue, client):
            if future.status in ("lost", "pending"):  # its worker died with what it had measured; Dask does it again
                queue.add(future)
                continue
            number = waiting.pop(future)
            if future.status != "finished":
                raise ModelError(_failure(future, work, pieces, number))
            ready[number] = future.result()
            while merged in ready:
                yield ready.pop(merged)
                merged += 1
            while following < min(merged + most, len(pieces)):
                future = submit(following)
                waiting[future] = following
                queue.add(future)
                following += 1
    except BaseException:
        client.cancel(list(waiting), force=True)
        raise
    assert merged == len(pieces), f"{merged} of {len(pieces)} pieces were measured"


def _as_done(queue: Any, client: Client) -> Iterator[Any]:
    """The futures of `as_completed`, which waits for ever where the scheduler waits for workers that never come."""
    seen = asked = monotonic()
    while not queue.is_empty():
        if queue.has_ready():
            yield next(queue)
            seen = asked = monotonic()
            continue
        sleep(0.01)
        if monotonic() > asked + ASKED_EVERY:
            asked = monotonic()
            if _workers(client):
                seen = asked
            elif asked > seen + GONE_FOR:
                raise ModelError(GONE)


def _failure(future: Any, work: Work, pieces: Sequence[range], number: int) -> str:
    """The sentence on a piece that failed, with its samples."""
    if future.status == "cancelled":
        return LOST
    start, stop = pieces[number].start * work.layout.batch, pieces[number].stop * work.layout.batch
    last = min(stop, work.data.count) - 1
    names = f"'{work.data.name(start)}' to '{work.data.name(last)}'"
    error = future.exception()
    if type(error).__name__ == "NoWorkerError":
        return GONE
    reason = str(error) if isinstance(error, BnfoldError) else f"{type(error).__name__}: {error}"
    tries = TRIES
    if type(error).__name__ == "KilledWorker":  # another's scheduler has a limit of its own, 3 by default
        tries, reason = error.allowed_failures + 1, "the worker that measured them died each time"
    return f"samples {start} to {last} ({names}) could not be measured, {tries} times: {' '.join(reason.split())}"


def _missing(client: Client, work: Work, models: Sequence[Model]) -> dict[str, Any]:
    """The weights of the networks that some worker has not."""
    networks = (work.reference, *work.candidates)
    answers = _answers(client, has_networks, networks, work.options)
    lacking = {place for answer in answers.values() for place, there in enumerate(answer) if not there}
    return {
        networks[place].digest: [
            (weight.name, tuple(weight.shape), weight.dtype.str, b"".join(map(bytes, weight.pieces())))
            for weight in models[place].weights
        ]
        for place in lacking
    }


def _answers(client: Client, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """What a function gives on each worker, without those that died while they were asked.

    Raises:
        UsageError: a worker cannot load the function or what it imports.
    """
    answers = client.run(function, *arguments, on_error="return")
    for place, answer in answers.items():
        # Of what fails before the function is called, Dask says the text alone.
        if type(answer) is Exception or isinstance(answer, ImportError):
            raise UsageError(UNREAD.format(f"the worker at {place}", answer))
        if isinstance(answer, Exception) and not isinstance(answer, OSError):  # which Dask gives of a lost connection
            raise answer
    return {place: answer for place, answer in answers.items() if not isinstance(answer, OSError)}


def _packed(exact: Evaluator | None) -> bytes | None:
    """The float64 run as it travels: one message, which protobuf lets have 2 GB."""
    try:
        return None if exact is None else pickle.dumps(exact)
    except UnsupportedError as error:
        raise UsageError(f"leave out --exact or --cluster: {error}") from None


def has_networks(networks: Sequence[Sent], options: CompareOptions) -> list[bool]:
    """On a worker: which of the networks are at their paths."""
    return [network.found(options) is not None for network in networks]


def given(value: Any) -> Any:
    """On a worker: what came with the task, and comes again with it if the worker dies."""
    return value


def measure_piece(work: Work, weights: Mapping[str, Any], number: int) -> list[Measurement]:
    """On a worker: run and measure one piece, one at a time, so that nobody closes the networks of another's."""
    with _MEASURING:
        engine = _opened(work, weights)
        return engine.measure(work.data, engine.pieces(work.data.count)[number])


_OPEN: dict[str, tuple[Engine, ExitStack]] = {}
_MEASURING = Lock()  # and each takes the processors and the memory that there are


def _opened(work: Work, weights: Mapping[str, Any]) -> Engine:
    """The networks, opened once for all pieces of a comparison; those of another comparison are closed."""
    from distributed.versions import get_versions

    from bnfold.onnx.graph import WeightStore

    if work.key not in _OPEN:
        for key in list(_OPEN):
            _OPEN.pop(key)[1].close()
        # It may have come when the others had been asked.
        if other := _other_version(work.versions, get_versions(packages=list(PACKAGES))["packages"]):
            raise ModelError(f"a worker {other}")
        if work.compiled and not worthwhile(MANY):
            raise ModelError(NO_NUMBA.format("this worker"))
        options = replace(work.options, threads=work.options.threads or processors(work.share))
        kept = ExitStack()
        store = kept.enter_context(WeightStore())
        sides = []
        for side, sent in zip(work.sides, work.candidates, strict=True):
            model = sent.opened(options, weights)
            sides.append(replace(side, model=model, ties=replace(side.ties, candidate=model)))
        reference = work.reference.opened(options, weights)
        packed = weights[EXACT]
        exact = None if packed is None else partial(pickle.loads, packed)
        networks = Networks(reference, sides)
        engine = Engine(networks, work.layout, work.data, options, store, exact=exact, share=work.share)
        _OPEN[work.key] = kept.enter_context(engine), kept
    return _OPEN[work.key][0]
