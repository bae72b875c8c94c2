"""Strategies that train the members of a list, one after another, whatever comes of them."""

import abc
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.strategies.members import members
from jaxnas.strategy import Asked, Strategy, Task, Told


class ListState(NamedTuple):
    """The list `int32[N]` and how much of it was trained."""

    order: jax.Array
    told: jax.Array


@dataclass(frozen=True)
class Listed(Strategy):
    """Members in an order fixed from the start, full trainings only.

    Of members that compute the same function the first is trained; the others come at the very end.
    """

    traced = True

    @abc.abstractmethod
    def order(self, task: Task, key: jax.Array) -> Any:
        """All rows of the pool, `int32[N]`."""

    def init(self, task: Task, key: jax.Array) -> ListState:
        """The list."""
        pool = members(task)
        order = jnp.asarray(self.order(task, key), jnp.int32)
        classes = jnp.asarray(pool.classes)[order]
        place = jnp.arange(len(order))
        first = jax.ops.segment_min(place, classes, num_segments=pool.kinds)
        again = first[classes] != place
        return ListState(order[jnp.argsort(again, stable=True)], jnp.zeros((), jnp.int32))

    def ask(self, task: Task, state: ListState, n: int) -> Asked:
        """The next `n`; after the last member the first."""
        rows = state.order[(state.told + jnp.arange(n)) % len(state.order)]
        return Asked(rows, jnp.full(n, task.full, jnp.int32))

    def tell(self, task: Task, state: ListState, asked: Asked, told: Told) -> ListState:
        """Only their number matters."""
        return state._replace(told=state.told + len(asked.rows))


def best_first(scores: np.ndarray) -> np.ndarray:
    """Rows by falling score, NaN last; of equals the first."""
    known = np.nan_to_num(
        np.asarray(scores, np.float64), nan=-np.inf, posinf=np.inf, neginf=-np.inf
    )
    return np.argsort(-known, kind="stable")


def score(task: Task, name: str, strategy: str) -> np.ndarray:
    """A label-free score of the pool by name, or `prior`; `InputError` where there is none."""
    scores = task.pool.prior if name == "prior" else task.pool.scores.get(name)
    if scores is None:
        what = "label-free ranking" if name == "prior" else f"score {name}"
        known = ", ".join(task.pool.scores) or "none"
        raise InputError(
            f"{strategy} needs the pool's {what}, which is absent; scores there: {known}."
        )
    return np.asarray(scores)
