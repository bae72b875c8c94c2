"""A 1x1 convolution of stride 2 that leaves no pixel out."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxnas.errors import InputError
from jaxnas.nn.context import Context
from jaxnas.nn.layers import Axes, Layer, parameter


class FactorizedReduce(Layer):
    """Half of the outputs read the pixels of even rows and columns, the others those of odd ones.

    `y[..., p, q, :] = concat(x[..., 2p, 2q, :] W1, x[..., 2p + 1, 2q + 1, :] W2)`, as in NASNet and
    DARTS (arXiv:1806.09055): two 1x1 convolutions of stride 2, the second on the image shifted by one
    pixel (beyond an odd side it reads zeros). Without ReLU and batch norm; of fixed width, since the
    halves are of the outputs there are.
    """

    flow = "linear"
    affine = True
    keeps_zero = True
    fan_in_drawn: ClassVar[tuple[str, ...]] = ("kernel",)

    def __init__(self, inputs: int, outputs: int) -> None:
        if outputs < 2:
            raise InputError(f"A factorized reduction has at least 2 outputs, not {outputs}.")
        self.kernel = parameter((inputs, outputs), bound=inputs**-0.5)
        self.outputs = outputs

    def channel_axes(self) -> dict[str, Axes]:
        """Inputs may be masked."""
        return {"kernel": ((0, "in"),)}

    def count(self, inputs: Any, outputs: Any, positions: int) -> tuple[Any, Any]:
        """I O weights, each used at every position."""
        return inputs * outputs, inputs * outputs * positions

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, H, W, I] -> [B, ceil(H / 2), ceil(W / 2), O]`."""
        half = self.kernel[...].shape[1] // 2
        shifted = jnp.pad(x[:, 1:, 1:], [(0, 0), (0, 1), (0, 1), (0, 0)])
        even = x[:, ::2, ::2] @ self.kernel[:, :half]
        odd = shifted[:, ::2, ::2] @ self.kernel[:, half:]
        return jnp.concatenate([even, odd], axis=3)
