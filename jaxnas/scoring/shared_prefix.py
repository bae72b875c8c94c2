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
from jaxnas.nn.context import Taps
from jaxnas.proxy import Batch, CountProxy, ForwardProxy, Proxy
from jaxnas.scoring.shared_values import SharedContext



def score_shared_prefix(
    network: Network,
    variables: Variables,
    archs: np.ndarray,
    batch: Batch,
    proxies: Sequence[Proxy],
    *,
    group: int | None = None,
    done: Callable[[int], None] = lambda n: None,
) -> dict[str, np.ndarray]:
    """The same scores as `score_per_architecture`, for proxies that need no more than a forward pass.

    `group` architectures (default: all if the network's values fit, else 64) are evaluated together;
    sorted rows make neighbours share most. `done` is called with the rows finished.
    """
    archs = np.asarray(archs, np.int32)
    forward = tuple(p for p in proxies if isinstance(p, ForwardProxy))
    scores: dict[str, np.ndarray] = {
        p.name: np.asarray(p.count(network, archs), np.float64)
        for p in proxies
        if isinstance(p, CountProxy)
    }
    scores |= {p.name: np.zeros(len(archs), np.float32) for p in forward}
    unfit = [p.name for p in proxies if p.name not in scores]
    if unfit:
        raise ValueError(f"{', '.join(unfit)} needs more than a forward pass.")
    tap = Taps(tuple(p.tap for p in forward))
    order = np.lexsort(archs.T[::-1])
    size = group or len(archs)
    for start in range(0, len(archs) if forward else 0, size):
        rows = order[start : start + size]
        carries = _carries(network, variables, archs[rows], batch.images, tap)
        for proxy, carry in zip(forward, carries, strict=True):
            scores[proxy.name][rows] = _finish_all(proxy, carry)
        done(len(rows))
    return {p.name: scores[p.name] for p in proxies}


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
