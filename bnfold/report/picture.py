"""The whole network as pictures, before and after, coloured by what became of each layer; and as a strip of all layers.

Layers are known by their number, since names need not be unique in a file, and may be missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from bnfold.algebra.records import Dropped, Folded, FoldReport, Joined, Kept, Merged, Moved, Record
from bnfold.net import Net
from bnfold.report.figures import middle
from bnfold.report.layout import GraphLayout, place

CELL_WIDTH, CELL_HEIGHT, NODE_WIDTH, NODE_HEIGHT = 190, 64, 170, 42
LETTERS = 23  # of a name, in a node

ROLES = {
    "gone": "folded into other layers",
    "into": "took others into its weights",
    "through": "crossed, unchanged",
    "kept": "stays, with a reason",
    "rest": "not concerned",
}
"""What became of a layer, as a CSS class and as a sentence."""


@dataclass(frozen=True, slots=True)
class DrawnNode:
    """A layer as it is drawn; `row` is its number in the original network, None for one that was added."""

    x: float
    y: float
    name: str
    short: str
    type: str
    role: str
    row: int | None


@dataclass(frozen=True, slots=True)
class Drawing:
    """One graph, in pixels; `edges` are SVG paths."""

    nodes: tuple[DrawnNode, ...]
    edges: tuple[str, ...]
    width: float
    height: float
    node_width: int = NODE_WIDTH
    node_height: int = NODE_HEIGHT


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row of the table of layers: a layer of the original network and what became of it.

    Attributes:
        row: its number in the original network.
        role: one of `ROLES`.
        into, through: for a layer that went, who took it, and what was crossed on the way.
        reason: why it stays.
    """

    row: int
    name: str
    type: str
    role: str
    into: tuple[str, ...] = ()
    through: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Pictures:
    """What the page draws of a fold."""

    before: Drawing
    after: Drawing
    outcomes: tuple[Outcome, ...]

    @property
    def legend(self) -> list[tuple[str, str]]:
        """(role, what it means) for the roles that occur."""
        seen = {outcome.role for outcome in self.outcomes}
        return [(role, meaning) for role, meaning in ROLES.items() if role in seen]


def pictures(original: Net, folded: Net, report: FoldReport) -> Pictures:
    """Draw both networks whole."""
    roles = _roles(report.records)
    rows = {layer.name: row for row, layer in reversed(list(enumerate(original.layers)))}
    return Pictures(_draw(original, roles, rows), _draw(folded, roles, rows), tuple(_outcomes(original, report, roles)))


def _roles(records: Iterable[Record]) -> dict[str, str]:
    """Layer -> its role: what became of it before what it took, and that before what crossed it."""
    through, into, own = dict[str, str](), dict[str, str](), dict[str, str]()
    for record in records:
        if isinstance(record, Folded | Merged | Moved):
            through |= dict.fromkeys(record.through, "through")
        if isinstance(record, Folded | Merged | Joined | Moved):
            into |= dict.fromkeys(record.into, "into")
        if not isinstance(record, Moved):
            own |= dict.fromkeys(_layers_of(record), "kept" if isinstance(record, Kept) else "gone")
    return through | into | own


def _layers_of(record: Record) -> tuple[str, ...]:
    """The layers of which a record says what became of them."""
    if isinstance(record, Merged):
        return record.layers
    return (record.layer, *record.branches) if isinstance(record, Joined) else (record.layer,)


def _outcomes(original: Net, report: FoldReport, roles: Mapping[str, str]) -> Iterable[Outcome]:
    by_layer: dict[str, Record] = {}
    for record in report.records:
        known = by_layer if isinstance(record, Joined) else ()
        by_layer |= dict.fromkeys((name for name in _layers_of(record) if name not in known), record)
    for row, layer in enumerate(original.layers):
        outcome = Outcome(row, layer.name, layer.type, roles.get(layer.name, "rest"))
        match by_layer.get(layer.name):
            case Folded() | Merged() as found:
                outcome = replace(outcome, role="gone", into=found.into, through=found.through)
            case Joined() as found:
                outcome = replace(outcome, role="gone", into=found.into, reason="parallel branches became one")
            case Kept() as found:
                now = f"; now a {found.now}" if found.now != found.type else ""
                outcome = replace(outcome, role="kept", reason=found.reason + now)
            case Dropped():
                outcome = replace(outcome, role="gone", reason="it does nothing at inference")
        yield outcome


def _draw(net: Net, roles: Mapping[str, str], rows: Mapping[str, int]) -> Drawing:
    layers = net.layers
    number = {id(layer): str(index) for index, layer in enumerate(layers)}
    edges = [
        (number[id(producer)], number[id(layer)])
        for layer in layers
        for bottom in layer.bottoms
        if (producer := net.producer(bottom)) is not None
    ]
    layout = place(list(number.values()), edges)
    nodes = []
    for layer in layers:
        column, row = layout.places[number[id(layer)]]
        x, y = column * CELL_WIDTH + (CELL_WIDTH - NODE_WIDTH) / 2, row * CELL_HEIGHT
        short, role = middle(layer.name, LETTERS), roles.get(layer.name, "rest")
        nodes.append(DrawnNode(round(x, 1), y, layer.name, short, layer.type, role, rows.get(layer.name)))
    height = max(layout.rows * CELL_HEIGHT - (CELL_HEIGHT - NODE_HEIGHT), 0)
    return Drawing(tuple(nodes), tuple(_curves(layout)), round(layout.columns * CELL_WIDTH, 1), height)


def _curves(layout: GraphLayout) -> Iterable[str]:
    """Each edge as a smooth path: straight down where it passes a row, curved between rows."""
    for path in layout.paths.values():
        points = [(round((column + 0.5) * CELL_WIDTH, 1), row * CELL_HEIGHT) for column, row in path]
        (x, y), rest = points[0], points[1:]
        steps = [f"M{x} {y + NODE_HEIGHT}"]
        for index, (next_x, next_y) in enumerate(rest):
            start, middle_y = y + NODE_HEIGHT, (y + NODE_HEIGHT + next_y) / 2
            if index:
                steps.append(f"L{x} {start}")
            steps.append(f"C{x} {middle_y} {next_x} {middle_y} {next_x} {next_y}")
            x, y = next_x, next_y
        yield "".join(steps)
