"""Training a population as a stage does it: journalled, checkpointed, resumable, with a bar."""

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
) -> Curves:
    """Train `archs`, going on where the journal says an interrupted run had come to.

    After an epoch its state is saved, then the epoch is journalled, then the state before is removed:
    whenever the process dies, the last journalled epoch has its state.
    """
    curves = [_metrics(entry) for entry in job.run.of_stage(stage, "epoch")]
    if len(curves) == epochs:
        return curves
    seeds = np.full(capacity, job.config.seed, np.uint32)
    population = init_population(network, seeds)
    if curves:
        population = job.run.restore_state(stage, len(curves), population)
    alive = np.isfinite(curves[-1].train_loss) if curves else np.ones(len(archs), bool)
    with job.screen.bar(stage, epochs) as bar:
        bar.advance(len(curves), "compiling")

        def on_epoch(epoch: int, population: Population, metrics: EpochMetrics) -> None:
            job.run.save_state(stage, epoch, population)
            job.run.record(
                stage=stage,
                unit="epoch",
                epoch=epoch,
                **metrics._asdict(),
                seconds=job.watch.lap(),
            )
            job.run.drop_states(stage, keep=epoch)
            curves.append(metrics)
            best = np.nanmax(np.append(metrics.val_accuracy, 0.0))
            bar.advance(1, f"best validation accuracy {best:.4f}")

        train_population(
            network,
            archs,
            hyper,
            job.training_data(network.resolution),
            epochs=epochs,
            batch_size=batch_size,
            population=population,
            start_epoch=len(curves),
            alive=alive,
            on_epoch=on_epoch,
        )
    lost = int((~np.isfinite(curves[-1].train_loss)).sum())
    if lost:
        job.notes.append(
            f"{lost} of {len(archs)} trainings diverged in stage {stage} (their loss stopped being a "
            "number) and were frozen; a lower learning rate may help."
        )
    return curves


def trained_population(
    job: Job, stage: str, network: Network, epoch: int, capacity: int
) -> Population:
    """The state that `train_resumably` left."""
    like = init_population(network, np.full(capacity, job.config.seed, np.uint32))
    return job.run.restore_state(stage, epoch, like)


def _metrics(entry: dict) -> EpochMetrics:
    return EpochMetrics(*(numbers(entry[name]) for name in EpochMetrics._fields))
