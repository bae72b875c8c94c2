"""Non-dominated sorting and crowding (Deb et al., A fast and elitist multiobjective GA, 2002).

Objectives `float[N, M]` are the less the better. A violation `float[N]` says by how much constraints are
broken: who breaks them less dominates, and of those that break none, who is nowhere worse and somewhere
better.
"""

import jax
import jax.numpy as jnp
from jax import lax


def dominates(objectives: jax.Array, violation: jax.Array) -> jax.Array:
    """`bool[N, N]`: whether row dominates column."""
    a, b = objectives[:, None], objectives[None]
    better = (a <= b).all(axis=2) & (a < b).any(axis=2)
    less = violation[:, None] < violation[None]
    equal = violation[:, None] == violation[None]
    return less | (equal & better)


def fronts(objectives: jax.Array, violation: jax.Array) -> jax.Array:
    """The front of each, `int32[N]`: 0 is not dominated, 1 only by those in 0, and so on."""
    beats = dominates(objectives, violation)

    def peel(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        rank, level = carry
        left = rank < 0
        beaten = (beats & left[:, None]).any(axis=0)
        return jnp.where(left & ~beaten, level, rank), level + 1

    start = (jnp.full(len(objectives), -1, jnp.int32), jnp.zeros((), jnp.int32))
    return lax.while_loop(lambda carry: (carry[0] < 0).any(), peel, start)[0]


def crowding(objectives: jax.Array, front: jax.Array) -> jax.Array:
    """The crowding distance within each front, `float32[N]`.

    The sum over objectives of the gap between the neighbours on both sides, over the front's range; the
    ends of each objective are infinitely far.
    """
    total = jnp.zeros(len(objectives))
    for m in range(objectives.shape[1]):
        values = objectives[:, m]
        order = jnp.lexsort((values, front))
        f, v = front[order], values[order]
        same = f[1:] == f[:-1]
        first = jnp.concatenate([jnp.ones(1, bool), ~same])
        last = jnp.concatenate([~same, jnp.ones(1, bool)])
        low = jax.ops.segment_min(values, front, num_segments=len(values))
        high = jax.ops.segment_max(values, front, num_segments=len(values))
        reach = (high - low)[f]
        gap = jnp.concatenate([v[1:], v[-1:]]) - jnp.concatenate([v[:1], v[:-1]])
        share = jnp.where(reach > 0, gap / jnp.where(reach > 0, reach, 1), 0)
        total = total.at[order].add(jnp.where(first | last, jnp.inf, share))
    return total
