"""A learned factor for each channel."""

from typing import Any

import jax

from jaxnas.nn.context import Context
from jaxnas.nn.layers import Axes, Layer, parameter
from jaxnas.nn.width import Width, largest


class Scale(Layer):
    """`y[..., c] = scale[c] x[..., c]`, beginning at 1: how much of a skip connection is let through."""

    flow = "linear"
    keeps_zero = True

    def __init__(self, channels: int | Width) -> None:
        self.scale = parameter((largest(channels),), offset=1.0)

    def channel_axes(self) -> dict[str, Axes]:
        """One factor a channel."""
        return {"scale": ((0, "in"),)}

    def count(self, inputs: Any, outputs: Any, positions: int) -> tuple[Any, Any]:
        """A factor for each channel; like batch norm's, its multiplications are not counted."""
        return inputs, 0

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, H, W, C] -> [B, H, W, C]`."""
        return x * self.scale[...][None, None, None].astype(x.dtype)
