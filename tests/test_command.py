"""What is read of an option's text."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from bnfold import UsageError
from bnfold.command import by_name, parse_bytes, parse_pair, parse_plane, parse_sizes


def is_refused(read: Callable[[], object]) -> bool:
    """Whether reading raises a ValueError, which the command line tells with what the option takes."""
    try:
        read()
    except ValueError:
        return True
    return False


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (parse_sizes, "1,3,224,224", (1, 3, 224, 224)),
        (parse_sizes, "1x3x8", (1, 3, 8)),
        (parse_sizes, "7", (7,)),
        (parse_plane, "224", (224, 224)),
        (parse_plane, "480x640", (480, 640)),
        (parse_plane, "480,640", (480, 640)),
        (parse_bytes, "1M", 1 << 20),
        (parse_bytes, "1024k", 1 << 20),
        (parse_bytes, "1.5G", 3 << 29),
        (parse_bytes, "2T", 2 << 40),
        (parse_bytes, "500MB", 500 << 20),
        (parse_bytes, "4gib", 4 << 30),
        (parse_bytes, "1048577B", (1 << 20) + 1),
        (parse_bytes, "1048577", (1 << 20) + 1),
        (parse_bytes, "8388607T", 8388607 << 40),
    ],
)
def test_an_options_text_is_read(read: Callable[[str], Any], text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text"),
    [
        *((parse_sizes, text) for text in ("", "1,0", "1,-3", "1,,3", "a", "1.5")),
        *((parse_plane, text) for text in ("0", "1,2,3", "1x", "wide")),
        *(
            (parse_bytes, text)
            for text in (
                "",
                "M",
                "1X",
                "1023k",
                "0",
                "-1G",
                "8388608T",
                "nanG",
                "infG",
                "1 Q",
                "2KM",
                "5MBB",
                "MB",
                "2IIB",
            )
        ),
    ],
)
def test_a_text_that_means_nothing_is_refused(read: Callable[[str], Any], text: str) -> None:
    assert is_refused(lambda: read(text))


def test_a_name_may_hold_an_equals_sign_and_a_value_may_not() -> None:
    assert parse_pair(parse_sizes, "data=1,3") == ("data", (1, 3))
    assert parse_pair(parse_sizes, "a=b=1,3") == ("a=b", (1, 3))
    for text in ("data", "=1,3", "data=", "data=x"):
        assert is_refused(partial(parse_pair, parse_sizes, text))


def test_one_name_has_one_value() -> None:
    assert by_name("--input-shape", [("a", (1,)), ("b", (2,)), ("a", (1,))]) == {"a": (1,), "b": (2,)}
    with pytest.raises(UsageError, match=r"^--input-shape: 'a' is given two values$"):
        by_name("--input-shape", [("a", (1,)), ("a", (2,))])
