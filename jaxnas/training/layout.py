"""How a population is laid out: one after another, in vmapped chunks, sharded over devices.

The results are the same, to the rounding of another order of additions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnas import backend
from jaxnas.errors import InputError

AXIS = "members"
"""The mesh's only axis, over which candidates are dealt out."""


@dataclass(frozen=True)
class Layout:
    """`chunk` candidates at once, None: one after another; dealt out over `devices`.

    On CPUs a vmapped network is a grouped convolution, 3 to 9 times slower than one after another, and
    computes every branch of a choice.
    """

    chunk: int | None
    devices: tuple[Any, ...]

    @classmethod
    def default(cls) -> "Layout":
        """What the devices in use are best at: `jaxnas.backend`, all devices of all processes."""
        return cls(backend.choices().map_batch_size, tuple(jax.devices()))

    @classmethod
    def fitting(cls, capacity: int) -> "Layout":
        """`default()`; on one device of each process where the capacity is no multiple of them all."""
        layout = cls.default()
        whole = capacity % len(layout.devices) == 0
        return layout if whole else cls(layout.chunk, tuple(jax.local_devices()[:1]))

    def places(self, n: int) -> int:
        """The least capacity for `n` candidates: a multiple of the number of devices."""
        return -(-n // len(self.devices)) * len(self.devices)

    def dealt[S](self, state: S) -> S:
        """`state` as `spread` leaves it: each device has the members that it computes.

        A program is compiled for where its arguments lie, so that without this the first turn and the
        second would be two programs.

        Raises:
            InputError: the members are no multiple of the number of devices.
        """
        if len(self.devices) == 1:
            usual = self.devices[0] == jax.local_devices()[0]
            return state if usual else jax.device_put(state, self.devices[0])
        sharding = NamedSharding(_mesh(self.devices), P(AXIS))

        def place(array: jax.Array | np.ndarray) -> jax.Array:
            if isinstance(array, jax.Array) and not array.is_fully_addressable:
                return array
            _check_multiple(len(array), self.devices)
            # Every process has the whole, and gives its own devices their part of it.
            whole = np.asarray(array)
            return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

        return jax.tree.map(place, state)


def padded(rows: np.ndarray, capacity: int) -> np.ndarray:
    """`rows: int32[N, P]` with zeros for the places that are kept free."""
    whole = np.zeros((capacity, rows.shape[1]), np.int32)
    whole[: len(rows)] = rows
    return whole


def spread[S](
    one: Callable[[S, Any, Any], S],
    layout: Layout,
    state: S,
    members: Any,
    shared: Any,
    which: jax.Array,
) -> S:
    """`state` after `one(state, member, shared)` for the members that `which: bool[N]` names.

    To be used inside a jitted function. Leaves of `state` and `members` have the members as their first
    axis, and `one` is given a row of each; it gives the row of the new state. Only the members named
    are computed, and each device has those that lie on it.

    Raises:
        InputError: N is no multiple of the number of devices.
    """

    def local(state: S, members: Any, shared: Any, which: jax.Array) -> S:
        rows = jnp.argsort(~which, stable=True)
        count = which.sum()
        size = 1 if layout.chunk is None else min(layout.chunk, len(which))

        def alone(i: jax.Array, state: S) -> S:
            row = rows[i]
            own, member = jax.tree.map(lambda a: a[row], (state, members))
            found = one(own, member, shared)
            return jax.tree.map(lambda a, b: a.at[row].set(b), state, found)

        def together(i: jax.Array, state: S) -> S:
            places = i * size + jnp.arange(size)
            chosen = rows[jnp.minimum(places, len(which) - 1)]
            own, member = jax.tree.map(lambda a: a[chosen], (state, members))
            found = jax.vmap(one, in_axes=(0, 0, None))(own, member, shared)
            # The last chunk's surplus is written nowhere.
            to = jnp.where(places < count, chosen, len(which))
            return jax.tree.map(lambda a, b: a.at[to].set(b, mode="drop"), state, found)

        if layout.chunk is None:
            return lax.fori_loop(0, count, alone, state)
        return lax.fori_loop(0, -(-count // size), together, state)

    _check_multiple(len(which), layout.devices)
    if len(layout.devices) == 1:
        return local(state, members, shared, which)
    own = P(AXIS)
    dealt = jax.shard_map(
        local,
        mesh=_mesh(layout.devices),
        in_specs=(own, own, P(), own),
        out_specs=own,
        check_vma=False,
    )
    return dealt(state, members, shared, which)


def _mesh(devices: tuple[Any, ...]) -> Mesh:
    return Mesh(np.array(devices), (AXIS,))


def _check_multiple(capacity: int, devices: tuple[Any, ...]) -> None:
    if capacity % len(devices):
        raise InputError(
            f"A population of capacity {capacity} cannot be dealt out over {len(devices)} devices; "
            "expected a multiple."
        )


def to_host(array: jax.Array | np.ndarray) -> np.ndarray:
    """The whole of an array, parts of which may lie with other processes."""
    if not isinstance(array, jax.Array) or array.is_fully_addressable:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
