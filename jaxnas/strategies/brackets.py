"""Brackets of successive halving: a plan of trainings, each of a new member or of the best of a rung.

A rung is a number of trainings at one fidelity; the next rung trains the best of them at the next
fidelity, from the start again (what a table's short trainings are; whoever trains on from a checkpoint
pays less). Who failed is not promoted: someone new is trained at that fidelity in its place.
"""

import abc
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.errors import InputError
from jaxnas.strategies.draws import merit, seen_after, unseen
from jaxnas.strategies.members import members
from jaxnas.strategy import Asked, Strategy, Task, Told
from jaxnas.training.fidelity import halving_rungs


class Bracket(NamedTuple):
    """Trainings of each rung, and the fidelity of the first."""

    counts: tuple[int, ...]
    first: int


class Plan(NamedTuple):
    """One row a training `[T]`: its fidelity, and the trainings `start:stop` that it takes the best of.

    Where both are 0 it is of a new member.
    """

    fidelity: np.ndarray
    start: np.ndarray
    stop: np.ndarray


class PlanState(NamedTuple):
    """What came of the plan's trainings so far: `rows`, `merits` and `promoted`, each `[T]`.

    A merit is -inf while it is not known. After its last training a plan begins anew.
    """

    key: jax.Array
    rows: jax.Array
    merits: jax.Array
    promoted: jax.Array
    seen: jax.Array
    told: jax.Array


@dataclass(frozen=True)
class Halving(Strategy):
    """A plan of brackets, over and over.

    A batch that reaches over the end of a rung promotes those that are best so far.

    Args:
        eta: one of so many is promoted.
    """

    traced: ClassVar[bool] = True
    multi_fidelity: ClassVar[bool] = True
    eta: int = 3

    def __post_init__(self) -> None:
        if self.eta < 2:
            raise InputError(f"eta is {self.eta}, expected at least 2: 1 of eta is promoted.")

    @abc.abstractmethod
    def brackets(self, task: Task) -> tuple[Bracket, ...]:
        """The brackets of one round, in order."""

    def plan(self, task: Task) -> Plan:
        """The brackets written out, a training a row."""
        rows, begun = [], 0
        for bracket in self.brackets(task):
            start = stop = 0
            for rung, count in enumerate(bracket.counts):
                rows += [(bracket.first + rung, start, stop)] * count
                start, stop, begun = begun, begun + count, begun + count
        return Plan(*(np.array(column, np.int32) for column in zip(*rows, strict=True)))

    def init(self, task: Task, key: jax.Array) -> PlanState:
        """Nothing was trained."""
        size = len(self.plan(task).fidelity)
        return PlanState(
            key,
            jnp.zeros(size, jnp.int32),
            jnp.full(size, -jnp.inf),
            jnp.zeros(size, bool),
            jnp.zeros(members(task).kinds, bool),
            jnp.zeros((), jnp.int32),
        )

    def ask(self, task: Task, state: PlanState, n: int) -> Asked:
        """The plan's next `n`."""
        return self._asked(task, state, n)[1]

    def tell(self, task: Task, state: PlanState, asked: Asked, told: Told) -> PlanState:
        """Their results; who was promoted is known from asking again, which gives the same."""
        n, size = len(asked.rows), len(state.rows)
        state = self._asked(task, state, n)[0]
        place = (state.told - n + jnp.arange(n)) % size
        return state._replace(merits=state.merits.at[place].set(merit(told)))

    def _asked(self, task: Task, state: PlanState, n: int) -> tuple[PlanState, Asked]:
        pool, plan = members(task), self.plan(task)
        fidelity, start, stop = map(jnp.asarray, plan)
        size = len(plan.fidelity)
        places = jnp.arange(size)

        def one(state: PlanState, _: None) -> tuple[PlanState, Asked]:
            turn = state.told % size
            again = (turn == 0) & (state.told > 0)
            merits = jnp.where(again, -jnp.inf, state.merits)
            promoted = jnp.where(again, False, state.promoted)
            rung = (places >= start[turn]) & (places < stop[turn]) & ~promoted
            values = jnp.where(rung, merits, -jnp.inf)
            best = jnp.argmax(values)
            known = values[best] > -jnp.inf
            new = unseen(pool, jax.random.fold_in(state.key, state.told), state.seen, 1)[0]
            row = jnp.where(known, state.rows[best], new).astype(jnp.int32)
            after = PlanState(
                state.key,
                state.rows.at[turn].set(row),
                merits.at[turn].set(-jnp.inf),
                promoted.at[best].set(promoted[best] | known),
                seen_after(pool, state.seen, row),
                state.told + 1,
            )
            return after, Asked(row, fidelity[turn])

        return lax.scan(one, state, None, length=n)


def rung_counts(n: int, rungs: int, eta: int) -> tuple[int, ...]:
    """Trainings of each rung, of `n` at the first: what `halving_rungs` keep at 1, eta, ... epochs."""
    kept = [rung.keep for rung in halving_rungs(n, eta ** (rungs - 1), eta=eta)]
    return (n, *kept, *[1] * (rungs - 1 - len(kept)))
