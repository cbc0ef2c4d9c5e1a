"""The same report, to the byte, by one process, by several, and whoever dies on the way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from compare.hostile_samples import LOUD, Float64, Hostile
from compare.small_pair import images, models, said
from onnx_models import change, classifier

from bnfold.compare import cluster, engine, matched
from bnfold.compare.backends import MANY, worthwhile
from bnfold.compare.checkpoint import digest_of
from bnfold.compare.comparison import compare
from bnfold.compare.models import open_model
from bnfold.compare.widening import with_batch
from bnfold.errors import ModelError, UnsupportedError, UsageError
from bnfold.onnx.evaluator import Evaluator
from bnfold.options import CompareOptions

if TYPE_CHECKING:
    from distributed import Client

dask, distributed = pytest.importorskip("dask"), pytest.importorskip("distributed")

# What Dask leaves open when a worker is killed is not ours to close.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


WORKERS = 2


FORKED = {"distributed.worker.multiprocessing-method": "forkserver" if hasattr(os, "fork") else "spawn"}


def forked(start: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Workers of a process that has imported Dask, which each of them would do otherwise.

    Workers that bnfold starts begin as those of a user do, but for seven at once.
    """
    with dask.config.set(FORKED):
        return start(*arguments, **options)


def forked_workers(number: int, threads: int) -> Any:
    options = {"dashboard_address": None, "memory_limit": None, "silence_logs": 50}
    return forked(distributed.LocalCluster, n_workers=number, threads_per_worker=threads, **options)


@pytest.fixture(scope="module")
def shared_client() -> Iterator[Client]:
    with forked_workers(WORKERS, threads=1) as workers, distributed.Client(workers) as client:
        yield client


@pytest.fixture
def client(shared_client: Client) -> Client:
    """The workers of all tests here, with those again that the test before has killed."""
    shared_client.wait_for_workers(WORKERS, timeout=60)
    return shared_client


@pytest.mark.slow
def test_workers_give_the_report_of_one_process_to_the_byte(tmp_path: Path, client: Client) -> None:
    pair, labels = models(tmp_path), np.arange(200) % 5
    alone = compare(*pair, images(), labels=labels, batch=2)
    seen = []
    shared = compare(*pair, images(), labels=labels, batch=2, cluster=client, progress=lambda *step: seen.append(step))
    assert said(shared) == said(alone)
    assert seen == [(32, 200), (64, 200), (96, 200), (128, 200), (160, 200), (192, 200), (200, 200)]


@pytest.mark.slow
def test_workers_take_as_many_samples_at_once_as_one_process_does(tmp_path: Path, client: Client) -> None:
    pair = models(tmp_path)
    assert said(compare(*pair, images(), cluster=client)) == said(compare(*pair, images()))


@pytest.mark.slow
def test_networks_that_workers_do_not_have_are_sent(client: Client) -> None:
    pair = classifier(), change(classifier(), "conv2_w", (3, 1, 0, 0), 1e-3)
    assert said(compare(*pair, images(), cluster=client)) == said(compare(*pair, images()))


@pytest.mark.slow
def test_a_worker_holds_the_networks_of_the_last_comparison_alone(client: Client) -> None:
    pair = classifier(), change(classifier(), "conv2_w", (3, 1, 0, 0), 1e-3)
    for count in (64, 128):
        compare(*pair, images(count), batch=2, cluster=client)
        held = client.run(lambda: len(cluster._OPEN)).values()
        assert max(held) == 1


def test_a_network_at_its_path_is_read_there_and_not_sent(tmp_path: Path) -> None:
    path, other = models(tmp_path)
    options = CompareOptions()
    read = open_model(path, "", options)
    sent = cluster.Sent.of(read)
    wider = with_batch(read, 4)
    assert wider is not None
    resized = cluster.Sent.of(wider)
    in_memory = cluster.Sent.of(open_model(classifier(), "", options))
    assert cluster.has_networks([sent, resized, in_memory], options) == [True, True, False]
    assert [digest_of(one.opened(options, {})) for one in (sent, resized)] == [sent.digest, resized.digest]

    Path(path).write_bytes(Path(other).read_bytes())
    assert cluster.has_networks([sent, resized], options) == [False, False]
    with pytest.raises(ModelError, match=r"this worker has another file, or none, at '.*'; start it anew"):
        sent.opened(options, {})


@pytest.mark.slow
def test_a_killed_workers_pieces_are_done_again(tmp_path: Path, client: Client) -> None:
    pair = models(tmp_path)
    marker = tmp_path / "killed"
    shared = compare(*pair, Hostile(150, marker), batch=2, cluster=client)
    assert marker.exists()
    assert said(shared) == said(compare(*pair, Hostile(150, marker), batch=2))


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "begun"), [(2, {}), (7, FORKED)], ids=["2", "7"])
def test_any_number_of_workers_gives_the_report_of_one_process_to_the_byte(
    tmp_path: Path, workers: int, begun: dict[str, str]
) -> None:
    pair, labels = models(tmp_path), np.arange(200) % 5
    alone = compare(*pair, images(), labels=labels, batch=2)
    with dask.config.set(begun):
        assert said(compare(*pair, images(), labels=labels, batch=2, cluster=workers)) == said(alone)


@pytest.mark.slow
def test_ctrl_c_cancels_the_rest_and_says_how_far_it_was(tmp_path: Path, client: Client) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done >= 64:
            signal.raise_signal(signal.SIGINT)

    pair = models(tmp_path)
    with pytest.raises(KeyboardInterrupt) as stopped:
        compare(*pair, images(2000), batch=2, cluster=client, progress=interrupt)
    assert stopped.value.__notes__ == ["2 of 63 pieces were done"]
    for _ in range(6000):  # what a worker has begun it ends
        if not any(client.processing().values()):
            break
        time.sleep(0.1)
    assert not any(client.processing().values())
    assert "pending" not in {state.status for state in client.futures.values()}
    assert said(compare(*pair, images(), batch=2, cluster=client)) == said(compare(*pair, images(), batch=2))


INTERRUPTED = """
import os, signal, sys
import numpy as np
from bnfold.compare.comparison import compare
from distributed import LocalCluster

def interrupt(done, total):
    if done >= 64:
        os.killpg(0, int(number))

def close(workers, left, scale=LocalCluster.scale):
    closed.append(workers)
    if again == "again":
        os.killpg(0, int(number))
    return scale(workers, left)

if __name__ == "__main__":
    closed, (number, again, *pair) = [], sys.argv[1:]
    LocalCluster.scale = close
    signal.signal(int(number), signal.default_int_handler)
    images = np.random.default_rng(3).normal(0, 8, (2000, 3, 8, 8)).astype(np.float32)
    try:
        compare(*pair, images, batch=2, cluster=2, progress=interrupt)
    except KeyboardInterrupt as stopped:
        print(stopped.__notes__, closed[0].status.name)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="sends signals as a terminal does")
@pytest.mark.parametrize(("number", "again"), [(signal.SIGINT, "again"), (signal.SIGHUP, "")])
def test_signals_of_a_terminal_let_local_workers_end_silently(tmp_path: Path, number: int, again: str) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    command = [sys.executable, str(script), str(int(number)), again, *models(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True, timeout=600, check=False)
    assert (done.stdout.strip(), done.stderr) == ("['2 of 63 pieces were done'] closed", "")


STARTING = """
import os, signal, sys, threading, time
from contextlib import suppress
from pathlib import Path
from bnfold.compare import cluster
from bnfold.compare.comparison import compare

def children():
    found = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has ended
            found += (task / "children").read_text().split()
    return found

def interrupt():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # else the system may give it the signal
    while len(children()) < 3:  # two workers at least, and Python's resource tracker
        time.sleep(0.001)
    began.append(time.monotonic())
    for _ in range(int(sys.argv[2])):
        os.killpg(0, signal.SIGINT)
        time.sleep(0.03)

if __name__ == "__main__":
    began = []
    cluster.WITHOUT_SIGINT += "; import time; time.sleep(300)"
    interrupter = threading.Thread(target=interrupt, daemon=True)
    if sys.argv[2] == "0":  # before the main thread, on a busy machine, goes on from having them started
        submit = cluster.Threads.submit
        def submit_and_interrupt(threads, function, *given, **named):
            future = submit(threads, function, *given, **named)
            if function.__module__ == cluster.__name__:
                sys.argv[2] = "1"
                interrupter.start()
                interrupter.join()
            return future
        cluster.Threads.submit = submit_and_interrupt
    else:
        interrupter.start()
    try:
        compare(*sys.argv[3:], cluster=int(sys.argv[1]))
    except KeyboardInterrupt:
        print("stopped", time.monotonic() - began[0] < 60)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for its children as Linux has it")
@pytest.mark.parametrize(("workers", "times"), [("2", "0"), ("2", "1"), ("7", "1"), ("2", "2")])
def test_ctrl_c_while_local_workers_start_waits_for_none_and_says_nothing(
    tmp_path: Path, workers: str, times: str
) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(STARTING)
    command = [sys.executable, str(script), workers, times, *models(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True, timeout=600, check=False)
    assert (done.stdout, done.stderr) == ("stopped True\n", "")


class Finished:
    """A future that is done."""

    status = "finished"

    def __init__(self, number: int) -> None:
        self.number = number

    def result(self) -> int:
        return self.number


class Backwards:
    """A client whose pieces finish in the order that hurts: of those under way the last one first."""

    def __init__(self) -> None:
        self.handed_out: list[int] = []

    def submit(self, _function: object, *arguments: Any, **_options: object) -> Finished | None:
        if len(arguments) == 3:
            self.handed_out.append(arguments[2])
            return Finished(arguments[2])
        return None

    scheduler = SimpleNamespace(identity=None)

    def sync(self, *_arguments: object, **_options: object) -> dict[str, dict[str, object]]:
        return {"workers": {"one": {}, "two": {}}}

    def cancel(self, *_arguments: object, **_options: object) -> None:
        raise AssertionError("nothing failed")


class LastFirst:
    """What `as_completed` is to that client."""

    def __init__(self, futures: Iterable[Finished], **_options: object) -> None:
        self.futures = list(futures)

    def add(self, future: Finished) -> None:
        self.futures.append(future)

    def is_empty(self) -> bool:
        return not self.futures

    def has_ready(self) -> bool:
        return True

    def __next__(self) -> Finished:
        return self.futures.pop()


def test_a_scheduler_that_is_gone_is_no_fault_of_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "as_completed", LastFirst)
    monkeypatch.setattr(cluster, "_missing", lambda *_arguments: {})
    monkeypatch.setattr(Finished, "status", "cancelled")
    monkeypatch.setattr(Backwards, "cancel", lambda *_arguments, **_options: None)
    work = SimpleNamespace(key="test", layout=SimpleNamespace(batch=1), data=SimpleNamespace(count=1))
    measured_pieces = cast("Callable[..., Iterator[int]]", cluster.measured_pieces)
    with pytest.raises(ModelError, match="the connection to the scheduler was lost"):
        list(measured_pieces(Backwards(), work, (), [range(1)], 0))


def test_workers_that_are_all_gone_from_a_scheduler_are_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "ASKED_EVERY", 0.0)
    monkeypatch.setattr(cluster, "GONE_FOR", 0.1)
    asked: list[int] = []

    def workers(_client: object) -> dict[str, object]:
        asked.append(1)
        return {"back": {}} if len(asked) == 3 else {}  # once one came again

    monkeypatch.setattr(cluster, "_workers", workers)
    queue = cast("Any", SimpleNamespace(is_empty=lambda: False, has_ready=lambda: False))
    with pytest.raises(
        ModelError, match=r"all workers are gone, and none has come again, .*; start again, which with --ch"
    ):
        list(cluster._as_done(queue, cast("Client", None)))
    assert len(asked) > 3


def test_a_scheduler_that_is_frozen_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def sync(*_arguments: object, callback_timeout: float, **_options: object) -> None:
        raise TimeoutError(callback_timeout)

    client: Any = SimpleNamespace(scheduler=SimpleNamespace(identity=None), sync=sync)
    queue: Any = SimpleNamespace(is_empty=lambda: False, has_ready=lambda: False)
    monkeypatch.setattr(cluster, "ASKED_EVERY", 0.0)
    for ask in (lambda: list(cluster._as_done(queue, client)), lambda: cluster.work_of(queue, queue, queue, client)):
        with pytest.raises(
            ModelError, match="the scheduler has said nothing for 60 seconds, as one that is stopped; start again"
        ):
            ask()
    monkeypatch.setattr(cluster, "FIRST_WORKER", 0.05)
    monkeypatch.setattr(distributed, "Client", lambda *_arguments, **_options: time.sleep(5))
    with pytest.raises(
        UsageError, match=r"no Dask scheduler answers there \(it says nothing for.*\); `dask scheduler` starts one$"
    ):
        cluster._client_of("10.0.0.1:8786")


def test_no_piece_is_left_out_whatever_order_they_finish_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "as_completed", LastFirst)
    monkeypatch.setattr(cluster, "_missing", lambda *_arguments: {})
    client = Backwards()
    pieces = [range(number, number + 1) for number in range(23)]
    work = SimpleNamespace(key="test", layout=SimpleNamespace(batch=1), data=SimpleNamespace(count=23))
    measured_pieces = cast(
        "Callable[..., Iterator[int]]", cluster.measured_pieces
    )  # which asks no more of client and work
    assert list(measured_pieces(client, work, (), pieces, 0)) == list(range(23)) == sorted(client.handed_out)


def test_a_piece_whose_worker_dies_when_it_is_done_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: ["pending", "lost"] for number in range(23)}
    status = property(lambda self: before[self.number].pop() if before[self.number] else "finished")
    monkeypatch.setattr(Finished, "status", status)
    test_no_piece_is_left_out_whatever_order_they_finish_in(monkeypatch)


def test_a_worker_that_dies_while_it_is_asked_is_left_out() -> None:
    answers: dict[str, object] = {"there": [True, False], "gone": ConnectionError("Stream is closed")}
    client = cast("Any", SimpleNamespace(run=lambda *_arguments, **_options: answers))
    assert cluster._answers(client, len) == {"there": [True, False]}
    answers["third"] = ModelError("is no network")
    with pytest.raises(ModelError, match="is no network"):
        cluster._answers(client, len)


def test_a_scheduler_says_itself_how_often_a_piece_may_kill_its_worker() -> None:
    from distributed.scheduler import KilledWorker

    data = SimpleNamespace(count=3, name=str)
    future = SimpleNamespace(
        status="error",
        exception=lambda: KilledWorker("piece", cast("Any", SimpleNamespace(address="tcp://there")), 3),
    )
    work = cast("cluster.Work", SimpleNamespace(layout=SimpleNamespace(batch=1), data=data))
    assert "4 times: the worker that measured them died" in cluster._failure(future, work, [range(3)], 0)


@pytest.mark.slow
def test_a_piece_that_fails_twice_ends_the_run_with_its_samples(tmp_path: Path, client: Client) -> None:
    with pytest.raises(ModelError, match=r"samples 128 to 159 \('trap 128' to 'trap 159'\) could not be measured, 2 t"):
        compare(*models(tmp_path), Hostile(150, tmp_path / "m", again=True, kill=False), batch=2, cluster=client)


@pytest.mark.slow
def test_what_failed_is_measured_anew_when_it_is_asked_again(tmp_path: Path, client: Client) -> None:
    pair, data = models(tmp_path), Hostile(150, tmp_path / "m", again=True, kill=False)
    with pytest.raises(ModelError) as failed:
        compare(*pair, data, batch=2, cluster=client)
    (tmp_path / "mended").touch()
    assert said(compare(*pair, data, batch=2, cluster=client)) == said(compare(*pair, data, batch=2))
    assert failed.value.__notes__  # its frames hold the piece that failed


def test_whatever_dask_raises_once_its_scheduler_is_gone_is_a_sentence() -> None:
    gone, there = cast("Client", SimpleNamespace(status="closed")), cast("Client", SimpleNamespace(status="running"))
    with pytest.raises(ModelError, match="the connection to the scheduler was lost"), cluster._answering(gone):
        raise KeyError("workers")
    with pytest.raises(KeyError, match="workers"), cluster._answering(there):
        raise KeyError("workers")
    with pytest.raises(OSError, match="disk is full"), cluster._answering(there):
        raise OSError("the disk is full")
    with pytest.raises(ModelError, match="the connection to the scheduler was lost"), cluster._answering(there):
        raise distributed.comm.CommClosedError("in <TCP>: Stream is closed")
    with pytest.raises(UsageError, match="has no workers"), cluster._answering(gone):
        raise UsageError("the cluster has no workers")


@pytest.mark.slow
def test_two_comparisons_at_once_on_a_worker_of_many_threads_do_not_meet(tmp_path: Path) -> None:
    one, other = models(tmp_path)
    with (
        forked_workers(1, threads=4) as workers,
        distributed.Client(workers) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        asked = [
            pool.submit(compare, *pair, images(500), batch=2, cluster=client) for pair in ((one, other), (other, one))
        ]
        found = [said(report.result()) for report in asked]
    assert found == [said(compare(*pair, images(500), batch=2)) for pair in ((one, other), (other, one))]


@pytest.mark.parametrize("address", ["nonsense://127.0.0.1:1", "tls://127.0.0.1:1"])
def test_a_scheduler_that_does_not_answer_is_a_sentence(tmp_path: Path, address: str) -> None:
    with pytest.raises(UsageError, match="no Dask scheduler answers there"):
        compare(*models(tmp_path), images(), cluster=address)


def test_another_server_than_a_scheduler_is_a_sentence(tmp_path: Path) -> None:
    """As where the port is that of a page: Dask takes its words for the sizes of what follows, of 3 EiB."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n")
                connection.recv(1 << 16)

        pool.submit(answer)
        with pytest.raises(UsageError, match=r"no Dask scheduler answers there \("):
            compare(*models(tmp_path), images(), cluster=address)


@pytest.mark.slow
def test_workers_hold_both_networks_against_the_float64_run(tmp_path: Path, client: Client) -> None:
    pair = models(tmp_path)
    alone = compare(*pair, images(40), batch=1, exact=True)
    assert alone.blobs[-1].figures["exact"] > 0
    assert said(compare(*pair, images(40), batch=1, exact=True, cluster=client)) == said(alone)


@pytest.mark.slow
def test_workers_report_one_failure_of_the_float64_run_whoever_meets_it_first(
    tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, data = models(tmp_path), images(80)
    for sample in (20, 60):
        data[sample, 0, 3, 3] = LOUD + sample
    monkeypatch.setattr(Evaluator, "run", Float64.real)
    Float64.begin()
    alone = compare(*pair, data, batch=1, exact=True)
    assert "no exact column: 1020 is too loud" in alone.notes
    assert all(blob.exact is None for blob in alone.blobs)
    client.run(Float64.begin)
    try:
        assert said(compare(*pair, data, batch=1, exact=True, cluster=client)) == said(alone)
    finally:
        client.run(Float64.end)


@pytest.mark.slow
def test_workers_of_a_machine_refuse_a_memory_that_is_too_little_for_all_of_them(
    tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "memory_budget", lambda *_asked: 1 << 30)  # here, and not in the workers
    with pytest.raises(ModelError, match="1M is too little memory: comparing these networks in 2 workers takes at le"):
        compare(*models(tmp_path), images(), batch=2, cluster=client, memory=1 << 20)


WITHOUT = "import sys; sys.modules['numba'] = None"


def test_a_worker_that_is_about_to_come_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = models(tmp_path)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, threads_per_worker=1, dashboard_address=None) as workers,
        distributed.Client(workers) as client,
    ):
        with monkeypatch.context() as short:
            short.setattr(cluster, "FIRST_WORKER", 0.1)
            with pytest.raises(
                UsageError, match=r"there are no workers, and none has come within 0\.1 seconds; `dask worker"
            ):
                compare(*pair, images(), cluster=client)
        monkeypatch.setattr(cluster, "FIRST_WORKER", 300)
        Timer(0.5, workers.scale, [1]).start()
        assert said(compare(*pair, images(), cluster=client)) == said(compare(*pair, images()))


@contextmanager
def workers_with(*preloads: list[str]) -> Iterator[Client]:
    """Local workers with a preload each, by which they may lack a package."""
    workers = {
        number: {
            "cls": distributed.Nanny,
            "options": {"nthreads": 1, "preload": preload, "memory_limit": None, "silence_logs": 50},
        }
        for number, preload in enumerate(preloads)
    }
    head = {"cls": distributed.Scheduler, "options": {"dashboard": False, "host": "127.0.0.1"}}
    with forked(distributed.SpecCluster, workers, head) as there, distributed.Client(there) as client:
        client.wait_for_workers(len(preloads))
        yield client


@pytest.mark.slow
def test_a_worker_without_the_numba_that_is_measured_with_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba")
    pair = models(tmp_path)
    monkeypatch.setattr(matched, "worthwhile", bool)  # as it is of many values
    with workers_with([], [WITHOUT]) as client:
        there = client.run(worthwhile, MANY)
        (having,), (lacking,) = ([worker for worker, has in there.items() if has is wanted] for wanted in (True, False))
        with pytest.raises(UsageError, match=f"^there is no numba that works on {lacking}, and the client"):
            compare(*pair, images(), batch=2, cluster=client)
        # One that comes when the others were asked says the same of itself.
        client.retire_workers([having])
        monkeypatch.setattr(cluster, "worthwhile", bool)
        with pytest.raises(ModelError, match=r"^samples \d+ to \d+ .*, 2 times: there is no numba that works on this"):
            compare(*pair, images(), batch=2, cluster=client)
        # Where the process that asks has none, all measure by numpy.
        monkeypatch.setattr(matched, "worthwhile", lambda _values: False)
        assert said(compare(*pair, images(), batch=2, cluster=client)) == said(compare(*pair, images(), batch=2))


@pytest.mark.slow
def test_workers_measure_by_numba_to_the_byte(tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    pair = models(tmp_path)
    # Sums of values of one magnitude may be equal in any order.
    values = images() * np.random.default_rng(2).lognormal(0, 8, images().shape).astype(np.float32)
    plain = compare(*pair, values, batch=2)
    monkeypatch.setattr(matched, "worthwhile", bool)
    alone = compare(*pair, values, batch=2)
    assert said(compare(*pair, values, batch=2, cluster=client)) == said(alone) != said(plain)


@pytest.mark.slow
def test_a_worker_with_another_version_is_named(tmp_path: Path) -> None:
    there = tmp_path / "bnfold-0.0.1.dist-info"
    there.mkdir()
    (there / "METADATA").write_text("Metadata-Version: 2.1\nName: bnfold\nVersion: 0.0.1\n")
    with (
        workers_with([], [f"import sys; sys.path.insert(0, {str(tmp_path)!r})"]) as client,
        pytest.raises(UsageError, match=r"^the worker at tcp://\S+ has bnfold 0\.0\.1, and the client has \d"),
    ):
        compare(*models(tmp_path), images(), batch=2, cluster=client)


@pytest.mark.parametrize(
    ("there", "sentence"),
    [
        ({"bnfold": "1", "numpy": "2", "onnxruntime": None}, ""),  # onnxruntime-gpu, perhaps
        ({"bnfold": None, "numpy": "2", "onnxruntime": "3"}, "has no bnfold, and the client has 1"),
        ({"bnfold": "1", "numpy": "2", "onnxruntime": "4"}, "has onnxruntime 4, and the client has 3"),
    ],
)
def test_workers_have_what_measures_in_the_version_of_who_asks(there: dict[str, str | None], sentence: str) -> None:
    here = {"bnfold": "1", "numpy": "2", "onnxruntime": "3"}
    found = {"client": {"packages": here}, "workers": {"tcp://there": {"packages": there}}}
    client = cast("Client", SimpleNamespace(get_versions=lambda packages: found))
    with pytest.raises(UsageError, match=sentence) if sentence else nullcontext():
        assert cluster._require_versions(client, compiled=True) == here


def test_another_version_of_numba_counts_where_its_code_measures() -> None:
    here = {"bnfold": "1", "numba": "0.60.0"}
    found = {"client": {"packages": here}, "workers": {"tcp://there": {"packages": here | {"numba": "0.59.1"}}}}
    client = cast("Client", SimpleNamespace(get_versions=lambda packages: found))
    with pytest.raises(UsageError, match=r"has numba 0\.59\.1, and the client has 0\.60\.0"):
        cluster._require_versions(client, compiled=True)
    assert cluster._require_versions(client, compiled=False) == {"bnfold": "1"}  # as workers that come late hold it


@pytest.mark.slow
def test_samples_of_a_module_that_workers_have_not_are_a_sentence(tmp_path: Path) -> None:
    without = "import sys; sys.modules['compare.hostile_samples'] = None"
    with (
        workers_with([without], [without]) as client,
        pytest.raises(ModelError, match=r"could not be measured, 2 times: ModuleNotFoundError: .*hostile_samples"),
    ):
        compare(*models(tmp_path), Hostile(300, tmp_path / "m"), batch=2, cluster=client)


@pytest.mark.slow
def test_a_worker_that_cannot_import_bnfold_is_named(tmp_path: Path) -> None:
    without = "import sys; sys.modules['bnfold'] = None"  # its distribution is found all the same
    with (
        workers_with([], [without]) as client,
        pytest.raises(
            UsageError,
            match=r"^the worker at tcp://\S+ cannot load what it is sent \(ModuleNotFoundE.*; install bnfold",
        ),
    ):
        compare(*models(tmp_path), images(), batch=2, cluster=client)


def test_a_scheduler_that_cannot_import_bnfold_is_named() -> None:
    def asked(*_arguments: object) -> None:
        raise failure

    client = cast("Any", SimpleNamespace(run_on_scheduler=asked))
    failure: Exception = ModuleNotFoundError("No module named 'bnfold'")
    with pytest.raises(
        UsageError, match=r"^the scheduler cannot load what it is sent \(ModuleNotFoundError: No module"
    ):
        cluster._require_bnfold(client)
    failure = ConnectionError("Stream is closed")
    with pytest.raises(ConnectionError):
        cluster._require_bnfold(client)


@pytest.mark.parametrize("answer", [Exception("AttributeError(\"no attribute 'given'\")"), ImportError("no numba")])
def test_a_worker_that_cannot_load_what_it_is_asked_is_named(answer: Exception) -> None:
    client = cast("Any", SimpleNamespace(run=lambda *_arguments, **_options: {"tcp://there": answer}))
    with pytest.raises(
        UsageError, match=r"^the worker at tcp://there cannot load what it is sent \(.*; install bnfold"
    ):
        cluster._answers(client, len)


@pytest.mark.slow
def test_a_worker_that_comes_late_looks_at_its_own_versions(
    tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> dict[str, str]:
        return {"numpy": "0.1"}

    monkeypatch.setattr(cluster, "_require_versions", asked)  # as if nobody had been there
    with pytest.raises(ModelError, match=r"a worker has numpy \S+, and the client has 0\.1; install the same"):
        compare(*models(tmp_path), images(), batch=2, cluster=client)


@pytest.mark.slow
def test_a_client_that_is_closed_is_a_sentence(tmp_path: Path, client: Client) -> None:
    with distributed.Client(client.scheduler_info()["address"]) as other:
        pass
    with pytest.raises(UsageError, match="the client of the cluster is closed or"):
        compare(*models(tmp_path), images(), cluster=other)


@pytest.mark.slow
def test_local_workers_that_are_all_gone_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "NO_WORKERS", "2s")
    with dask.config.set(FORKED), cluster.connected(1) as client:

        def forget(done: int, _total: int) -> None:
            if done == 64:
                cast("Any", client).cluster.scale(0)

        with pytest.raises(ModelError, match=r"^all workers are gone, and none has come again"):
            compare(*models(tmp_path), images(2000), batch=2, cluster=client, progress=forget)


@pytest.mark.parametrize("workers", [10**30, 10**5000, "1" * 20, "1" * 5000, 513], ids=range(5))
def test_more_workers_than_a_machine_can_start_are_a_sentence(tmp_path: Path, workers: int | str) -> None:
    with pytest.raises(UsageError, match="--cluster starts at most 512 processes here; for more, start a scheduler"):
        compare(*models(tmp_path), images(), cluster=workers)


@pytest.mark.parametrize(
    ("kind", "limit", "said"),
    [("NOFILE", 43, "take up to 44 open files here, and 43 are"), ("AS", 700 << 20, "may use 700 MB here")],
)
def test_limits_in_which_workers_cannot_start_are_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, limit: int, said: str
) -> None:
    monkeypatch.setattr(cluster, "limit_of", {kind: limit}.get)
    with pytest.raises(UsageError, match=f"--cluster 1: .* {said}"):
        compare(*models(tmp_path), images(), cluster=1)


def test_a_worker_that_ends_while_it_starts_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "WITHOUT_SIGINT", "import os; os._exit(1)")
    with pytest.raises(UsageError, match=r"--cluster 1: a worker did not start \(.*\), as where memory is short"):
        compare(*models(tmp_path), cluster=1)
    script = tmp_path / "script.py"
    script.write_text("import bnfold\nbnfold.compare('a.onnx', 'b.onnx', cluster=1)\n")
    for file in (str(script), "<stdin>"):
        monkeypatch.setattr(sys.modules["__main__"], "__file__", file, raising=False)
        with pytest.raises(
            UsageError, match=rf"since each runs {file} anew; its calls must stand in a file, behind 'if __n"
        ):
            compare(*models(tmp_path), cluster=1)


def test_a_float64_run_that_is_too_large_to_be_sent_is_a_sentence() -> None:
    class Huge:
        def __reduce__(self) -> str:
            raise UnsupportedError("a float64 network of 2 GB or more cannot be sent")

    with pytest.raises(UsageError, match="leave out --exact or --cluster"):
        cluster._packed(cast("Evaluator", Huge()))
