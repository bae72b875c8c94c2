"""One fit: labels drawn at random, a predictor, and how well it orders everyone else."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnas.benchmarks.evaluation.correlation import kendall
from jaxnas.predictor import Candidates, Predictor
from jaxnas.timing import CompileClock, Stopwatch

RANKING = "label-free ranking"
"""The row of what needs no labels."""
LEVELS = (0.68268949, 0.9)
"""Shares of a normal distribution that lie within as many deviations of `WITHIN`."""
WITHIN = (1.0, 1.64485363)


@dataclass(frozen=True)
class Drawn:
    """Labelled rows of the pool and the rest; the same for all predictors."""

    rows: np.ndarray
    rest: np.ndarray

    @classmethod
    def of(cls, members: int, labels: int, seed: int) -> "Drawn":
        """Drawn without repetition; fewer labels of a seed are the first of more."""
        order = np.random.default_rng(seed).permutation(members)
        return cls(order[:labels], np.sort(order[labels:]))


def measure(
    predictor: Predictor,
    pool: Candidates,
    fitness: np.ndarray,
    labels: int,
    seed: int,
    clock: CompileClock,
) -> dict[str, Any]:
    """Kendall's tau-b with the fitness of the rest, coverage, and seconds.

    `fit_seconds` and `query_seconds` (for all of the rest) leave out `compile_seconds`. `within_68` and
    `within_90` are the shares of the rest whose fitness lies within 1 and 1.645 deviations.
    """
    drawn = Drawn.of(len(pool), labels, seed)
    watch = Stopwatch(clock)
    model = predictor.fit(pool, drawn.rows, fitness[drawn.rows], seed=seed)
    fitting = watch.lap()
    mean, std = model.predict(drawn.rest)
    asking = watch.lap()
    away = np.abs(mean - fitness[drawn.rest])
    return {
        "kendall": kendall(mean, fitness[drawn.rest]),
        "within_68": float((away <= WITHIN[0] * std).mean()),
        "within_90": float((away <= WITHIN[1] * std).mean()),
        "fit_seconds": fitting["run"],
        "query_seconds": asking["run"],
        "compile_seconds": fitting["compile"] + asking["compile"],
    }


def without_labels(
    pool: Candidates, fitness: np.ndarray, labels: int, seed: int
) -> dict[str, float]:
    """The ranking's own Kendall on the same rest."""
    rest = Drawn.of(len(pool), labels, seed).rest
    assert pool.prior is not None
    return {"kendall": kendall(pool.prior[rest], fitness[rest])}
