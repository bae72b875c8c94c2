"""NAS-Bench-201 (Dong and Yang, arXiv:2001.00326): five operations on the six edges of a cell."""

import itertools
import random
from functools import cache

import numpy as np
from flax import nnx

from jaxnas.errors import InputError, nearest
from jaxnas.graph import CellGraph
from jaxnas.network import Network
from jaxnas.nn import (
    AvgPool,
    BatchNorm,
    Choice,
    Context,
    Conv,
    GlobalAvgPool,
    Identity,
    Linear,
    ReLU,
    Sequential,
    Width,
    Zero,
)
from jaxnas.search_spaces.cells import (
    EDGES,
    Cell,
    Expression,
    Term,
    expressions,
    on_paths,
    representatives,
)
from jaxnas.spaces import Decision, SearchSpace, Size

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NONE, SKIP, CONV1, CONV3, POOL = range(5)


class NASBench201(SearchSpace):
    """15,625 cells: 4 nodes, each the sum of an operation on every earlier node.

    All six decisions are traced: one program serves the whole space.
    """

    name = "nasbench201"
    paper = "Dong and Yang, NAS-Bench-201, arXiv:2001.00326"
    decisions = tuple(Decision(f"{a}->{b}", OPS) for a, b in EDGES)
    official_size = Size(channels=16, cells=(5, 5, 5), resolution=32)
    proxy_size = Size(channels=16, cells=(1,), resolution=16)
    deep_size = Size(channels=16, cells=(3,), resolution=8)
    train_size = Size(channels=16, cells=(1, 1, 1), resolution=32)

    def all(self) -> np.ndarray:
        """`int32[15625, 6]`, row i being the architecture of official index i."""
        return _official_order().copy()

    def index(self, archs: np.ndarray) -> np.ndarray:
        """The official indices, `int64[N]`."""
        return _official_index()[_enumeration(archs)]

    def to_string(self, arch: np.ndarray) -> str:
        """`|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`."""
        nodes: dict[int, list[str]] = {1: [], 2: [], 3: []}
        for (a, b), op in zip(EDGES, arch, strict=True):
            nodes[b].append(f"{OPS[op]}~{a}")
        return "+".join(f"|{'|'.join(edges)}|" for edges in nodes.values())

    def from_string(self, text: str) -> np.ndarray:
        """The row of a string in NAS-Bench-201's notation."""
        nodes = text.strip().split("+")
        if len(nodes) != 3:
            raise InputError(
                f"Architecture {text!r} has {len(nodes)} nodes joined by '+', expected 3, "
                "as in |op~0|+|op~0|op~1|+|op~0|op~1|op~2|."
            )
        return np.array(
            [op for n, node in enumerate(nodes, 1) for op in _parse_node(text, node, n)], np.int32
        )

    def active_decisions(self, archs: np.ndarray) -> np.ndarray:
        """`bool[N, 6]`: operations, `none` apart, on a path from the cell's input to its output."""
        return on_paths(np.asarray(archs) != NONE)

    def canonical(self, archs: np.ndarray) -> np.ndarray:
        """Rows that compute the same function become one of them; 4,660 remain of 15,625.

        Two cells are the same if they are the same expression once zero terms are dropped, sums are
        flattened through skip connections and average pooling, being linear, is distributed over
        sums; weights count as tied by operation. The member without unreachable operations, of fewest
        parameters and then of lowest official index, stands for its class.
        """
        return _representatives()[_enumeration(archs)]

    def scored(self, archs: np.ndarray) -> np.ndarray:
        """Cells of one canonical form with as many 3x3 and as many 1x1 convolutions are one.

        They compute the same function of as many independent weights: 5,022 remain of 9,445 pruned.
        """
        return _scored()[_enumeration(archs)]

    def connected(self, archs: np.ndarray) -> np.ndarray:
        """`bool[N]`: whether any operation lies on a path from input to output."""
        return self.active_decisions(archs).any(axis=1)

    def network(
        self, size: Size, *, classes: int, image_channels: int = 3, shape_class: int = 0
    ) -> Network:
        """The official skeleton at `size`."""
        module = Skeleton(size, classes, image_channels)
        return Network(module, size.resolution, image_channels, classes, prune=self.pruned)

    def graphs(self, arch: np.ndarray) -> tuple[tuple[str, CellGraph], ...]:
        """The cell."""
        edges = tuple((a, b, OPS[op]) for (a, b), op in zip(EDGES, arch, strict=True))
        return (("cell", CellGraph(("input", "1", "2", "output"), edges)),)


def official_unique_string(arch: np.ndarray) -> str:
    """The string by which the authors recognise isomorphic cells: 6,466 of them in the space.

    Skips vanish and sums are sorted, but terms that are zero stay in the sums as `#`, so that some
    cells that compute the same function keep different strings (`NASBench201.canonical` merges them).
    """
    value = {0: "0"}
    for node in (1, 2, 3):
        terms = []
        for (a, b), op in zip(EDGES, arch, strict=True):
            if b != node:
                continue
            if op == NONE or value[a] == "#":
                terms.append("#")
            else:
                terms.append(value[a] if op == SKIP else f"({value[a]})@{OPS[op]}")
        value[node] = "+".join(sorted(terms))
    return value[3]


def _parse_node(text: str, node: str, number: int) -> list[int]:
    where = f"node {number} ({node!r}) of architecture {text!r}"
    if len(node) < 2 or node[0] != "|" or node[-1] != "|":
        raise InputError(f"In {where}: edges must stand between bars, as in |op~0|.")
    edges = node[1:-1].split("|")
    if len(edges) != number:
        raise InputError(f"In {where}: {len(edges)} edges, expected {number}.")
    ops = []
    for source, edge in enumerate(edges):
        op, tilde, origin = edge.partition("~")
        if not tilde or origin != str(source):
            raise InputError(f"In {where}: edge {edge!r} must end in '~{source}'.")
        if op not in OPS:
            near = nearest(op, OPS) or list(OPS)
            raise InputError(f"In {where}: unknown operation {op!r}; near: {', '.join(near)}.")
        ops.append(OPS.index(op))
    return ops


def _enumeration(archs: np.ndarray) -> np.ndarray:
    archs = np.asarray(archs)
    if (
        archs.ndim != 2
        or archs.shape[1] != 6
        or archs.min(initial=0) < 0
        or archs.max(initial=0) > 4
    ):
        raise InputError(
            f"NAS-Bench-201 architectures are rows of six integers 0 to 4, got shape {archs.shape} "
            f"with values {archs.min(initial=0)} to {archs.max(initial=0)}."
        )
    return archs.astype(np.int64) @ 5 ** np.arange(5, -1, -1)


@cache
def _official_order() -> np.ndarray:
    # The authors' index order is an enumeration, last edge fastest, shuffled with a fixed seed.
    archs = list(itertools.product(range(5), repeat=6))
    random.Random(88).shuffle(archs)
    return np.array(archs, np.int32)


@cache
def _official_index() -> np.ndarray:
    index = np.empty(5**6, np.int64)
    index[_enumeration(_official_order())] = np.arange(5**6)
    return index


@cache
def _representatives() -> np.ndarray:
    """`int32[15625, 6]` by enumeration: each row's representative."""
    archs = _official_order()
    space = NASBench201()
    spare = (archs != NONE).sum(1) - space.active_decisions(archs).sum(1)
    convolutions = 9 * (archs == CONV3).sum(1) + (archs == CONV1).sum(1)
    rows = np.empty_like(archs)
    chosen = representatives(expressions(archs, _value), spare, convolutions)
    rows[_enumeration(archs)] = archs[chosen]
    return rows


@cache
def _scored() -> np.ndarray:
    """`int32[15625, 6]` by enumeration: the row that each is scored as, pruned."""
    archs = _official_order()
    space = NASBench201()
    pruned = space.pruned(archs)
    code = _enumeration(pruned)
    convolutions = np.stack([(pruned == op).sum(1) for op in (CONV3, CONV1)], axis=1)
    alike = np.concatenate([space.canonical(archs), convolutions], axis=1)
    order = np.argsort(code, kind="stable")
    _, first, group = np.unique(alike[order], axis=0, return_index=True, return_inverse=True)
    rows = np.empty_like(archs)
    rows[_enumeration(archs[order])] = pruned[order][first][group.reshape(-1)]
    return rows


def _value(op: int, node: int, operand: Expression, term: Term) -> Expression:
    if op == NONE or not operand:
        return ()
    if op == SKIP:
        return operand
    if op == POOL:
        return tuple(term(POOL, each) for each in operand)
    return (term(op, operand),)


def _cell(channels: int) -> Cell:
    return Cell([Choice(d, _operations(channels)) for d in range(len(EDGES))])


def _operations(channels: int) -> list:
    return [
        Zero(),
        Identity(),
        Sequential(ReLU(), Conv(channels, channels, 1), BatchNorm(channels)),
        Sequential(ReLU(), Conv(channels, channels, 3), BatchNorm(channels)),
        AvgPool(3),
    ]


class Reduction(nnx.Module):
    """The residual block between stages: resolution halves, channels (by rule) double."""

    def __init__(self, inputs: int | Width, outputs: int | Width) -> None:
        self.conv_a = Sequential(ReLU(), Conv(inputs, outputs, 3, stride=2), BatchNorm(outputs))
        self.conv_b = Sequential(ReLU(), Conv(outputs, outputs, 3), BatchNorm(outputs))
        self.shortcut = Sequential(AvgPool(2, stride=2), Conv(inputs, outputs, 1))

    def __call__(self, x, ctx: Context):
        """The sum of the two paths."""
        return ctx.add([self.shortcut(x, ctx), self.conv_b(self.conv_a(x, ctx), ctx)])


class Skeleton(nnx.Module):
    """Stem, stages of cells with a reduction between them, BatchNorm-ReLU, pooling, classifier."""

    def __init__(self, size: Size, classes: int, image_channels: int) -> None:
        channels = size.channels
        self.stem = Sequential(Conv(image_channels, channels, 3), BatchNorm(channels))
        blocks: list[nnx.Module] = []
        for stage, cells in enumerate(size.cells):
            if stage > 0:
                blocks.append(Reduction(channels, 2 * channels))
                channels *= 2
            blocks.extend(_cell(channels) for _ in range(cells))
        self.blocks = nnx.List(blocks)
        self.last = Sequential(BatchNorm(channels), ReLU())
        self.pool = GlobalAvgPool()
        self.classifier = Linear(channels, classes)

    def __call__(self, x, ctx: Context):
        """Logits `[B, classes]`."""
        x = ctx.boundary(self.stem(x, ctx))
        for block in self.blocks:
            x = ctx.boundary(block(x, ctx))
        return self.classifier(self.pool(self.last(x, ctx), ctx), ctx)
