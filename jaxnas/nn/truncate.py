"""Fewer of a value's channels."""

import jax

from jaxnas.nn.context import Context
from jaxnas.nn.layers import Layer
from jaxnas.nn.width import Width


class Truncate(Layer):
    """x's first channels, as many as a width says, no more than x has; what is built beyond becomes 0."""

    flow = "linear"
    keeps_zero = True

    def __init__(self, outputs: Width) -> None:
        self.outputs = outputs

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[..., C] -> [..., outputs.largest]`."""
        assert isinstance(self.outputs, Width)
        x = x[..., : self.outputs.largest]
        if ctx.arch is None:
            return x
        mask = self.outputs.mask(ctx.arch).astype(x.dtype)
        return x * mask.reshape((1,) * (x.ndim - 1) + mask.shape)
