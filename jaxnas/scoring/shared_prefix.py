"""The shared-prefix executor: each distinct intermediate value of a whole population is computed once.

Weights belong to positions, so two architectures that made the same choices so far share the value
they have arrived at. The network's own code runs once with `Shared` values in place of arrays: a list
of distinct values and, for each architecture, which of them is its own. A layer applied to it makes one
new value for each distinct one; a sum makes one for each distinct combination; a choice point sends each
value only into the branches that somebody takes. Equal computations are recognised (hash-consing) and
values stay unevaluated recipes until a choice point or a report needs them, so that what is each
architecture's own (the last sum, batch norm and ReLU) is reduced at once and never held in memory.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxnas.network import Network, Variables
from jaxnas.nn.context import BatchNormMode, NoTap, Taps
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
    groups: dict[Any, list[ForwardProxy]] = defaultdict(list)
    for p in proxies:
        if isinstance(p, ForwardProxy):
            groups[p.forward(network).key].append(p)
    passes = [_Pass.of(network, variables, batch, group) for group in groups.values()]
    size = group or min(
        (group_size(network, variables, archs, p.images) for p in passes), default=len(archs) or 1
    )
    parts = []
    for start in range(0, len(archs), size):
        rows = archs[start : start + size]
        part = {p.name: counted(p, network, rows) for p in proxies if isinstance(p, CountProxy)}
        for each in passes:
            part |= each.scores(network, variables, rows)
        parts.append(part)
        chunk(part)
    empty = np.zeros(0, np.float32)
    return {p.name: np.concatenate([empty, *(part[p.name] for part in parts)]) for p in proxies}


@dataclass(frozen=True)
class _Pass:
    """A forward pass and the proxies that read it."""

    proxies: tuple[ForwardProxy, ...]
    variables: Variables
    images: jax.Array
    batch_norm: BatchNormMode
    tap: Taps

    @classmethod
    def of(
        cls,
        network: Network,
        variables: Variables,
        batch: Batch,
        proxies: Sequence[ForwardProxy],
    ) -> "_Pass":
        first = proxies[0]
        images = jax.jit(first.inputs)(batch).astype(batch.images.dtype)
        if first.weights is not None:
            made = jax.jit(first.weights)(variables.params, batch)
            variables = variables._replace(params=made)
        taps = Taps(tuple(dict.fromkeys(p.tap_for(network) for p in proxies)))
        return cls(tuple(proxies), variables, images, first.batch_norm, taps)

    def scores(self, network: Network, variables: Variables, archs: np.ndarray) -> dict[str, Any]:
        """Each proxy's score of each row, rows of a fixed number at a time."""
        ctx = SharedContext(archs, self.tap, batch_norm=self.batch_norm)
        network.bound_module(self.variables)(ctx.input(self.images), ctx)
        ctx.settle()
        shapes = jax.eval_shape(lambda: self.tap.init(len(self.images)))
        carried = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
        size = min(FINISH_ROWS, max(1, int(FINISH_BYTES // max(carried, 1))), len(archs))
        parts: dict[str, list[np.ndarray]] = {p.name: [] for p in self.proxies}
        for start in range(0, len(archs), size):
            # The last rows anew, rather than another shape.
            first = min(start, len(archs) - size)
            carries = ctx.carry(len(self.images), slice(first, first + size))
            for p in self.proxies:
                carry = carries[self.tap.taps.index(p.tap_for(network))]
                rows = archs[first : first + size]
                finished = _finish(p, network, variables, carry, rows)
                parts[p.name].append(np.asarray(finished)[start - first :])
        return {name: np.concatenate(values) for name, values in parts.items()}


FINISH_ROWS = 512
FINISH_BYTES = 16e6
"""What the carries of rows that are finished together may take, so that they stay in the cache."""


@partial(jax.jit, static_argnames=("proxy", "network"))
def _finish(
    proxy: ForwardProxy, network: Network, variables: Variables, carry: Any, archs: jax.Array
) -> jax.Array:
    def one(row: tuple[Any, jax.Array]) -> jax.Array:
        return proxy.score(row[0], network, variables, row[1])

    return jax.lax.map(one, (carry, archs))


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
