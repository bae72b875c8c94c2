"""How long a network takes for an image on the device in use."""

import statistics
import time
from collections.abc import Iterator
from functools import partial

import jax
import numpy as np

from jaxnas.network import Network, Variables

TIMES = 5
"""Runs of each architecture after a first one; the median counts."""


def milliseconds(
    network: Network, variables: Variables, rows: np.ndarray, images: jax.Array
) -> Iterator[float]:
    """Milliseconds of a forward pass on `images: [B, H, W, C]`, divided by B, for each of `rows`.

    One program is compiled for all `rows: int32[N, P]` (what the network reads): choices are made
    inside, so that the time is that of the operations chosen, and a few microseconds. Masked widths take
    the time of the widest.
    """
    for i, row in enumerate(rows):
        if i == 0:
            _logits(network, variables, row, images).block_until_ready()
        laps = []
        for _ in range(1 + TIMES):
            start = time.perf_counter()
            _logits(network, variables, row, images).block_until_ready()
            laps.append(time.perf_counter() - start)
        yield 1000 * statistics.median(laps[1:]) / len(images)


@partial(jax.jit, static_argnames="network")
def _logits(network: Network, variables: Variables, row: jax.Array, images: jax.Array) -> jax.Array:
    return network.apply(variables, row, images, batch_norm="running").logits
