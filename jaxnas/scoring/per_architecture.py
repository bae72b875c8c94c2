"""The general executor: any space, any proxy, one compiled program, one architecture after another."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnas import backend
from jaxnas.network import Network, Variables
from jaxnas.proxy import Batch, CountProxy, Proxy, evaluate, programs

ARCHS_PER_CALL = 32
"""Architectures that one device scores before the program hands results back. Fewer are the same program,
which then leaves places out: populations of every size compile it once."""


def score_per_architecture(
    network: Network,
    variables: Variables,
    archs: np.ndarray,
    batch: Batch,
    proxies: Sequence[Proxy],
    *,
    devices: Sequence[Any] | None = None,
    chunk: Callable[[dict[str, np.ndarray]], None] = lambda scores: None,
) -> dict[str, np.ndarray]:
    """Every proxy's score of every row of `archs: int32[N, D]`, `float32[N]` each.

    Inside the program architectures follow each other in `lax.map` and choices are `lax.switch`; rows
    are dealt out over `devices` (default: all). Proxies that read one pass share it. `chunk`
    is called with the scores of the next rows as they are finished.
    """
    devices = tuple(devices if devices is not None else jax.devices())
    archs = np.asarray(archs, np.int32)
    groups = programs(proxies, network)
    size = ARCHS_PER_CALL * len(devices)
    # The places of a call, in the order in which devices hold them: rows are dealt out in turn.
    dealt = np.arange(size).reshape(-1, len(devices)).T.ravel()
    parts = []
    for start in range(0, len(archs), size):
        rows = archs[start : start + size]
        part = {p.name: counted(p, network, rows) for p in proxies if isinstance(p, CountProxy)}
        placed, there = rows[np.minimum(dealt, len(rows) - 1)], dealt < len(rows)
        for group in groups:
            result = score_chunk(network, group, devices, variables, placed, there, batch)
            table = np.asarray(result)[np.argsort(dealt)][: len(rows)]
            part |= {p.name: table[:, i] for i, p in enumerate(group)}
        parts.append(part)
        chunk(part)
    empty = np.zeros(0, np.float32)
    return {p.name: np.concatenate([empty, *(part[p.name] for part in parts)]) for p in proxies}


@partial(jax.jit, static_argnames=("network", "proxies", "devices"))
def score_chunk(
    network: Network,
    proxies: tuple[Proxy, ...],
    devices: tuple[Any, ...],
    variables: Variables,
    archs: jax.Array,
    there: jax.Array,
    batch: Batch,
) -> jax.Array:
    """`float32[N, len(proxies)]`, 0 where `there: bool[N]` is false, which costs nothing on the CPU.

    N must be a multiple of the number of devices.
    """
    chunk = backend.choices().map_batch_size

    def rows(variables: Variables, members: tuple[jax.Array, jax.Array], batch: Batch) -> jax.Array:
        def scored(arch: jax.Array) -> jax.Array:
            own = network.specialise(variables, arch)
            found = evaluate(proxies, network, own, arch, batch)
            return jnp.stack([found[p.name] for p in proxies])

        def one(member: tuple[jax.Array, jax.Array]) -> jax.Array:
            arch, present = member
            return lax.cond(present, scored, lambda arch: jnp.zeros(len(proxies)), arch)

        # On the CPU no batch_size at all: any integer vmaps, and computes every branch of a switch.
        return lax.map(one, members) if chunk is None else lax.map(one, members, batch_size=chunk)

    members = (archs, there)
    if len(devices) == 1:
        return rows(variables, members, batch)
    mesh = Mesh(np.array(devices), ("archs",))
    members = lax.with_sharding_constraint(members, NamedSharding(mesh, P("archs")))
    spread = jax.shard_map(
        rows, mesh=mesh, in_specs=(P(), P("archs"), P()), out_specs=P("archs"), check_vma=False
    )
    return spread(variables, members, batch)


def counted(proxy: CountProxy, network: Network, archs: np.ndarray) -> np.ndarray:
    """A counting proxy's score of each row, `float64[N]`: counts beyond 2^24 stay exact."""
    return np.asarray(proxy.count(network, archs), np.float64)
