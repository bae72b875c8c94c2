"""Stage 2 by a search strategy: small batches of trainings, each asked for in the light of those before.

A batch is journalled when it is asked for (what, and what was expected of it) and epoch by epoch while it
is trained. A run that is resumed tells the strategy again what the journal has, and goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.budget import Budget
from jaxnas.config import TrainConfig
from jaxnas.predictor import Candidates
from jaxnas.ranking import oriented
from jaxnas.report import Decision
from jaxnas.runs import numbers
from jaxnas.stages.candidates import (
    baselines,
    computed_once,
    merit,
    pick,
    together,
    trained_candidates,
    win,
)
from jaxnas.stages.job import Job
from jaxnas.stages.limits import costs, limits
from jaxnas.stages.plan import train_plan
from jaxnas.stages.training import train_resumably
from jaxnas.strategies import get_strategy
from jaxnas.strategy import Asked, Strategy, Task, Told
from jaxnas.training.fidelity import MEASURES, ladder

PLANNED = 256
"""A search by time plans so many full trainings, and trains no more."""


@dataclass(frozen=True)
class Batch:
    """Trainings asked for together: rows of the pool, and how many epochs each.

    `expected` and `deviation` are what the strategy's predictor said of each beforehand, NaN without one.
    """

    rows: np.ndarray
    fidelity: np.ndarray
    expected: np.ndarray
    deviation: np.ndarray


def train_by_strategy(job: Job) -> None:
    """Train what the strategy asks for until the budget is spent; baselines beside the first batch.

    Fills `job.trained`, `job.decisions` and the winner: the best of those trained longest.
    """
    search = _Search(job)
    state = search.strategy.init(search.task, jax.random.key(job.config.seed))
    number = 0
    while batch := search.batch(number, state):
        state = search.tell(state, _asked(batch), search.train(number, batch))
        number += 1
    _, metric, _, row, accuracy = search.best
    win(job, search.task.pool.archs[row], accuracy, metric)
    job.notes.append(search.summary)


def planned(job: Job) -> int:
    """How many full trainings the strategy may ask for."""
    return min(budget_of(job.config.train).trainings or PLANNED, len(job.archs))


def budget_of(config: TrainConfig) -> Budget:
    """What is configured; else twice what is trained at once."""
    text = config.budget
    return Budget(trainings=2 * config.top) if text is None else Budget.parse(text)


def _asked(batch: Batch) -> Asked:
    return Asked(jnp.asarray(batch.rows, jnp.int32), jnp.asarray(batch.fidelity, jnp.int32))


class _Search:
    """The strategy, what it chooses from, and what has been trained for it."""

    def __init__(self, job: Job) -> None:
        self.job, self.config = job, job.config.train
        self.strategy: Strategy = get_strategy(self.config.strategy)
        self.budget = budget_of(self.config)
        archs = computed_once(job)
        epochs = self.config.epochs
        self.task = task = Task(
            _candidates(job, archs),
            min(planned(job), len(archs)),
            ladder(epochs) if self.strategy.multi_fidelity else (epochs,),
            costs(job, archs),
        )
        self.lasting = np.array(task.fidelities)
        self.row_of = {job.space.to_string(a): i for i, a in enumerate(task.pool.archs)}
        self.ask: Callable[[Any, int], Asked] = partial(self.strategy.ask, task)
        self.tell: Callable[[Any, Asked, Told], Any] = partial(self.strategy.tell, task)
        if self.strategy.traced:  # or loops would be compiled for each batch anew
            self.ask = jax.jit(self.ask, static_argnums=1)
            self.tell = jax.jit(self.tell)
        self.epochs = 0
        """Epochs asked for so far, of all trainings together."""
        self.known: dict[tuple[int, int], float] = {}
        """Fitness by row and fidelity: what is asked for again is not trained again."""
        self.best: tuple[int, float, float, int, float] = (-1, -1.0, 0.0, 0, -1.0)
        """The most fidelity, and there the most merit; the row and its validation accuracy."""

    def batch(self, number: int, state: Any) -> Batch | None:
        """The batch that was asked for, or is now; None once the budget is spent."""
        job, pool = self.job, self.task.pool
        if number == len(job.run.of_stage("train", "ask")):
            asked = self._affordable(state)
            if asked is None:
                return None
            rows, fidelity = (np.asarray(a) for a in asked)
            nothing = np.full(len(rows), np.nan)
            guess = self.strategy.predict(self.task, state, rows)
            expected, deviation = (nothing, nothing) if guess is None else guess
            job.run.record(
                stage="train",
                unit="ask",
                archs=[job.space.to_string(pool.archs[row]) for row in rows],
                epochs=self.lasting[fidelity],
                expected=np.asarray(expected),
                deviation=np.asarray(deviation),
                seconds=job.watch.lap(),
            )
        entry = job.run.of_stage("train", "ask")[number]
        return Batch(
            np.array([self.row_of[arch] for arch in entry["archs"]]),
            np.searchsorted(self.lasting, entry["epochs"]),
            numbers(entry["expected"]),
            numbers(entry["deviation"]),
        )

    def train(self, number: int, batch: Batch) -> Told:
        """Fitness of a batch, by the configured measure; who diverged has failed."""
        first = {self.task.full} if number == 0 else set()
        for level in sorted({*batch.fidelity.tolist(), *first}):
            rows = np.unique(batch.rows[batch.fidelity == level])
            rows = np.array([r for r in rows if (r, level) not in self.known], int)
            self._train(number, rows, level)
        asked = list(zip(batch.rows.tolist(), batch.fidelity.tolist(), strict=True))
        fitness = np.array([self.known[key] for key in asked])
        self.epochs += int(self.lasting[batch.fidelity].sum())
        self.job.decisions += [
            Decision(
                arch=self.job.space.to_string(self.task.pool.archs[row]),
                batch=number + 1,
                epochs=int(self.lasting[level]),
                place=row + 1,
                expected=float(batch.expected[i]),
                deviation=float(batch.deviation[i]),
                reached=float(fitness[i]),
            )
            for i, (row, level) in enumerate(asked)
        ]
        failed = ~np.isfinite(fitness)
        return Told(jnp.asarray(np.where(failed, 0, fitness), jnp.float32), jnp.asarray(failed))

    def _train(self, number: int, rows: np.ndarray, level: int) -> None:
        """Train rows of the pool at one fidelity, the baselines beside the first full trainings."""
        job, epochs = self.job, self.task.fidelities[level]
        archs, roles = self.task.pool.archs[rows], ["candidate"] * len(rows)
        if number == 0 and level == self.task.full:
            more, others = baselines(job)
            archs, roles = np.concatenate([archs, more]), roles + others
        if not len(archs):
            return
        label = f"{number + 1}" if len(self.task.fidelities) == 1 else f"{number + 1}-{epochs}"
        config = replace(self.config, epochs=epochs)
        trained = train_resumably(
            job,
            "train",
            config,
            archs,
            train_plan(job, len(archs)),
            capacity=together(self.config),
            batch=label,
        )
        curves = trained.curves
        fitness = MEASURES[self.config.measure](curves)
        fitness = np.where(np.isfinite(curves[-1].train_loss), fitness, np.nan)
        self.known |= {(int(r), level): float(f) for r, f in zip(rows, fitness, strict=False)}
        if len(rows):
            first = pick(curves, list(range(len(rows))))
            metric, minus_loss = merit(curves, first)
            if metric >= 0:
                accuracy = float(curves[-1].val_accuracy[first])
                found = (level, metric, minus_loss, int(rows[first]), accuracy)
                self.best = max(self.best, found)
        shorter = level < self.task.full
        found = trained_candidates(job, "train", config, archs, roles, trained, batch=label)
        job.trained += [replace(c, stopped=shorter and not c.diverged) for c in found]

    def _affordable(self, state: Any) -> Asked | None:
        """The next batch, of as many trainings as the budget has epochs left for; None: of none."""
        left = self._left()
        n = int(min(self.config.top, left // self.lasting[0]))
        while n > 0:
            asked = self.ask(state, n)
            paid = int((self.lasting[np.asarray(asked.fidelity)].cumsum() <= left).sum())
            if paid == n:
                return asked
            n = paid
        return None

    def _left(self) -> float:
        """Epochs of training that the budget has left; a first batch fits into any time."""
        left = self.task.budget * self.lasting[-1] - self.epochs
        if self.budget.seconds is None or not self.epochs:
            return left
        run = self.job.run
        spent = sum(sum(s.values()) for stage, s in run.seconds().items() if stage != "finish")
        entries = run.of_stage("train", "epoch")
        epochs = sum(len(e["train_loss"]) for e in entries)
        each = sum(e["seconds"]["run"] for e in entries) / epochs
        return min(left, max(self.budget.seconds - spent, 0.0) / max(each, 1e-9))

    @property
    def summary(self) -> str:
        """What was asked for, in a sentence."""
        decisions, steps = self.job.decisions, [str(f) for f in self.task.fidelities]
        lengths = f" of {', '.join(steps[:-1])} or {steps[-1]} epochs" if len(steps) > 1 else ""
        kept = " and keep the limits" if limits(self.job) else ""
        return (
            f"Strategy {self.config.strategy} asked for {len(decisions)} trainings{lengths} in "
            f"{decisions[-1].batch} batches, of {len(self.task.pool):,} architectures that compute "
            f"different functions{kept}."
        )


def _candidates(job: Job, archs: np.ndarray) -> Candidates:
    """What is ranked as predictors see it, best first; equal functions once."""
    assert job.ranking is not None
    names = [job.space.to_string(arch) for arch in archs]
    table = job.ranking.drop_duplicates("arch").set_index("arch").loc[names]
    scores = {p.name: oriented(p, table[p.name].to_numpy(float)) for p in job.proxies}
    return Candidates(job.space, job.space.pruned(archs), scores, table["score"].to_numpy(float))
