"""What networks of fully connected layers have beside `Linear`: flattening, GELU."""

import jax

from jaxnas.nn.context import Context
from jaxnas.nn.layers import Layer


class Flatten(Layer):
    """Images as vectors, row by row of pixels, each pixel's channels together."""

    flow = "linear"
    keeps_zero = True

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, H, W, C] -> [B, H W C]`."""
        return x.reshape(x.shape[0], -1)


class GELU(Layer):
    """x Phi(x), Phi the normal distribution function (Hendrycks and Gimpel, arXiv:1606.08415).

    It reports nothing: its gate is smooth, so that there is no on or off for a code to tell.
    """

    flow = "increasing"
    keeps_zero = True

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """Elementwise."""
        return jax.nn.gelu(x, approximate=False)
