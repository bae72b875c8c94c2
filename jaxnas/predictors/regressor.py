"""What most predictors share: labels as normal scores, and predictions turned back."""

import abc
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jaxnas.predictor import Candidates, Model, Predictor
from jaxnas.predictors.labels import Warp, checked

type Fitted = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From rows of the pool to mean and standard deviation of the normal score."""


@dataclass(frozen=True)
class Regressor(Predictor):
    """A predictor that is fitted to normal scores of the labels.

    Accuracies crowd at the top and have a long tail below: a few bad architectures would decide a fit to
    the fitness itself.
    """

    @abc.abstractmethod
    def learn(self, pool: Candidates, rows: np.ndarray, z: np.ndarray, *, seed: int) -> Fitted:
        """What is learnt from normal scores `z: float64[n]` of the members at `rows`."""

    def fit(self, pool: Candidates, rows: np.ndarray, fitness: np.ndarray, *, seed: int) -> Model:
        """See `Predictor.fit`."""
        rows, fitness = checked(pool, rows, fitness)
        warp, z = Warp.of(fitness)
        return _Warped(warp, self.learn(pool, rows, z, seed=seed))


@dataclass(frozen=True)
class _Warped(Model):
    warp: Warp
    fitted: Fitted

    def predict(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, std = self.fitted(np.asarray(rows))
        mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
        return self.warp.back(mean), self.warp.deviation(mean, std)
