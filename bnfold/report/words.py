"""Text from files made safe for a terminal: names may hold control characters, which a terminal would obey.

No import of ours here, so that an error message costs nothing.
"""

from __future__ import annotations

import re

MAX_SHOWN = 20_000

# Control characters, what turns the direction of writing, line and paragraph separators, bytes that were no text.
_UNSEEN = "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"


def visible(text: str) -> str:
    """`text` with all that would move a cursor, change a colour or hide something written out; line ends stay.

    Examples:
        >>> print(visible("a\\x1b[2Jb"))
        a\\x1b[2Jb
    """
    if text.replace("\n", "").isprintable():  # as nearly always, and then no pattern need be compiled
        return text
    return re.sub(_UNSEEN, lambda found: found.group().encode("unicode-escape").decode("ascii"), text)


def on_one_line(text: str) -> str:
    """`text` with its line ends written out, too."""
    return visible(text).replace("\n", "\\n")


def shortened(text: str) -> str:
    """`text`, cut where nobody reads on: a hostile file has names of 50 MB, or a fault in each of 100,000 layers."""
    more = len(text) - MAX_SHOWN
    return f"{text[:MAX_SHOWN]} ... and {more:,} more characters" if more > 0 else text
