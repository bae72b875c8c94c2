"""NATS-Bench's size search space S_s (Dong et al., arXiv:2009.00437): the widths of five layers."""

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
    Linear,
    Place,
    ReLU,
    Sequential,
    Width,
)
from jaxnas.search_spaces.nasbench201 import Reduction
from jaxnas.spaces import Decision, SearchSpace, Size, chain, fixed_cells

WIDTHS = tuple(range(8, 65, 8))
"""The official widths; a network of other `Size.channels` has them in proportion, 64 being the whole."""
LAYERS = ("cell_1", "reduction_1", "cell_2", "reduction_2", "cell_3")
SKIPS = (2, 4)
"""Cells whose input and output may differ in width: `rows` has a column for the skip of each."""
IDENTITY, PROJECTION = 0, 1


class NATSSize(SearchSpace):
    """32,768 networks: 8 widths for each of 5 layers, the cells' topology being fixed.

    Every cell is `|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|
    nor_conv_3x3~2|`; its skip connection is the identity between equal widths, else a 1x1 convolution
    with batch norm. All five widths are traced, as masks on the widest network, and so is which of the
    two a skip is (a column of `rows` for each cell that has both): one program serves the whole space.
    """

    name = "nats_size"
    paper = "Dong et al., NATS-Bench, arXiv:2009.00437"
    decisions = tuple(Decision(layer, tuple(map(str, WIDTHS))) for layer in LAYERS)
    official_size = Size(channels=64, cells=(1, 1, 1), resolution=32)
    proxy_size = Size(channels=16, cells=(1, 1, 1), resolution=8)
    train_size = Size(channels=32, cells=(1, 1, 1), resolution=32)

    def to_string(self, arch: np.ndarray) -> str:
        """`8:16:24:32:40`, the official widths."""
        return ":".join(str(WIDTHS[choice]) for choice in np.asarray(arch))

    def from_string(self, text: str) -> np.ndarray:
        """The row of a string in NATS-Bench's notation."""
        parts = text.strip().split(":")
        if len(parts) != len(LAYERS):
            raise InputError(
                f"Architecture {text!r} has {len(parts)} widths joined by ':', expected "
                f"{len(LAYERS)}, as in 8:16:24:32:40."
            )
        known = {str(width): i for i, width in enumerate(WIDTHS)}
        for place, part in enumerate(parts, 1):
            if part not in known:
                raise InputError(
                    f"In architecture {text!r}: width {place} is {part!r}, expected one of "
                    f"{', '.join(known)}."
                )
        return np.array([known[part] for part in parts], np.int32)

    def rows(self, archs: np.ndarray) -> np.ndarray:
        """`int32[N, 7]`: the five widths, then whether the skips of cells 2 and 3 are projections."""
        archs = np.asarray(archs, np.int32)
        differ = [archs[:, layer - 1] != archs[:, layer] for layer in SKIPS]
        return np.column_stack([archs, *differ]).astype(np.int32)

    def network(
        self, size: Size, *, classes: int, image_channels: int = 3, shape_class: int = 0
    ) -> Network:
        """The official skeleton; `size.channels` is the largest width, 64 officially."""
        fixed_cells(self.name, size, self.official_size.cells)
        module = Skeleton(size.channels, classes, image_channels)
        return Network(module, size.resolution, image_channels, classes)

    def graphs(self, arch: np.ndarray) -> tuple[tuple[str, CellGraph], ...]:
        """The layers with their widths."""
        widths = [WIDTHS[choice] for choice in np.asarray(arch)]
        labels = [f"{layer}, {width}" for layer, width in zip(LAYERS, widths, strict=True)]
        return (("layers and their channels", chain(labels)),)


class FixedCell(nnx.Module):
    """The cell that did best on CIFAR-100 in NAS-Bench-201: five 3x3 convolutions and a skip."""

    def __init__(self, inputs: Width, outputs: Width, skip: int | None) -> None:
        self.to_1 = _convolution(inputs, outputs)
        self.to_2 = nnx.List([_convolution(inputs, outputs), _convolution(outputs, outputs)])
        self.to_3 = nnx.List([_convolution(outputs, outputs), _convolution(outputs, outputs)])
        self.skip = _skip(inputs, outputs, skip)

    def __call__(self, x, ctx: Context):
        """Node 3, the sum of node 1 and node 2 convolved and of the input."""
        node1 = self.to_1(x, ctx)
        node2 = ctx.add([edge(n, ctx) for edge, n in zip(self.to_2, (x, node1), strict=True)])
        total = ctx.add([edge(n, ctx) for edge, n in zip(self.to_3, (node1, node2), strict=True)])
        total = ctx.add([total, x]) if self.skip is None else self.skip(x, ctx, onto=total)
        return total


def _convolution(inputs: Width, outputs: Width) -> Sequential:
    return Sequential(ReLU(), Conv(inputs, outputs, 3), BatchNorm(outputs))


def _skip(inputs: Width, outputs: Width, decision: int | None) -> Choice | None:
    if decision is None:
        return None
    # Widths are equal where it is taken: the placing only says whose width the sum has.
    identity = Place(0, outputs.largest, outputs)
    return Choice(
        decision,
        {
            "identity": identity,
            "conv_1x1": Sequential(Conv(inputs, outputs, 1), BatchNorm(outputs)),
        },
    )


class Skeleton(nnx.Module):
    """Stem, cell, reduction, cell, reduction, cell, BatchNorm-ReLU, pooling, classifier."""

    def __init__(self, channels: int, classes: int, image_channels: int) -> None:
        values = tuple(max(1, round(channels * width / WIDTHS[-1])) for width in WIDTHS)
        widths = [Width(layer, values) for layer in range(len(LAYERS))]
        self.stem = Sequential(Conv(image_channels, widths[0], 3), BatchNorm(widths[0]))
        blocks: list[nnx.Module] = [FixedCell(widths[0], widths[0], None)]
        for column, layer in enumerate(SKIPS, len(LAYERS)):
            blocks.append(Reduction(widths[layer - 2], widths[layer - 1]))
            blocks.append(FixedCell(widths[layer - 1], widths[layer], column))
        self.blocks = nnx.List(blocks)
        self.last = Sequential(BatchNorm(widths[-1]), ReLU())
        self.pool = GlobalAvgPool()
        self.classifier = Linear(widths[-1], classes)

    def __call__(self, x, ctx: Context):
        """Logits `[B, classes]`."""
        x = ctx.boundary(self.stem(x, ctx))
        for block in self.blocks:
            x = ctx.boundary(block(x, ctx))
        return self.classifier(self.pool(self.last(x, ctx), ctx), ctx)
