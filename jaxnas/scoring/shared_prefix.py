"""The shared-prefix executor: each distinct intermediate value of a whole population is computed once.

Weights belong to positions, so two architectures that made the same choices so far share the value
they have arrived at. The network's own code runs once with `Shared` values in place of arrays: a list
of distinct values and, for each architecture, which of them is its own. A layer applied to it makes one
new value for each distinct one; a sum makes one for each distinct combination; a choice point sends each
value only into the branches that somebody takes. Equal computations are recognised (hash-consing) and
values stay unevaluated recipes until a choice point or a report needs them, so that what is each
architecture's own (the last sum, batch norm and ReLU) is reduced at once and never held in memory.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxnas.network import Network, Variables
from jaxnas.nn.context import NoTap, Taps
from jaxnas.proxy import Batch, CountProxy, ForwardProxy, Proxy
from jaxnas.scoring.per_architecture import counted
from jaxnas.scoring.shared_values import SharedContext


def score_shared_prefix(
    network: Network,
    variables: Variables,
    archs: np.ndarray,
    batch: Batch,
    proxies: Sequence[Proxy],
    *,
    group: int | None = None,
    chunk: Callable[[dict[str, np.ndarray]], None] = lambda scores: None,
) -> dict[str, np.ndarray]:
    """The same scores as `score_per_architecture`, for proxies that need no more than a forward pass.

    Rows are evaluated `group` at a time (default: `group_size`); where neighbouring rows begin alike,
    as sorted ones do, a group shares most. `chunk` is called with the scores of the next rows as they
    are finished.
    """
    archs = np.asarray(archs, np.int32)
    unfit = [p.name for p in proxies if not isinstance(p, CountProxy | ForwardProxy)]
    if unfit:
        raise ValueError(f"{', '.join(unfit)} needs more than a forward pass.")
    forward = tuple(p for p in proxies if isinstance(p, ForwardProxy))
    tap = Taps(tuple(p.tap for p in forward))
    size = group or group_size(network, variables, archs, batch.images)
    parts = []
    for start in range(0, len(archs), size):
        rows = archs[start : start + size]
        part = {p.name: counted(p, network, rows) for p in proxies if isinstance(p, CountProxy)}
        if forward:
            carries = _carries(network, variables, rows, batch.images, tap)
            part |= {p.name: _finish_all(p, c) for p, c in zip(forward, carries, strict=True)}
        parts.append(part)
        chunk(part)
    empty = np.zeros(0, np.float32)
    return {p.name: np.concatenate([empty, *(part[p.name] for part in parts)]) for p in proxies}


GROUP_BYTES = 400e6
"""What a group's intermediate values may take."""


def group_size(network: Network, variables: Variables, archs: np.ndarray, images: jax.Array) -> int:
    """How many rows to evaluate together so that their values take about `GROUP_BYTES` at most.

    Found by following ever larger parts of the population through the network without computing
    anything. Sharing only grows with the population, so that what the whole would hold is at most what a
    part does, times their ratio.
    """
    module = network.bound_module(variables)
    best = size = max(1, min(16, len(archs)))
    while size < 4 * len(archs):
        tried = min(size, len(archs))
        ctx = SharedContext(archs[:tried], NoTap(), dry=True)
        module(ctx.input(images), ctx)
        if ctx.peak_bytes > GROUP_BYTES:
            break
        if ctx.peak_bytes * len(archs) <= GROUP_BYTES * tried:
            return len(archs)
        best, size = tried, 4 * size
    return best


def _carries(
    network: Network, variables: Variables, archs: np.ndarray, images: jax.Array, tap: Taps
) -> tuple:
    ctx = SharedContext(archs, tap)
    network.bound_module(variables)(ctx.input(images), ctx)
    return ctx.finish(images.shape[0])


FINISH_ROWS = 512


def _finish_all(proxy: ForwardProxy, carry: Any) -> np.ndarray:
    """`proxy.finish` of every row, a chunk of one fixed size at a time."""
    n = len(jax.tree.leaves(carry)[0])
    size = min(FINISH_ROWS, n)
    parts = []
    for start in range(0, n, size):
        rows = np.minimum(np.arange(start, start + size), n - 1)
        parts.append(np.asarray(_finish_chunk(proxy, jax.tree.map(lambda a, r=rows: a[r], carry))))
    return np.concatenate(parts)[:n]


@partial(jax.jit, static_argnames="proxy")
def _finish_chunk(proxy: ForwardProxy, carry: Any) -> jax.Array:
    return jax.lax.map(proxy.finish, carry)
