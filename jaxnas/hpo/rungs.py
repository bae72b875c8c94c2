"""Trials that are trained rung by rung: what successive halving, Hyperband, ASHA, BOHB and BOSS share.

A trial is a configuration; it lives in a member of the population for as long as nobody needs its place.
Whoever is trained on goes on from the weights it has. A trial that lost its place begins anew, and is
trained for the whole of what its rung asks for; with at least as many members as a bracket has trials
that never happens.
"""

import abc
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from jaxnas.errors import InputError
from jaxnas.hpo.space import Space
from jaxnas.hpo.tuner import Job, Segment, Tuner, generator, seed_of, trained_fitness
from jaxnas.training.fidelity import ladder


class Wanted(NamedTuple):
    """Who should reach `rung` next: `trials: int64[m]`, or `new` trials of `bracket`."""

    rung: int
    trials: np.ndarray
    new: int = 0
    bracket: int = 0


class RungState(NamedTuple):
    """T trials so far, in the order in which they began.

    rows: `float64[T, P]`; bracket: `int64[T]`.
    merits: `float64[T, K]`, fitness at each rung; NaN: not known; -inf: diverged.
    lives: `int64[N]`, the trial that lives in each member; -1: none.
    told: segments that are behind.
    """

    job: Job
    seed: np.ndarray
    rows: np.ndarray
    bracket: np.ndarray
    merits: np.ndarray
    lives: np.ndarray
    told: np.ndarray

    @property
    def reached(self) -> np.ndarray:
        """The highest rung that each trial has a merit at, `int64[T]`; -1: none."""
        places = np.arange(self.merits.shape[1])
        known = ~np.isnan(self.merits)
        return np.where(known, places, -1).max(axis=1, initial=-1)


class Plan(NamedTuple):
    """A segment: the trial in each member that is trained `int64[N]`, -1: none; and new rows."""

    segment: Segment
    trials: np.ndarray
    rung: int
    new: np.ndarray
    bracket: int


@dataclass(frozen=True)
class Rungs(Tuner):
    """Trainings in rungs of `least`, `least` eta, `least` eta^2, ... units, the last a full one.

    Args:
        eta: one of so many is trained on.
        least: units of the lowest rung.
    """

    eta: int = 3
    least: int = 1

    def __post_init__(self) -> None:
        if self.eta < 2:
            raise InputError(f"eta is {self.eta}, expected at least 2: 1 of eta is trained on.")
        if self.least < 1:
            raise InputError(f"least is {self.least} units, expected at least 1.")

    @abc.abstractmethod
    def wanted(self, state: RungState) -> Wanted:
        """Who is trained next, by what was told."""

    def propose(self, state: RungState, rng: np.random.Generator, count: int) -> np.ndarray:
        """Rows of new trials, `float64[count, P]`: uniform draws."""
        return state.job.space.sample(rng, count)

    def units_of(self, units: int) -> tuple[int, ...]:
        """Units behind a trial at each rung, for full trainings of `units`.

        Raises:
            InputError: a full training is shorter than the lowest rung.
        """
        if units < self.least:
            raise InputError(
                f"A full training of {units} units is shorter than the lowest rung, {self.least}."
            )
        steps = ladder(units // self.least, eta=self.eta)
        return (*(step * self.least for step in steps[:-1]), units)

    def init(
        self,
        space: Space,
        n: int,
        units: int,
        key: jax.Array,
        *,
        first: np.ndarray | None = None,
    ) -> RungState:
        """Nothing was trained."""
        return RungState(
            Job(space, n, units, first),
            seed_of(key),
            np.zeros((0, space.dimensions)),
            np.zeros(0, np.int64),
            np.zeros((0, len(self.units_of(units)))),
            np.full(n, -1),
            np.zeros((), np.int64),
        )

    def ask(self, state: RungState) -> Segment | None:
        """As many as the members have room for, of those that need equally many units."""
        return self._plan(state).segment

    def tell(self, state: RungState, fitness: np.ndarray) -> RungState:
        """Merits of those that were trained; who that was is known from asking again."""
        plan = self._plan(state)
        fitness = trained_fitness(plan.segment, fitness)
        new = len(plan.new)
        rungs = state.merits.shape[1]
        merits = np.concatenate([state.merits, np.full((new, rungs), np.nan)])
        members = np.flatnonzero(plan.segment.which)
        merits[plan.trials[members], plan.rung] = fitness[members]
        lives = np.where(np.isin(state.lives, plan.trials), -1, state.lives)
        return state._replace(
            rows=np.concatenate([state.rows, plan.new]),
            bracket=np.concatenate([state.bracket, np.full(new, plan.bracket)]),
            merits=merits,
            lives=np.where(plan.trials >= 0, plan.trials, lives),
            told=state.told + 1,
        )

    def _plan(self, state: RungState) -> Plan:
        wanted = self.wanted(state)
        steps = self.units_of(state.job.units)
        reached = state.reached
        living = np.isin(wanted.trials, state.lives)
        going = wanted.trials[living]
        if len(going):
            # Of those that live, the ones who need as many units as the first.
            needs = steps[wanted.rung] - np.array(steps)[reached[going]]
            trials = going[needs == needs[0]]
            member_of = {int(t): m for m, t in enumerate(state.lives) if t >= 0}
            members = np.array([member_of[int(t)] for t in trials])
            return self._segment(state, wanted, trials, members, int(needs[0]), anew=False)
        room = self._room(state, wanted.bracket)
        trials = wanted.trials
        if not len(trials):
            trials = len(state.rows) + np.arange(wanted.new)
        trials = trials[: len(room)]
        return self._segment(
            state, wanted, trials, room[: len(trials)], steps[wanted.rung], anew=True
        )

    def _segment(
        self,
        state: RungState,
        wanted: Wanted,
        trials: np.ndarray,
        members: np.ndarray,
        units: int,
        *,
        anew: bool,
    ) -> Plan:
        job = state.job
        count = int((trials >= len(state.rows)).sum())
        new = np.zeros((0, job.space.dimensions))
        if count:
            new = self.propose(state, generator(state.seed, int(state.told)), count)
            new = job.begin(new) if not len(state.rows) else new
        rows = np.concatenate([state.rows, new])
        copy = np.arange(job.n, dtype=np.int32)
        inside = np.full(job.n, -1)
        inside[members] = trials
        hyper = np.full((job.n, job.space.dimensions), 0.5)
        lived = np.where(inside >= 0, inside, state.lives)
        hyper[lived >= 0] = rows[lived[lived >= 0]]
        if anew:
            copy[members] = -1
        segment = Segment(copy, hyper, inside >= 0, units)
        return Plan(segment, inside, wanted.rung, new, wanted.bracket)

    def _room(self, state: RungState, bracket: int) -> np.ndarray:
        """Members that may be taken, best taken first.

        Empty ones, then those whose trial has finished or belongs to an earlier bracket, then the lowest
        rung and merit; the most promising 1 / eta are kept.
        """
        n = state.job.n
        reached, top = state.reached, state.merits.shape[1] - 1
        keys = []
        for member, trial in enumerate(state.lives.tolist()):
            if trial < 0:
                keys.append((0, 0, 0, 0.0, member))
                continue
            rung = int(reached[trial])
            merit = float(state.merits[trial, rung])
            over = rung == top or merit == -np.inf or state.bracket[trial] < bracket
            done = 1 if over else 2
            keys.append((done, int(state.bracket[trial]), rung, merit, member))
        order = np.array([key[-1] for key in sorted(keys)])
        spare = sum(key[0] < 2 for key in keys)
        return order[: max(spare, n - n // self.eta, 1)]


def best_first(trials: np.ndarray, merits: np.ndarray) -> np.ndarray:
    """Trials by merit, the best first, of equals the one that began first; without the diverged."""
    alive = np.isfinite(merits)
    return trials[alive][np.argsort(-merits[alive], kind="stable")]
