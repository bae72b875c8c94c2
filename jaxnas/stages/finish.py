"""Stage 3: the pick is trained to the end and evaluated once on the test images."""

import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.network import Network
from jaxnas.runs import numbers
from jaxnas.stages.candidates import together, trained_candidates
from jaxnas.stages.job import Job
from jaxnas.stages.training import train_resumably
from jaxnas.training.evaluation import evaluate_population
from jaxnas.training.population import Population
from jaxnas.training.stream import evaluate_streamed


def finish(job: Job) -> None:
    """Adds the winner to `job.trained` and fills `job.accuracy`."""
    config = job.config.finish
    assert job.winner is not None
    archs = job.winner[None]
    trained = train_resumably(job, "finish", config, archs, capacity=_capacity(job))
    curves = trained.curves
    ((network, _, population),) = trained.programs.values()
    job.trained += trained_candidates(job, "finish", config, archs, ["winner"], trained)
    done = job.run.of_stage("finish", "test")
    if not done:
        accuracy = _test_accuracy(job, network, population, job.space.rows(archs))
        job.run.record(stage="finish", unit="test", accuracy=accuracy, seconds=job.watch.lap())
        done = job.run.of_stage("finish", "test")
    job.accuracy = {
        "val_accuracy": float(curves[-1].val_accuracy[0]),
        "test_accuracy": float(numbers(done[-1]["accuracy"])[0]),
    }
    if not np.isfinite(job.accuracy["val_accuracy"]):
        raise InputError(
            "The winner's training diverged: its loss stopped being a number; try a lower "
            f"finish.learning_rate than {config.learning_rate}."
        )


def _test_accuracy(
    job: Job, network: Network, population: Population, rows: np.ndarray
) -> np.ndarray:
    variables, resolution = population.variables, network.resolution
    if job.streams(resolution):
        images = job.streamed(job.data.test, resolution)
        return evaluate_streamed(network, variables, rows, images)[1]
    x, y = job.prepared(job.data.test, resolution)
    return evaluate_population(network, variables, rows, jnp.asarray(x), jnp.asarray(y))[1]


def _capacity(job: Job) -> int:
    """As many places as the candidates had, where that saves compiling the same program again."""
    train, finish = job.config.train, job.config.finish
    same = job.size(train) == job.size(finish) and train.batch_size == finish.batch_size
    return together(train) if same and _one_program(job) else 1


def _one_program(job: Job) -> bool:
    """Whether all shape classes have the same network at the size that candidates are trained at."""
    first = job.network(job.config.train)
    others = range(1, job.space.programs)
    return all(job.network(job.config.train, kind) == first for kind in others)
