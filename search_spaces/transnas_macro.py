"""TransNAS-Bench-101's macro-level space (Duan et al., arXiv:2105.11871): where to halve and to widen."""

import math

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
    Sequential,
    Width,
)
from jaxnas.search_spaces.transnas_micro import relu_conv_norm, stem
from jaxnas.spaces import Decision, SearchSpace, Size, chain

CODES = {"1": "normal", "2": "channels x2", "3": "resolution /2", "4": "channels x2, resolution /2"}
MODULES, FEWEST = 6, 4
DOUBLED, HALVED = (1, 3), (1, 4)
"""How often channels are doubled and the resolution is halved in a network, at least and at most."""
SLOTS = (5, 5, 4, 3, 2)
"""How many modules that keep the resolution can come before the first halving and after each one."""


class TransNASMacro(SearchSpace):
    """3,256 networks of 4 to 6 modules, each of two residual blocks.

    A module keeps the shape (1), doubles the channels (2), halves the resolution (3) or does both (4).
    Channels are doubled 1 to 3 times in all and the resolution is halved 1 to 4 times. Modules 5 and 6
    may be absent; rows hold 0 for "none" there.

    One program serves the whole space, though resolutions differ. It is built in phases of one
    resolution. After each halving come as many modules as there can be at most, each a choice between
    "absent" and the module. After each phase there is a choice between stopping (pooling) and halving
    once more, so that the branches agree in shape. Channels are masks on the widest network.

    `Size.cells` is one number, the blocks of each module. The stem is that of `transnas_micro`.
    """

    name = "transnas_macro"
    paper = "Duan et al., TransNAS-Bench-101, arXiv:2105.11871"
    decisions = tuple(
        Decision(f"module{i}", tuple(CODES) if i <= FEWEST else ("none", *CODES))
        for i in range(1, MODULES + 1)
    )
    official_size = Size(channels=64, cells=(2,), resolution=256)
    proxy_size = Size(channels=4, cells=(1,), resolution=8)
    train_size = Size(channels=8, cells=(1,), resolution=32)

    @property
    def size(self) -> int:
        """3,256: of each number of modules, where channels are doubled times where sides are halved."""
        return sum(
            _placings(modules, DOUBLED) * _placings(modules, HALVED)
            for modules in range(FEWEST, MODULES + 1)
        )

    def valid(self, archs: np.ndarray) -> np.ndarray:
        """`bool[N]`: the rows whose numbers of doublings and halvings are those of the space."""
        codes = _codes(archs)
        doubled, halved = _doubles(codes).sum(1), _halves(codes).sum(1)
        gap = (codes[:, 4] == 0) & (codes[:, 5] > 0)
        fits = (doubled >= DOUBLED[0]) & (doubled <= DOUBLED[1])
        return fits & (halved >= HALVED[0]) & (halved <= HALVED[1]) & ~gap

    def to_string(self, arch: np.ndarray) -> str:
        """`64-1234-basic`: channels, modules, the kind of block."""
        codes = [str(code) for code in _codes(np.asarray(arch)[None])[0] if code]
        return f"64-{''.join(codes)}-basic"

    def from_string(self, text: str) -> np.ndarray:
        """The row of a string in TransNAS-Bench-101's notation."""
        parts = text.strip().split("-")
        if len(parts) != 3 or (parts[0], parts[2]) != ("64", "basic"):
            raise InputError(
                f"Architecture {text!r} is not written '64-MODULES-basic', as in 64-1234-basic."
            )
        modules = parts[1]
        unknown = next((c for c in modules if c not in CODES), None)
        if unknown or not FEWEST <= len(modules) <= MODULES:
            what = f"{unknown!r} among them" if unknown else f"{len(modules)} of them"
            known = ", ".join(f"{code} ({says})" for code, says in CODES.items())
            raise InputError(
                f"In architecture {text!r}: the modules are {modules!r}, {what}; expected {FEWEST} to "
                f"{MODULES} of {known}."
            )
        codes = [int(code) for code in modules] + [0] * (MODULES - len(modules))
        arch = np.array(codes, np.int32) - _OFFSET
        if not self.valid(arch[None])[0]:
            raise InputError(
                f"In architecture {text!r}: the modules {modules!r} double channels "
                f"{sum(c in '24' for c in modules)} times and halve the resolution "
                f"{sum(c in '34' for c in modules)} times, expected {DOUBLED[0]} to {DOUBLED[1]} and "
                f"{HALVED[0]} to {HALVED[1]}."
            )
        return arch

    def rows(self, archs: np.ndarray) -> np.ndarray:
        """`int32[N, 70]`: of each place for a module whether there is one, whether it doubles the
        channels, and how often they have been doubled after it; then how often in all.
        """
        codes = np.pad(_codes(archs), ((0, 0), (0, 1)))
        everyone = np.arange(len(codes))
        following = np.zeros(len(codes), np.int64)
        doubled = np.zeros(len(codes), np.int64)
        columns = []
        for phase, slots in enumerate(SLOTS):
            for halving in [True] * (phase > 0) + [False] * slots:
                code = codes[everyone, following]
                there = (code > 0) & (_halves(code) == halving)
                doubles = there & _doubles(code)
                following = following + there
                doubled = doubled + doubles
                columns += [there, doubles, doubled]
        return np.stack([*columns, doubled], axis=1).astype(np.int32)

    def network(
        self, size: Size, *, classes: int, image_channels: int = 3, shape_class: int = 0
    ) -> Network:
        """The official skeleton at `size`, with the head for classification."""
        if len(size.cells) != 1 or size.cells[0] < 1:
            raise InputError(
                f"{self.name} has one number of cells, the blocks of each module, but cells is "
                f"{','.join(map(str, size.cells))}."
            )
        module = Skeleton(size, classes, image_channels)
        return Network(module, size.resolution, image_channels, classes)

    def graphs(self, arch: np.ndarray) -> tuple[tuple[str, CellGraph], ...]:
        """The modules, with the stem and the head."""
        codes = [str(code) for code in _codes(np.asarray(arch)[None])[0] if code]
        return (("network", chain(["stem", *(CODES[code] for code in codes), "head"])),)


_OFFSET = np.array([1] * FEWEST + [0] * (MODULES - FEWEST), np.int32)


def _codes(archs: np.ndarray) -> np.ndarray:
    """`int32[N, 6]`: the modules' codes, 0 where there is none."""
    return np.asarray(archs, np.int32) + _OFFSET


def _doubles(codes: np.ndarray) -> np.ndarray:
    return (codes == 2) | (codes == 4)


def _halves(codes: np.ndarray) -> np.ndarray:
    return codes >= 3


def _placings(modules: int, times: tuple[int, int]) -> int:
    return sum(math.comb(modules, k) for k in range(times[0], times[1] + 1))


class Block(nnx.Module):
    """ReLU-convolution-batch norm twice, and the input, through a 1x1 convolution if shapes differ."""

    def __init__(
        self,
        inputs: int | Width,
        outputs: Width,
        *,
        stride: int = 1,
        widens: int | None = None,
    ) -> None:
        """`widens` is the column that tells whether there are more outputs than inputs."""
        self.conv_a = relu_conv_norm(inputs, outputs, 3, stride)
        self.conv_b = relu_conv_norm(outputs, outputs, 3)
        projection = Sequential(Conv(inputs, outputs, 1, stride=stride), BatchNorm(outputs))
        if stride == 2:
            self.shortcut = projection
        elif widens is not None:
            self.shortcut = Choice(
                widens, {"identity": _same(inputs, outputs), "conv_1x1": projection}
            )
        else:
            self.shortcut = _same(inputs, outputs)

    def __call__(self, x, ctx: Context):
        """`[B, H, W, inputs] -> [B, ceil(H / stride), ceil(W / stride), outputs]`."""
        y = self.conv_b(self.conv_a(x, ctx), ctx)
        if isinstance(self.shortcut, Choice):
            y = self.shortcut(x, ctx, onto=y)
        else:
            y = ctx.add([y, self.shortcut(x, ctx)])
        return y


def _same(inputs: int | Width, outputs: Width) -> Place:
    # The widths are equal where it is taken: the placing says by whose decision.
    built = inputs.largest if isinstance(inputs, Width) else inputs
    return Place(0, built, outputs)


class Phase(nnx.Module):
    """The modules of one resolution, then the end or the next phase.

    The first phase is the stem's resolution; every other begins with the module that halves it.
    """

    def __init__(self, inputs: int | Width, size: Size, last: Width, phase: int = 0) -> None:
        site = sum(SLOTS[:phase]) + max(phase - 1, 0)
        modules: list[nnx.Module] = []
        for place in range(SLOTS[phase] + (phase > 0)):
            there, widens, width = range(3 * (site + place), 3 * (site + place) + 3)
            most = min(place + 1, DOUBLED[1]) if phase == 0 else DOUBLED[1]
            outputs = Width(width, tuple(size.channels * 2**i for i in range(most + 1)))
            halving = phase > 0 and place == 0
            module = _module(inputs, outputs, size.cells[0], widens, stride=2 if halving else 1)
            if not halving:
                module = Choice(there, {"none": _same(inputs, outputs), "module": module})
            modules.append(module)
            inputs = outputs
        self.modules = nnx.List(modules)
        more = Phase(inputs, size, last, phase + 1) if phase + 1 < len(SLOTS) else None
        assert isinstance(inputs, Width)
        stop = Sequential(GlobalAvgPool(), _same(inputs, last))
        if more is None:
            self.rest = stop
        elif phase < HALVED[0]:
            self.rest = more
        else:
            go_on = 3 * (site + SLOTS[phase] + (phase > 0))
            self.rest = Choice(go_on, {"stop": stop, "halve": more})

    def __call__(self, x, ctx: Context):
        """`[B, H, W, inputs] -> [B, last]`."""
        for module in self.modules:
            x = ctx.boundary(module(x, ctx), module)
        return self.rest(x, ctx)


def _module(
    inputs: int | Width, outputs: Width, blocks: int, widens: int, *, stride: int
) -> nnx.Module:
    first = Block(inputs, outputs, stride=stride, widens=widens)
    return Sequential(first, *(Block(outputs, outputs) for _ in range(blocks - 1)))


class Skeleton(nnx.Module):
    """Stem, phases, classifier."""

    def __init__(self, size: Size, classes: int, image_channels: int) -> None:
        channels = size.channels
        column = 3 * (sum(SLOTS) + HALVED[1])
        last = Width(column, tuple(channels * 2**i for i in range(DOUBLED[1] + 1)))
        self.stem = stem(image_channels, channels, size.resolution)
        self.phases = Phase(channels, size, last)
        self.classifier = Linear(last, classes)

    def __call__(self, x, ctx: Context):
        """Logits `[B, classes]`."""
        return self.classifier(self.phases(ctx.boundary(self.stem(x, ctx)), ctx), ctx)
