"""ASHA: successive halving that never waits for a rung to be full."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.errors import InputError
from jaxnas.strategies.draws import merit, seen_after, unseen
from jaxnas.strategies.members import members
from jaxnas.strategy import Asked, Strategy, Task, Told


class AshaState(NamedTuple):
    """All trainings so far, in order, `[T]` each: member, fidelity, merit and whether it was promoted.

    `merits` is NaN where nothing was told.
    """

    key: jax.Array
    rows: jax.Array
    fidelity: jax.Array
    merits: jax.Array
    promoted: jax.Array
    seen: jax.Array
    told: jax.Array


@dataclass(frozen=True)
class Asha(Strategy):
    """Each training is of the best that may be promoted, from the highest rung down, else of a new one.

    Of a rung with m results the best floor(m / eta) may be promoted, each once. Trainings begin anew at
    each fidelity. Beyond the budget's number of trainings at the lowest fidelity the oldest are
    forgotten.

    Args:
        eta: one of so many is promoted.
    """

    name: ClassVar[str] = "asha"
    paper: ClassVar[str] = (
        "Li et al., A System for Massively Parallel Hyperparameter Tuning, arXiv:1810.05934"
    )
    traced: ClassVar[bool] = True
    multi_fidelity: ClassVar[bool] = True
    eta: int = 3

    def __post_init__(self) -> None:
        if self.eta < 2:
            raise InputError(f"eta is {self.eta}, expected at least 2: 1 of eta is promoted.")

    def init(self, task: Task, key: jax.Array) -> AshaState:
        """Nothing was trained."""
        most = math.ceil(task.budget * task.fidelities[-1] / task.fidelities[0])
        none = jnp.zeros(most, jnp.int32)
        return AshaState(
            key,
            none,
            none - 1,
            jnp.full(most, jnp.nan),
            none > 0,
            jnp.zeros(members(task).kinds, bool),
            jnp.zeros((), jnp.int32),
        )

    def ask(self, task: Task, state: AshaState, n: int) -> Asked:
        """Promotions by what was told, each to one, then new members."""
        return self._asked(task, state, n)[1]

    def tell(self, task: Task, state: AshaState, asked: Asked, told: Told) -> AshaState:
        """Their results; who was promoted is known from asking again, which gives the same."""
        n = len(asked.rows)
        state = self._asked(task, state, n)[0]
        place = (state.told - n + jnp.arange(n)) % len(state.rows)
        return state._replace(merits=state.merits.at[place].set(merit(told)))

    def _asked(self, task: Task, state: AshaState, n: int) -> tuple[AshaState, Asked]:
        pool = members(task)

        def one(state: AshaState, _: None) -> tuple[AshaState, Asked]:
            best, rung = self._promotable(task, state)
            new = unseen(pool, jax.random.fold_in(state.key, state.told), state.seen, 1)[0]
            found = best >= 0
            row = jnp.where(found, state.rows[best], new).astype(jnp.int32)
            fidelity = jnp.where(found, rung + 1, 0).astype(jnp.int32)
            place = state.told % len(state.rows)
            promoted = state.promoted.at[best].set(state.promoted[best] | found)
            after = AshaState(
                state.key,
                state.rows.at[place].set(row),
                state.fidelity.at[place].set(fidelity),
                state.merits.at[place].set(jnp.nan),
                promoted.at[place].set(False),
                seen_after(pool, state.seen, row),
                state.told + 1,
            )
            return after, Asked(row, fidelity)

        return lax.scan(one, state, None, length=n)

    def _promotable(self, task: Task, state: AshaState) -> tuple[jax.Array, jax.Array]:
        """The training to promote, -1: none, and its rung."""
        found, at = jnp.full((), -1), jnp.zeros((), jnp.int32)
        for rung in range(task.full):  # the highest is looked at last, and wins
            there = (state.fidelity == rung) & ~jnp.isnan(state.merits)
            merits = jnp.where(there, state.merits, -jnp.inf)
            values = jnp.where(state.promoted, -jnp.inf, merits)
            best = jnp.argmax(values)
            # Of equals the first come first.
            before = (merits > values[best]) | (
                (merits == values[best]) & (jnp.arange(len(merits)) < best)
            )
            may = (before.sum() < there.sum() // self.eta) & (values[best] > -jnp.inf)
            found, at = jnp.where(may, best, found), jnp.where(may, rung, at)
        return found, at
