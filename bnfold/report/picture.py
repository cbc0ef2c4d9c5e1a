"""The fold plan as pictures: the network before and after, whole if it is small, else one of each kind of change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bnfold.algebra.records import Dropped, Folded, FoldReport, Kept, Merged, Record
from bnfold.net import Net
from bnfold.report.layout import Layout, place

WHOLE = 48  # layers of a network that is drawn as one
PATTERNS = 8  # kinds of change that are drawn of a larger one
CELL_WIDTH, CELL_HEIGHT, NODE_WIDTH, NODE_HEIGHT = 190, 64, 170, 42
LETTERS = 22  # of a name, in a node


@dataclass(frozen=True, slots=True)
class Node:
    """A layer as it is drawn; `role` is its CSS class: gone, into, through, kept, rest."""

    x: float
    y: float
    name: str
    short: str
    type: str
    role: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """One graph, in pixels; `edges` are SVG paths."""

    nodes: tuple[Node, ...]
    edges: tuple[str, ...]
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Change:
    """A part of the network before and after; `twins` names the other places where the same happens."""

    before: Drawing
    after: Drawing
    twins: tuple[str, ...]


def changes(original: Net, folded: Net, report: FoldReport) -> tuple[list[Change], int]:
    """What to draw, the most frequent kinds of change first, and how many kinds are left out.

    Args:
        original, folded: the networks.
        report: how the one became the other.
    """
    roles = _roles(report.records)
    if len(original.layers) <= WHOLE:
        names = {layer.name for layer in original.layers} | {layer.name for layer in folded.layers}
        return [Change(_draw(original, names, roles), _draw(folded, names, roles), ())], 0
    patterns: dict[object, list[set[str]]] = {}
    for group in _groups(report.records):
        names = _with_neighbours(original, group) | _with_neighbours(folded, group)
        patterns.setdefault(_pattern(original, names, roles), []).append(names)
    drawn = []
    kinds = sorted(patterns.values(), key=len, reverse=True)
    for same in kinds[:PATTERNS]:
        twins = tuple(_title(original, names, roles) for names in same[1:])
        drawn.append(Change(_draw(original, same[0], roles), _draw(folded, same[0], roles), twins))
    return drawn, len(kinds) - len(drawn)


def _roles(records: Iterable[Record]) -> dict[str, str]:
    roles: dict[str, str] = {}
    for record in records:
        if isinstance(record, Folded | Merged):
            roles |= dict.fromkeys(record.through, "through")
    for record in records:
        if isinstance(record, Folded | Merged):
            roles |= dict.fromkeys(record.into, "into")
    for record in records:
        if isinstance(record, Kept):
            roles[record.layer] = "kept"
        elif isinstance(record, Merged):
            roles |= dict.fromkeys(record.layers, "gone")
        else:
            roles[record.layer] = "gone"
    return roles


def _groups(records: Iterable[Record]) -> list[set[str]]:
    """Layers that change together: records that share a layer are one group."""
    groups: list[set[str]] = []
    for record in records:
        if isinstance(record, Folded):
            names = {record.layer, *record.into, *record.through}
        elif isinstance(record, Merged):
            names = {*record.layers, *record.into, *record.through}
        elif isinstance(record, Dropped | Kept):
            names = {record.layer}
        joined = [group for group in groups if group & names]
        groups = [group for group in groups if not group & names]
        groups.append(names.union(*joined))
    return groups


def _with_neighbours(net: Net, names: set[str]) -> set[str]:
    """The layers and those next to them."""
    near = set(names)
    for source, target in _edges(net):
        if source in names or target in names:
            near |= {source, target}
    return near


def _edges(net: Net) -> list[tuple[str, str]]:
    return [
        (producer.name, layer.name)
        for layer in net.layers
        for bottom in layer.bottoms
        if (producer := net.producer(bottom)) is not None
    ]


def _pattern(net: Net, names: set[str], roles: Mapping[str, str]) -> object:
    """Equal for parts of equal types, roles and connections."""
    layers = [layer for layer in net.layers if layer.name in names]
    number = {layer.name: index for index, layer in enumerate(layers)}
    edges = sorted((number[a], number[b]) for a, b in _edges(net) if a in number and b in number)
    return tuple((layer.type, roles.get(layer.name)) for layer in layers), tuple(edges)


def _title(net: Net, names: set[str], roles: Mapping[str, str]) -> str:
    """The layer that a part is about: the first that took something over, or that stayed."""
    ordered = [layer.name for layer in net.layers if layer.name in names]
    return next((name for name in ordered if roles.get(name) in ("into", "kept")), ordered[0])


def _draw(net: Net, names: set[str], roles: Mapping[str, str]) -> Drawing:
    layers = [layer for layer in net.layers if layer.name in names]
    known = {layer.name for layer in layers}
    edges = [(a, b) for a, b in _edges(net) if a in known and b in known]
    layout = place([layer.name for layer in layers], edges)
    nodes = []
    for layer in layers:
        column, row = layout.places[layer.name]
        short = layer.name if len(layer.name) <= LETTERS else layer.name[: LETTERS - 1] + "…"
        x, y = column * CELL_WIDTH + (CELL_WIDTH - NODE_WIDTH) / 2, row * CELL_HEIGHT
        nodes.append(Node(round(x, 1), y, layer.name, short, layer.type, roles.get(layer.name, "rest")))
    height = max(layout.rows * CELL_HEIGHT - (CELL_HEIGHT - NODE_HEIGHT), 0)
    return Drawing(tuple(nodes), tuple(_curves(layout)), round(layout.columns * CELL_WIDTH, 1), height)


def _curves(layout: Layout) -> Iterable[str]:
    """Each edge as a smooth path: straight down where it passes a row, curved between rows."""
    for path in layout.paths.values():
        points = [(round((column + 0.5) * CELL_WIDTH, 1), row * CELL_HEIGHT) for column, row in path]
        (x, y), rest = points[0], points[1:]
        steps = [f"M{x} {y + NODE_HEIGHT}"]
        for index, (next_x, next_y) in enumerate(rest):
            start, middle = y + NODE_HEIGHT, (y + NODE_HEIGHT + next_y) / 2
            if index:
                steps.append(f"L{x} {start}")
            steps.append(f"C{x} {middle} {next_x} {middle} {next_x} {next_y}")
            x, y = next_x, next_y
        yield "".join(steps)


def legend(drawn: Sequence[Change]) -> list[tuple[str, str]]:
    """(role, what it means) for the roles that occur."""
    seen = {node.role for change in drawn for drawing in (change.before, change.after) for node in drawing.nodes}
    return [(role, meaning) for role, meaning in ROLES.items() if role in seen]


ROLES = {
    "gone": "goes: others do its work",
    "into": "takes it into its weights",
    "through": "is crossed, unchanged",
    "kept": "stays, with a reason",
    "rest": "is not concerned",
}
