"""Aging evolution, and what its kinds have in common.

Real et al., Regularized Evolution for Image Classifier Architecture Search, arXiv:1802.01548: a queue
of P architectures; a child is a mutant of the best of S drawn from it with replacement; it joins at the
end and the oldest leaves, however good. A mutation draws a decision, then another choice, both uniformly;
with the probability `identity` it changes nothing.
"""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.errors import InputError
from jaxnas.strategies.draws import anyone, merit, mutant
from jaxnas.strategies.members import members
from jaxnas.strategy import Asked, Strategy, Task, Told


class Queue(NamedTuple):
    """The population, oldest first; before it is full its front is empty.

    `rows: int32[P]`, `merits: float32[P]`, `first: int32[P]`, whom it begins with, and how many were
    told.
    """

    key: jax.Array
    rows: jax.Array
    merits: jax.Array
    first: jax.Array
    told: jax.Array


@dataclass(frozen=True)
class AgingEvolution(Strategy):
    """Full trainings only; who failed is never a parent, and an architecture may come again.

    Args:
        population: P; the paper's 100 suits thousands of trainings, the 10 here are NAS-Bench-201's.
        sample: S; 25 in the paper, 3 in NAS-Bench-201.
        identity: how often a mutation changes nothing; .05 in the paper, none in NAS-Bench-201.
    """

    traced: ClassVar[bool] = True
    population: int = 10
    sample: int = 3
    identity: float = 0.0

    def __post_init__(self) -> None:
        if self.population < 1 or self.sample < 1 or not 0 <= self.identity <= 1:
            raise InputError(
                f"Evolution with a population of {self.population}, a sample of {self.sample} and "
                f"identity {self.identity}: expected at least 1, at least 1 and a probability."
            )

    @abc.abstractmethod
    def first(self, task: Task, key: jax.Array) -> Any:
        """Whom the population begins with, `int32[P]`."""

    def screened(self, task: Task) -> tuple[Any, int]:
        """A score that is the higher the better, and the number of mutants that the best becomes the
        child of; by default there is one mutant."""
        return None, 1

    def init(self, task: Task, key: jax.Array) -> Queue:
        """An empty queue."""
        draw, key = jax.random.split(key)
        none = jnp.zeros(self.population, jnp.int32)
        first = jnp.asarray(self.first(task, draw), jnp.int32)
        return Queue(key, none, none - jnp.inf, first, jnp.zeros((), jnp.int32))

    def ask(self, task: Task, state: Queue, n: int) -> Asked:
        """The first population, then children of the population as it is."""
        keys = jax.random.split(jax.random.fold_in(state.key, state.told), n)
        children = jax.vmap(lambda key: self._child(task, state, key))(keys)
        turn = state.told + jnp.arange(n)
        start = state.first[jnp.minimum(turn, self.population - 1)]
        rows = jnp.where(turn < self.population, start, children)
        return Asked(rows, jnp.full(n, task.full, jnp.int32))

    def tell(self, task: Task, state: Queue, asked: Asked, told: Told) -> Queue:
        """They join, the oldest leave."""
        rows = jnp.concatenate([state.rows, asked.rows])[-self.population :]
        merits = jnp.concatenate([state.merits, merit(told)])[-self.population :]
        return Queue(state.key, rows, merits, state.first, state.told + len(asked.rows))

    def _child(self, task: Task, state: Queue, key: jax.Array) -> jax.Array:
        pool = members(task)
        draw, chance, new, change = jax.random.split(key, 4)
        there = jnp.clip(state.told, 1, self.population)
        drawn = self.population - 1 - jax.random.randint(draw, (self.sample,), 0, there)
        best = drawn[jnp.argmax(state.merits[drawn])]
        parent = state.rows[best]
        scores, many = self.screened(task)
        mutants = jax.vmap(lambda k: mutant(pool, k, parent))(jax.random.split(change, many))
        child = mutants[0] if many == 1 else mutants[jnp.argmax(jnp.asarray(scores)[mutants])]
        if self.identity:
            child = jnp.where(jax.random.uniform(chance) < self.identity, parent, child)
        # All that were drawn failed: someone new.
        return jnp.where(jnp.isneginf(state.merits[best]), anyone(pool, new, 1)[0], child)
