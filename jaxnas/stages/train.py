"""Stage 2: the best candidates are trained for a short time, all in one program, and one is picked."""

import jax
import numpy as np

from jaxnas.config import FinishConfig, TrainConfig
from jaxnas.errors import InputError
from jaxnas.report import TrainedCandidate
from jaxnas.stages.job import Job
from jaxnas.stages.super_net import search_by_gradient, train_shared
from jaxnas.stages.training import Curves, Trained, train_resumably
from jaxnas.supernet.differentiable.search import STRATEGIES
from jaxnas.supernet.train import TRAINERS


def train(job: Job) -> None:
    """Fills `job.trained`, `job.winner` and its validation accuracy in `job.accuracy`."""
    config = job.config.train
    if config.trainer in STRATEGIES:
        return search_by_gradient(job)
    archs, roles = choose(job)
    if config.trainer in TRAINERS:
        return train_shared(job, archs, roles)
    trained = train_resumably(job, "train", config, archs, capacity=len(archs))
    curves = trained.curves
    job.trained += trained_candidates(job, "train", config, archs, roles, trained)
    candidates = [i for i, role in enumerate(roles) if role == "candidate"]
    best = pick(curves, candidates)
    accuracy = float(curves[-1].val_accuracy[best])
    if not np.isfinite(accuracy):
        raise InputError(
            "The training of every candidate diverged: the loss stopped being a number; try a lower "
            f"train.learning_rate than {config.learning_rate}."
        )
    job.winner, job.accuracy = archs[best], {"val_accuracy": accuracy}


def choose(job: Job) -> tuple[np.ndarray, list[str]]:
    """The rows to train, `int32[N, D]`, and why each.

    The best of the ranking that compute different functions, then, as baselines at the same budget,
    the largest architecture of those ranked and random ones.
    """
    space, config = job.space, job.config.train
    assert job.ranking is not None
    best = job.archs[job.ranking["index"].to_numpy()]
    connected = space.connected(best)
    best = best[connected] if connected.any() else best
    # What architectures compute: two that differ in how they are trained are not two of them.
    canonical = space.canonical(best)
    kinds = space.shape_classes(canonical)
    computed = np.concatenate([kinds[:, None], space.rows(canonical)], axis=1)
    _, first = np.unique(computed, axis=0, return_index=True)
    top = best[np.sort(first)[: config.top]]
    archs, roles = [top], ["candidate"] * len(top)
    if config.baselines:
        archs.append(job.archs[job.count(config, job.archs).params.argmax()][None])
        archs.append(space.sample(jax.random.key(job.config.seed), config.baselines))
        roles += ["largest"] + ["random"] * config.baselines
    return space.pruned(np.concatenate(archs)), roles


def expected_trainings(config: TrainConfig) -> int:
    """How many candidates and baselines are trained."""
    return config.top + (1 + config.baselines if config.baselines else 0)


def pick(curves: Curves, among: list[int]) -> int:
    """The candidate of best last validation accuracy; among equals the lowest validation loss."""
    last = curves[-1]

    def merit(i: int) -> tuple[float, float]:
        accuracy, loss = last.val_accuracy[i], last.val_loss[i]
        return (accuracy, -loss) if np.isfinite(accuracy) else (-1.0, 0.0)

    return max(among, key=merit)


def trained_candidates(
    job: Job,
    stage: str,
    config: TrainConfig | FinishConfig,
    archs: np.ndarray,
    roles: list[str],
    trained: Trained,
) -> list[TrainedCandidate]:
    """What the report and the table say of each training; seconds are shared by multiply-adds."""
    counts, curves = job.count(config, archs), trained.curves
    lasted = np.where(trained.stopped, trained.stopped, config.epochs)
    share = counts.macs * lasted / (counts.macs * lasted).sum()
    seconds = sum(e["seconds"]["run"] for e in job.run.of_stage(stage, "epoch"))
    return [
        TrainedCandidate(
            arch=name,
            role=roles[i],
            params=int(counts.params[i]),
            macs=int(counts.macs[i]),
            seconds=float(seconds * share[i]),
            epochs=tuple(range(1, lasted[i] + 1)),
            train_loss=tuple(float(c.train_loss[i]) for c in curves[: lasted[i]]),
            val_accuracy=tuple(float(c.val_accuracy[i]) for c in curves[: lasted[i]]),
            diverged=not trained.stopped[i] and not np.isfinite(curves[-1].train_loss[i]),
            stopped=bool(trained.stopped[i]),
        )
        for i, name in enumerate(map(job.space.to_string, archs))
    ]
