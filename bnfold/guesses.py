"""What a word might have been meant to be."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

MOST_GUESSES = 20
MOST_SLIPS = 500
LONGEST_GUESSED = 60
SHORT = 5  # letters in which only one may be wrong


class Guesses:
    """Guesses at a millisecond each, so they are for typos and not for all words of a hostile file."""

    def __init__(self) -> None:
        self._made = 0
        self._slips: dict[tuple[str, str], str] = {}

    def at(self, word: str, words: Collection[str]) -> str:
        """` (did you mean 'num_output'?)`, or nothing where no word is close or enough was guessed."""
        self._made += 1
        close = []
        if self._made <= MOST_GUESSES and len(word) <= LONGEST_GUESSED:
            close = difflib.get_close_matches(word, words, n=1)
        return f" (did you mean '{close[0]}'?)" if close else ""

    def slip(self, word: str, words: Collection[str], of: str) -> str:
        """The known word, of those `of` a message or enum, that `word` is a slip of; empty where it is its own word.

        One letter or two are wrong, or the parts stand in another order (`output_num`). What differs in a number or in
        a part of one letter (`pad_l` beside `pad_h`, `relu6` beside `relu`) is another name and no slip.
        """
        key = word, of
        if key not in self._slips:
            if len(self._slips) >= MOST_SLIPS or len(word) > LONGEST_GUESSED:
                return ""
            self._slips[key] = next((known for known in words if _is_slip(word, known)), "")
        return self._slips[key]


def did_you_mean(word: str, words: Collection[str]) -> str:
    """` (did you mean 'conv1'?)` for a name that a user typed, or nothing."""
    folded = {known.lower(): known for known in words}
    close = difflib.get_close_matches(word.lower(), folded, n=1) if len(word) <= LONGEST_GUESSED else []
    return f" (did you mean '{folded[close[0]]}'?)" if close else ""


def _is_slip(word: str, known: str) -> bool:
    if abs(len(word) - len(known)) > 2 or _stem(word) == _stem(known):
        return False
    if sorted(word.lower().split("_")) == sorted(known.lower().split("_")):
        return True
    most = 1 if len(word) <= SHORT else 2
    return _distance(word.lower(), known.lower()) <= most


def _stem(word: str) -> str:
    """A name without its numbers and its parts of one letter."""
    return re.sub(r"\d+|_[A-Za-z](?=_|$)", "", word)


def _distance(one: str, other: str) -> int:
    """How many letters must be put in, taken out, changed, or swapped with the next one (Damerau, Levenshtein)."""
    rows = [list(range(len(other) + 1))]
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            best = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]
