"""Grid search: the product of a few values of each hyper-parameter, every point trained to the end."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np

from jaxnas.hpo.random import Count
from jaxnas.hpo.space import Space
from jaxnas.hpo.tuner import Job, Segment, Tuner, seed_of


@dataclass(frozen=True)
class Grid(Tuner):
    """N points at a time, in the order of `Space.grid`, the last parameter fastest; then it ends.

    Args:
        levels: values of each parameter.
    """

    name: ClassVar[str] = "grid"
    paper: ClassVar[str] = ""
    fresh: ClassVar[bool] = True
    levels: int = 3

    def init(
        self,
        space: Space,
        n: int,
        units: int,
        key: jax.Array,
        *,
        first: np.ndarray | None = None,
    ) -> Count:
        """Nothing was trained; `first` comes before the grid.

        Raises:
            InputError: a grid that is too large.
        """
        space.grid(self.levels)
        return Count(Job(space, n, units, first), seed_of(key), np.zeros((), np.int64))

    def ask(self, state: Count) -> Segment | None:
        """The next N points; None behind the last."""
        job = state.job
        rows = job.space.grid(self.levels)
        if job.first is not None:
            rows = np.concatenate([job.first, rows])
        rows = rows[int(state.told) * job.n :][: job.n]
        if not len(rows):
            return None
        which = np.arange(job.n) < len(rows)
        hyper = rows[np.minimum(np.arange(job.n), len(rows) - 1)]
        return Segment(np.full(job.n, -1, np.int32), hyper, which, job.units)

    def tell(self, state: Count, fitness: np.ndarray) -> Count:
        """One more segment is behind."""
        return state._replace(told=state.told + 1)
