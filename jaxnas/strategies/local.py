"""Local search: to the best neighbour until there is none better, then from elsewhere."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.strategies.draws import first_unseen, merit, unseen
from jaxnas.strategies.members import Members, members
from jaxnas.strategy import Asked, Strategy, Task, Told


class LocalState(NamedTuple):
    """Where the walk stands.

    `known: float32[classes]` is what was told of each, NaN: nothing; `here` is the current member, -1
    while the start is drawn; `best` is the best of `drawn` draws for the start.
    """

    key: jax.Array
    told: jax.Array
    known: jax.Array
    here: jax.Array
    best: jax.Array
    drawn: jax.Array


@dataclass(frozen=True)
class Local(Strategy):
    """Steepest ascent with restarts, full trainings only; nothing is trained twice.

    Args:
        initial: random members that a start is the best of.
        whole: whether all neighbours are trained before the walk moves on, rather than the first better.
    """

    name: ClassVar[str] = "local"
    paper: ClassVar[str] = (
        "White, Nolen, Savani, Exploring the Loss Landscape in Neural Architecture Search, "
        "arXiv:2005.02960"
    )
    traced: ClassVar[bool] = True
    initial: int = 10
    whole: bool = True

    def init(self, task: Task, key: jax.Array) -> LocalState:
        """Nothing is known."""
        nowhere, none = jnp.full((), -1, jnp.int32), jnp.zeros((), jnp.int32)
        known = jnp.full(members(task).kinds, jnp.nan)
        return LocalState(key, none, known, nowhere, nowhere, none)

    def ask(self, task: Task, state: LocalState, n: int) -> Asked:
        """Neighbours not trained yet, in random order; where they run out, random members."""
        pool = members(task)
        shuffle, draw = jax.random.split(jax.random.fold_in(state.key, state.told))
        seen = ~jnp.isnan(state.known)
        near = jax.random.permutation(shuffle, jnp.asarray(pool.neighbours)[state.here])
        absent = (near < 0) | (state.here < 0)
        # Those absent go by a class of their own that counts as seen.
        near = near[jnp.argsort(absent, stable=True)]
        there = (~absent).sum()
        far = unseen(pool, draw, seen, n)
        rows = jnp.concatenate([jnp.where(jnp.arange(len(near)) < there, near, far[0]), far])
        taken = first_unseen(pool, rows, seen, n)
        return Asked(rows[taken].astype(jnp.int32), jnp.full(n, task.full, jnp.int32))

    def tell(self, task: Task, state: LocalState, asked: Asked, told: Told) -> LocalState:
        """Note what was told, then move on as long as no neighbour is missing."""
        pool = members(task)
        classes = jnp.asarray(pool.classes)
        found = merit(told)
        known = state.known.at[classes[asked.rows]].set(found)
        champion = asked.rows[jnp.argmax(found)]
        before = jnp.where(state.best < 0, -jnp.inf, known[classes[state.best]])
        best = jnp.where(found.max() > before, champion, state.best)
        drawn = state.drawn + len(asked.rows)
        start = (drawn >= self.initial) & (best >= 0)
        walking = state.here >= 0
        here = jnp.where(walking, state.here, jnp.where(start, best, -1))
        here = lax.while_loop(
            lambda now: self._next(pool, known, now) != now,
            lambda now: self._next(pool, known, now),
            here,
        )
        over = walking | start
        return LocalState(
            state.key,
            state.told + len(asked.rows),
            known,
            here.astype(jnp.int32),
            jnp.where(over, -1, best).astype(jnp.int32),
            jnp.where(over, 0, drawn),
        )

    def _next(self, pool: Members, known: jax.Array, here: jax.Array) -> jax.Array:
        """The best neighbour if it is better; -1 at a maximum; `here` while some are missing."""
        near = jnp.asarray(pool.neighbours)[here]
        values = jnp.where(near < 0, -jnp.inf, known[jnp.asarray(pool.classes)[near]])
        missing = jnp.isnan(values).any()
        values = jnp.where(jnp.isnan(values), -jnp.inf, values)
        better = values.max() > known[jnp.asarray(pool.classes)[here]]
        step = jnp.where(better, near[jnp.argmax(values)], -1)
        wait = missing & (jnp.asarray(self.whole) | ~better)
        return jnp.where((here < 0) | wait, here, step)
