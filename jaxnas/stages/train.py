"""Stage 2: candidates are trained for a short time, many in one program, and one is picked."""

from jaxnas.sections import JOINT
from jaxnas.stages.candidates import choose, merit, pick, together, trained_candidates, win
from jaxnas.stages.job import Job
from jaxnas.stages.joint import train_jointly
from jaxnas.stages.plan import train_plan
from jaxnas.stages.strategy import budget_of, planned, train_by_strategy
from jaxnas.stages.super_net import search_by_gradient, train_shared
from jaxnas.stages.training import train_resumably
from jaxnas.supernet.differentiable.search import STRATEGIES
from jaxnas.supernet.train import TRAINERS


def train(job: Job) -> None:
    """Fills `job.trained`, `job.winner` and its validation accuracy in `job.accuracy`."""
    config = job.config.train
    if config.trainer == JOINT:
        return train_jointly(job)
    if config.trainer in STRATEGIES:
        return search_by_gradient(job)
    if config.trainer in TRAINERS:
        return train_shared(job, *choose(job))
    if config.halving:
        return _train_halved(job)
    return train_by_strategy(job)


def _train_halved(job: Job) -> None:
    """The ranking's best as one batch, which successive halving thins out."""
    config = job.config.train
    archs, roles = choose(job)
    plan = train_plan(job, len(archs))
    trained = train_resumably(job, "train", config, archs, plan, capacity=len(archs))
    curves = trained.curves
    job.trained += trained_candidates(job, "train", config, archs, roles, trained)
    best = pick(curves, [i for i, role in enumerate(roles) if role == "candidate"])
    win(job, archs[best], float(curves[-1].val_accuracy[best]), merit(curves, best)[0])


def expected_trainings(job: Job) -> int:
    """How many candidates and baselines are trained at most, a short training counting in part."""
    config = job.config.train
    asked = config.trainer == "population" and not config.halving
    return planned(job) - config.top + together(config) if asked else together(config)


def seconds_allowed(job: Job) -> float | None:
    """The budget of ranking and training together, if it is one of time."""
    return budget_of(job.config.train).seconds
