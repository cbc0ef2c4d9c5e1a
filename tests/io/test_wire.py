"""The wire walk: what it finds, and that nothing hostile gets past it or makes it slow."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from growing import growth
from hypothesis import given
from hypothesis import strategies as st
from wire_encoder import length, number, tag, varint

from bnfold.errors import BnfoldError
from bnfold.io import wire


def walk(message: bytes) -> list[wire.Field]:
    return list(wire.fields(message, 0, len(message)))


def test_every_wire_type_is_found_with_its_place() -> None:
    message = number(1, 300) + tag(2, 1) + b"8 bytes!" + length(3, "abc") + tag(4, 5) + b"four"
    found = walk(message)
    assert [(field.number, field.wire) for field in found] == [(1, 0), (2, 1), (3, 2), (4, 5)]
    assert [message[field.at : field.end] for field in found] == [varint(300), b"8 bytes!", b"abc", b"four"]
    assert b"".join(message[field.begin : field.end] for field in found) == message


def test_a_group_is_one_field_whatever_it_holds() -> None:
    inside = number(1, 5) + length(2, "x") + tag(3, 5) + b"1234" + tag(4, 1) + b"12345678" + tag(5, 3) + tag(5, 4)
    message = tag(9, 3) + inside + tag(9, 4) + number(1, 1)
    assert [field.number for field in walk(message)] == [9, 1]


def test_a_large_field_number_and_a_long_length_are_read() -> None:
    message = length((1 << 29) - 1, b"x" * 300)
    assert walk(message)[0].number == (1 << 29) - 1
    assert walk(message)[0].end == len(message)


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (b"\x0a\x05abc", "needs 5 bytes, and only 3 are left at byte 0"),
        (b"\x0d\x01\x02", "needs 4 bytes, and only 2 are left at byte 0"),
        (b"\x09\x01\x02", "needs 8 bytes, and only 2 are left at byte 0"),
        (b"\x08\xff\xff", "the file ends inside a number at byte 1"),
        (b"\x08", "the file ends inside a number at byte 1"),
        (b"\x0a", "the file ends inside a number at byte 1"),
        (b"\x08" + b"\x80" * 10 + b"\x01", "goes on for more than 10 bytes at byte 1"),
        (b"\x80" * 100, "goes on for more than 10 bytes at byte 0"),
        (b"\x00\x00", "a number that protobuf does not allow at byte 0"),
        (varint(1 << 32) + b"\x00", "a number that protobuf does not allow at byte 0"),
        (b"\x0e", "a wire type that protobuf does not know at byte 0"),
        (b"\x0c", "a group ends that was not open at byte 0"),
        (b"\x0b\x14", "a group ends that was not open at byte 1"),
        (b"\x0b\x08", "the file ends inside a number at byte 2"),
        (b"\x0b\x08\x01", "the file ends inside a group at byte 1"),
        (b"\x0b\x12\x7f", "the file ends inside a group at byte 1"),
        (b"\x0b" * 10_000, "nested more than 100 deep at byte 100"),
        (tag(1, 2) + varint(1 << 62), f"needs {1 << 62:,} bytes, and only 0 are left at byte 0"),
    ],
)
def test_damage_is_a_sentence_with_its_byte(message: bytes, sentence: str) -> None:
    with pytest.raises(wire.WireError) as caught:
        walk(message)
    assert sentence in str(caught.value)


def test_the_walk_never_leaves_its_span() -> None:
    outer = length(1, "abcdef")
    with pytest.raises(wire.WireError, match="needs 6 bytes, and only 3 are left"):
        list(wire.fields(outer, 0, 5))


def test_negative_numbers_come_back_negative() -> None:
    assert [wire.signed(value) for value in (0, 5, (1 << 63) - 1, (1 << 64) - 1)] == [0, 5, (1 << 63) - 1, -1]


@given(st.integers(min_value=0, max_value=(1 << 64) - 1))
def test_a_number_survives_encoding(value: int) -> None:
    encoded = wire.encode_varint(value)
    assert encoded == varint(value)
    assert wire.varint(encoded, 0, len(encoded)) == (value, len(encoded))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_sentence(message: bytes) -> None:
    found: list[wire.Field] = []
    with contextlib.suppress(BnfoldError):
        found += walk(message)
        assert b"".join(message[field.begin : field.end] for field in found) == message


def test_time_follows_the_fields_and_not_the_bytes() -> None:
    def walked(size: int) -> Callable[[], None]:
        message = length(1, bytes(size))

        def often() -> None:
            for _ in range(100):
                assert len(walk(message)) == 1

        return often

    # Copying the bytes once takes a thousand times as long as reading the field's head.
    assert growth(walked(50), walked(50_000_000), below=10) < 10
