"""Cells of four nodes, each the sum of one operation on every earlier node: what their spaces share."""

from collections.abc import Callable, Sequence

import numpy as np
from flax import nnx

from jaxnas.nn import Choice, Context, wired

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""(from, to) of each decision, in the order of the string notations."""
NODES = 4

type Expression = tuple[int, ...]
"""A value as the sorted multiset of the terms that it is the sum of; () is zero."""
type Term = Callable[[object, object], int]
"""`term(operation, operand)`: the number of a term, the same for the same term."""


def on_paths(on: np.ndarray) -> np.ndarray:
    """`bool[N, 6]`: which of the edges that are `on` lie on a path of such from node 0 to node 3."""
    last = NODES - 1
    fed = {0: np.ones(len(on), bool)}
    heard = {last: np.ones(len(on), bool)}
    for node in range(1, NODES):
        into = [e for e, (_, b) in enumerate(EDGES) if b == node]
        fed[node] = np.any([on[:, e] & fed[EDGES[e][0]] for e in into], axis=0)
    for node in reversed(range(last)):
        out = [e for e, (a, _) in enumerate(EDGES) if a == node]
        heard[node] = np.any([on[:, e] & heard[EDGES[e][1]] for e in out], axis=0)
    return np.stack([on[:, e] & fed[a] & heard[b] for e, (a, b) in enumerate(EDGES)], axis=1)


def expressions(
    archs: np.ndarray, value: Callable[[int, int, Expression, Term], Expression]
) -> list[Expression]:
    """Each cell's output; two cells of one expression compute the same, weights tied by operation.

    `value(op, node, operand, term)` is what an operation on an earlier node makes of the node's value.
    """
    terms: dict[tuple[object, object], int] = {}

    def term(op: object, operand: object) -> int:
        return terms.setdefault((op, operand), len(terms))

    source = (term("input", None),)
    results = []
    for arch in np.asarray(archs).tolist():
        nodes: list[Expression] = [source]
        for node in range(1, NODES):
            into = [
                value(op, a, nodes[a], term)
                for (a, b), op in zip(EDGES, arch, strict=True)
                if b == node
            ]
            nodes.append(tuple(sorted(sum(into, ()))))
        results.append(nodes[-1])
    return results


def representatives(classes: Sequence[Expression], *keys: np.ndarray) -> np.ndarray:
    """`int64[N]`: for each member the first of its class, by the first key, then the next, then place."""
    first: dict[Expression, int] = {}
    for i in np.lexsort((np.arange(len(classes)), *reversed(keys))):
        first.setdefault(classes[i], int(i))
    return np.array([first[each] for each in classes], np.int64)


class Cell(nnx.Module):
    """Node j is the sum over i < j of the chosen operation on node i; one choice point an edge."""

    def __init__(self, edges: Sequence[Choice]) -> None:
        self.edges = nnx.List(edges)

    def __call__(self, x, ctx: Context):
        """The last node's value."""
        return wired(self.edges, EDGES, [x], ctx)[-1]
