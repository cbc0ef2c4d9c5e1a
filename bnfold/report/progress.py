"""One progress bar for what takes long."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from bnfold.io.signals import defer_signals

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class ProgressLines:
    """Lines of progress, made when the first of them moves.

    Args:
        shown: keeps them on the terminal.
    """

    def __init__(self, shown: ExitStack) -> None:
        self._shown = shown
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        """Steps done, and steps in all."""
        bar, task = self._task(what)
        bar.update(task, completed=done, total=total)

    def pieces(self, what: str, done: int, total: int) -> None:
        """The parts that the steps are cut into."""
        bar, task = self._task(what)
        bar.update(task, pieces=f"{done} of {total} pieces" if total > 1 else "")

    def _task(self, what: str) -> tuple[Progress, TaskID]:
        if self._bar is None:
            with defer_signals():  # by its thread, too: see bnfold/compare/threads.py
                self._bar = self._shown.enter_context(_bar())
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=None, pieces="")
        return self._bar, self._tasks[what]


@contextmanager
def progress_bar() -> Iterator[ProgressLines | None]:
    """A bar with the time left on a terminal; nothing in a pipe, or where no line can be drawn again.

    Yields:
        What is to be called with (what is being done, steps done, steps in all), or None.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    with ExitStack() as shown:
        yield ProgressLines(shown)


def _bar() -> Progress:
    # Imported when something takes long: rich takes half as long as numpy.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column
    from rich.text import Text

    class Speed(ProgressColumn):
        """Steps a second."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.3g} samples/s")

    console = Console(stderr=True)
    # What a terminal has to be wide enough for; the bar takes what the others leave.
    columns: dict[ProgressColumn, int] = {
        TextColumn("{task.description}"): 0,
        BarColumn(): 60,
        MofNCompleteColumn(table_column=Column(no_wrap=True)): 0,
        TextColumn("{task.fields[pieces]}"): 80,
        Speed(Column(no_wrap=True)): 60,
        TimeRemainingColumn(table_column=Column(no_wrap=True)): 0,
    }
    fitting = [column for column, width in columns.items() if console.width >= width]
    return Progress(*fitting, console=console, transient=True)
