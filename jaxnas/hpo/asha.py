"""ASHA: successive halving that never waits for a rung to be full."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np

from jaxnas.errors import InputError
from jaxnas.hpo.rungs import Rungs, RungState, Wanted, best_first
from jaxnas.hpo.space import Space


@dataclass(frozen=True)
class Asha(Rungs):
    """Whoever may be promoted is trained on, from the highest rung down; else new trials begin.

    Of a rung with m merits the best floor(m / eta) may be promoted, each once. Members take the place
    of the paper's workers: a segment trains all that may be promoted from one rung, or new trials in
    as many members as are free.

    Args:
        s: the rate of early stopping, by which trials skip so many of the lowest rungs.
    """

    name: ClassVar[str] = "asha"
    paper: ClassVar[str] = (
        "Li et al., A System for Massively Parallel Hyperparameter Tuning, arXiv:1810.05934"
    )
    s: int = 0

    def init(
        self,
        space: Space,
        n: int,
        units: int,
        key: jax.Array,
        *,
        first: np.ndarray | None = None,
    ) -> RungState:
        """Nothing was trained.

        Raises:
            InputError: there are fewer rungs than are skipped.
        """
        state = super().init(space, n, units, key, first=first)
        rungs = state.merits.shape[1]
        if not 0 <= self.s < rungs:
            raise InputError(f"s is {self.s}, expected 0 to {rungs - 1}: there are {rungs} rungs.")
        return state

    def wanted(self, state: RungState) -> Wanted:
        """The paper's get_job, for all of one rung at once."""
        for rung in reversed(range(self.s, state.merits.shape[1] - 1)):
            there = np.flatnonzero(~np.isnan(state.merits[:, rung]))
            best = best_first(there, state.merits[there, rung])[: len(there) // self.eta]
            waiting = best[np.isnan(state.merits[best, rung + 1])]
            if len(waiting):
                return Wanted(rung + 1, waiting)
        return Wanted(self.s, np.zeros(0, np.int64), state.job.n)
