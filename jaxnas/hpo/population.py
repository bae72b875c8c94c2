"""What PBT and its variants share: a population whose losing members copy winning ones."""

import abc
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnas.errors import InputError, unknown
from jaxnas.hpo.exploit import EXPLOITS, RECENT
from jaxnas.hpo.space import Space
from jaxnas.hpo.tuner import Job, Segment, Tuner, generator, seed_of, trained_fitness


class PopulationState(NamedTuple):
    """A population under way.

    rows: `float64[N, P]` of the last segment; recent: `float64[N, RECENT]`, fitness of each member's
    weights at its last evaluations, the last in the last column, NaN: there was none, -inf: diverged.
    memory: what a variant remembers beside that. told: segments that are behind.
    """

    job: Job
    seed: np.ndarray
    rows: np.ndarray
    recent: np.ndarray
    memory: Any
    told: np.ndarray


@dataclass(frozen=True)
class PopulationTuner(Tuner):
    """All members are trained for `interval` units, then those that lose exploit and explore.

    Who diverged copies one of the best `share` whatever the rule says; a population that diverged as a
    whole begins anew, and a new one begins after a full training.

    Args:
        interval: units between two exchanges; 0: a tenth of a full training.
        exploit: truncation, binary_tournament or t_test (`jaxnas.hpo.exploit`).
        share: of the members, whom truncation replaces.
    """

    interval: int = 0
    exploit: str = "truncation"
    share: float = 0.2

    def __post_init__(self) -> None:
        if self.exploit not in EXPLOITS:
            raise unknown("way to exploit", self.exploit, EXPLOITS)
        if self.interval < 0:
            raise InputError(f"interval is {self.interval} units, expected at least 1, or 0.")
        if not 0 <= self.share <= 1:
            raise InputError(f"share is {self.share:g}, expected 0 to 1.")

    def init(
        self,
        space: Space,
        n: int,
        units: int,
        key: jax.Array,
        *,
        first: np.ndarray | None = None,
    ) -> PopulationState:
        """Nothing was trained."""
        return PopulationState(
            Job(space, n, units, first),
            seed_of(key),
            np.zeros((n, space.dimensions)),
            np.full((n, RECENT), np.nan),
            self.remember(None, None, np.zeros(0)),
            np.zeros((), np.int64),
        )

    def ask(self, state: PopulationState) -> Segment:
        """Exploit and explore by the last fitness, or a new population."""
        job, told = state.job, int(state.told)
        rng = generator(state.seed, told)
        lengths = self.lengths(job.units)
        turn = told % len(lengths)
        everybody = np.ones(job.n, bool)
        if turn == 0 or not np.isfinite(state.recent[:, -1]).any():
            rows = job.space.sample(rng, job.n)
            rows = job.begin(rows) if not told else rows
            return Segment(np.full(job.n, -1, np.int32), rows, everybody, lengths[turn])
        donors = EXPLOITS[self.exploit](state.recent, self.share, rng)
        donors = alive(donors, state.recent[:, -1], self.share, rng)
        rows = state.rows[donors]
        changed = donors != np.arange(job.n)
        if changed.any():
            rows[changed] = self.explore(state, rows, changed, rng)
        return Segment(donors.astype(np.int32), rows, everybody, lengths[turn])

    def tell(self, state: PopulationState, fitness: np.ndarray) -> PopulationState:
        """The population after a segment; a copy has the fitness of whom it copied behind it."""
        segment = self.ask(state)
        fitness = trained_fitness(segment, fitness)
        anew = segment.copy < 0
        before = np.where(anew[:, None], np.nan, state.recent[segment.copy])
        return state._replace(
            rows=segment.hyper,
            recent=np.concatenate([before[:, 1:], fitness[:, None]], axis=1),
            memory=self.remember(state, segment, fitness),
            told=state.told + 1,
        )

    def lengths(self, units: int) -> list[int]:
        """Units of each segment of a full training; the last may be shorter."""
        interval = min(self.interval or max(1, units // 10), units)
        whole, rest = divmod(units, interval)
        return [interval] * whole + ([rest] if rest else [])

    @abc.abstractmethod
    def explore(
        self,
        state: PopulationState,
        rows: np.ndarray,
        changed: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """New rows of the members that copied, `changed: bool[N]`, given all members' `rows`."""

    def remember(
        self, state: PopulationState | None, segment: Segment | None, fitness: np.ndarray
    ) -> Any:
        """What `state.memory` is after a segment; before the first one, with None, what it begins as."""
        return ()


def alive(
    donors: np.ndarray, fitness: np.ndarray, share: float, rng: np.random.Generator
) -> np.ndarray:
    """`donors`, where one that diverged gives way to one of the best `share` that did not."""
    lost = ~np.isfinite(fitness[donors])
    if lost.any():
        living = int(np.isfinite(fitness).sum())
        best = np.argsort(-fitness, kind="stable")
        count = min(max(1, int(np.ceil(share * len(fitness) - 1e-9))), living)
        donors = donors.copy()
        donors[lost] = rng.choice(best[:count], int(lost.sum()))
    return donors
