"""What a word might have been meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Collection

MOST_GUESSES = 20
LONGEST_GUESSED = 60


class Guesses:
    """Guesses at a millisecond each, so they are for typos and not for all words of a hostile file."""

    def __init__(self) -> None:
        self._made = 0

    def at(self, word: str, words: Collection[str]) -> str:
        """` (did you mean 'num_output'?)`, or nothing where no word is close or enough was guessed."""
        self._made += 1
        close = []
        if self._made <= MOST_GUESSES and len(word) <= LONGEST_GUESSED:
            close = difflib.get_close_matches(word, words, n=1)
        return f" (did you mean '{close[0]}'?)" if close else ""
