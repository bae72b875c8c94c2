"""What a surrogate predictor is: from trained architectures to the fitness expected of others."""

import abc
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from jaxnas.spaces import SearchSpace


@dataclass(frozen=True)
class Candidates:
    """Architectures as predictors see them; each encoding takes from this what it needs.

    Args:
        space: whose decisions the rows are.
        archs: `int32[N, D]`, pruned.
        scores: label-free scores by proxy, each `float[N]` and turned so that higher is better; of
            use are their ranks. Empty where none was computed.
        prior: the label-free ranking's score `float[N]`, higher is better; None: there is none.
        curves: what short trainings gave, `float[N, E]`, an epoch a column, NaN where an architecture was
            not trained so far; None: there are none.
    """

    space: SearchSpace
    archs: np.ndarray
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    prior: np.ndarray | None = None
    curves: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.archs)

    def take(self, rows: np.ndarray) -> "Candidates":
        """Those at `rows`, indices or a mask."""
        return Candidates(
            self.space,
            self.archs[rows],
            {name: values[rows] for name, values in self.scores.items()},
            None if self.prior is None else self.prior[rows],
            None if self.curves is None else self.curves[rows],
        )


class Model(abc.ABC):
    """A fitted predictor."""

    @abc.abstractmethod
    def predict(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the fitness at rows of the pool, each `float64[len(rows)]`."""


@dataclass(frozen=True)
class Predictor(abc.ABC):
    """A kind of model and its settings; it holds nothing it has learnt."""

    name: ClassVar[str]
    paper: ClassVar[str]
    """The reference."""
    calibrated: ClassVar[bool] = True
    """Whether its standard deviations are meant as such (of n points about 68 % within one)."""

    @abc.abstractmethod
    def fit(self, pool: Candidates, rows: np.ndarray, fitness: np.ndarray, *, seed: int) -> Model:
        """A model of the whole pool from the fitness `float[n]` of the members at `rows: int64[n]`.

        The pool is known before labels are, as a ranking without training gives it: ranks and scales
        are over the pool.

        Raises:
            InputError: no label, one that is not finite, or something missing that it needs.
        """
