"""Places for the nodes, edges and edge labels of a cell: a layered layout after Sugiyama (1981).

Even columns hold nodes (by their longest path from an input), odd ones labels. An edge takes one
slot in each column it passes, one of them its label's, and slots of a column never overlap: so no
label lies on a node or another label, and no edge runs through a node.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

_SWEEPS = 24


@dataclass(eq=False)
class Slot:
    """A place in a column: of a node, of an edge's label, or of an edge that passes by.

    `along` runs with the columns, `across` within one; both are centres.
    """

    kind: str
    column: int
    size: tuple[float, float]
    key: float = 0.0
    along: float = 0.0
    across: float = 0.0
    neighbours: list["Slot"] = field(default_factory=list)


@dataclass(frozen=True)
class Layout:
    """Slots of the nodes, for each edge the slots it passes (ends included), and the whole size."""

    nodes: tuple[Slot, ...]
    routes: tuple[tuple[Slot, ...], ...]
    size: tuple[float, float]


def lay_out(
    ranked: Sequence[tuple[int, int]],
    drawn: Sequence[tuple[int, int, tuple[float, float]]],
    node_sizes: Sequence[tuple[float, float]],
    *,
    column_gap: float = 16.0,
    slot_gap: float = 12.0,
) -> Layout:
    """Lay a graph out.

    Args:
        ranked: `(from, to)` of the edges that decide the nodes' columns, absent ones included.
        drawn: `(from, to, label size)` of the edges to draw; sizes are (along, across).
        node_sizes: (along, across) of each node; nodes in topological order.
        column_gap: space between columns.
        slot_gap: space between the slots of a column.
    """
    levels = _levels(len(node_sizes), ranked)
    nodes = [Slot("node", 2 * level, size) for level, size in zip(levels, node_sizes, strict=True)]
    columns: list[list[Slot]] = [[] for _ in range(2 * max(levels, default=0) + 1)]
    for node in nodes:
        columns[node.column].append(node)
    routes: dict[int, tuple[Slot, ...]] = {}
    sides = _sides([edge[:2] for edge in drawn])
    by_span = sorted(range(len(drawn)), key=lambda e: levels[drawn[e][1]] - levels[drawn[e][0]])
    for e in by_span:
        source, target, size = drawn[e]
        routes[e] = _route(nodes[source], nodes[target], size, sides[e], columns)
    _order(columns)
    size = _place(columns, column_gap, slot_gap)
    return Layout(tuple(nodes), tuple(routes[e] for e in range(len(drawn))), size)


def _levels(n: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    levels = [0] * n
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        levels[target] = max(levels[target], levels[source] + 1)
    return levels


def _sides(edges: Sequence[tuple[int, int]]) -> list[int]:
    """-1 or 1 for each edge: the side of the line of nodes on which it crosses fewest others."""
    sides = [0] * len(edges)
    for e in sorted(range(len(edges)), key=lambda e: edges[e][1] - edges[e][0]):
        cost: dict[int, float] = {-1: 0.0, 1: 0.0}
        for other in range(len(edges)):
            if sides[other]:
                cost[sides[other]] += _conflict(edges[e], edges[other])
        sides[e] = min(cost, key=lambda side: cost[side])
    return sides


def _conflict(one: tuple[int, int], other: tuple[int, int]) -> float:
    """1 for two arcs that cross on the same side, a little for two that lie over each other."""
    (a, b), (c, d) = sorted((one, other))
    if a < c < b < d:
        return 1.0
    return 0.1 if c < b else 0.0


def _route(
    source: Slot, target: Slot, size: tuple[float, float], side: int, columns: list[list[Slot]]
) -> tuple[Slot, ...]:
    """Slots for an edge; its label goes to the passed column with the fewest, the middle first."""
    middle = (source.column + target.column) / 2
    label = min(
        range(source.column + 1, target.column, 2),
        key=lambda c: (sum(s.kind == "label" for s in columns[c]), abs(c - middle)),
    )
    route = [source]
    for column in range(source.column + 1, target.column):
        key = float(side * (target.column - source.column - 2))
        slot = (
            Slot("label", column, size, key) if column == label else Slot("by", column, (0, 8), key)
        )
        columns[column].append(slot)
        route.append(slot)
    route.append(target)
    for before, after in pairwise(route):
        before.neighbours.append(after)
        after.neighbours.append(before)
    return tuple(route)


def _order(columns: list[list[Slot]]) -> None:
    """Order the slots of each column, keeping the order with the fewest crossings."""
    for column in columns:
        column.sort(key=lambda slot: slot.key)
    best = [list(column) for column in columns]
    fewest = _crossings(columns)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        _sweep(columns, forward=sweep % 2 == 0)
        crossings = _crossings(columns)
        if crossings < fewest:
            best, fewest = [list(column) for column in columns], crossings
    columns[:] = best


def _sweep(columns: list[list[Slot]], *, forward: bool) -> None:
    """Sort each column by the mean place of the neighbours in the column before it."""
    step = 1 if forward else -1
    for column in columns[::step]:
        for slot in column:
            near = [n for n in slot.neighbours if n.column == slot.column - step]
            places = [columns[n.column].index(n) / len(columns[n.column]) for n in near]
            slot.key = sum(places) / len(places) if places else column.index(slot) / len(column)
        column.sort(key=lambda slot: slot.key)


def _crossings(columns: list[list[Slot]]) -> int:
    total = 0
    for left, right in pairwise(columns):
        lines = [
            (i, right.index(n)) for i, s in enumerate(left) for n in s.neighbours if n in right
        ]
        total += sum((a - c) * (b - d) < 0 for k, (a, b) in enumerate(lines) for c, d in lines[:k])
    return total


def _place(columns: list[list[Slot]], column_gap: float, slot_gap: float) -> tuple[float, float]:
    """Set all centres; the size of the whole."""
    position = 0.0
    for column in columns:
        width = max((slot.size[0] for slot in column), default=0.0)
        for slot in column:
            slot.along = position + width / 2
        position += width + column_gap
        _spread(column, [0.0] * len(column), slot_gap)
    for sweep in range(_SWEEPS):
        for column in columns[:: 1 if sweep % 2 == 0 else -1]:
            _spread(column, [_pull(slot) for slot in column], slot_gap)
    slots = [slot for column in columns for slot in column]
    top = min((s.across - s.size[1] / 2 for s in slots), default=0.0)
    for slot in slots:
        slot.across -= top
    bottom = max((s.across + s.size[1] / 2 for s in slots), default=0.0)
    return position - column_gap, bottom


def _pull(slot: Slot) -> float:
    """Where its neighbours would have a slot. Nodes also keep to the middle line, at 0."""
    places = [n.across for n in slot.neighbours] + [0.0] * (2 if slot.kind == "node" else 0)
    return math.fsum(places) / len(places)


def _spread(column: list[Slot], wanted: list[float], gap: float) -> None:
    """Least squares to `wanted` under the order and the gaps: pool adjacent violators."""
    offsets, offset = [], 0.0
    for before, slot in zip([None, *column], column, strict=False):
        if before is not None:
            offset += (before.size[1] + slot.size[1]) / 2 + gap
        offsets.append(offset)
    pools: list[list[float]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        pools.append([want - offset])
        while len(pools) > 1 and _mean(pools[-2]) >= _mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    bases = [_mean(pool) for pool in pools for _ in pool]
    for slot, base, offset in zip(column, bases, offsets, strict=True):
        slot.across = base + offset


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
