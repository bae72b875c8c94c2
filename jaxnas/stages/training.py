"""Training a population as a stage does it: journalled, checkpointed, resumable, with a bar."""

import jax
import numpy as np

from jaxnas.network import Network
from jaxnas.runs import numbers
from jaxnas.stages.job import Job
from jaxnas.training.population import (
    EpochMetrics,
    Hyper,
    Population,
    init_population,
    train_population,
)

type Curves = list[EpochMetrics]
"""The metrics of each epoch, in order."""


def train_resumably(
    job: Job,
    stage: str,
    network: Network,
    archs: np.ndarray,
    hyper: Hyper,
    *,
    epochs: int,
    batch_size: int,
    capacity: int,
) -> tuple[Curves, Population]:
    """Train `archs`, going on where the journal says an interrupted run had come to.

    After an epoch its state is saved, then the epoch is journalled, then the state before is removed:
    whenever the process dies, the last journalled epoch has its state.
    """
    curves = [_metrics(entry) for entry in job.run.of_stage(stage, "epoch")]
    n = len(archs)
    with job.screen.bar(stage, epochs) as bar:
        bar.advance(len(curves), "compiling" if len(curves) < epochs else "")
        population = init_population(network, np.full(capacity, job.config.seed, np.uint32))
        if curves:
            job.run.drop_states(stage, keep=len(curves))
            kept = job.run.restore_state(stage, len(curves), _rows(population, n))
            population = jax.tree.map(lambda a, b: a.at[:n].set(b), population, kept)

        def on_epoch(epoch: int, population: Population, metrics: EpochMetrics) -> None:
            job.run.save_state(stage, epoch, _rows(population, n))
            entry = {"stage": stage, "unit": "epoch", "epoch": epoch, **metrics._asdict()}
            job.run.record(**entry, seconds=job.watch.lap())
            job.run.drop_states(stage, keep=epoch)
            curves.append(metrics)
            best = np.nanmax(np.append(metrics.val_accuracy, 0.0))
            bar.advance(1, f"best validation accuracy {best:.4f}")

        population = train_population(
            network,
            archs,
            hyper,
            job.training_data(network.resolution),
            epochs=epochs,
            batch_size=batch_size,
            population=population,
            start_epoch=len(curves),
            alive=np.isfinite(curves[-1].train_loss) if curves else None,
            on_epoch=on_epoch,
        )
    _note_diverged(job, stage, curves)
    return curves, population


def _rows(population: Population, n: int) -> Population:
    return jax.tree.map(lambda a: a[:n], population)


def _note_diverged(job: Job, stage: str, curves: Curves) -> None:
    lost = int((~np.isfinite(curves[-1].train_loss)).sum())
    if lost:
        job.notes.append(
            f"{lost} of {len(curves[-1].train_loss)} trainings diverged in stage {stage} (their loss "
            "stopped being a number) and were frozen; a lower learning rate may help."
        )


def _metrics(entry: dict) -> EpochMetrics:
    return EpochMetrics(*(numbers(entry[name]) for name in EpochMetrics._fields))
