"""NAS-Bench-Macro (Su et al., arXiv:2103.11922): three operations at each of eight layers."""

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
    MBConv,
    ReLU,
    Sequential,
)
from jaxnas.spaces import Decision, SearchSpace, Size, chain, fixed_cells

OPS = ("identity", "mbconv_3x3_e3", "mbconv_5x5_e6")
STAGES = (2, 3, 3)
LAYERS = sum(STAGES)
HEAD = 40
"""Channels of the last convolution, in units of the stem's: 1,280 of 32."""


class NASBenchMacro(SearchSpace):
    """6,561 networks of 8 layers, each an identity or an inverted residual block of one of two sizes.

    The first layer of each stage halves the resolution and doubles the channels; an identity there is a
    1x1 convolution with batch norm. All eight decisions are traced: one program serves the whole space.
    The activation is ReLU, as in the authors' code.
    """

    name = "nasbench_macro"
    paper = "Su et al., Prioritized Architecture Sampling with Monto-Carlo Tree Search, arXiv:2103.11922"
    decisions = tuple(
        Decision(f"stage{stage}.layer{layer}", OPS)
        for stage, layers in enumerate(STAGES, 1)
        for layer in range(1, layers + 1)
    )
    official_size = Size(channels=32, cells=STAGES, resolution=32)
    proxy_size = Size(channels=8, cells=STAGES, resolution=8)
    train_size = Size(channels=16, cells=STAGES, resolution=32)

    def to_string(self, arch: np.ndarray) -> str:
        """Eight digits, one a layer, as in `02012100`."""
        return "".join(str(int(op)) for op in arch)

    def from_string(self, text: str) -> np.ndarray:
        """The row of eight digits 0 to 2."""
        digits = text.strip()
        if len(digits) != LAYERS:
            raise InputError(
                f"Architecture {text!r} has {len(digits)} characters, expected {LAYERS} digits 0 to "
                f"{len(OPS) - 1}, one a layer, as in '02012100'."
            )
        for place, digit in enumerate(digits, 1):
            if digit not in "012":
                raise InputError(
                    f"In architecture {text!r}: layer {place} is {digit!r}, expected "
                    f"{', '.join(f'{k} ({op})' for k, op in enumerate(OPS))}."
                )
        return np.array([int(digit) for digit in digits], np.int32)

    def canonical(self, archs: np.ndarray) -> np.ndarray:
        """Rows of one function become one: identities move to the end of their stage.

        Between the blocks of a stage they change nothing, wherever they stand; the first layer of a
        stage has a shape of its own and stays. (3 * 3) (3 * 7) (3 * 7) = 3,969 of 6,561 remain.
        """
        rows = np.array(archs, np.int32)
        start = 0
        for layers in STAGES:
            inner = rows[:, start + 1 : start + layers]
            order = np.argsort(inner == 0, axis=1, kind="stable")
            rows[:, start + 1 : start + layers] = np.take_along_axis(inner, order, axis=1)
            start += layers
        return rows

    def network(
        self, size: Size, *, classes: int, image_channels: int = 3, shape_class: int = 0
    ) -> Network:
        """The official skeleton at `size`: channels and resolution can be changed."""
        fixed_cells(self.name, size, STAGES)
        module = Skeleton(size.channels, classes, image_channels)
        return Network(module, size.resolution, image_channels, classes)

    def graphs(self, arch: np.ndarray) -> tuple[tuple[str, CellGraph], ...]:
        """The eight layers, with the stem and the head."""
        layers = [OPS[op] for op in np.asarray(arch)]
        return (("network", chain(["stem", *layers, "head"])),)


class Skeleton(nnx.Module):
    """Stem, eight layers in three stages, a last 1x1 convolution, pooling, classifier."""

    def __init__(self, channels: int, classes: int, image_channels: int) -> None:
        head = HEAD * channels
        self.stem = Sequential(Conv(image_channels, channels, 3), BatchNorm(channels), ReLU())
        layers: list[Choice] = []
        for layers_of_stage in STAGES:
            for layer in range(layers_of_stage):
                layers.append(Choice(len(layers), _operations(channels, strided=layer == 0)))
                channels *= 2 if layer == 0 else 1
        self.layers = nnx.List(layers)
        self.last = Sequential(Conv(channels, head, 1), BatchNorm(head), ReLU(), GlobalAvgPool())
        self.classifier = Linear(head, classes)

    def __call__(self, x, ctx: Context):
        """Logits `[B, classes]`."""
        x = ctx.boundary(self.stem(x, ctx))
        for layer in self.layers:
            x = ctx.boundary(layer(x, ctx), layer)
        return self.classifier(self.last(x, ctx), ctx)


def _operations(channels: int, *, strided: bool) -> list:
    """What a layer chooses from; with a stride it doubles the channels."""
    outputs, stride = (2 * channels, 2) if strided else (channels, 1)
    skip = Sequential(Conv(channels, outputs, 1, stride=2), BatchNorm(outputs))
    return [
        skip if strided else Identity(),
        *(
            MBConv(channels, outputs, kernel, expansion=e, stride=stride, activation="relu")
            for kernel, e in ((3, 3), (5, 6))
        ),
    ]
