"""Lines and tables for a terminal of any width.

Lines break between words. Of tables columns go by rank, names lose their middle, and a number never breaks.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from bnfold.report.figures import middle
from bnfold.report.words import on_one_line

GAP = 2
LEAST = 12  # letters that a name keeps before a column goes
WIDE = "\U000f0001"  # of private use: stands behind a letter that takes two columns while widths are counted
Style = Literal["", "bold", "dim", "red", "yellow", "cyan", "bold green", "bold red"]


class Line(NamedTuple):
    """A line, or several.

    Attributes:
        text: control characters are written out, see `words`.
        style: how a terminal shows it.
    """

    text: str
    style: Style = ""


def words(text: str, style: Style = "") -> Line:
    """A line whose control characters are written out, so that a name adds no line; one line end at its start stays."""
    return Line(text[:1] + on_one_line(text[1:]) if text.startswith("\n") else on_one_line(text), style)


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        heading: what stands above it.
        rank: 0 for a column that always stays; the others go from the highest rank on where there is no room.
        number: set to the right, and never shortened; a name may lose its middle.
    """

    heading: str
    rank: int = 0
    number: bool = False


@dataclass(slots=True, eq=False)
class Grid:
    """A table that fits the terminal it is printed on; a column goes where names without their middles look the same.

    Attributes:
        columns: from left to right.
        rows: the texts of their cells, and the style of each row.
    """

    columns: Sequence[Column]
    rows: list[tuple[Sequence[str], Style]] = field(default_factory=list)

    def add(self, *cells: str, style: Style = "") -> None:
        """One more row, with a cell for each column; control characters are written out."""
        self.rows.append(([_as_wide(on_one_line(cell)) for cell in cells], style))

    def lines(self, width: int) -> Iterator[Line]:
        """The table, in a terminal of so many columns."""
        shown, widths = self._fitted(width)
        yield Line(self._row([_as_wide(self.columns[place].heading) for place in shown], shown, widths), "bold")
        for cells, style in self.rows:
            yield Line(self._row([cells[place] for place in shown], shown, widths), style)

    def _fitted(self, width: int) -> tuple[list[int], dict[int, int]]:
        """The places of the columns that are shown, and how wide each is: the most that tell all names apart."""
        fits = list(self._fits(width))
        return next((fit for fit in fits if self._tells_apart(fit[1])), fits[0])

    def _fits(self, width: int) -> Iterator[tuple[list[int], dict[int, int]]]:
        """Choices of columns for a terminal, from the most columns to the fewest, and how wide each is."""
        shown = list(range(len(self.columns)))
        while True:
            widths = {place: self._wanted(place) for place in shown}
            spare = width - sum(widths.values()) - GAP * (len(shown) - 1)
            names = [place for place in shown if not self.columns[place].number]
            while spare < 0 and names and widths[widest := max(names, key=widths.__getitem__)] > LEAST:
                widths[widest] -= 1
                spare += 1
            droppable = [place for place in shown if self.columns[place].rank]
            if spare >= 0 or not droppable:
                yield shown, widths
            if not droppable:
                return
            dropped = max(droppable, key=lambda place: (self.columns[place].rank, place))
            shown = [place for place in shown if place != dropped]

    def _tells_apart(self, widths: dict[int, int]) -> bool:
        """Whether no two names of a column look the same without their middles."""
        columns = ((most, {cells[place] for cells, _ in self.rows}) for place, most in widths.items())
        return all(len({_shortened(name, most) for name in names}) == len(names) for most, names in columns)

    def _wanted(self, place: int) -> int:
        return max([len(_as_wide(self.columns[place].heading)), *(len(cells[place]) for cells, _ in self.rows)])

    def _row(self, cells: Sequence[str], shown: Sequence[int], widths: dict[int, int]) -> str:
        parts = []
        for place, cell in zip(shown, cells, strict=True):
            if self.columns[place].number:
                parts.append(cell.rjust(widths[place]))
            else:
                parts.append(_shortened(cell, widths[place]).ljust(widths[place]))
        return (" " * GAP).join(parts).rstrip().replace(WIDE, "")


def _as_wide(text: str) -> str:
    """`text` as long as it is wide: Chinese, Japanese and Korean letters and pictures take two columns each."""
    if text.isascii():
        return text
    from unicodedata import east_asian_width

    return "".join(letter + WIDE if east_asian_width(letter) in "WF" else letter for letter in text)


def _shortened(cell: str, most: int) -> str:
    """A cell in at most so many columns; where it would be cut inside a wide letter, in one less."""
    shown = _as_wide(middle(cell, most).replace(WIDE, ""))
    return shown if len(shown) <= most else _shortened(cell, most - 1)


Part: TypeAlias = Line | Grid


def laid_out(parts: Iterable[Part], width: int, *, wrapped: bool = True) -> Iterator[Line]:
    """Lines and tables as the lines of a terminal.

    Args:
        parts: one below the other.
        width: of the terminal, in letters.
        wrapped: break lines that are longer; tables fit in any case.
    """
    for part in parts:
        if isinstance(part, Grid):
            yield from part.lines(width)
        elif wrapped:
            yield from (Line(piece, part.style) for piece in _broken(part.text, width))
        else:
            yield part


def printed(parts: Iterable[Part], width: int = 120) -> str:
    """Lines and tables as text of so many columns."""
    return "".join(f"{line.text}\n" for line in laid_out(parts, width))


def _broken(text: str, width: int) -> Iterator[str]:
    """The lines of a text, all as far right as it begins; a number keeps its unit, and what an arrow leads to."""
    import re
    import textwrap

    joint = "\U000f0000"  # of private use
    for line in re.sub(r"(?<=\d) (?=[%kMG](?!\w))|(?<=->) ", joint, text).split("\n"):
        begin = " " * min(8, len(line) - len(line.lstrip(" -"))) if line.startswith(" ") else ""
        for piece in textwrap.wrap(
            _as_wide(line), width, replace_whitespace=False, break_on_hyphens=False, subsequent_indent=begin
        ) or [""]:
            yield piece.replace(joint, " ").replace(WIDE, "")
