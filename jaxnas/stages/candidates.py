"""Who is trained beside whom, what came of each, and who was best."""

import jax
import numpy as np

from jaxnas.config import FinishConfig, TrainConfig
from jaxnas.errors import InputError
from jaxnas.report import TrainedCandidate
from jaxnas.stages.job import Job
from jaxnas.stages.limits import allowed, known_costs
from jaxnas.stages.training import Curves, Trained


def choose(job: Job) -> tuple[np.ndarray, list[str]]:
    """The rows to train where no strategy asks for them, `int32[N, D]`, and why each.

    The best of the ranking that compute different functions, then the baselines.
    """
    top = computed_once(job)[: job.config.train.top]
    archs, roles = baselines(job)
    return np.concatenate([job.space.pruned(top), archs]), ["candidate"] * len(top) + roles


def computed_once(job: Job) -> np.ndarray:
    """The architectures ranked, best first: those that connect input and output and keep the limits.

    Of those that compute the same function only the best is there. Rows are as in `job.archs`.
    """
    space = job.space
    assert job.ranking is not None
    best = job.archs[job.ranking["index"].to_numpy()]
    connected = space.connected(best)
    best = best[connected] if connected.any() else best
    # What architectures compute: two that differ in how they are trained are not two of them.
    canonical = space.canonical(best)
    kinds = space.shape_classes(canonical)
    computed = np.concatenate([kinds[:, None], space.rows(canonical)], axis=1)
    _, first = np.unique(computed, axis=0, return_index=True)
    best = best[np.sort(first)]
    return best[allowed(job, best)]


def baselines(job: Job) -> tuple[np.ndarray, list[str]]:
    """The largest architecture of those ranked and random ones, `int32[N, D]`, and their roles."""
    space, config = job.space, job.config.train
    if not config.baselines:
        return np.zeros((0, len(space.decisions)), np.int32), []
    largest = job.archs[job.count(config, job.archs).params.argmax()][None]
    drawn = space.sample(jax.random.key(job.config.seed), config.baselines)
    roles = ["largest"] + ["random"] * config.baselines
    return space.pruned(np.concatenate([largest, drawn])), roles


def together(config: TrainConfig) -> int:
    """How many trainings the first batch has, which no later one exceeds: candidates and baselines."""
    return config.top + (1 + config.baselines if config.baselines else 0)


def merit(curves: Curves, i: int) -> tuple[float, float]:
    """Last validation metric and, among equals, minus the last validation loss; -1 if it diverged."""
    metric, loss = curves[-1].val_metric[i], curves[-1].val_loss[i]
    return (float(metric), -float(loss)) if np.isfinite(metric) else (-1.0, 0.0)


def pick(curves: Curves, among: list[int]) -> int:
    """The candidate of most merit, of equals the first."""
    return max(among, key=lambda i: merit(curves, i))


def win(job: Job, arch: np.ndarray, accuracy: float, metric: float | None = None) -> None:
    """`arch` is the stage's pick, with its validation accuracy and metric (the same, if None).

    Raises:
        InputError: its accuracy is no number: nobody's is.
    """
    if not accuracy >= 0:
        raise InputError(
            "The training of every candidate diverged: the loss stopped being a number; try a lower "
            f"train.learning_rate than {job.config.train.learning_rate}."
        )
    job.winner = arch
    job.accuracy = {"val_accuracy": accuracy, "val_metric": accuracy if metric is None else metric}


def trained_candidates(
    job: Job,
    stage: str,
    config: TrainConfig | FinishConfig,
    archs: np.ndarray,
    roles: list[str],
    trained: Trained,
    *,
    batch: str = "",
) -> list[TrainedCandidate]:
    """What the report and the table say of each training; seconds are shared by multiply-adds."""
    counts, curves = job.count(config, archs), trained.curves
    costs = known_costs(job, archs)
    lasted = np.where(trained.stopped, trained.stopped, config.epochs)
    share = counts.macs * lasted / (counts.macs * lasted).sum()
    epochs = [e for e in job.run.of_stage(stage, "epoch") if e.get("batch", "") == batch]
    seconds = sum(e["seconds"]["run"] for e in epochs)
    return [
        TrainedCandidate(
            arch=name,
            role=roles[i],
            params=int(counts.params[i]),
            macs=int(counts.macs[i]),
            seconds=float(seconds * share[i]),
            epochs=tuple(range(1, min(lasted[i], len(curves)) + 1)),
            train_loss=tuple(float(c.train_loss[i]) for c in curves[: lasted[i]]),
            val_accuracy=tuple(float(c.val_accuracy[i]) for c in curves[: lasted[i]]),
            diverged=not trained.stopped[i] and not np.isfinite(curves[-1].train_loss[i]),
            stopped=bool(trained.stopped[i]),
            costs=costs[i],
        )
        for i, name in enumerate(map(job.space.to_string, archs))
    ]
