"""The blocks and the skeleton of DNet's networks; `jaxnas.search_spaces.dnet` says what they are."""

import itertools
import math
from enum import IntEnum

import numpy as np
from flax import nnx

from jaxnas.nn import (
    BatchNorm,
    Choice,
    Context,
    Conv,
    GlobalAvgPool,
    GroupedConv,
    GroupWidthConv,
    Linear,
    Place,
    ReLU,
    Sequential,
    Shift,
    Width,
    Zero,
)
from jaxnas.nn.width import largest
from jaxnas.spaces import Size

OPS = ("conv3", "conv1", "conv3_grp2", "conv3_grp4", "conv3_base1", "conv3_base32", "conv3_sep")
RATIOS = ("1/4", "1/2", "1", "2", "4")
QUARTERS = np.array([1, 2, 4, 8, 16])
"""The ratios in quarters of a block's output channels, in which widths are reckoned here."""
WHOLE = 4
KINDS = ((2, 1), (2, 2), (4, 1))
"""Blocks that begin the first stage, another stage, none: quarters of their input, and stride."""


class Shared(IntEnum):
    """Columns of the rows that all blocks read: operators and widths by place."""

    A, HAS_B, B, HAS_C, C, WIDTH_A, WIDTH_B = range(7)


class Own(IntEnum):
    """Columns that each kind of block has of its own, after the shared ones."""

    NODE1, NODE2, OFFSET, CONCAT01, CONCAT02, CONCAT12, ADD01, ADD02, ADD12, ADD13, ADD23 = range(
        11
    )


NO_SKIP, PROJECTION, IDENTITY = range(3)


def width_tables(inputs: int) -> dict[int, np.ndarray]:
    """What the columns of widths and offsets choose from, in quarters."""
    node1 = np.unique(np.add.outer(QUARTERS, [0, inputs]))
    offset = np.unique([0, *np.add.outer(QUARTERS, [0, inputs]).ravel()])
    node2 = np.unique(np.add.outer(offset[1:], [0, *node1]))
    return {Own.NODE1: node1, Own.OFFSET: offset, Own.NODE2: np.union1d(node1, node2)}


class Block(nnx.Module):
    """One block of `4 quarter` outputs; `kind` is its place in `KINDS`."""

    def __init__(self, quarter: int, group_width: int, kind: int) -> None:
        inputs, stride = KINDS[kind]
        first = len(Shared) + len(Own) * kind
        tables = {c: tuple((t * quarter).tolist()) for c, t in width_tables(inputs).items()}
        operator_widths = tuple((QUARTERS * quarter).tolist())
        x, whole = inputs * quarter, WHOLE * quarter
        a, b = (Width(column, operator_widths) for column in (Shared.WIDTH_A, Shared.WIDTH_B))
        node1, node2 = (Width(first + c, tables[c]) for c in (Own.NODE1, Own.NODE2))

        def operator(column: int, inputs: int | Width, outputs: int | Width, stride: int = 1):
            convolutions = _convolutions(inputs, outputs, stride, quarter, group_width)
            return [Choice(column, convolutions), BatchNorm(outputs)]

        self.op_a = Sequential(*operator(Shared.A, x, a, stride))
        self.op_b = Choice(
            Shared.HAS_B, [Zero(b), Sequential(ReLU(), *operator(Shared.B, node1, b))]
        )
        last = Sequential(ReLU(), *operator(Shared.C, node2, whole))
        self.op_c = Choice(Shared.HAS_C, [Place(0, whole, whole), last])
        self.place1, self.place2 = Place(0, a.largest, node1), Place(0, b.largest, node2)
        self.concat01 = _concat(
            first + Own.CONCAT01, x, stride, Shift(Shared.WIDTH_A, a.values, node1)
        )
        self.concat02 = _concat(
            first + Own.CONCAT02, x, stride, Shift(Shared.WIDTH_B, b.values, node2)
        )
        shift = Shift(first + Own.OFFSET, tables[Own.OFFSET], node2)
        self.concat12 = _concat(first + Own.CONCAT12, node1, 1, shift)
        self.add01, self.add02 = (
            _add(first + Own.ADD01, x, a, stride),
            _add(first + Own.ADD02, x, b, stride),
        )
        self.add12 = _add(first + Own.ADD12, node1, b)
        self.add13, self.add23 = (
            _add(first + Own.ADD13, node1, whole),
            _add(first + Own.ADD23, node2, whole),
        )
        self.shortcut = None if x == whole and stride == 1 else _projection(x, whole, stride)
        self.relu = ReLU()

    def __call__(self, x, ctx: Context):
        """`[B, H, W, inputs] -> [B, ceil(H / stride), ceil(W / stride), outputs]`."""
        node1 = self.place1(self.add01(x, ctx, onto=self.op_a(x, ctx)), ctx)
        node1 = self.concat01(x, ctx, onto=node1)
        node2 = self.add02(x, ctx, onto=self.op_b(node1, ctx))
        node2 = self.place2(self.add12(node1, ctx, onto=node2), ctx)
        node2 = self.concat02(x, ctx, onto=node2)
        node2 = self.concat12(node1, ctx, onto=node2)
        y = self.add13(node1, ctx, onto=self.op_c(node2, ctx))
        y = self.add23(node2, ctx, onto=y)
        y = self.relu(ctx.add([y, x if self.shortcut is None else self.shortcut(x, ctx)]), ctx)
        return y


def _convolutions(
    inputs: int | Width, outputs: int | Width, stride: int, quarter: int, group_width: int
) -> dict[str, nnx.Module]:
    """The seven operators, without their batch norm."""

    def grouped(groups: int) -> GroupedConv:
        # Every width is a multiple of the quarter.
        return GroupedConv(inputs, outputs, groups=math.gcd(groups, quarter), stride=stride)

    def based(width: int) -> GroupWidthConv:
        return GroupWidthConv(inputs, outputs, group_width=width, stride=stride)

    depthwise = Conv(inputs, inputs, 3, stride=stride, groups=largest(inputs))
    convolutions = [
        Conv(inputs, outputs, 3, stride=stride),
        Conv(inputs, outputs, 1, stride=stride),
        grouped(2),
        grouped(4),
        based(1),
        based(group_width),
        Sequential(depthwise, Conv(inputs, outputs, 1)),
    ]
    return dict(zip(OPS, convolutions, strict=True))


def _projection(inputs: int | Width, outputs: int | Width, stride: int) -> Sequential:
    return Sequential(Conv(inputs, outputs, 1, stride=stride), BatchNorm(outputs))


def _add(column: int, inputs: int | Width, outputs: int | Width, stride: int = 1) -> Choice:
    branches = [Zero(outputs, stride=stride), _projection(inputs, outputs, stride)]
    if stride == 1:
        # Widths are equal where it is taken: the placing only says whose width the sum has.
        branches.append(Place(0, min(largest(inputs), largest(outputs)), outputs))
    return Choice(column, branches)


def _concat(column: int, inputs: int | Width, stride: int, shift: Shift) -> Choice:
    """Nothing, or the value behind what there is already, at half the resolution if need be."""
    smaller = [] if stride == 1 else [_projection(inputs, inputs, stride)]
    return Choice(column, [Zero(shift.outputs, stride=stride), Sequential(*smaller, shift)])


class Skeleton(nnx.Module):
    """Stem, stages of blocks, pooling, classifier."""

    def __init__(self, size: Size, classes: int, image_channels: int) -> None:
        quarter = max(1, size.channels // 2)
        stride = 2 if size.resolution >= 64 else 1
        stem = (
            (image_channels, quarter, stride),
            (quarter, quarter, 1),
            (quarter, 2 * quarter, stride),
        )
        layers = [
            (Conv(inputs, outputs, 3, stride=stride), BatchNorm(outputs), ReLU())
            for inputs, outputs, stride in stem
        ]
        self.stem = Sequential(*itertools.chain(*layers))
        self.blocks = nnx.List(
            Block(quarter * 2**stage, quarter, 2 if block else min(stage, 1))
            for stage, cells in enumerate(size.cells)
            for block in range(cells)
        )
        self.pool = GlobalAvgPool()
        self.classifier = Linear(WHOLE * quarter * 2 ** (len(size.cells) - 1), classes)

    def __call__(self, x, ctx: Context):
        """Logits `[B, classes]`."""
        x = ctx.boundary(self.stem(x, ctx))
        for block in self.blocks:
            x = ctx.boundary(block(x, ctx))
        return self.classifier(self.pool(x, ctx), ctx)
