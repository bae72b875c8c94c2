"""What traced strategies draw and look up: random members, mutants, the member that decisions mean."""

import jax
import jax.numpy as jnp

from jaxnas.strategies.members import Members
from jaxnas.strategy import Told

SMALL = 256
"""Pools up to so many members are shuffled whole to find one that was not asked yet."""


def merit(told: Told) -> jax.Array:
    """The fitness `float32[n]`, -inf for who failed."""
    fine = ~told.failed & ~jnp.isnan(told.fitness)
    return jnp.where(fine, told.fitness, -jnp.inf).astype(jnp.float32)


def anyone(pool: Members, key: jax.Array, n: int) -> jax.Array:
    """`n` rows drawn uniformly, with replacement."""
    return jax.random.randint(key, (n,), 0, len(pool.archs))


def unseen(pool: Members, key: jax.Array, seen: jax.Array, n: int) -> jax.Array:
    """`n` random rows of classes that are not in `seen: bool[classes]` nor equal to each other.

    They are found among a few dozen draws (the whole pool if it is small): when nearly all was seen, some
    that were come again.
    """
    size = len(pool.archs)
    if size <= max(SMALL, n):
        drawn = jnp.tile(jax.random.permutation(key, size), -(-n // size))
    else:
        drawn = anyone(pool, key, min(size, 16 * n + 48))
    return drawn[first_unseen(pool, drawn, seen, n)]


def first_unseen(pool: Members, rows: jax.Array, seen: jax.Array, n: int) -> jax.Array:
    """Places in `rows: int32[k]` of the first `n` of classes not seen, each once; then of others."""
    classes = jnp.asarray(pool.classes)[rows]
    known = seen[classes]
    if n == 1:
        return jnp.argmin(known)[None]
    earlier = jnp.tril(classes[:, None] == classes[None], -1).any(axis=1)
    return jnp.argsort(known | earlier, stable=True)[:n]


def seen_after(pool: Members, seen: jax.Array, rows: jax.Array) -> jax.Array:
    """`seen` with the classes of `rows`."""
    return seen.at[jnp.asarray(pool.classes)[rows]].set(True)


def mutant(pool: Members, key: jax.Array, row: jax.Array) -> jax.Array:
    """A random neighbour of `row: int32[]`: one decision changed; the row itself where it has none."""
    chances = jnp.asarray(pool.chances)[row]
    place = jnp.argmax(jax.random.uniform(key) < chances)
    found = jnp.asarray(pool.neighbours)[row, place]
    return jnp.where(found < 0, row, found)


def rows_of(pool: Members, archs: jax.Array) -> jax.Array:
    """The members `int32[n]` that decisions `int32[n, D]` mean: equal ones, else the nearest."""
    if len(pool.row_of):
        code = jnp.zeros(len(archs), jnp.int32)
        for d, choices in enumerate(pool.choices.tolist()):
            code = code * choices + archs[:, d]
        return jnp.asarray(pool.row_of)[code]
    apart = (archs[:, None] != jnp.asarray(pool.archs)[None]).sum(axis=2)
    return jnp.argmin(apart, axis=1).astype(jnp.int32)
