"""The graph of a cell, as a search space gives it to whoever draws it."""

from collections.abc import Iterable
from dataclasses import dataclass

from jaxnas.errors import InputError

NO_OPERATION = frozenset({"none", "zero", "zeroize"})
"""Labels of edges that carry nothing."""


@dataclass(frozen=True)
class CellGraph:
    """A directed acyclic graph with labelled nodes and one operation on each edge.

    Attributes:
        nodes: one label each, in topological order, e.g. `("input", "1", "2", "output")`.
        edges: `(from, to, operation)` by position in `nodes`, `from < to`. Several edges between
            the same two nodes are allowed; an operation of `NO_OPERATION` marks an absent edge.

    Raises:
        InputError: an edge runs backwards or ends outside `nodes`.
    """

    nodes: tuple[str, ...]
    edges: tuple[tuple[int, int, str], ...]

    def __post_init__(self) -> None:
        for source, target, operation in self.edges:
            if not 0 <= source < target < len(self.nodes):
                raise InputError(
                    f"Edge {(source, target, operation)!r} of a cell graph must run from a node to "
                    f"a later one of its {len(self.nodes)} nodes."
                )

    def live_edges(self) -> tuple[bool, ...]:
        """For each edge, whether it lies on a path that carries data from an end to the other.

        The ends are the nodes that no edge enters and those that no edge leaves, absent edges
        counted, so that an input whose edges are all `none` stays an input.
        """
        fed = self._carrying(range(len(self.nodes)), into=1, out_of=0)
        used = self._carrying(reversed(range(len(self.nodes))), into=0, out_of=1)
        return tuple(
            operation not in NO_OPERATION and source in fed and target in used
            for source, target, operation in self.edges
        )

    def _carrying(self, order: Iterable[int], *, into: int, out_of: int) -> set[int]:
        """Nodes reached along the edges that carry something, walking from `out_of` to `into`."""
        reached: set[int] = set()
        for node in order:
            incoming = [edge for edge in self.edges if edge[into] == node]
            carrying = (edge for edge in incoming if edge[2] not in NO_OPERATION)
            if not incoming or any(edge[out_of] in reached for edge in carrying):
                reached.add(node)
        return reached
