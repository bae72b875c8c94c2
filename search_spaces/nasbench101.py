"""NAS-Bench-101 (Ying et al., arXiv:1902.09635): cells that are graphs of up to 7 vertices."""

import numpy as np
from flax import nnx

from jaxnas.errors import InputError
from jaxnas.graph import CellGraph
from jaxnas.network import Network
from jaxnas.nn import (
    BatchNorm,
    Choice,
    Context,
    Conv,
    GlobalAvgPool,
    Identity,
    Linear,
    MaxPool,
    Place,
    ReLU,
    Sequential,
    Truncate,
    Width,
    Zero,
)
from jaxnas.search_spaces.nasbench101_graph import (
    COLUMN,
    EDGES,
    INTERIOR,
    MAX_EDGES,
    OPS,
    OUTPUT,
    edges_on_paths,
    from_text,
    graph_hash,
    matrix_and_ops,
    smallest_isomorphic,
    to_text,
    vertices_on_paths,
)
from jaxnas.spaces import Decision, SearchSpace, Size

__all__ = ["NASBench101", "graph_hash"]

FINAL = 4
"""The most interior vertices that can feed the output: five would need ten edges."""
TRACED = tuple(e for e in EDGES if e[1] != OUTPUT or e[0] == 0)
"""Edges that are choice points of their own; the others are slots in the concatenation."""
OP = 0
EDGE = OP + len(INTERIOR)
SLOT = EDGE + len(TRACED)
RANK = SLOT + len(INTERIOR)
"""First columns of what the network reads, see `NASBench101.rows`."""
VALID_MATRICES = 1_538_083


class NASBench101(SearchSpace):
    """Directed acyclic graphs of up to 7 vertices and 9 edges with one of 3 operations on each.

    A row is the upper triangle of the adjacency matrix, row by row, and the operations of the five
    interior vertices. It is valid if, once everything beside the paths from input to output is pruned,
    at least one edge and at most 9 are left. 423,624 of them differ by more than the order of vertices.

    A vertex applies its operation to the sum of its inputs; what feeds the output is concatenated, the
    input's own edge to the output added on top. Edges from the input are 1x1 projections. Of C channels
    k vertices that feed the output have C // k each, the first C % k of them one more, and other
    vertices as many as the widest that they feed; edges between vertices truncate.

    Edges, operations, places in the concatenation and the odd channel are traced. k is the shape class:
    4 programs serve the whole space, each compiled when it is needed. The odd channel is a mask where C
    is no multiple of k; at 12 channels and their multiples there is none.
    """

    name = "nasbench101"
    paper = "Ying et al., NAS-Bench-101, arXiv:1902.09635"
    decisions = (
        *(Decision(f"{a}->{b}", ("absent", "present")) for a, b in EDGES),
        *(Decision(f"op{v}", OPS) for v in INTERIOR),
    )
    official_size = Size(channels=128, cells=(3, 3, 3), resolution=32)
    proxy_size = Size(channels=24, cells=(1,), resolution=16)
    train_size = Size(channels=24, cells=(1, 1, 1), resolution=32)
    default_sample = 5000

    @property
    def size(self) -> int:
        """The number of valid rows, isomorphic ones and unreachable parts counted."""
        return VALID_MATRICES * len(OPS) ** len(INTERIOR)

    @property
    def programs(self) -> int:
        """One for each number of vertices that can feed the output."""
        return FINAL

    def valid(self, archs: np.ndarray) -> np.ndarray:
        """`bool[N]`: a path from input to output, and at most 9 edges on such paths."""
        edges = edges_on_paths(archs).sum(axis=1)
        return (edges > 0) & (edges <= MAX_EDGES)

    def to_string(self, arch: np.ndarray) -> str:
        """The pruned matrix's upper triangle and the operations between input and output.

        `111010/00001/0001/100/01/1|conv1x1-bn-relu,...`; vertices that are not there are left out where
        none comes after them.
        """
        return to_text(arch)

    def from_string(self, text: str) -> np.ndarray:
        """The row of a graph of 2 to 7 vertices."""
        arch = from_text(text)
        edges = int(edges_on_paths(arch[None]).sum())
        if not edges:
            raise InputError(f"In architecture {text!r} no path leads from input to output.")
        if edges > MAX_EDGES:
            raise InputError(
                f"Architecture {text!r} has {edges} edges on paths from input to output, expected at "
                f"most {MAX_EDGES}."
            )
        return arch

    def active_decisions(self, archs: np.ndarray) -> np.ndarray:
        """`bool[N, 26]`: edges on a path from input to output, and the vertices between them."""
        edges = edges_on_paths(archs)
        return np.concatenate([edges, vertices_on_paths(edges)], axis=1)

    def canonical(self, archs: np.ndarray) -> np.ndarray:
        """Isomorphic cells become one: the graph that stands for them in the authors' data set.

        As in the data set, cells count as the same though the odd channels, which go by the order of
        vertices, may be elsewhere in them.
        """
        return smallest_isomorphic(self.pruned(archs))

    def rows(self, archs: np.ndarray) -> np.ndarray:
        """`int32[N, 31]`: what the network reads of each cell.

        For each interior vertex its operation (0: not there) in the columns from `OP` on; the edges of
        `TRACED` from `EDGE` on; from `SLOT` on each vertex's place among those that feed the output, 1
        to k (0: it does not); from `RANK` on the smallest slot that it leads to without passing another,
        so that of C channels it has C // k + (rank <= C % k).
        """
        edges = edges_on_paths(archs)
        there = vertices_on_paths(edges)
        ops = np.where(there, np.asarray(archs)[:, len(EDGES) :] + 1, 0)
        final = edges[:, [COLUMN[v, OUTPUT] for v in INTERIOR]]
        slots = np.where(final, final.cumsum(axis=1), 0)
        ranks = np.where(final, slots, FINAL + 1)
        for v in reversed(INTERIOR):
            for w in range(v + 1, OUTPUT):
                feeds = edges[:, COLUMN[v, w]] & ~final[:, v - 1]
                through = np.where(feeds, ranks[:, w - 1], FINAL + 1)
                ranks[:, v - 1] = np.minimum(ranks[:, v - 1], through)
        traced = edges[:, [COLUMN[e] for e in TRACED]]
        columns = [ops, traced, slots, np.where(there, ranks, 0)]
        return np.concatenate(columns, axis=1).astype(np.int32)

    def shape_classes(self, archs: np.ndarray) -> np.ndarray:
        """`int64[N]`: k - 1 for k interior vertices that feed the output; 0 also for none."""
        final = edges_on_paths(archs)[:, [COLUMN[v, OUTPUT] for v in INTERIOR]]
        return np.maximum(final.sum(axis=1), 1).astype(np.int64) - 1

    def network(
        self, size: Size, *, classes: int, image_channels: int = 3, shape_class: int = 0
    ) -> Network:
        """The official skeleton at `size`, of cells of which `shape_class` + 1 vertices are final."""
        if size.channels < FINAL:
            raise InputError(
                f"nasbench101 splits a cell's channels between up to {FINAL} vertices, so that there "
                f"must be at least {FINAL}, not {size.channels}."
            )
        module = Skeleton(size, classes, image_channels, shape_class + 1)
        return Network(module, size.resolution, image_channels, classes)

    def graphs(self, arch: np.ndarray) -> tuple[tuple[str, CellGraph], ...]:
        """The pruned cell, with its operations on the vertices."""
        matrix, ops = matrix_and_ops(arch)
        last = len(matrix) - 1
        edges = []
        for a, b in zip(*np.nonzero(matrix), strict=True):
            kind = "projection" if a == 0 else "concat" if b == last else "identity"
            edges.append((int(a), int(b), kind))
        return (("cell", CellGraph(("input", *(OPS[op] for op in ops), "output"), tuple(edges))),)


def conv_bn_relu(inputs: int | Width, outputs: int | Width, kernel: int) -> Sequential:
    """Convolution, batch norm, ReLU."""
    return Sequential(Conv(inputs, outputs, kernel), BatchNorm(outputs), ReLU())


class Cell(nnx.Module):
    """A cell of `outputs` channels to which `k` vertices are concatenated."""

    def __init__(self, inputs: int, outputs: int, k: int) -> None:
        split, more = divmod(outputs, k)
        sizes = [split + (slot <= more) for slot in range(1, k + 1)]
        # A vertex that is not there has rank 0 and, like those of rank 1, the most channels.
        ranked = (max(sizes), *sizes)
        widths = [Width(RANK + i, ranked) if more else split for i in range(len(INTERIOR))]
        self.edges = nnx.Dict()
        for column, (a, b) in enumerate(TRACED, EDGE):
            width = outputs if b == OUTPUT else widths[b - 1]
            self.edges[f"{a}->{b}"] = Choice(column, [Zero(width), _edge(a, inputs, width)])
        self.ops = nnx.List([Choice(OP + i, _operations(w)) for i, w in enumerate(widths)])
        starts = np.cumsum([0, *sizes]).tolist()
        self.slots = nnx.List()
        for i in range(len(INTERIOR)):
            places = [Place(starts[slot], sizes[slot], outputs) for slot in range(k)]
            self.slots.append(Choice(SLOT + i, [Zero(outputs), *places]))

    def __call__(self, x, ctx: Context):
        """The concatenation of the final vertices, plus the projected input if that feeds the output."""
        vertices = [x]
        for v in INTERIOR:
            total = None
            for a in range(v):
                total = self.edges[f"{a}->{v}"](vertices[a], ctx, onto=total)
            vertices.append(self.ops[v - 1](total, ctx))
        y = self.edges[f"0->{OUTPUT}"](x, ctx)
        for slot, vertex in zip(self.slots, vertices[1:], strict=True):
            y = slot(vertex, ctx, onto=y)
        return y


def _edge(source: int, inputs: int, width: int | Width) -> nnx.Module:
    if source == 0:
        return conv_bn_relu(inputs, width, 1)
    return Truncate(width) if isinstance(width, Width) else Identity()


def _operations(width: int | Width) -> list[nnx.Module]:
    convolutions = [conv_bn_relu(width, width, kernel) for kernel in (3, 1)]
    return [Zero(width), *convolutions, MaxPool(3)]


class Skeleton(nnx.Module):
    """Stem, stacks of cells with 2x2 max-pooling and doubled channels between, pooling, classifier."""

    def __init__(self, size: Size, classes: int, image_channels: int, k: int) -> None:
        channels = size.channels
        self.stem = conv_bn_relu(image_channels, channels, 3)
        blocks: list[nnx.Module] = []
        inputs = channels
        for stack, cells in enumerate(size.cells):
            if stack > 0:
                blocks.append(MaxPool(2, stride=2))
                channels *= 2
            for _ in range(cells):
                blocks.append(Cell(inputs, channels, k))
                inputs = channels
        self.blocks = nnx.List(blocks)
        self.pool = GlobalAvgPool()
        self.classifier = Linear(channels, classes)

    def __call__(self, x, ctx: Context):
        """Logits `[B, classes]`."""
        x = ctx.boundary(self.stem(x, ctx))
        for block in self.blocks:
            x = block(x, ctx)
            x = ctx.boundary(x) if isinstance(block, Cell) else x
        return self.classifier(self.pool(x, ctx), ctx)
