"""Tuners whose proposals are Optuna's, and the study in which their trials are kept.

Proposals are drawn by a sampler on a study in memory, made anew from what was told, so that a state is
all there is to know. The study in the database is a record of them: one Optuna trial a trained member.
"""

import abc
import json
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple
from weakref import WeakKeyDictionary

import jax
import numpy as np

from jaxnas.hpo import optuna_trials as record
from jaxnas.hpo.space import Space
from jaxnas.hpo.tuner import Job, Segment, Tuner, generator, seed_of, trained_fitness


class StudyState(NamedTuple):
    """T trials so far: rows `float64[T, P]`, fitness `float64[T]`, -inf: diverged.

    attrs: `str[T]`, what the sampler noted of each, JSON, which only it can read.
    told: segments of this run that are behind.
    """

    job: Job
    seed: np.ndarray
    rows: np.ndarray
    fitness: np.ndarray
    attrs: np.ndarray
    told: np.ndarray


@dataclass(frozen=True)
class StudyTuner(Tuner):
    """N full trainings at a time, all anew, as an Optuna sampler proposes them.

    Args:
        storage: where the study is kept: a file, which is SQLite, or a server's URL as Optuna takes it
            (`mysql://...`, `postgresql://...`); empty: nowhere. `optuna-dashboard sqlite:///FILE` shows
            it. Trials of other seeds that the study has when a run begins are made use of; a run of the
            same seed, members and units goes on after its last whole segment.
        study: the study's name.
        run: tells this run's trials from those of others of the same seed, members and units, which it
            would go on with.
    """

    fresh: ClassVar[bool] = True
    storage: str = ""
    study: str = "jaxnas"
    run: str = ""

    def check(self, space: Space) -> None:
        """Refuse, as `init` would, a study that cannot be opened or belongs to another space."""
        optuna = record.optuna_for(self.name)
        self.sampler(optuna, 0)
        if self.storage:
            with record.opened(optuna, self.storage, self.study, space):
                pass

    @abc.abstractmethod
    def sampler(self, optuna: Any, seed: int) -> Any:
        """The Optuna sampler, seeded."""

    def init(
        self,
        space: Space,
        n: int,
        units: int,
        key: jax.Array,
        *,
        first: np.ndarray | None = None,
    ) -> StudyState:
        """Nothing was trained in this run; what the study has of others is known.

        Raises:
            InputError: Optuna is missing, or the study cannot be opened or belongs to another space.
        """
        optuna = record.optuna_for(self.name)
        self.sampler(optuna, 0)  # says what is missing
        job, seed = Job(space, n, units, first), seed_of(key)
        rows, fitness = np.zeros((0, space.dimensions)), np.zeros(0)
        if self.storage:
            with record.opened(optuna, self.storage, self.study, space) as study:
                rows, fitness = record.others(study, space, self._run(job, seed))
        attrs = np.full(len(rows), "{}", object)
        return StudyState(job, seed, rows, fitness, attrs, np.zeros((), np.int64))

    def ask(self, state: StudyState) -> Segment:
        """The sampler's next N."""
        rows, _ = self._proposed(state)
        n = state.job.n
        return Segment(np.full(n, -1, np.int32), rows, np.ones(n, bool), state.job.units)

    def tell(self, state: StudyState, fitness: np.ndarray) -> StudyState:
        """With N more trials, which the study in the database gets too unless it has them."""
        rows, attrs = self._proposed(state)
        segment = self.ask(state)
        self.record(state, segment, fitness)
        fitness = trained_fitness(segment, fitness)
        return state._replace(
            rows=np.concatenate([state.rows, rows]),
            fitness=np.concatenate([state.fitness, fitness]),
            attrs=np.concatenate([state.attrs, attrs]),
            told=state.told + 1,
        )

    def record(self, state: StudyState, segment: Segment, fitness: np.ndarray) -> None:
        """To the study in the database, the trials of the members that were trained."""
        if not self.storage:
            return
        optuna, space = record.optuna_for(self.name), state.job.space
        fitness = trained_fitness(segment, fitness)
        with record.opened(optuna, self.storage, self.study, space) as study:
            place = (self._run(state.job, state.seed), int(state.told))
            record.write(optuna, study, space, segment.hyper, fitness, place)

    def told_before(self, state: StudyState) -> list[np.ndarray]:
        """The whole segments of this run, of the same seed, members and units, that the study has."""
        if not self.storage:
            return []
        optuna = record.optuna_for(self.name)
        with record.opened(optuna, self.storage, self.study, state.job.space) as study:
            return record.segments(study, self._run(state.job, state.seed), state.job.n)

    def _run(self, job: Job, seed: np.ndarray) -> str:
        """What tells this run's trials from others'."""
        parts = [*seed.tolist(), job.n, job.units, *([self.run] if self.run else [])]
        return "-".join(map(str, parts))

    def _proposed(self, state: StudyState) -> tuple[np.ndarray, np.ndarray]:
        """The next rows, and what the sampler noted of each; computed once for `ask` and `tell`."""
        mark = (self, int(state.told), state.rows.tobytes(), state.fitness.tobytes())
        known = _PROPOSED.get(state.job)
        if known is None or known[0] != mark:
            known = _PROPOSED[state.job] = (mark, self._sampled(state))
        return known[1]

    def _sampled(self, state: StudyState) -> tuple[np.ndarray, np.ndarray]:
        optuna = record.optuna_for(self.name)
        job, told = state.job, int(state.told)
        rng = generator(state.seed, told)
        with record.quiet(optuna):
            sampler = self.sampler(optuna, int(rng.integers(2**31 - 1)))
            study = optuna.create_study(direction="maximize", sampler=sampler)
            study.add_trials(record.past(optuna, job.space, state.rows, state.fitness, state.attrs))
            found = [record.proposed(optuna, study, job.space, rng) for _ in range(job.n)]
        rows = np.stack([row for row, _ in found])
        attrs = np.array([json.dumps(noted) for _, noted in found], object)
        if not told and job.first is not None:
            attrs[: len(job.first)] = "{}"
            rows = job.begin(rows)
        return rows, attrs


_PROPOSED: "WeakKeyDictionary[Job, tuple[Any, tuple[np.ndarray, np.ndarray]]]" = WeakKeyDictionary()
"""The last proposals of each job, and for which tuner and trials."""
