"""Residual networks of three stages: how deep, how wide and of what kernel each of them is."""

import re

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
    ReLU,
    Scale,
    Sequential,
    Width,
    Zero,
)
from jaxnas.spaces import Decision, SearchSpace, Size

STAGES = 3
DEPTHS = (1, 2, 3, 4)
MULTIPLES = (1, 2, 3, 4)
KERNELS = (3, 5, 7)
OFFICIAL = Size(channels=16, cells=(4, 4, 4), resolution=32)
DEPTH, WIDTH, KERNEL, SKIP = range(4)
"""The decisions of a stage, in order."""
COLUMNS = 2 + len(DEPTHS)
"""What a stage's choice points read: kernel, width, skip, and whether blocks 2, 3 and 4 are there."""


def stage_widths(stage: int, channels: int) -> tuple[int, ...]:
    """The numbers of channels that a stage (from 0) chooses between."""
    return tuple(m * channels * 2**stage for m in MULTIPLES)


def _decisions() -> tuple[Decision, ...]:
    decisions = []
    for stage in range(STAGES):
        kinds = {
            "depth": DEPTHS,
            "width": stage_widths(stage, OFFICIAL.channels),
            "kernel": KERNELS,
            "skip": ("none", "add"),
        }
        decisions += [
            Decision(f"stage{stage + 1}.{kind}", tuple(map(str, values)))
            for kind, values in kinds.items()
        ]
    return tuple(decisions)


class ResNet(SearchSpace):
    """884,736 residual networks (He et al., arXiv:1512.03385), 592,704 of them distinct.

    A convolution to `channels` channels, three stages, global average pooling, a classifier. A stage
    has 1 to 4 basic blocks, all of one width, 1 to 4 times `channels * 2^stage`, and one kernel, 3, 5
    or 7. Its first block has a projection shortcut and, in stages 2 and 3, stride 2. With `skip` its
    output is the last block's plus the first one's times a learned factor for each channel; a stage of
    one block has nothing to skip, so that the decision is inactive there.

    All twelve decisions are traced (depth and kernel by choice points, widths by masks), so that one
    program serves the whole space. `Size.cells` are the largest depths: a stage that wants more blocks
    has as many as there are. Networks can be grown into larger ones of the same function
    (`jaxnas.morphisms.morph`, after Net2Net, arXiv:1511.05641).

    He et al.'s ResNet-20 for CIFAR, with projection shortcuts, is `d3w16k3s0-d3w32k3s0-d3w64k3s0`
    save for one projection: the first stage has one here, as its width may differ from the stem's.
    """

    name = "resnet"
    paper = "He et al., Deep residual learning, arXiv:1512.03385; Chen et al., Net2Net, arXiv:1511.05641"
    decisions = _decisions()
    official_size = OFFICIAL
    proxy_size = Size(channels=4, cells=(4, 4, 4), resolution=8)
    train_size = Size(channels=4, cells=(4, 4, 4), resolution=32)
    default_sample = 2000

    def to_string(self, arch: np.ndarray) -> str:
        """`d2w16k3s0-d3w32k5s1-d1w64k3s0`: the stages, with widths as at the official size."""
        parts = []
        for stage, (depth, width, kernel, skip) in enumerate(_by_stage(arch[None])[0]):
            widths = stage_widths(stage, OFFICIAL.channels)
            parts.append(f"d{DEPTHS[depth]}w{widths[width]}k{KERNELS[kernel]}s{skip}")
        return "-".join(parts)

    def from_string(self, text: str) -> np.ndarray:
        """The row of a string like `d2w16k3s0-d3w32k5s1-d1w64k3s0`."""
        stages = text.strip().split("-")
        if len(stages) != STAGES:
            raise InputError(
                f"Architecture {text!r} has {len(stages)} stages joined by '-', expected {STAGES}, "
                "as in d2w16k3s0-d3w32k5s1-d1w64k3s0."
            )
        rows = [_parse_stage(text, part, stage) for stage, part in enumerate(stages)]
        return np.array(rows, np.int32).ravel()

    def active_decisions(self, archs: np.ndarray) -> np.ndarray:
        """`bool[N, 12]`: all but the skip of a stage of one block."""
        archs = np.asarray(archs)
        active = np.ones(archs.shape, bool)
        _by_stage(active)[..., SKIP] = DEPTHS[0] < np.asarray(DEPTHS)[_by_stage(archs)[..., DEPTH]]
        return active

    def rows(self, archs: np.ndarray) -> np.ndarray:
        """`int32[N, 18]`: of each stage kernel, width, skip and whether each later block is there."""
        stages = _by_stage(self.pruned(archs))
        depth = np.asarray(DEPTHS)[stages[..., DEPTH], None]
        there = depth > np.arange(1, len(DEPTHS))
        read = np.concatenate([stages[..., [KERNEL, WIDTH, SKIP]], there], axis=-1)
        return read.reshape(len(read), STAGES * COLUMNS).astype(np.int32)

    def network(
        self, size: Size, *, classes: int, image_channels: int = 3, shape_class: int = 0
    ) -> Network:
        """The super-network at `size`, whose cells are the largest depth of each stage."""
        if len(size.cells) != STAGES or not all(1 <= n <= len(DEPTHS) for n in size.cells):
            raise InputError(
                f"resnet has {STAGES} stages of 1 to {len(DEPTHS)} blocks, but cells is "
                f"{','.join(map(str, size.cells))}."
            )
        module = Skeleton(size, classes, image_channels)
        return Network(module, size.resolution, image_channels, classes)

    def graphs(self, arch: np.ndarray) -> tuple[tuple[str, CellGraph], ...]:
        """The whole network, block by block."""
        nodes, edges = ["input", "stem"], [(0, 1, "conv 3x3")]
        pruned = _by_stage(self.pruned(np.asarray(arch)[None]))[0]
        for stage, (depth, width, kernel, skip) in enumerate(pruned):
            k, first = KERNELS[kernel], len(nodes)
            for block in range(DEPTHS[depth]):
                nodes.append(f"{stage + 1}.{block + 1}")
                edges.append((len(nodes) - 2, len(nodes) - 1, f"block {k}x{k}"))
            nodes[-1] += f" ({stage_widths(stage, OFFICIAL.channels)[width]})"
            if skip:
                edges.append((first, len(nodes) - 1, "skip"))
        nodes.append("output")
        edges.append((len(nodes) - 2, len(nodes) - 1, "linear"))
        return (("network", CellGraph(tuple(nodes), tuple(edges))),)


def _by_stage(archs: np.ndarray) -> np.ndarray:
    return np.asarray(archs).reshape(len(archs), STAGES, 4)


def _parse_stage(text: str, part: str, stage: int) -> list[int]:
    found = re.fullmatch(r"d(\d+)w(\d+)k(\d+)s(\d+)", part, re.ASCII)
    where = f"stage {stage + 1} ({part!r}) of architecture {text!r}"
    if not found:
        raise InputError(f"In {where}: expected depth, width, kernel and skip, as in d2w16k3s0.")
    known = (DEPTHS, stage_widths(stage, OFFICIAL.channels), KERNELS, (0, 1))
    names = ("depth", "width", "kernel", "skip")
    row = []
    for name, value, values in zip(names, map(int, found.groups()), known, strict=True):
        if value not in values:
            raise InputError(
                f"In {where}: {name} {value} is none of {', '.join(map(str, values))}."
            )
        row.append(values.index(value))
    return row


class Block(nnx.Module):
    """Basic block: convolution, batch norm, ReLU, convolution, batch norm; the input added; ReLU.

    `project`: the input is added through a 1x1 convolution and batch norm.
    """

    def __init__(
        self,
        inputs: int | Width,
        outputs: Width,
        kernel: int,
        *,
        stride: int = 1,
        project: bool = False,
    ) -> None:
        """`kernel` is the column that the convolutions' kernel is chosen by."""

        def conv(channels: int | Width, stride: int) -> Choice:
            return Choice(kernel, {k: Conv(channels, outputs, k, stride=stride) for k in KERNELS})

        self.first = Sequential(conv(inputs, stride), BatchNorm(outputs), ReLU())
        self.conv = conv(outputs, 1)
        self.norm = BatchNorm(outputs)
        shortcut = [Conv(inputs, outputs, 1, stride=stride), BatchNorm(outputs)]
        self.shortcut = Sequential(*shortcut) if project else Identity()
        self.relu = ReLU()

    def identity_at_zero(self) -> list[nnx.Param]:
        """Parameters at whose value 0 the block is the identity: its input is at least 0."""
        return [self.norm.scale, self.norm.bias]

    def __call__(self, x, ctx: Context):
        """`[B, H, W, inputs] -> [B, ceil(H / stride), ceil(W / stride), outputs]`."""
        y = self.norm(self.conv(self.first(x, ctx), ctx), ctx)
        y = self.relu(ctx.add([y, self.shortcut(x, ctx)]), ctx)
        return y


class Stage(nnx.Module):
    """A first block that changes the shape, up to three that keep it, and a skip connection."""

    def __init__(self, inputs: int | Width, width: Width, blocks: int, *, stage: int) -> None:
        kernel, _, skip, *there = range(stage * COLUMNS, (stage + 1) * COLUMNS)
        stride = 1 if stage == 0 else 2
        self.first = Block(inputs, width, kernel, stride=stride, project=True)
        self.rest = nnx.List(
            Choice(column, {"none": Identity(), "block": Block(width, width, kernel)})
            for column in there[: blocks - 1]
        )
        self.skip = Choice(skip, {"none": Zero(), "add": Scale(width)})

    def __call__(self, x, ctx: Context):
        """`[B, H, W, inputs] -> [B, ceil(H / stride), ceil(W / stride), width]`."""
        first = y = ctx.boundary(self.first(x, ctx))
        for block in self.rest:
            y = ctx.boundary(block(y, ctx), block)
        return self.skip(first, ctx, onto=y)


class Skeleton(nnx.Module):
    """Stem, stages, pooling, classifier."""

    def __init__(self, size: Size, classes: int, image_channels: int) -> None:
        widths = [
            Width(stage * COLUMNS + 1, stage_widths(stage, size.channels))
            for stage in range(STAGES)
        ]
        self.stem = Sequential(
            Conv(image_channels, size.channels, 3), BatchNorm(size.channels), ReLU()
        )
        self.stages = nnx.List(
            Stage(inputs, width, blocks, stage=stage)
            for stage, (inputs, width, blocks) in enumerate(
                zip([size.channels, *widths[:-1]], widths, size.cells, strict=True)
            )
        )
        self.pool = GlobalAvgPool()
        self.classifier = Linear(widths[-1], classes)

    def __call__(self, x, ctx: Context):
        """Logits `[B, classes]`."""
        x = ctx.boundary(self.stem(x, ctx))
        for stage in self.stages:
            x = stage(x, ctx)
        return self.classifier(self.pool(x, ctx), ctx)
