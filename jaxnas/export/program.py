"""The function that an exported model computes: raw images to logits and probabilities."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import backend
from jaxnas.export.fold import Folded, folded
from jaxnas.network import Network, Variables

OUTPUTS = ("logits", "probabilities")


class Standardise(NamedTuple):
    """`(scale x - mean) / std` per channel; `mean` and `std` are `float32[C]`."""

    scale: float
    mean: np.ndarray
    std: np.ndarray

    def __call__(self, images: jax.Array) -> jax.Array:
        """`[n, H, W, C]` images of any number type as `float32` inputs of a network."""
        x = images.astype(jnp.float32)
        if self.scale != 1:
            x = x * np.float32(self.scale)
        return (x - self.mean[None, None, None]) / self.std[None, None, None]


def inference(
    network: Network,
    variables: Variables,
    row: np.ndarray,
    standardise: Standardise,
    images: jax.ShapeDtypeStruct,
) -> Folded:
    """The program of one architecture, `row: int32[P]`, with batch norm's running averages.

    It maps `images`, raw, `[n, R, R, C]`, R the network's resolution and n maybe symbolic, to `OUTPUTS`,
    each `float32[n, classes]`. The architecture being known, only its own branches are in it; it has no
    gradients, no control flow and no masks.
    """
    row = np.asarray(row)

    def answer(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = standardise(images)
        logits = network.apply(variables, row, x, batch_norm="running").logits
        logits = logits.astype(jnp.float32)
        return logits, jax.nn.softmax(logits)

    # The plain form of each operation: the one that is quick in XLA's loops on CPUs goes image by image,
    # where other runtimes have depthwise convolutions of their own.
    with backend.traced_for("gpu"):
        return folded(answer, images)
