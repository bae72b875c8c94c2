"""Random search: every member draws its own hyper-parameters, and is trained to the end."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import numpy as np

from jaxnas.hpo.space import Space
from jaxnas.hpo.tuner import Job, Segment, Tuner, generator, seed_of


class Count(NamedTuple):
    """How many segments are behind."""

    job: Job
    seed: np.ndarray
    told: np.ndarray


@dataclass(frozen=True)
class Random(Tuner):
    """N members at a time, uniform in the unit cube, each for a full training."""

    name: ClassVar[str] = "random"
    paper: ClassVar[str] = (
        "Bergstra, Bengio, Random Search for Hyper-Parameter Optimization, JMLR 13, 2012"
    )
    fresh: ClassVar[bool] = True

    def init(
        self,
        space: Space,
        n: int,
        units: int,
        key: jax.Array,
        *,
        first: np.ndarray | None = None,
    ) -> Count:
        """Nothing was trained."""
        return Count(Job(space, n, units, first), seed_of(key), np.zeros((), np.int64))

    def ask(self, state: Count) -> Segment:
        """The next N rows, all anew."""
        job, told = state.job, int(state.told)
        rows = job.space.sample(generator(state.seed, told), job.n)
        rows = job.begin(rows) if not told else rows
        return Segment(np.full(job.n, -1, np.int32), rows, np.ones(job.n, bool), job.units)

    def tell(self, state: Count, fitness: np.ndarray) -> Count:
        """One more segment is behind."""
        return state._replace(told=state.told + 1)
