"""BOSS: BOHB's densities, and sub-sampling in place of halving to decide who is trained on."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jaxnas.errors import InputError
from jaxnas.hpo.bohb import Bohb
from jaxnas.hpo.rungs import RungState, Wanted
from jaxnas.strategies.brackets import Bracket


@dataclass(frozen=True)
class Boss(Bohb):
    """Hyperband's brackets of K trials; in each, rung after rung, those better than a leader go on.

    The leader is the trial with the most observations, of several the one of the highest mean. Trial k
    with n_k observations is better than the leader with more, n_l, if n_k < `most`, or if its mean is at
    least that of some n_k consecutive observations of the leader. They are trained up to the next rung,
    the leader is if there are none; a trial that skipped rungs goes straight to it. An observation is
    the fitness at a rung. This is the procedure that VEGA states for the paper, whose code departs from
    it: there 1 / eta of the trials go on to each rung, the leader and those nearest to it in fitness.

    Args:
        eta: rungs are so many times as long as those before.
        least: units of the lowest rung.
        random_fraction: as in `Bohb`.
        quantile: as in `Bohb`.
        candidates: as in `Bohb`.
        bandwidth: as in `Bohb`.
        most: c_n, observations that every trial gets; 0: sqrt(log(K eta / (eta - 1))), as in VEGA,
            rounded down.
    """

    name: ClassVar[str] = "boss"
    paper: ClassVar[str] = (
        "Huang et al., An Asymptotically Optimal Multi-Armed Bandit Algorithm and Hyperparameter "
        "Optimization, arXiv:2007.05670"
    )
    most: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.most < 0:
            raise InputError(
                f"most is {self.most} observations, expected 1 or more, or 0: as published."
            )

    def within(self, state: RungState, number: int, bracket: Bracket) -> Wanted | None:
        """Who is trained up to the next rung."""
        trials = np.flatnonzero(state.bracket == number)
        if missing := bracket.counts[0] - len(trials):
            return Wanted(bracket.first, np.zeros(0, np.int64), missing, number)
        published = math.isqrt(int(math.log(len(trials) * self.eta / (self.eta - 1))))
        most = self.most or max(1, published)
        for rung in range(bracket.first + 1, state.merits.shape[1]):
            merits = state.merits[trials, :rung]
            if rung < bracket.first + most:
                chosen = np.flatnonzero(~np.isneginf(merits).any(axis=1))
            else:
                chosen = better_than_leader(merits, most)
            waiting = trials[chosen][np.isnan(state.merits[trials[chosen], rung])]
            if len(waiting):
                return Wanted(rung, waiting, bracket=number)
        return None


def better_than_leader(merits: np.ndarray, most: int) -> np.ndarray:
    """Who goes on, places `int64[m]`, by observations `float64[n, K]`, NaN where there is none.

    Nobody who diverged; nobody at all if all did.
    """
    alive = ~np.isneginf(merits).any(axis=1)
    if not alive.any():
        return np.zeros(0, np.int64)
    seen = [row[~np.isnan(row)] for row in merits]
    counts = np.array([len(s) for s in seen])
    means = np.array([s.mean() if a else -np.inf for s, a in zip(seen, alive, strict=True)])
    leader = np.lexsort((-means, -np.where(alive, counts, -1)))[0]
    best = seen[leader]
    found = []
    for k in np.flatnonzero(alive & (counts < counts[leader])).tolist():
        windows = np.convolve(best, np.ones(counts[k]) / counts[k], mode="valid")
        if counts[k] < most or means[k] >= windows.min():
            found.append(k)
    return np.array(found or [leader], np.int64)
