"""Simulated searches: a strategy asks, the table answers; thousands of runs in one compiled program."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.strategy import Asked, Strategy, Task, Told

STATE_BYTES = 2**28
"""Runs go together as long as their states are no larger."""


class Trace(NamedTuple):
    """Who was trained: rows `int32[R, T]` of the pool, and fidelities `int32[R, T]`, an index."""

    rows: np.ndarray
    fidelity: np.ndarray


def trainings(strategy: Strategy, task: Task, batch: int = 1) -> int:
    """How many trainings a simulated run has, a multiple of the batch.

    As many as the budget pays for at the highest fidelity, or at the lowest for a strategy that uses
    several: what lies beyond the budget is cut off later.
    """
    cheapest = task.fidelities[0] / task.fidelities[-1] if strategy.multi_fidelity else 1
    return batch * math.ceil(task.budget / cheapest / batch)


def simulate(
    strategy: Strategy, task: Task, fitness: np.ndarray, *, runs: int, seed: int, batch: int = 1
) -> Trace:
    """Run a strategy `runs` times against a table.

    Args:
        strategy: who asks; one that cannot be traced is run in a Python loop.
        task: what it is asked about.
        fitness: what the table says, `float[F, N]`: of each member at each fidelity; NaN: it failed.
        runs: how many; run r has the key `fold_in(key(seed), r)`, whatever their number.
        seed: of all runs.
        batch: trainings asked for at once.
    """
    steps = trainings(strategy, task, batch) // batch
    values = jnp.asarray(fitness, jnp.float32)
    if not strategy.traced:
        return _looped(strategy, task, values, runs, seed, steps, batch)
    chunk = _together(strategy, task, runs)
    found = []
    for first in range(0, runs, chunk):
        # A last chunk that is smaller would be another program.
        numbers = jnp.arange(first, first + chunk)
        asked = _traced(strategy, task, steps, batch, values, seed, numbers)
        found.append(jax.tree.map(np.asarray, asked))
    rows, fidelity = (np.concatenate(each)[:runs] for each in zip(*found, strict=True))
    return Trace(rows, fidelity)


def told(values: jax.Array, asked: Asked) -> Told:
    """What the table `float32[F, N]` answers; NaN is a failure."""
    fitness = values[asked.fidelity, asked.rows]
    failed = jnp.isnan(fitness)
    return Told(jnp.where(failed, 0, fitness), failed)


@partial(jax.jit, static_argnames=("strategy", "task", "steps", "batch"))
def _traced(
    strategy: Strategy,
    task: Task,
    steps: int,
    batch: int,
    values: jax.Array,
    seed: int,
    numbers: jax.Array,
) -> Asked:
    def step(state: Any, _: None) -> tuple[Any, Asked]:
        asked = strategy.ask(task, state, batch)
        return strategy.tell(task, state, asked, told(values, asked)), asked

    def one(number: jax.Array) -> Asked:
        key = jax.random.fold_in(jax.random.key(seed), number)
        asked = lax.scan(step, strategy.init(task, key), None, length=steps)[1]
        return Asked(asked.rows.reshape(-1), asked.fidelity.reshape(-1))

    return jax.vmap(one)(numbers)


def _looped(
    strategy: Strategy,
    task: Task,
    values: jax.Array,
    runs: int,
    seed: int,
    steps: int,
    batch: int,
) -> Trace:
    found = []
    for number in range(runs):
        state = strategy.init(task, jax.random.fold_in(jax.random.key(seed), number))
        for _ in range(steps):
            asked = strategy.ask(task, state, batch)
            state = strategy.tell(task, state, asked, told(values, asked))
            found.append((np.asarray(asked.rows), np.asarray(asked.fidelity)))
    rows, fidelity = (np.stack(each).reshape(runs, -1) for each in zip(*found, strict=True))
    return Trace(rows.astype(np.int32), fidelity.astype(np.int32))


def _together(strategy: Strategy, task: Task, runs: int) -> int:
    """How many runs go in one program: chunks of about equal size."""
    state = jax.eval_shape(lambda key: strategy.init(task, key), jax.random.key(0))
    size = sum(leaf.size * getattr(leaf.dtype, "itemsize", 8) for leaf in jax.tree.leaves(state))
    chunks = math.ceil(runs * size / STATE_BYTES)
    return math.ceil(runs / max(1, chunks))
