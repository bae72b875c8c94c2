"""Labels: checked at the door, and fitted as normal scores, of which the fitness is a rising function."""

from dataclasses import dataclass

import numpy as np

from jaxnas.errors import InputError
from jaxnas.predictor import Candidates
from jaxnas.predictors.encodings import normal_scores


def checked(
    pool: Candidates, rows: np.ndarray, fitness: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`rows` as `int64[n]` and `fitness` as `float64[n]`.

    Raises:
        InputError: no label, other numbers of rows and labels, a row outside the pool, a label that is
            not finite (how many, and the first).
    """
    rows, fitness = np.asarray(rows), np.asarray(fitness, np.float64)
    if rows.ndim != 1 or rows.shape != fitness.shape or not len(rows):
        raise InputError(
            f"Got rows of shape {rows.shape} and fitness of shape {fitness.shape}; expected as many "
            "of each, and at least one."
        )
    if not np.issubdtype(rows.dtype, np.integer) or rows.min() < 0 or rows.max() >= len(pool):
        raise InputError(
            f"Labelled rows must be whole numbers from 0 to {len(pool) - 1}, the members of the pool; "
            f"got {rows.min()} to {rows.max()}."
        )
    wrong = np.flatnonzero(~np.isfinite(fitness))
    if len(wrong):
        raise InputError(
            f"{len(wrong)} of {len(fitness)} labels are not finite, the first is number {wrong[0]}, "
            f"{fitness[wrong[0]]}; leave failed trainings out."
        )
    return rows.astype(np.int64), fitness


@dataclass(frozen=True)
class Warp:
    """Fitness as a function of normal scores: linear between the labels, and on from there.

    `z` and `y` are the distinct labels' normal scores and fitness, ascending. Beyond the labels the slope
    is that of the standard deviations, so that an order of scores stays one of fitness.
    """

    z: np.ndarray
    y: np.ndarray
    slope: float

    @classmethod
    def of(cls, fitness: np.ndarray) -> tuple["Warp", np.ndarray]:
        """The warp of labels, and their normal scores `float64[n]`, of mean 0; ties share one."""
        scores = normal_scores(fitness)
        y, first = np.unique(fitness, return_index=True)
        spread = float(scores.std())
        return cls(scores[first], y, float(fitness.std()) / spread if spread > 0 else 0.0), scores

    def back(self, z: np.ndarray) -> np.ndarray:
        """The fitness at normal scores."""
        inside = np.interp(z, self.z, self.y)
        return inside + self.slope * (z - np.clip(z, self.z[0], self.z[-1]))

    def deviation(self, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
        """Half of what lies between the fitness at one deviation above and below."""
        return (self.back(mean + std) - self.back(mean - std)) / 2
