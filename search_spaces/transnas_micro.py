"""TransNAS-Bench-101's cell-level space (Duan et al., arXiv:2105.11871): four operations on six edges."""

from functools import cache

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
    FactorizedReduce,
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

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")
NONE, SKIP, CONV1, CONV3 = range(4)
MODULES = "41414"
"""The five modules of every network: 1 keeps the shape, 4 halves the resolution and doubles channels."""
PREFIX = f"64-{MODULES}-"
"""How every architecture's string begins: 64 channels, the modules."""
STEM_SIDE = 32
"""A convolution of the stem halves images of at least so many pixels a side."""


class TransNASMicro(SearchSpace):
    """4,096 cells: 4 nodes, each the sum of an operation on every earlier node.

    Five modules of two cells each. The first cell of modules 1, 3 and 5 halves the resolution and
    doubles the channels: its operations on the input node have stride 2, a skip connection there being
    a factorized reduction (ReLU, two 1x1 convolutions on alternate pixels, batch norm). The head is the
    one for classification: pooling and a linear layer.

    All six decisions are traced: one program serves the whole space. `Size.cells` has the cells of each
    module, up to five. The stem's two convolutions halve the official 256x256 pixels twice; smaller
    images are halved as long as they have 32 pixels a side, so that something is left for the modules.
    """

    name = "transnas_micro"
    paper = "Duan et al., TransNAS-Bench-101, arXiv:2105.11871"
    decisions = tuple(Decision(f"{a}->{b}", OPS) for a, b in EDGES)
    official_size = Size(channels=64, cells=(2, 2, 2, 2, 2), resolution=256)
    proxy_size = Size(channels=16, cells=(1, 1, 1), resolution=16)
    train_size = Size(channels=16, cells=(1, 1, 1, 1, 1), resolution=32)

    def to_string(self, arch: np.ndarray) -> str:
        """`64-41414-1_02_333`: the operations on the edges into each node, from the first node on."""
        digits = [str(int(op)) for op in arch]
        nodes = [
            "".join(d for d, (_, b) in zip(digits, EDGES, strict=True) if b == node)
            for node in (1, 2, 3)
        ]
        return PREFIX + "_".join(nodes)

    def from_string(self, text: str) -> np.ndarray:
        """The row of a string in TransNAS-Bench-101's notation."""
        if not text.strip().startswith(PREFIX):
            raise InputError(
                f"Architecture {text!r} does not begin with {PREFIX!r}; expected 64 channels, the "
                f"modules {MODULES} and the cell, as in {PREFIX}1_02_333."
            )
        nodes = text.strip().removeprefix(PREFIX).split("_")
        if [len(node) for node in nodes] != [1, 2, 3]:
            raise InputError(
                f"In architecture {text!r}: the cell is {'_'.join(nodes)!r}, expected one, two and three "
                "digits joined by '_', as in 1_02_333."
            )
        digits = "".join(nodes)
        for digit, (a, b) in zip(digits, EDGES, strict=True):
            if digit not in "0123":
                known = ", ".join(f"{k} ({op})" for k, op in enumerate(OPS))
                raise InputError(
                    f"In architecture {text!r}: the operation on {a}->{b} is {digit!r}, expected one "
                    f"of {known}."
                )
        return np.array([int(digit) for digit in digits], np.int32)

    def active_decisions(self, archs: np.ndarray) -> np.ndarray:
        """`bool[N, 6]`: operations, `none` apart, on a path from the cell's input to its output."""
        return on_paths(np.asarray(archs) != NONE)

    def canonical(self, archs: np.ndarray) -> np.ndarray:
        """Rows that compute the same function become one of them.

        As in NAS-Bench-201: cells are the same if they are the same expression once zero terms are
        dropped and sums are flattened through skip connections, weights tied by operation. In a cell
        that reduces, a skip connection from the input is an operation like another, so that fewer rows
        are the same than one would think of the other cells. The member without unreachable operations,
        of fewest parameters and then first in order stands for its class.
        """
        return _representatives()[self.index(archs)]

    def connected(self, archs: np.ndarray) -> np.ndarray:
        """`bool[N]`: whether any operation lies on a path from input to output."""
        return self.active_decisions(archs).any(axis=1)

    def network(
        self, size: Size, *, classes: int, image_channels: int = 3, shape_class: int = 0
    ) -> Network:
        """The official skeleton at `size`, with the head for classification."""
        if not 1 <= len(size.cells) <= len(MODULES) or min(size.cells) < 1:
            raise InputError(
                f"{self.name} has up to {len(MODULES)} modules of at least one cell, but cells is "
                f"{','.join(map(str, size.cells))}."
            )
        module = Skeleton(size, classes, image_channels)
        resolution = size.resolution
        return Network(module, resolution, image_channels, classes, prune=self.pruned)

    def graphs(self, arch: np.ndarray) -> tuple[tuple[str, CellGraph], ...]:
        """The cell."""
        edges = tuple((a, b, OPS[op]) for (a, b), op in zip(EDGES, arch, strict=True))
        return (("cell", CellGraph(("input", "1", "2", "output"), edges)),)


@cache
def _representatives() -> np.ndarray:
    """`int32[4096, 6]`: each row's representative."""
    space = TransNASMicro()
    archs = space.all()
    spare = (archs != NONE).sum(1) - space.active_decisions(archs).sum(1)
    convolutions = 9 * (archs == CONV3).sum(1) + (archs == CONV1).sum(1)
    reductions = sum(archs[:, e] == SKIP for e, (a, _) in enumerate(EDGES) if a == 0)
    classes = expressions(archs, _reducing)
    return archs[representatives(classes, spare, convolutions, np.asarray(reductions))]


def _reducing(op: int, node: int, operand: Expression, term: Term) -> Expression:
    """In a cell that reduces; what is equal there is so in the others, where skips vanish."""
    if op == NONE or not operand:
        return ()
    return operand if op == SKIP and node > 0 else (term(op, operand),)


def relu_conv_norm(
    inputs: int | Width, outputs: int | Width, kernel: int, stride: int = 1
) -> Sequential:
    """The unit of which TransNAS-Bench-101 is made."""
    return Sequential(ReLU(), Conv(inputs, outputs, kernel, stride=stride), BatchNorm(outputs))


def stem(image_channels: int, channels: int, resolution: int) -> Sequential:
    """Two 3x3 convolutions, to half of the channels and to all, that halve images as large as that."""
    strides = []
    for _ in range(2):
        strides.append(2 if resolution >= STEM_SIDE else 1)
        resolution = -(-resolution // strides[-1])
    half = max(1, channels // 2)
    first = [Conv(image_channels, half, 3, stride=strides[0]), BatchNorm(half)]
    return Sequential(*first, relu_conv_norm(half, channels, 3, strides[1]))


def _cell(inputs: int, outputs: int, stride: int) -> Cell:
    edges = []
    for decision, (a, _) in enumerate(EDGES):
        strided = a == 0 and stride == 2
        edges.append(Choice(decision, _operations(inputs if a == 0 else outputs, outputs, strided)))
    return Cell(edges)


def _operations(inputs: int, outputs: int, strided: bool) -> list:
    stride = 2 if strided else 1
    reduction = Sequential(ReLU(), FactorizedReduce(inputs, outputs), BatchNorm(outputs))
    return [
        Zero(outputs, stride=stride),
        reduction if strided else Identity(),
        relu_conv_norm(inputs, outputs, 1, stride),
        relu_conv_norm(inputs, outputs, 3, stride),
    ]


class Skeleton(nnx.Module):
    """Stem, modules of cells, pooling, classifier."""

    def __init__(self, size: Size, classes: int, image_channels: int) -> None:
        channels = size.channels
        self.stem = stem(image_channels, channels, size.resolution)
        cells: list[Cell] = []
        for code, number in zip(MODULES, size.cells, strict=False):
            factor = 2 if code == "4" else 1
            cells.append(_cell(channels, factor * channels, factor))
            channels *= factor
            cells.extend(_cell(channels, channels, 1) for _ in range(number - 1))
        self.cells = nnx.List(cells)
        self.pool = GlobalAvgPool()
        self.classifier = Linear(channels, classes)

    def __call__(self, x, ctx: Context):
        """Logits `[B, classes]`."""
        x = ctx.boundary(self.stem(x, ctx))
        for cell in self.cells:
            x = ctx.boundary(cell(x, ctx))
        return self.classifier(self.pool(x, ctx), ctx)
