"""Bayesian optimisation on any predictor."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError, unknown
from jaxnas.strategies.acquisition import (
    check_acquisition,
    expected_improvement,
    independent_thompson,
    upper_confidence_bound,
)
from jaxnas.strategies.members import members
from jaxnas.strategies.surrogate import (
    History,
    Surrogate,
    bounded,
    evaluated,
    highest,
    rng_of,
    unseen_rows,
)
from jaxnas.strategy import Task

LIES = ("min", "mean", "max")


@dataclass(frozen=True)
class BayesianOptimisation(Surrogate):
    """The acquisition over the pool, batches by constant liar (Ginsbourger, Le Riche, Carraro, 2010).

    Of a batch the first maximises the acquisition; it is then taken to have turned out as the lie, the
    predictor is fitted anew, and so on. Draws of Thompson sampling differ by themselves, and are taken
    from one fit.

    Args:
        predictor: any of the registry.
        acquisition: `ei`, `ucb` or `thompson`, of each candidate by itself.
        kappa: of the upper confidence bound.
        lie: the `min`, `mean` or `max` of the labels.
        candidates: so many random members are compared, where the pool has more.
    """

    name: ClassVar[str] = "bo"
    paper: ClassVar[str] = (
        "Jones, Schonlau, Welch, Efficient Global Optimization of Expensive Black-Box Functions, Journal "
        "of Global Optimization 13, 1998"
    )
    encoding: str = "adjacency"
    acquisition: str = "ei"
    kappa: float = 2.0
    lie: str = "min"
    candidates: int = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_acquisition(self.acquisition)
        if self.lie not in LIES:
            raise unknown("lie", self.lie, LIES)
        if self.kappa < 0 or self.candidates < 1:
            raise InputError(
                f"kappa {self.kappa} and {self.candidates} candidates: expected at least 0 and 1."
            )

    def chosen(self, task: Task, state: History, n: int) -> list[int]:
        """One after another, each given the lies about those before."""
        rows = bounded(unseen_rows(members(task), state), self.candidates, rng_of(state))
        fine = state.merits[np.isfinite(state.merits)]
        lie = {"min": fine.min(), "mean": fine.mean(), "max": fine.max()}[self.lie]
        found: list[int] = []
        while len(found) < n and len(rows):
            lies = [(row, float(lie)) for row in found]
            mean, std = self.fitted(task, state, lies).predict(rows)
            values = self._values(state, mean, std, float(fine.max()), len(found))
            take = highest(values, n if self.acquisition == "thompson" else 1)
            found += rows[take].tolist()
            rows = np.delete(rows, take)
        return found

    def _values(
        self, state: History, mean: np.ndarray, std: np.ndarray, best: float, turn: int
    ) -> np.ndarray:
        promise: Callable[[jax.Array, jax.Array], jax.Array]
        if self.acquisition == "ei":
            # Fitness in units of its deviation, as fractions of a percent lose themselves in float32.
            unit = float(std.mean()) or 1.0
            mean, std = (mean - best) / unit, std / unit
            promise = partial(expected_improvement, best=jnp.zeros(()))
        elif self.acquisition == "ucb":
            promise = partial(upper_confidence_bound, kappa=self.kappa)
        else:
            key = jax.random.fold_in(jax.random.fold_in(state.key, len(state.rows)), turn)
            promise = partial(independent_thompson, key)
        return evaluated(promise, mean, std, self.candidates)
