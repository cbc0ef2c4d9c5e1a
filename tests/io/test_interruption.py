"""Ctrl-C is a KeyboardInterrupt wherever it comes, even where Python itself cannot raise one."""

from __future__ import annotations

import signal
import sys
import threading
import time
import weakref

import pytest

from bnfold.io.interruption import held_back, interruptible


class Thing:
    """Something that a weak reference can be made to."""


def wait_for_ctrl_c() -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        time.sleep(0.001)


def interrupted_in_a_callback() -> None:
    """Ctrl-C in the callback of a weak reference, and then work that goes on."""
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    assert reference() is None
    wait_for_ctrl_c()


def test_ctrl_c_in_a_callback_that_swallows_it_comes_again(capfd: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interruptible():
        interrupted_in_a_callback()
    assert time.monotonic() - began < 5
    assert capfd.readouterr() == ("", "")


def test_other_complaints_go_where_they_went(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_type))
    with interruptible():
        thing = Thing()
        reference = weakref.ref(thing, lambda _: 1 / 0)
        del thing
    assert reference() is None
    assert told == [ZeroDivisionError]


def test_what_a_library_makes_of_ctrl_c_is_ctrl_c_again() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        raise_in_its_place()


def raise_in_its_place() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise ValueError("what a library in C makes of it") from None


def test_afterwards_and_in_other_threads_all_is_as_it_was() -> None:
    before = signal.getsignal(signal.SIGINT), sys.unraisablehook

    def elsewhere() -> None:
        with interruptible():
            found.append((signal.getsignal(signal.SIGINT), sys.unraisablehook))

    found: list[object] = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    with interruptible():
        pass
    assert found == [before]
    assert (signal.getsignal(signal.SIGINT), sys.unraisablehook) == before


def test_what_is_held_back_arrives_when_the_body_is_done() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        work_uninterrupted(done)
    assert done == ["after Ctrl-C"]


def work_uninterrupted(done: list[str]) -> None:
    with held_back():
        signal.raise_signal(signal.SIGINT)
        done.append("after Ctrl-C")
    done.append("after the body")
