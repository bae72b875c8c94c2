"""How a stage trains: hyper-parameters, objective, augmentation and teacher, from the configuration."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnas.augment import NAMED, Policy, PolicyAugment, get_policy
from jaxnas.augment import load as load_policy
from jaxnas.augment.search import Found
from jaxnas.config import FinishConfig
from jaxnas.stages.job import Job
from jaxnas.training.hyper import SCHEDULES, Hyper
from jaxnas.training.objective import Objective, balanced_weights
from jaxnas.training.population import Recipe


class Plan(NamedTuple):
    """What `jaxnas.stages.training.train_resumably` trains with, `hyper` having `[N]` of each.

    `hyper_at` says otherwise for an epoch; after `patience` epochs without a better metric training ends.
    """

    hyper: Hyper
    recipe: Recipe
    teacher: Any = None
    metric: str = "accuracy"
    hyper_at: Callable[[int, Hyper], Hyper] | None = None
    patience: int = 0

    def averages(self, epochs: int) -> bool:
        """Whether some candidate has an average of weights in some of so many epochs."""
        at = self.hyper_at
        every = [self.hyper if at is None else at(e, self.hyper) for e in range(epochs)]
        return any(bool(np.any(np.asarray(hyper.ema) > 0)) for hyper in every)


def objective(job: Job) -> Objective:
    """The loss and the weights of classes that are configured."""
    config, classes = job.config.objective, job.data.classes
    weights = config.class_weights
    if weights == ("balanced",):
        weights = balanced_weights(job.data.train.y, classes)
    return Objective.of(
        config.loss, None if weights is None else [float(w) for w in weights], classes
    )


def train_plan(job: Job, n: int) -> Plan:
    """Of the n candidates of stage train."""
    config = job.config.train
    hyper = Hyper.constant(n, learning_rate=config.learning_rate, weight_decay=config.weight_decay)
    return Plan(
        hyper, Recipe(config.dtype, objective=objective(job)), metric=job.config.objective.metric
    )


type At = Callable[[int, Hyper], Hyper]
"""From an epoch, from 0, and hyper-parameters to those of the epoch."""


def finish_plan(
    job: Job,
    n: int = 1,
    *,
    epochs: int = 0,
    policy: Policy | None = None,
    then: At | None = None,
) -> Plan:
    """Of `n` copies of the winner: what is configured for stage finish, or described by the winner, and
    what was found before it.

    What was tuned is stretched over `epochs`, by default those of stage finish. `policy` goes before
    the configured one, and `then` changes each epoch's hyper-parameters at last.
    """
    config = job.config.finish
    epochs = epochs or config.epochs
    found = Found(policy) if policy is not None else finish_policy(job)
    hyper = untuned(job, n)
    steps: list[At] = [] if job.tuned is None else [_as_tuned(job.tuned, epochs)]
    if found is not None:
        hyper = _with_policy(hyper, found.policy)
        if found.schedule is not None:
            steps.append(_as_found(found, epochs))
    steps += [] if then is None else [then]
    teacher = job.teacher
    recipe = Recipe(
        config.dtype,
        optimizer=config.optimizer,
        objective=objective(job),
        augmenter=None if found is None else PolicyAugment.of(job.data),
        teacher=None if teacher is None else teacher.network,
    )
    return Plan(
        hyper,
        recipe,
        teacher=None if teacher is None else (teacher.variables, teacher.row),
        metric=job.config.objective.metric,
        hyper_at=partial(_in_turn, steps) if steps else None,
        patience=config.patience,
    )


def _in_turn(steps: Sequence[At], epoch: int, hyper: Hyper) -> Hyper:
    for step in steps:
        hyper = step(epoch, hyper)
    return hyper


def configured(config: FinishConfig, n: int) -> Hyper:
    """The section's hyper-parameters for `n` networks."""
    names = set(Hyper._fields) & set(vars(config)) - {"schedule", "distill"}
    values = {name: getattr(config, name) for name in names}
    values["schedule"] = SCHEDULES.index(config.schedule)
    values["distill"] = 0.0 if config.teacher is None else config.distill
    return Hyper.constant(n, **values)


def untuned(job: Job, n: int) -> Hyper:
    """What `n` copies of the winner are finished with where nothing was tuned: the section's, and before
    them what the winner's own description says."""
    assert job.winner is not None
    own = job.space.hyper(np.repeat(job.winner[None], n, axis=0))
    return configured(job.config.finish, n).overridden(own)


def finish_policy(job: Job) -> Found | None:
    """What images are augmented with in the last training; None: nothing."""
    asked = job.config.finish.augment
    if asked is None:
        return job.policy
    policy = named_policy(asked)
    return None if policy is None else Found(policy)


def _with_policy(hyper: Hyper, policy: Policy) -> Hyper:
    n = len(hyper.learning_rate)
    return hyper._replace(
        policy=jax.tree.map(lambda a: np.repeat(np.asarray(a)[None], n, axis=0), policy)
    )


def _as_found(found: Found, epochs: int) -> At:
    def at(epoch: int, hyper: Hyper) -> Hyper:
        return _with_policy(hyper, found.at(epoch, epochs))

    return at


def named_policy(text: str) -> Policy | None:
    """A policy by name, parameters after colons, or from FILE.json; None: one that does nothing."""
    if text.endswith(".json") and text.partition(":")[0] not in NAMED:
        return load_policy(Path(text))
    return None if text == "none" else get_policy(text)


def _as_tuned(tuned: dict[str, np.ndarray], epochs: int) -> At:
    """The tuned values of each epoch, stretched from the units that they were found for."""

    def at(epoch: int, hyper: Hyper) -> Hyper:
        now = {k: np.asarray(v)[epoch * len(v) // epochs] for k, v in tuned.items()}
        shape = np.shape(hyper.learning_rate)
        return hyper._replace(**{k: np.full(shape, v, np.float32) for k, v in now.items()})

    return at
