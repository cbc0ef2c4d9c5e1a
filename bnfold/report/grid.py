"""Tables for a terminal of any width: columns go by rank, names lose their middle, a number never breaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from bnfold.report.figures import middle
from bnfold.report.words import visible

GAP = 2
LEAST = 12  # letters that a name keeps before a column goes


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        heading: what stands above it.
        rank: 0 for a column that always stays; the others go from the highest rank on where there is no room.
        number: set to the right, and never shortened; a name may lose its middle.
    """

    heading: str
    rank: int = 0
    number: bool = False


@dataclass(slots=True)
class Grid:
    """A table that fits the terminal it is printed on.

    Attributes:
        columns: from left to right.
        rows: the texts of their cells, and the style of each row.
        caption: a line below it.
    """

    columns: Sequence[Column]
    rows: list[tuple[Sequence[str], str]] = field(default_factory=list)
    caption: str = ""

    def add(self, *cells: str, style: str = "") -> None:
        """One more row, with a cell for each column; control characters are written out."""
        self.rows.append(([visible(cell).replace("\n", "\\n") for cell in cells], style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown, widths = self._fitted(options.max_width)
        yield self._line([self.columns[place].heading for place in shown], shown, widths, "bold")
        for cells, style in self.rows:
            yield self._line([cells[place] for place in shown], shown, widths, style)
        if self.caption:
            yield Text(self.caption, "dim")

    def _fitted(self, width: int) -> tuple[list[int], dict[int, int]]:
        """The places of the columns that are shown, and how wide each is."""
        shown = list(range(len(self.columns)))
        while True:
            widths = {place: self._wanted(place) for place in shown}
            spare = width - sum(widths.values()) - GAP * (len(shown) - 1)
            names = [place for place in shown if not self.columns[place].number]
            while spare < 0 and names and (widest := max(names, key=lambda place: widths[place])) is not None:
                if widths[widest] <= LEAST:
                    break
                widths[widest] -= 1
                spare += 1
            droppable = [place for place in shown if self.columns[place].rank]
            if spare >= 0 or not droppable:
                return shown, widths
            shown.remove(max(droppable, key=lambda place: (self.columns[place].rank, place)))

    def _wanted(self, place: int) -> int:
        return max([len(self.columns[place].heading), *(len(cells[place]) for cells, _ in self.rows)])

    def _line(self, cells: Sequence[str], shown: Sequence[int], widths: dict[int, int], style: str) -> Text:
        parts = []
        for place, cell in zip(shown, cells, strict=True):
            if self.columns[place].number:
                parts.append(cell.rjust(widths[place]))
            else:
                parts.append(middle(cell, widths[place]).ljust(widths[place]))
        return Text((" " * GAP).join(parts).rstrip(), style, no_wrap=True, overflow="ignore")
