"""Names that are each given once."""

from __future__ import annotations

from collections.abc import Iterable


class Names:
    """Names that are taken, and how often each was asked for: counting from the start each time would be quadratic.

    Args:
        taken: the names that there are.
        mark: what stands between a name and its number.
    """

    def __init__(self, taken: Iterable[str], mark: str) -> None:
        self._taken, self._mark = set(taken), mark
        self._asked: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._taken

    def new(self, name: str) -> str:
        """`name`, or the first of `name#2`, `name#3` ... that is free; it is taken from then on."""
        unique, number = name, self._asked.get(name, 1)
        while unique in self._taken:
            number += 1
            unique = f"{name}{self._mark}{number}"
        self._asked[name] = number
        self._taken.add(unique)
        return unique
