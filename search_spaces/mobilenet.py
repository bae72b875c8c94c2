"""Mobile networks: depth, kernels, expansions and squeeze-excite of five stages, width, resolution."""

import itertools
import re
from typing import Any

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
    HardSwish,
    Identity,
    Linear,
    MBConv,
    ReLU,
    Sequential,
    Width,
)
from jaxnas.nn.mobile import divisible
from jaxnas.search_spaces.mobilenet_layer import ElasticMBConv, Kernels
from jaxnas.spaces import Decision, SearchSpace, Size, chain

RESOLUTIONS = (0.75, 1.0)
WIDTHS = (1.0, 1.2)
DEPTHS = (2, 3, 4)
KERNELS = (3, 5, 7)
EXPANSIONS = (3, 4, 6)
STAGES, LAYERS = 5, max(DEPTHS)
STEM, BASE, HEAD = 16, (24, 40, 80, 112, 160), (960, 1280)
"""Once-for-all's channels: of the stem and first block, of the stages, of the two last layers."""
STRIDES = (2, 2, 2, 1, 2)
ACTIVATIONS = (ReLU, ReLU, HardSwish, HardSwish, HardSwish)
OFFICIAL = Size(channels=STEM, cells=(LAYERS,) * STAGES, resolution=224)
RESOLUTION, WIDTH = 0, 1
DEPTH, SE, KERNEL, EXPANSION = 0, 1, 2, 3
"""Decisions of a stage: its depth, squeeze-excite, then kernel and expansion of each of its layers."""
OF_STAGE = 2 + 2 * LAYERS
COLUMNS = 1 + 2 * LAYERS + LAYERS - DEPTHS[0]
"""What a stage's choice points read."""


def _decisions() -> tuple[Decision, ...]:
    def values(name: str, of: tuple[Any, ...], *, shape_class: bool = False) -> Decision:
        return Decision(name, tuple(map(str, of)), shape_class)

    found = [values("resolution", RESOLUTIONS, shape_class=True), values("width", WIDTHS)]
    for s in range(1, STAGES + 1):
        found += [values(f"stage{s}.depth", DEPTHS), Decision(f"stage{s}.se", ("no", "yes"))]
        for layer in range(1, LAYERS + 1):
            found.append(values(f"stage{s}.layer{layer}.kernel", KERNELS))
            found.append(values(f"stage{s}.layer{layer}.expansion", EXPANSIONS))
    return tuple(found)


class MobileNet(SearchSpace):
    """Inverted residuals as in MnasNet, ProxylessNAS and Once-for-all: 2.8e21 different networks.

    Five stages of 2 to 4 layers. Each layer expands its input 3, 4 or 6 times, convolves each channel
    with a kernel of 3, 5 or 7, squeezes and excites if its stage does, and projects. All channels are
    multiplied by 1 or 1.2, the side of the images by 0.75 or 1 (down to at least 8). The skeleton is
    Once-for-all's: stem, a block without expansion, the stages, a 1x1 convolution, pooling, two linear
    layers; `d4 se0`, `d4 se1`, `d4 se0`, `d4 se1`, `d4 se1` with `k7e6` throughout is its largest
    network, of 7.7 M parameters. Kernels are weights of their own here, not transformed from larger ones.

    Decisions of layers beyond a stage's depth are inactive, so that of 4 (3 * 2 * 9^4)^5 = 3.8e23 rows
    4 (2 (9^2 + 9^3 + 9^4))^5 = 2.8e21 remain when pruned.

    The resolution is a shape class, all else is traced (depth, kernels and squeeze-excite by choice
    points, widths and expansions by masks): 2 programs, or 1 where both resolutions are the same number,
    as on 8x8 images, where networks that differ in it alone are the same. `Size.cells` are the largest
    depths: a stage that wants more layers has as many as there are; 2 a stage halve the compilation.
    Below a side of 64 the stem and the first stage keep the resolution, as is usual for small images.
    """

    name = "mobilenet"
    paper = (
        "Tan et al., MnasNet, arXiv:1807.11626; Cai et al., ProxylessNAS, arXiv:1812.00332; "
        "Cai et al., Once-for-all, arXiv:1908.09791"
    )
    decisions = _decisions()
    official_size = OFFICIAL
    proxy_size = Size(channels=4, cells=(4,) * STAGES, resolution=8)
    train_size = Size(channels=4, cells=(4,) * STAGES, resolution=32)
    default_sample = 1000

    def to_string(self, arch: np.ndarray) -> str:
        """`r1.0 w1.2 | d3 se0: k3e6 k5e4 k7e3 | ...`, the layers that are there."""
        arch = np.asarray(arch).tolist()
        parts = [f"r{RESOLUTIONS[arch[RESOLUTION]]} w{WIDTHS[arch[WIDTH]]}"]
        for stage in _stages(np.array([arch]))[0].tolist():
            layers = [
                f"k{KERNELS[stage[KERNEL + 2 * i]]}e{EXPANSIONS[stage[EXPANSION + 2 * i]]}"
                for i in range(DEPTHS[stage[DEPTH]])
            ]
            parts.append(f"d{len(layers)} se{stage[SE]}: {' '.join(layers)}")
        return " | ".join(parts)

    def from_string(self, text: str) -> np.ndarray:
        """The row of a string like `r1.0 w1.2 | d2 se0: k3e6 k5e4 | ...`, its other decisions 0."""
        first, *stages = (part.strip() for part in text.split("|"))
        if len(stages) != STAGES:
            raise InputError(
                f"Architecture {text!r} has {len(stages)} stages, each after a '|', expected {STAGES}, "
                "as in r1.0 w1.0 | d2 se0: k3e6 k5e4 | ..."
            )
        where = f"In the multipliers ({first!r}) of architecture {text!r}"
        match = re.fullmatch(r"r([\d.]+) w([\d.]+)", first, re.ASCII)
        if not match:
            raise InputError(f"{where}: expected resolution and width, as in r1.0 w1.0.")
        row = [
            _place(where, "resolution", match[1], RESOLUTIONS),
            _place(where, "width", match[2], WIDTHS),
        ]
        for number, part in enumerate(stages, 1):
            row += _parse_stage(f"In stage {number} ({part!r}) of architecture {text!r}", part)
        return np.array(row, np.int32)

    def active_decisions(self, archs: np.ndarray) -> np.ndarray:
        """`bool[N, 52]`: all but those of layers beyond their stage's depth."""
        archs = np.asarray(archs)
        active = np.ones(archs.shape, bool)
        depth = np.asarray(DEPTHS)[_stages(archs)[..., DEPTH]]
        there = np.arange(LAYERS) < depth[..., None]
        _stages(active)[..., KERNEL:] = np.repeat(there, 2, axis=-1)
        return active

    def rows(self, archs: np.ndarray) -> np.ndarray:
        """`int32[N, 56]`: the width, then of each stage squeeze-excite and its layers.

        Of each layer the kernel, the width together with the expansion, and whether it is there,
        where that depends on the depth.
        """
        pruned = self.pruned(archs)
        stages, width = _stages(pruned), pruned[:, [WIDTH]]
        columns = [width]
        for s in range(STAGES):
            stage = stages[:, s]
            columns.append(stage[:, [SE]])
            for layer in range(LAYERS):
                columns.append(stage[:, [KERNEL + 2 * layer]])
                expansion = stage[:, [EXPANSION + 2 * layer]]
                columns.append(width * len(EXPANSIONS) + expansion)
                if layer >= DEPTHS[0]:
                    columns.append(np.asarray(DEPTHS)[stage[:, [DEPTH]]] > layer)
        return np.concatenate(columns, axis=1).astype(np.int32)

    def network(
        self, size: Size, *, classes: int, image_channels: int = 3, shape_class: int = 0
    ) -> Network:
        """The super-network of one resolution multiplier; cells are the largest depth of each stage."""
        if len(size.cells) != STAGES or not all(1 <= n <= LAYERS for n in size.cells):
            raise InputError(
                f"mobilenet has {STAGES} stages of 1 to {LAYERS} layers, but cells is "
                f"{','.join(map(str, size.cells))}."
            )
        side = scaled_resolution(size.resolution, shape_class)
        module = Skeleton(size, classes, image_channels, small=side < 64)
        return Network(module, side, image_channels, classes)

    def graphs(self, arch: np.ndarray) -> tuple[tuple[str, CellGraph], ...]:
        """The layers one after another."""
        first, *stages = self.to_string(arch).split(" | ")
        layers = []
        for stage in stages:
            settings, _, of_stage = stage.partition(": ")
            excite = " se" if settings.endswith("se1") else ""
            layers += [f"mbconv {layer}{excite}" for layer in of_stage.split()]
        return ((f"network {first}", chain(["stem", "mbconv k3e1", *layers, "head"])),)


def scaled_resolution(side: int, multiplier: int) -> int:
    """The side of the images that a network of resolution multiplier number `multiplier` sees."""
    return max(8, round(RESOLUTIONS[multiplier] * side))


def scaled_widths(base: int, channels: int) -> tuple[int, ...]:
    """A layer's channels for each width multiplier: multiples of 8 at the official size of 16."""
    official = [divisible(base * multiplier) for multiplier in WIDTHS]
    return tuple(max(1, round(width * channels / STEM)) for width in official)


def _stages(archs: np.ndarray) -> np.ndarray:
    """A view `[N, 5, 10]` of the stages' decisions."""
    return archs[:, WIDTH + 1 :].reshape(len(archs), STAGES, OF_STAGE)


def _place(where: str, name: str, value: str, known: tuple[Any, ...]) -> int:
    names = list(map(str, known))
    if value not in names:
        raise InputError(f"{where}: {name} {value} is none of {', '.join(names)}.")
    return names.index(value)


def _parse_stage(where: str, part: str) -> list[int]:
    settings, _, text = part.partition(":")
    match = re.fullmatch(r"d(\d+) se(\d+)", settings.strip(), re.ASCII)
    if not match:
        raise InputError(f"{where}: expected depth and squeeze-excite, as in d2 se0: k3e6 k5e4.")
    row = [_place(where, "depth", match[1], DEPTHS), _place(where, "se", match[2], (0, 1))]
    layers = text.split()
    if len(layers) != DEPTHS[row[0]]:
        raise InputError(f"{where}: {len(layers)} layers, expected {DEPTHS[row[0]]}.")
    for number, layer in enumerate(layers, 1):
        match = re.fullmatch(r"k(\d+)e(\d+)", layer, re.ASCII)
        if not match:
            raise InputError(f"{where}: layer {number} is {layer!r}, expected one as k3e6.")
        row.append(_place(where, f"kernel of layer {number}", match[1], KERNELS))
        row.append(_place(where, f"expansion of layer {number}", match[2], EXPANSIONS))
    return row + [0] * (OF_STAGE - len(row))


class Skeleton(nnx.Module):
    """Stem, a block without expansion, stages, 1x1 convolution, pooling, two linear layers."""

    def __init__(self, size: Size, classes: int, image_channels: int, *, small: bool) -> None:
        stem, *widths, last, mixed = (
            Width(0, scaled_widths(base, size.channels)) for base in (STEM, *BASE, *HEAD)
        )
        self.stem = Sequential(
            Conv(image_channels, stem, 3, stride=1 if small else 2),
            BatchNorm(stem),
            HardSwish(),
            MBConv(stem, stem, 3, expansion=1, activation="relu"),
        )
        layers: list[Any] = []
        for s, (inputs, outputs) in enumerate(itertools.pairwise([stem, *widths])):
            stride = 1 if small and s == 0 else STRIDES[s]
            layers += _stage_layers(s, inputs, outputs, stride)[: size.cells[s]]
        self.layers = nnx.List(layers)
        self.head = Sequential(
            Conv(widths[-1], last, 1),
            BatchNorm(last),
            HardSwish(),
            GlobalAvgPool(),
            Linear(last, mixed, bias=False),
            HardSwish(),
        )
        self.classifier = Linear(mixed, classes)

    def __call__(self, x, ctx: Context):
        """Logits `[B, classes]`."""
        x = ctx.boundary(self.stem(x, ctx))
        for layer in self.layers:
            x = ctx.boundary(layer(x, ctx), layer)
        return self.classifier(self.head(x, ctx), ctx)


def _stage_layers(stage: int, inputs: Width, outputs: Width, stride: int) -> list[Any]:
    excite = column = 1 + stage * COLUMNS
    layers: list[Any] = []
    for number in range(LAYERS):
        kernel, middle, there = column + 1, column + 2, column + 3
        hidden = Width(middle, tuple(e * value for value in inputs.values for e in EXPANSIONS))
        layer = ElasticMBConv(
            inputs,
            outputs,
            hidden,
            kernels=Kernels(kernel, KERNELS),
            squeeze_excite=excite,
            stride=stride,
            activation=ACTIVATIONS[stage],
        )
        optional = number >= DEPTHS[0]
        layers.append(Choice(there, {"none": Identity(), "layer": layer}) if optional else layer)
        column += 3 if optional else 2
        inputs, stride = outputs, 1
    return layers
