"""What genetic strategies share: parents by tournament, uniform crossover, mutation, and the young."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.errors import InputError
from jaxnas.strategies.draws import first_unseen, merit, rows_of, seen_after, unseen
from jaxnas.strategies.members import Members, members
from jaxnas.strategy import Asked, Strategy, Task, Told

TRIES = 8
"""Children are drawn so often to find one that was not trained yet."""


class Group(NamedTuple):
    """Trained members, `[P]` each.

    Row, fidelity, merit, the merit gained an epoch since the fidelity before, and whether there is one.
    """

    rows: jax.Array
    fidelity: jax.Array
    merits: jax.Array
    growth: jax.Array
    there: jax.Array

    @classmethod
    def empty(cls, n: int) -> "Group":
        """Nobody."""
        zero = jnp.zeros(n, jnp.int32)
        return cls(zero, zero, jnp.full(n, -jnp.inf), jnp.full(n, -jnp.inf), zero > 0)


class Merits(NamedTuple):
    """Front `int32[P]` and crowding distance `float32[P]` of parents."""

    front: jax.Array
    crowding: jax.Array


class GeneticState(NamedTuple):
    """Parents, the young of this generation so far, whose number is `told` modulo theirs."""

    key: jax.Array
    parents: Group
    order: Merits
    young: Group
    seen: jax.Array
    told: jax.Array


@dataclass(frozen=True)
class Genetic(Strategy):
    """Generations of young, after each of which the best of them and of their parents stay.

    A child takes each decision from one of two parents, each the better of two (by front, then by
    crowding distance), and each of its decisions is drawn anew with some probability. Where it was
    trained before, another is made; after `TRIES` it comes again.

    Args:
        population: parents.
        crossover: how often there are two parents.
        mutation: how often a decision is drawn anew; 0: one in the number of decisions.
    """

    traced: ClassVar[bool] = True
    population: int = 20
    crossover: float = 0.9
    mutation: float = 0.0

    def __post_init__(self) -> None:
        if self.population < 2 or not 0 <= self.crossover <= 1 or not 0 <= self.mutation <= 1:
            raise InputError(
                f"A population of {self.population} with crossover {self.crossover} and mutation "
                f"{self.mutation}: expected at least 2 and probabilities."
            )

    @property
    def young(self) -> int:
        """The trainings of a generation."""
        return self.population

    @abc.abstractmethod
    def order(self, task: Task, group: Group) -> Merits:
        """How good each of a group is, by front, then by crowding."""

    def continued(
        self, task: Task, state: GeneticState, turn: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Which parent the `turn`-th training of a generation trains on, and whether it does."""
        return jnp.zeros((), jnp.int32), jnp.zeros((), bool)

    def lowest(self, task: Task) -> int:
        """The fidelity that the young are trained at."""
        return task.full

    def init(self, task: Task, key: jax.Array) -> GeneticState:
        """Nobody."""
        parents, young = Group.empty(self.population), Group.empty(self.young)
        order = Merits(jnp.zeros(self.population, jnp.int32), jnp.zeros(self.population))
        seen = jnp.zeros(members(task).kinds, bool)
        return GeneticState(key, parents, order, young, seen, jnp.zeros((), jnp.int32))

    def ask(self, task: Task, state: GeneticState, n: int) -> Asked:
        """At first random members, then children of the parents there are."""
        pool = members(task)

        def one(carry: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple, Asked]:
            seen, told = carry
            born, new = jax.random.split(jax.random.fold_in(state.key, told))
            children = self._children(pool, state, born)
            child = children[first_unseen(pool, children, seen, 1)[0]]
            turn = told % self.young
            random = unseen(pool, new, seen, 1)[0]
            grown = state.parents.there.any() & (state.parents.merits > -jnp.inf).any()
            row = jnp.where(grown, child, random)
            place, on = self.continued(task, state, turn)
            on &= told < state.told - state.told % self.young + self.young
            row = jnp.where(on, state.parents.rows[place], row).astype(jnp.int32)
            level = jnp.where(on, state.parents.fidelity[place] + 1, self.lowest(task))
            return (seen_after(pool, seen, row), told + 1), Asked(row, level.astype(jnp.int32))

        return lax.scan(one, (state.seen, state.told), None, length=n)[1]

    def tell(self, task: Task, state: GeneticState, asked: Asked, told: Told) -> GeneticState:
        """Each joins the young; a full generation is merged with its parents."""

        def one(state: GeneticState, new: tuple[Asked, jax.Array]) -> tuple[GeneticState, None]:
            asked, value = new
            turn = state.told % self.young
            place, on = self.continued(task, state, turn)
            on &= state.parents.rows[place] == asked.rows
            on &= state.parents.fidelity[place] + 1 == asked.fidelity
            epochs = jnp.asarray((0, *task.fidelities))
            spent = epochs[asked.fidelity + 1] - jnp.where(on, epochs[asked.fidelity], 0)
            growth = (value - jnp.where(on, state.parents.merits[place], 0)) / spent
            young = Group(
                *(
                    whole.at[turn].set(each)
                    for whole, each in zip(
                        state.young, (asked.rows, asked.fidelity, value, growth, True), strict=True
                    )
                )
            )
            # Who was trained on stands among the young.
            gone = state.parents.there.at[place].set(state.parents.there[place] & ~on)
            parents = state.parents._replace(there=gone)
            seen = seen_after(members(task), state.seen, asked.rows)
            state = GeneticState(state.key, parents, state.order, young, seen, state.told + 1)
            return lax.cond(turn == self.young - 1, self._merged(task), lambda s: s, state), None

        return lax.scan(one, state, (asked, merit(told)))[0]

    def _merged(self, task: Task) -> Callable[[GeneticState], GeneticState]:
        def merged(state: GeneticState) -> GeneticState:
            both = Group(*map(lambda a, b: jnp.concatenate([a, b]), state.parents, state.young))
            order = self.order(task, both)
            rank = jnp.where(both.there, order.front, len(both.rows))
            best = jnp.lexsort((-order.crowding, rank))[: self.population]
            parents = Group(*(each[best] for each in both))
            kept = Merits(rank[best], order.crowding[best])
            return state._replace(parents=parents, order=kept, young=Group.empty(self.young))

        return merged

    def _children(self, pool: Members, state: GeneticState, key: jax.Array) -> jax.Array:
        """Some children of the parents, `int32[TRIES]`."""
        pick, cross, mix, change, choice = jax.random.split(key, 5)
        drawn = jax.random.randint(pick, (TRIES, 2, 2), 0, self.population)
        fine = state.parents.merits > -jnp.inf
        front = jnp.where(fine, state.order.front, 3 * self.population)
        a, b = drawn[..., 0], drawn[..., 1]
        closer = (front[a] == front[b]) & (state.order.crowding[b] > state.order.crowding[a])
        better = jnp.where((front[b] < front[a]) | closer, b, a)
        # Who failed is no parent, not even against another who did.
        parents = state.parents.rows[jnp.where(fine[better], better, jnp.argmin(front))]
        archs = jnp.asarray(pool.archs)[parents]
        shape = (TRIES, archs.shape[2])
        second = jax.random.bernoulli(mix, 0.5, shape)
        second &= jax.random.bernoulli(cross, self.crossover, (TRIES, 1))
        child = jnp.where(second, archs[:, 1], archs[:, 0])
        rate = self.mutation or 1 / archs.shape[2]
        new = jax.random.randint(choice, shape, 0, jnp.asarray(pool.choices)[None])
        child = jnp.where(jax.random.bernoulli(change, rate, shape), new, child)
        return rows_of(pool, child)


def objectives(task: Task, group: Group, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What is to be low, `float32[P, 1 + C]`: minus `values`, then the costs; and the violation `[P]`.

    Who failed or is not there breaks every limit.
    """
    costs = jnp.asarray(task.cost_table, jnp.float32)[group.rows]
    fine = group.there & (group.merits > -jnp.inf)
    broken = jnp.asarray(task.violations, jnp.float32)[group.rows]
    low = jnp.concatenate([-jnp.where(fine, values, 0)[:, None], costs], axis=1)
    return low, jnp.where(fine, broken, jnp.inf)
