"""Goldens cut short, flipped, doubled and spliced: a few hundred ways of damaging what was sound."""

from __future__ import annotations

from collections.abc import Callable

from fuzz.harness import GOLDEN, pair, text, wire
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

WORDS = [b"{", b"}", b'"', b"-1", b"2147483648", b"layer {", b"bottom: ", b"1e39", b"\xff", b"\n", b"#", b"<", b"nan"]


def sound(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(GOLDEN.glob(f"*/{name}"))]


TEXTS, MODELS = sound("net.prototxt"), sound("net.caffemodel")


def truncate(data: bytes, draw: st.DrawFn, _: list[bytes]) -> bytes:
    return data[: draw(st.integers(0, len(data)))]


def flip(data: bytes, draw: st.DrawFn, _: list[bytes]) -> bytes:
    if not data:
        return data
    at = draw(st.integers(0, len(data) - 1))
    return data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]


def duplicate(data: bytes, draw: st.DrawFn, _: list[bytes]) -> bytes:
    begin, end = sorted(draw(st.tuples(st.integers(0, len(data)), st.integers(0, len(data)))))
    return data[:end] + data[begin:end] * draw(st.integers(1, 50)) + data[end:]


def delete(data: bytes, draw: st.DrawFn, _: list[bytes]) -> bytes:
    begin, end = sorted(draw(st.tuples(st.integers(0, len(data)), st.integers(0, len(data)))))
    return data[:begin] + data[end:]


def splice(data: bytes, draw: st.DrawFn, others: list[bytes]) -> bytes:
    other = draw(st.sampled_from(others))
    at, begin = draw(st.integers(0, len(data))), draw(st.integers(0, len(other)))
    return data[:at] + other[begin : begin + draw(st.integers(0, 400))] + data[at:]


def insert(data: bytes, draw: st.DrawFn, _: list[bytes]) -> bytes:
    at = draw(st.integers(0, len(data)))
    return data[:at] + draw(st.sampled_from(WORDS)) + data[at:]


def swap_lines(data: bytes, draw: st.DrawFn, _: list[bytes]) -> bytes:
    lines = data.split(b"\n")
    one, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


DAMAGE: list[Callable[[bytes, st.DrawFn, list[bytes]], bytes]] = [
    truncate,
    flip,
    duplicate,
    delete,
    splice,
    insert,
    swap_lines,
]


@st.composite
def damaged(draw: st.DrawFn, intact: list[bytes]) -> bytes:
    data = draw(st.sampled_from(intact))
    for damage in draw(st.lists(st.sampled_from(DAMAGE), min_size=1, max_size=4)):
        data = damage(data, draw, intact)
    return data


@settings(SETTINGS, max_examples=300)
@given(damaged(MODELS))
def test_a_damaged_caffemodel_is_read_or_refused(data: bytes) -> None:
    wire(data)


@settings(SETTINGS, max_examples=300)
@given(damaged(TEXTS))
def test_a_damaged_prototxt_is_read_or_refused(data: bytes) -> None:
    text(data)


@settings(SETTINGS, max_examples=200)
@given(st.binary(max_size=300))
def test_any_small_net_with_weights_is_folded_and_saved_or_refused(data: bytes) -> None:
    pair(data)
