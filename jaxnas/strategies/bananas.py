"""BANANAS: an ensemble of predictors, mutants of the best, independent Thompson sampling."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import numpy as np

from jaxnas.errors import InputError, unknown
from jaxnas.strategies.acquisition import independent_thompson
from jaxnas.strategies.members import members
from jaxnas.strategies.surrogate import History, Surrogate, evaluated, highest, mutants, rng_of
from jaxnas.strategy import Task

ENSEMBLES = ("mlp_ensemble", "boosting")


@dataclass(frozen=True)
class Bananas(Surrogate):
    """A candidate's promise is a draw of N(mean, std^2), independent of the others'.

    The paper has five networks of 10 to 20 layers, ten random trainings to begin with, batches of ten,
    and 100 candidates of one mutation each.

    Args:
        predictor: `mlp_ensemble` or `boosting` (of the authors' later comparisons, arXiv:2104.01177).
        encoding: `path` is the paper's, for cells alone.
        parents: so many of the best are mutated.
        candidates: so many mutants are drawn for one ask.
    """

    name: ClassVar[str] = "bananas"
    paper: ClassVar[str] = (
        "White, Neiswanger, Savani, BANANAS: Bayesian Optimization with Neural Architectures for Neural "
        "Architecture Search, arXiv:1910.11858"
    )
    predictor: str = "mlp_ensemble"
    encoding: str = "adjacency"
    parents: int = 10
    candidates: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.predictor not in ENSEMBLES:
            raise unknown("ensemble", self.predictor, ENSEMBLES)
        if self.parents < 1 or self.candidates < 1:
            raise InputError(
                f"{self.parents} parents and {self.candidates} candidates: expected at least 1 of each."
            )

    def chosen(self, task: Task, state: History, n: int) -> np.ndarray:
        """The mutants whose draws are the highest."""
        drawn = max(self.candidates, 4 * n)
        rows = mutants(members(task), state, rng_of(state), self.parents, drawn)
        if not len(rows):
            return rows
        mean, std = self.fitted(task, state).predict(rows)
        key = jax.random.fold_in(state.key, len(state.rows))
        draws = evaluated(partial(independent_thompson, key), mean, std, drawn)
        return rows[highest(draws, n)]
