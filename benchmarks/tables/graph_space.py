"""NAS-Bench-Graph (Qin et al., arXiv:2206.09166): trees of four graph-network layers."""

import ast
import functools
import itertools
import re

import numpy as np

from jaxnas.benchmarks.tables.tabular import TabularSpace
from jaxnas.errors import InputError, unknown
from jaxnas.graph import CellGraph
from jaxnas.spaces import Decision

type Links = tuple[int, ...]

NODES = 4
LINKS: tuple[Links, ...] = tuple(
    tuple(map(int, link))
    for link in ("0000", "0001", "0011", "0012", "0013", "0111", "0112", "0122", "0123")
)
"""Where the four nodes read from (0 is the input), one of each shape, in the authors' order."""
OPS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")
SKIP = OPS.index("skip")
ORDERS = tuple(itertools.permutations(range(NODES)))


class NASBenchGraph(TabularSpace):
    """59,040 rows, 26,206 of them different: a shape of nine, and one of nine operations at each node.

    Each node reads the input or one earlier node, and what no other reads is the output. Rows that differ
    in the order of nodes, or by skips that hand on what others could have read where it is, are the same:
    the authors measured one of each, the one that `canonical` gives. Rows of nothing but skips are none.
    """

    name = "nasbench_graph"
    paper = "Qin et al., NAS-Bench-Graph, arXiv:2206.09166"
    decisions = (
        Decision("links", tuple("".join(map(str, link)) for link in LINKS)),
        *(Decision(f"op{node}", OPS) for node in range(1, NODES + 1)),
    )

    @property
    def size(self) -> int:
        """The number of rows but those of skips alone."""
        return len(LINKS) * (len(OPS) ** NODES - 1)

    def valid(self, archs: np.ndarray) -> np.ndarray:
        """`bool[N]`: whether a node is no skip."""
        return (np.asarray(archs)[:, 1:] != SKIP).any(axis=1)

    def to_string(self, arch: np.ndarray) -> str:
        """As the authors write it: `Arch([0, 1, 1, 2], ['gcn', 'cheb', 'gin', 'fc'])`."""
        links, *ops = (int(choice) for choice in arch)
        return f"Arch({list(LINKS[links])}, {[OPS[op] for op in ops]})"

    def from_string(self, text: str) -> np.ndarray:
        """The row of that notation; nodes may come in any order in which each reads an earlier one."""
        found = re.fullmatch(r"\s*Arch\((\[[^]]*\]),\s*(\[[^]]*\])\)\s*", text)
        try:
            links, ops = (ast.literal_eval(part) for part in found.groups()) if found else ([], [])
        except (SyntaxError, ValueError):
            links, ops = [], []
        if len(links) != NODES or len(ops) != NODES:
            raise InputError(
                f"Architecture {text!r} is not laid out as Arch([0, 1, 1, 2], ['gcn', 'cheb', 'gin', "
                f"'fc']): where each of {NODES} nodes reads from, and its operation."
            )
        for node, source in enumerate(links, 1):
            if source not in range(node):
                raise InputError(
                    f"In architecture {text!r}: node {node} reads {source!r}, expected an earlier "
                    f"one, 0 to {node - 1}."
                )
        for op in ops:
            if op not in OPS:
                raise unknown(f"operation of {self.name}", str(op), OPS)
        shape, orders = renumberings(tuple(links))
        arch = np.array([shape, *(OPS.index(ops[node]) for node in orders[0])], np.int32)
        self.check(arch[None], repr(text))
        return arch

    def canonical(self, archs: np.ndarray) -> np.ndarray:
        """Equal functions become one row, that of the authors' table: skips first, then in order.

        A skip is nothing where others read it, where nothing else reads what it reads, or where it is the
        input that it hands on; a chain of those that are nothing stands before the others.
        """
        archs = np.asarray(archs, np.int32)
        code = np.ravel_multi_index(tuple(archs.T), (len(LINKS), *[len(OPS)] * NODES))
        return _representatives()[code]

    def pruned(self, archs: np.ndarray) -> np.ndarray:
        """`canonical`: no other row is in the authors' table."""
        return self.canonical(archs)

    def graphs(self, arch: np.ndarray) -> tuple[tuple[str, CellGraph], ...]:
        """Operations on edges; the nodes that no other reads lead to the output."""
        links, *ops = (int(choice) for choice in arch)
        sources = LINKS[links]
        edges = [(sources[i], i + 1, OPS[op]) for i, op in enumerate(ops)]
        ends = [node for node in range(1, NODES + 1) if node not in sources]
        nodes = ("input", *map(str, range(1, NODES + 1)), "output")
        edges += [(node, NODES + 1, "concat") for node in ends]
        return (("network", CellGraph(nodes, tuple(edges))),)


@functools.cache
def renumberings(links: Links) -> tuple[int, tuple[tuple[int, ...], ...]]:
    """The shape in `LINKS` of nodes that read from `links`, and all orders that make it so.

    In an order `p` the new node `j + 1` is the old one `p[j] + 1`.
    """
    found: dict[int, list[tuple[int, ...]]] = {}
    for order in ORDERS:
        new = {0: 0} | {old + 1: place for place, old in enumerate(order, 1)}
        moved = tuple(new[links[old]] for old in order)
        if moved in LINKS:
            found.setdefault(LINKS.index(moved), []).append(order)
    ((shape, orders),) = found.items()
    return shape, tuple(orders)


def skips_first(links: Links, skips: tuple[bool, ...]) -> Links:
    """Where the nodes read from once those skips that are nothing stand in a chain before all others."""
    sources = dict(enumerate(links, 1))
    nothing: list[int] = []

    def idle(node: int) -> bool:
        read = node in sources.values()
        alone = list(sources.values()).count(sources[node]) == 1
        return skips[node - 1] and (read or alone or sources[node] == 0)

    while node := next(filter(idle, list(sources)), 0):
        before = sources.pop(node)
        sources = {n: before if source == node else source for n, source in sources.items()}
        nothing.append(node)
    last = 0
    for node in nothing:
        sources = {n: node if source == last else source for n, source in sources.items()}
        sources[node] = last
        last = node
    return tuple(sources[node] for node in range(1, NODES + 1))


@functools.cache
def _representatives() -> np.ndarray:
    """The canonical row of every row, `int32[59049, 5]`, in the order of mixed-radix codes.

    Shape and places of skips give the shape of the representative; of the orders that make it so, the one
    whose operations come first.
    """
    shape = (len(LINKS), *[len(OPS)] * NODES)
    rows = np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), axis=1).astype(np.int32)
    found = np.zeros_like(rows)
    weights = len(OPS) ** np.arange(NODES)[::-1]
    for links, skips in itertools.product(
        range(len(LINKS)), itertools.product((0, 1), repeat=NODES)
    ):
        of = (rows[:, 0] == links) & ((rows[:, 1:] == SKIP) == np.array(skips)).all(axis=1)
        target, orders = renumberings(skips_first(LINKS[links], tuple(map(bool, skips))))
        ops = rows[of, 1:][:, np.array(orders)]
        first = (ops @ weights).argmin(axis=1)
        found[of, 0], found[of, 1:] = target, ops[np.arange(len(ops)), first]
    found.flags.writeable = False
    return found
