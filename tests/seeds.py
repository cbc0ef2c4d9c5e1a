"""A test for a few seeds each time: all that it draws follows from one number."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

Test = Callable[..., None]


def seeded(count: int) -> Callable[[Test], Test]:
    """Runs a test for as many values of its argument `seed`, in one process always the same.

    Hypothesis would say which seed fails, too, but has nothing to make smaller, and takes as long as most laws do.
    """

    def accept(test: Test) -> Test:
        @functools.wraps(test)
        def each(**given: object) -> None:
            for seed in range(count):
                try:
                    test(**given, seed=seed)
                except BaseException as error:
                    error.add_note(f"with seed {seed}")
                    raise

        signature = inspect.signature(test)
        others = [one for one in signature.parameters.values() if one.name != "seed"]
        each.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
        return each

    return accept
