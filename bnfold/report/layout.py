"""Placing a layered graph: rows from top to bottom by depth, few crossings, edges around the nodes.

After Sugiyama, Tagawa and Toda (1981): longest-path ranks, stand-ins where an edge passes a row, orderings by
barycentre, and here simple columns in place of exact coordinates, since networks are mostly chains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SWEEPS = 6
PASSED = 24
"""Rows that an edge may pass with a stand-in in each; a longer one is drawn straight, so that time stays linear."""


@dataclass(frozen=True, slots=True)
class GraphLayout:
    """Where things are, in cells.

    Attributes:
        places: node -> (column, row); columns may be fractions.
        paths: for each edge, the (column, row) points from its source to its target, both included.
        columns, rows: the size.
    """

    places: dict[str, tuple[float, int]]
    paths: dict[tuple[str, str], list[tuple[float, int]]]
    columns: float
    rows: int


def place(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> GraphLayout:
    """Lay out a graph without cycles.

    Args:
        nodes: in an order in which every edge goes forward.
        edges: (source, target).
    """
    ranks = _ranks(nodes, edges)
    rows: list[list[str]] = [[] for _ in range(max(ranks.values(), default=-1) + 1)]
    for node in nodes:
        rows[ranks[node]].append(node)
    chains: dict[tuple[str, str], list[str]] = {}
    links: list[tuple[str, str]] = []
    for edge in dict.fromkeys(edges):
        source, target = edge
        between = range(ranks[source] + 1, ranks[target])
        passed = [f"\0{source}\0{target}\0{row}" for row in between] if len(between) <= PASSED else []
        for row, stand_in in enumerate(passed, start=ranks[source] + 1):
            rows[row].append(stand_in)
        chains[edge] = [source, *passed, target]
        links += zip(chains[edge], chains[edge][1:], strict=False)
    columns = _columns(rows, links)
    row_of = {node: row for row, members in enumerate(rows) for node in members}
    left = min(columns.values(), default=0.0)
    points = {node: (column - left, row_of[node]) for node, column in columns.items()}
    width = max((column for column, _ in points.values()), default=0.0) + 1
    paths = {edge: [points[node] for node in chain] for edge, chain in chains.items()}
    return GraphLayout({node: points[node] for node in nodes}, paths, width, len(rows))


def _ranks(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The length of the longest way from a source."""
    before: dict[str, list[str]] = {node: [] for node in nodes}
    for source, target in edges:
        before[target].append(source)
    ranks: dict[str, int] = {}
    for node in nodes:
        ranks[node] = max((ranks[source] + 1 for source in before[node]), default=0)
    return ranks


def _columns(rows: list[list[str]], links: Sequence[tuple[str, str]]) -> dict[str, float]:
    """A column for each node: rows sorted by the mean column of their neighbours, then each kept one cell apart."""
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for source, target in links:
        above.setdefault(target, []).append(source)
        below.setdefault(source, []).append(target)
    columns = {node: place - (len(row) - 1) / 2 for row in rows for place, node in enumerate(row)}
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            wanted = {node: _mean(columns, (above if down else below).get(node, ()), columns[node]) for node in row}
            row.sort(key=wanted.__getitem__)
            columns |= _apart(row, wanted)
    return columns


def _mean(columns: Mapping[str, float], neighbours: Sequence[str], otherwise: float) -> float:
    return sum(columns[node] for node in neighbours) / len(neighbours) if neighbours else otherwise


def _apart(row: Sequence[str], wanted: Mapping[str, float]) -> dict[str, float]:
    """Positions as near as possible to the wanted ones, in this order, at least one cell apart.

    Isotonic regression by pooling: neighbours that want to overlap form a block around their common mean.
    """
    blocks: list[tuple[float, int]] = []  # (sum of wanted position minus place in the block, members)
    for node in row:
        total, size = wanted[node], 1
        while blocks and blocks[-1][0] / blocks[-1][1] + blocks[-1][1] > total / size:
            earlier, members = blocks.pop()
            total, size = earlier + total - members * size, members + size
        blocks.append((total, size))
    positions: dict[str, float] = {}
    names = iter(row)
    for total, size in blocks:
        for place in range(size):
            positions[next(names)] = total / size + place
    return positions
