"""What a record may lack and a test knows to be there."""

from __future__ import annotations

from typing import TypeVar

Value = TypeVar("Value")


def present(value: Value | None) -> Value:
    """The value itself; a test that finds None has failed."""
    assert value is not None
    return value
