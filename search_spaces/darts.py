"""DARTS (Liu et al., arXiv:1806.09055): a normal and a reduction cell; NASNet's operations by option."""

import itertools

import numpy as np
from flax import nnx

from jaxnas.errors import InputError, unknown
from jaxnas.graph import CellGraph
from jaxnas.network import Network
from jaxnas.nn import (
    BatchNorm,
    Choice,
    Context,
    Conv,
    GlobalAvgPool,
    Linear,
    Place,
    Sequential,
    Zero,
    wired,
)
from jaxnas.search_spaces.darts_operations import (
    BRANCHES,
    OPERATIONS,
    factorized_reduce,
    relu_conv_bn,
)
from jaxnas.search_spaces.genotype import parse_genotype
from jaxnas.spaces import Decision, SearchSpace, Size

NODES = 4
"""Intermediate nodes of a cell, numbers 2 to 5 in a genotype; 0 and 1 are the outputs of the two cells
before."""
PAIRS = tuple((low, high) for high in range(NODES + 1) for low in range(high))
"""Pairs of inputs; those open to a node with n inputs before it are the first n (n - 1) / 2."""
EDGES = tuple((source, node) for node in range(2, NODES + 2) for source in range(node))
"""(from, to) of a cell's 14 edges, in the order of the columns of `rows`."""
CELLS = ("normal", "reduce")


class DARTS(SearchSpace):
    """Two cells of 4 nodes, each node the sum of 2 operations on 2 of the nodes before it.

    An architecture is, for each cell and node, the pair of inputs (1, 3, 6 or 10 of them; the first node
    has no choice) and the operation on each: 22 decisions, (7^8 * 180)^2 or 1.1e18 architectures. All are
    traced: `rows` has a column for each of a cell's 14 edges, 0 (none) or 1 and on, which all cells of
    a kind share; one program serves the whole space.

    The network is the authors' evaluation network (`model.py`): no batch norm after pooling; without
    its auxiliary head and drop-path. `Size.cells` are the normal cells of each stage; a reduction cell
    stands between two stages. Operations on odd sides round up.
    """

    default_sample = 2000

    def __init__(self, operations: str = "darts") -> None:
        if operations not in OPERATIONS:
            raise unknown("set of operations", operations, OPERATIONS)
        self.name = operations
        self.paper = "Liu et al., DARTS, arXiv:1806.09055"
        self.operations = OPERATIONS[operations]
        self.decisions = tuple(d for cell in CELLS for d in _decisions(cell, self.operations))
        self.official_size = Size(channels=36, cells=(6, 6, 6), resolution=32)
        self.proxy_size = Size(channels=8, cells=(1, 0), resolution=16)
        self.train_size = Size(channels=8, cells=(1, 0), resolution=32)

    def to_string(self, arch: np.ndarray) -> str:
        """`Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=...)`."""
        parts = []
        for cell, (pairs, ops) in zip(CELLS, self._cells(np.asarray(arch)[None]), strict=True):
            edges = [
                (self.operations[op], PAIRS[pair][side])
                for pair, both in zip(pairs[0], ops[0], strict=True)
                for side, op in enumerate(both)
            ]
            parts.append(f"{cell}={edges!r}, {cell}_concat=range(2, {NODES + 2})")
        return f"Genotype({', '.join(parts)})"

    def from_string(self, text: str) -> np.ndarray:
        """The row of a genotype as its authors print it; a node's inputs may come in either order."""
        row = []
        cells = parse_genotype(text, CELLS, NODES, self.operations)
        for node, ((a, p), (b, q)) in (pair for cell in cells for pair in enumerate(cell)):
            (p, a), (q, b) = sorted([(p, a), (q, b)])
            if node > 0:
                row.append(PAIRS.index((p, q)))
            row += [self.operations.index(a), self.operations.index(b)]
        return np.array(row, np.int32)

    def canonical(self, archs: np.ndarray) -> np.ndarray:
        """Cells that are the same graph but for their nodes' numbers become one of them.

        Such cells give the same channels in another order, which only permutes the weights of the 1x1
        convolutions behind them. The member whose genotype comes first stands for all.
        """
        cells = [self._least(*cell) for cell in self._cells(np.asarray(archs))]
        return np.concatenate([_joined(*cell) for cell in cells], axis=1).astype(np.int32)

    def rows(self, archs: np.ndarray) -> np.ndarray:
        """`int32[N, 28]`: for each edge of the normal and the reduction cell 0, or 1 + its operation."""
        rows = np.zeros((len(archs), len(CELLS) * len(EDGES)), np.int32)
        number = {edge: i for i, edge in enumerate(EDGES)}
        column = np.array(
            [[[number.get((i, n), -1) for i in p] for p in PAIRS] for n in range(2, NODES + 2)]
        )
        everyone = np.arange(len(rows))
        for c, (pairs, ops) in enumerate(self._cells(np.asarray(archs))):
            for node, side in itertools.product(range(NODES), range(2)):
                place = len(EDGES) * c + column[node, pairs[:, node], side]
                rows[everyone, place] = 1 + ops[:, node, side]
        return rows

    def discretise(self, probabilities: np.ndarray) -> np.ndarray:
        """The authors' rule: of each node the two strongest edges, on each its strongest operation.

        `probabilities: float[28, K]` as `rows` has its columns; none (choice 0) counts for nothing.

        Raises:
            InputError: rows for one kind of cell alone.
        """
        if len(probabilities) != len(CELLS) * len(EDGES):
            raise InputError(
                f"{len(probabilities)} edges of {self.name} were relaxed, expected {len(EDGES)} in each "
                f"of {len(CELLS)} cells: the network needs both kinds, as cells=1,0 gives."
            )
        best = probabilities[:, 1 : 1 + len(self.operations)]
        cells = best.reshape(len(CELLS), len(EDGES), -1)
        row: list[int] = []
        for cell, node in itertools.product(cells, range(2, NODES + 2)):
            into = [e for e, (_, target) in enumerate(EDGES) if target == node]
            strength = cell[into].max(axis=1)
            pair = np.sort(np.argsort(-strength, kind="stable")[:2])
            # Edges into a node come in the order of where they begin.
            row += [PAIRS.index((int(pair[0]), int(pair[1])))] if node > 2 else []
            row += [int(np.argmax(cell[into[side]])) for side in pair]
        return np.array(row, np.int32)

    def cells_of(self, columns: int) -> np.ndarray:
        """`int64[28]`: 0 for the normal cell's edges, 1 for the reduction cell's."""
        return np.arange(columns) // len(EDGES)

    def network(
        self, size: Size, *, classes: int, image_channels: int = 3, shape_class: int = 0
    ) -> Network:
        """The evaluation network at `size`; officially 36 channels and 20 cells, 6, 6, 6 normal ones."""
        if sum(size.cells) + len(size.cells) < 2:
            raise InputError(f"{self.name} needs at least one cell, not cells={size.cells}.")
        module = Skeleton(size, classes, image_channels, self.operations)
        return Network(module, size.resolution, image_channels, classes)

    def graphs(self, arch: np.ndarray) -> tuple[tuple[str, CellGraph], ...]:
        """The normal and the reduction cell."""
        nodes = ("c_{k-2}", "c_{k-1}", *map(str, range(NODES)), "c_k")
        joined = tuple((node, NODES + 2, "concat") for node in range(2, NODES + 2))
        ops = ("none", *self.operations)
        both = self.rows(np.asarray(arch)[None])[0].reshape(len(CELLS), len(EDGES))
        drawn = []
        for cell, row in zip(CELLS, both, strict=True):
            edges = tuple((a, b, ops[op]) for (a, b), op in zip(EDGES, row, strict=True) if op)
            drawn.append((f"{cell} cell", CellGraph(nodes, edges + joined)))
        return tuple(drawn)

    def _cells(self, archs: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Each cell's pairs of inputs `int[N, 4]` and operations on them `int[N, 4, 2]`."""
        cells = []
        for part in np.split(archs, len(CELLS), axis=1):
            # Like the other nodes, the first one reads a pair, of which there is only one.
            full = np.insert(part, 0, 0, axis=1).reshape(len(archs), NODES, 3)
            cells.append((full[..., 0], full[..., 1:]))
        return cells

    def _least(self, pairs: np.ndarray, ops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first of all renumberings of a cell's nodes, which are compared as one number each."""
        n = len(self.operations)
        base = len(PAIRS) * n * n
        inputs = np.array(PAIRS)[pairs]
        best = np.full(len(pairs), np.iinfo(np.int64).max)
        for order in itertools.permutations(range(2, NODES + 2)):
            new = np.array([0, 1, *order])[inputs]
            low, high = new.min(-1), new.max(-1)
            a, b = np.moveaxis(np.where(new[..., :1] > new[..., 1:], ops[..., ::-1], ops), -1, 0)
            pair = high * (high - 1) // 2 + low
            code = ((pair * n + a) * n + b) * base ** (NODES + 1 - np.array(order))
            fits = (high < np.array(order)).all(axis=1)
            best = np.where(fits, np.minimum(best, code.sum(axis=1)), best)
        code = best[:, None] // base ** np.arange(NODES)[::-1] % base
        return code // n**2, np.stack([code // n % n, code % n], axis=-1)


class NASNet(DARTS):
    """DARTS's cells with NASNet's 13 operations: (13^8 * 180)^2 or 2.2e22 architectures.

    As in arXiv:1905.13214 but for the nodes, of which NASNet's own cells have 5 and concatenate those
    that no other reads. Dilated and separable convolutions are DARTS's.
    """

    def __init__(self) -> None:
        super().__init__("nasnet")
        self.paper = "Zoph et al., NASNet, arXiv:1707.07012, on the cells of arXiv:1806.09055"


def _decisions(cell: str, operations: tuple[str, ...]) -> list[Decision]:
    found = []
    for node in range(NODES):
        open_pairs = PAIRS[: (node + 2) * (node + 1) // 2]
        if node > 0:
            found.append(
                Decision(f"{cell}_{node}_inputs", tuple(f"{a},{b}" for a, b in open_pairs))
            )
        found += [Decision(f"{cell}_{node}_{side}", operations) for side in ("first", "second")]
    return found


def _joined(pairs: np.ndarray, ops: np.ndarray) -> np.ndarray:
    full = np.concatenate([pairs[..., None], ops], axis=-1)
    return full.reshape(len(pairs), 3 * NODES)[:, 1:]


class Cell(nnx.Module):
    """Nodes 2 to 5, each the sum over its edges, concatenated; `edges` follow `EDGES`."""

    def __init__(
        self,
        before: tuple[int, int],
        channels: int,
        operations: tuple[str, ...],
        *,
        reduction: bool,
        after_reduction: bool,
    ) -> None:
        align = factorized_reduce if after_reduction else relu_conv_bn
        self.inputs = nnx.List([align(before[0], channels), relu_conv_bn(before[1], channels)])
        edges = []
        for number, (source, _) in enumerate(EDGES):
            stride = 2 if reduction and source < 2 else 1
            branches = {"none": Zero(stride=stride)}
            branches |= {op: BRANCHES[op](channels, stride) for op in operations}
            edges.append(Choice(len(EDGES) * reduction + number, branches))
        self.edges = nnx.List(edges)
        total = NODES * channels
        self.parts = nnx.List([Place(n * channels, channels, total) for n in range(NODES)])

    def __call__(self, before, ctx: Context):
        """The cell's output for the outputs of the two cells before."""
        nodes = [align(x, ctx) for align, x in zip(self.inputs, before, strict=True)]
        nodes = wired(self.edges, EDGES, nodes, ctx)
        y = ctx.add([part(x, ctx) for part, x in zip(self.parts, nodes[2:], strict=True)])
        return y


class Skeleton(nnx.Module):
    """Stem, stages of normal cells with a reduction cell between them, pooling, classifier."""

    def __init__(
        self, size: Size, classes: int, image_channels: int, operations: tuple[str, ...]
    ) -> None:
        channels = size.channels
        before = (3 * channels, 3 * channels)
        self.stem = Sequential(Conv(image_channels, before[1], 3), BatchNorm(before[1]))
        kinds = [k for cells in size.cells for k in (True, *[False] * cells)][1:]
        cells = []
        for reduction, after in zip(kinds, [False, *kinds], strict=False):
            channels *= 1 + reduction
            cells.append(
                Cell(before, channels, operations, reduction=reduction, after_reduction=after)
            )
            before = (before[1], NODES * channels)
        self.cells = nnx.List(cells)
        self.pool = GlobalAvgPool()
        self.classifier = Linear(before[1], classes)

    def __call__(self, x, ctx: Context):
        """Logits `[B, classes]`."""
        x = ctx.boundary(self.stem(x, ctx))
        before = (x, x)
        for cell in self.cells:
            before = (before[1], ctx.boundary(cell(before, ctx)))
        return self.classifier(self.pool(before[1], ctx), ctx)
