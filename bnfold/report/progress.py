"""One progress bar for what takes long."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar with the time left on a terminal; nothing in a pipe, or where no line can be drawn again.

    Yields:
        What is to be called with (what is being done, steps done, steps in all), or None.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    with ExitStack() as shown:
        bars: list[Any] = []
        tasks: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if not bars:
                bars.append(shown.enter_context(_bar()))
            if what not in tasks:
                tasks[what] = bars[0].add_task(what, total=total)
            bars[0].update(tasks[what], completed=done, total=total)

        yield progress


def _bar() -> Any:
    # Imported when something takes long: rich takes half as long as numpy.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
