"""Mobile networks' layers: ReLU6, hard swish, squeeze-and-excite, the inverted residual block."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxnas.nn.context import Context
from jaxnas.nn.layers import Axes, BatchNorm, Conv, Layer, ReLU, Sequential, Side, parameter
from jaxnas.nn.width import Width, largest


class ReLU6(ReLU):
    """min(max(x, 0), 6); reports its input as ReLU does."""

    flow = "increasing"

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """Elementwise."""
        return jax.nn.relu6(x)


class HardSwish(ReLU):
    """x min(max(x + 3, 0), 6) / 6 (Howard et al., arXiv:1905.02244); reports its input as ReLU does."""

    flow = "increasing"

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """Elementwise."""
        return jax.nn.hard_swish(x)


ACTIVATIONS: dict[str, type[ReLU]] = {"relu": ReLU, "relu6": ReLU6, "hard_swish": HardSwish}
"""What an MBConv block can be built with."""


def divisible(channels: Any, by: int = 8) -> Any:
    """The multiple of `by` nearest to a number of channels (or an array), at least 90 % of it.

    The rounding of MobileNetV2's and V3's authors.
    """
    channels = np.asarray(channels)
    near = np.maximum(by, (channels + by // 2) // by * by)
    near = np.where(near < 0.9 * channels, near + by, near).astype(np.int64)
    return near if near.ndim else int(near)


class SqueezeExcite(Layer):
    """x scaled channel by channel: `x * h(W2 relu(W1 mean(x) + b1) + b2)`, h the hard sigmoid.

    Hu et al., arXiv:1709.01507, as in MobileNetV3 (arXiv:1905.02244): `divisible(C / 4)` units
    between, as many as the block's own width asks for. Its ReLU is not reported.
    """

    keeps_zero = True

    def __init__(self, channels: int | Width, *, reduction: int = 4) -> None:
        self.reduction = reduction
        built = largest(channels)
        between = self._squeezed(built)
        self.squeeze = parameter((built, between), bound=built**-0.5)
        self.squeeze_bias = parameter((between,), bound=built**-0.5)
        self.excite = parameter((between, built), bound=between**-0.5)
        self.excite_bias = parameter((built,), bound=between**-0.5)

    @property
    def depth(self) -> int:
        """Two fully connected layers, though no report is made of them."""
        return 2

    def _squeezed(self, channels: Any) -> Any:
        return divisible(np.asarray(channels) // self.reduction)

    @property
    def _between(self) -> Width | None:
        """The width between, where architectures choose that of the input."""
        if self.width is None:
            return None
        return replace(self.width, values=tuple(self._squeezed(v) for v in self.width.values))

    def channel_axes(self) -> dict[str, Axes]:
        """The units between have a width of their own, which follows the input's."""
        return {
            "squeeze": ((0, "in"), (1, self._between)),
            "squeeze_bias": ((0, self._between),),
            "excite": ((0, self._between), (1, "in")),
            "excite_bias": ((0, "in"),),
        }

    def fan_in(self) -> dict[str, Side]:
        """What each parameter's deviation depends on."""
        first, second = ("squeeze", "squeeze_bias"), ("excite", "excite_bias")
        return dict.fromkeys(first, "in") | dict.fromkeys(second, self._between)

    def count(self, inputs: Any, outputs: Any, positions: int) -> tuple[Any, Any]:
        """Two fully connected layers, once an image."""
        between = self._squeezed(inputs)
        return (inputs + 1) * between + (between + 1) * inputs, 2 * inputs * between

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, H, W, C] -> [B, H, W, C]`."""
        mean = x.mean((1, 2))
        between = jax.nn.relu(mean @ self.squeeze[...] + self.squeeze_bias[...][None])
        gate = jax.nn.hard_sigmoid(between @ self.excite[...] + self.excite_bias[...][None])
        return x * gate[:, None, None].astype(x.dtype)


class MBConv(nnx.Module):
    """The inverted residual block of MobileNetV2 (Sandler et al., arXiv:1801.04381).

    A 1x1 convolution expands to `expansion` times the inputs, or to `hidden` channels; a depthwise one
    follows, which has the stride; a last 1x1 projects. Each has batch norm, the first two an activation.
    Without expansion (1) there is no first convolution. The input is added where shapes agree, that is
    at stride 1 with as many outputs as inputs, chosen by the same decision if they are widths.
    """

    def __init__(
        self,
        inputs: int | Width,
        outputs: int | Width,
        kernel: int,
        *,
        expansion: int | None,
        hidden: int | Width | None = None,
        stride: int = 1,
        squeeze_excite: bool = False,
        activation: str = "relu6",
    ) -> None:
        assert (expansion is None) != (hidden is None), "a block is of an expansion or of a width"
        act = ACTIVATIONS[activation]
        middle = hidden if hidden is not None else _times(inputs, expansion or 1)
        layers: list[Any] = []
        if expansion != 1:
            layers += [Conv(inputs, middle, 1), BatchNorm(middle), act()]
        depthwise = Conv(middle, middle, kernel, stride=stride, groups=largest(middle))
        layers += [depthwise, BatchNorm(middle), act()]
        layers += [SqueezeExcite(middle)] if squeeze_excite else []
        layers += [Conv(middle, outputs, 1), BatchNorm(outputs)]
        self.layers = Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def __call__(self, x: Any, ctx: Any) -> Any:
        """`[B, H, W, inputs] -> [B, ceil(H / stride), ceil(W / stride), outputs]`."""
        y = self.layers(x, ctx)
        return ctx.add([x, y]) if self.residual else y


def _times(channels: int | Width, factor: int) -> int | Width:
    if isinstance(channels, Width):
        return replace(channels, values=tuple(factor * v for v in channels.values))
    return factor * channels
