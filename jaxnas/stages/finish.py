"""Stage 5: the pick is trained to the end and evaluated once on the test images, if there are any."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.backend import choices
from jaxnas.errors import InputError
from jaxnas.network import Network, Variables
from jaxnas.report import Judged
from jaxnas.runs import numbers
from jaxnas.stages.candidates import together, trained_candidates
from jaxnas.stages.job import Finished, Job
from jaxnas.stages.plan import finish_plan
from jaxnas.stages.training import train_resumably
from jaxnas.training.evaluation import (
    EVALUATION_BATCH,
    evaluate_population,
    predict_population,
)
from jaxnas.training.population import final_variables
from jaxnas.training.stream import WINDOW_BYTES, evaluate_streamed, prepared_bytes


def finish(job: Job) -> None:
    """Trains the winner, unless it came trained, adds it to `job.trained` and fills `job.accuracy`."""
    assert job.winner is not None
    rows = job.space.rows(job.winner[None])
    if job.finished is None:
        _train(job, job.winner[None])
    assert job.finished is not None
    network, variables, _ = job.finished
    if job.data.tested:
        _test(job, network, variables, rows)
    job.judged = _judged(job, network, variables, rows)


def _test(job: Job, network: Network, variables: Variables, rows: np.ndarray) -> None:
    """Adds what the test images say to `job.accuracy`; only once, the journal has it."""
    done = job.run.of_stage("finish", "test")
    if not done:
        found = _tested(job, network, variables, rows, job.config.objective.metric)
        job.run.record(
            stage="finish",
            unit="test",
            accuracy=found[1],
            metric=found[2],
            seconds=job.watch.lap(),
        )
        done = job.run.of_stage("finish", "test")
    job.accuracy |= {f"test_{k}": float(numbers(done[-1][k])[0]) for k in ("accuracy", "metric")}


def _train(job: Job, archs: np.ndarray) -> None:
    """Fills `job.finished`.

    Raises:
        InputError: the loss stopped being a number.
    """
    config = job.config.finish
    plan = finish_plan(job)
    trained = train_resumably(job, "finish", config, archs, plan, capacity=_capacity(job))
    curves = trained.curves
    ((network, _, population),) = trained.programs.values()
    job.trained += trained_candidates(job, "finish", config, archs, ["winner"], trained)
    job.accuracy = {
        "val_accuracy": float(curves[-1].val_accuracy[0]),
        "val_metric": float(curves[-1].val_metric[0]),
    }
    if not np.isfinite(job.accuracy["val_accuracy"]):
        raise InputError(
            "The winner's training diverged: its loss stopped being a number; try a lower "
            f"finish.learning_rate than {config.learning_rate}."
        )
    last = plan.hyper if plan.hyper_at is None else plan.hyper_at(len(curves) - 1, plan.hyper)
    job.finished = Finished(network, final_variables(population, last), job.size(config))


def _tested(
    job: Job, network: Network, variables: Variables, rows: np.ndarray, metric: str
) -> tuple[np.ndarray, ...]:
    """Loss, accuracy and metric on the test images, `[1]` each."""
    resolution = network.resolution
    if job.streams(resolution):
        images = job.streamed(job.data.test, resolution)
        return evaluate_streamed(network, variables, rows, images, metric=metric)
    x, y = job.prepared(job.data.test, resolution)
    return evaluate_population(
        network, variables, rows, jnp.asarray(x), jnp.asarray(y), metric=metric
    )


SHOWN = 10_000
"""Test images that the report counts and shows mistakes of at most, drawn at random from more."""


def _judged(job: Job, network: Network, variables: Variables, rows: np.ndarray) -> Judged:
    """What the network says of the test images, or of a sample of them, for the report."""
    test, side = job.data.test, network.resolution
    total, places, images, y = len(test), None, test.x, test.y
    if total > SHOWN:  # a test set that is given has its own order, often class by class
        drawn = np.random.default_rng(job.config.seed).choice(total, SHOWN, replace=False)
        places = np.sort(drawn)
        images, y = images[places], y[places]
    one = jax.tree.map(lambda a: a[:1], variables)
    # As many at once as a window of streamed images has: prepared, all may not fit the device.
    each = prepared_bytes(EVALUATION_BATCH, (side, side, job.data.channels))
    step = max(1, WINDOW_BYTES // each) * EVALUATION_BATCH
    parts = [
        predict_population(
            network, one, rows, jnp.asarray(job.data.prepare(images[i : i + step], side))
        )[0]
        for i in range(0, len(images), step)
    ]
    split = "test" if job.data.tested else "validation"
    found = np.concatenate(parts)
    return Judged(found, y, job.data.class_names, images, places, total, split)


def _capacity(job: Job) -> int:
    """As many places as the candidates had, where that saves compiling the same program again."""
    train, finish = job.config.train, job.config.finish
    if choices().map_batch_size is not None:
        return (
            1  # where candidates are vmapped, every place is computed, whether it is filled or not
        )
    same = job.size(train) == job.size(finish) and train.batch_size == finish.batch_size
    return together(train) if same and _one_program(job) else 1


def _one_program(job: Job) -> bool:
    """Whether all shape classes have the same network at the size that candidates are trained at."""
    first = job.network(job.config.train)
    others = range(1, job.space.programs)
    return all(job.network(job.config.train, kind) == first for kind in others)
