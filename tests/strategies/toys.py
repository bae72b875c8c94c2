"""A small space whose best architecture is known, and searches of it written out slowly."""

import jax
import numpy as np

from jaxnas.predictor import Candidates
from jaxnas.spaces import Decision, SearchSpace
from jaxnas.strategy import Task, Told


class Toy(SearchSpace):
    """Eight decisions of three choices, no two architectures alike."""

    name = "toy"
    decisions = tuple(Decision(f"d{i}", ("a", "b", "c")) for i in range(8))

    def network(self, size, *, classes, image_channels=3, shape_class=0):
        raise NotImplementedError


SPACE = Toy()
BEST = np.array([2, 1, 0, 2, 1, 2, 0, 1], np.int32)


def fitness(archs, seed=0):
    """How many decisions are right, and a little noise of each architecture's own: no two are equal."""
    code = np.asarray(archs) @ 3 ** np.arange(8)
    noise = np.random.default_rng(seed).permutation(3**8)[code] / 3**8
    return (np.asarray(archs) == BEST).sum(1) + 0.5 * noise


def make_task(budget=60, *, size=None, fidelities=(1,), limits=None):
    """The whole space, or a sample of `size`; its ranking is the fitness with much noise."""
    archs = SPACE.all()
    if size is not None:
        archs = archs[np.sort(np.random.default_rng(1).choice(len(archs), size, replace=False))]
    good = fitness(archs)
    rough = good + np.random.default_rng(2).normal(0, 1.0, len(good))
    params = archs.sum(1).astype(float) + 1
    pool = Candidates(SPACE, archs, {"params": params, "naswot": rough}, rough)
    return Task(pool, budget, fidelities, params[:, None], limits)


def values(task, failing=0.0):
    """`float32[F, N]`: short trainings say less; some share fails at all lengths."""
    good = fitness(task.pool.archs)
    rng = np.random.default_rng(3)
    rows = [good + rng.normal(0, 0.5 * (task.full - f), len(good)) for f in range(task.full + 1)]
    table = np.stack(rows).astype(np.float32)
    table[:, rng.random(len(good)) < failing] = np.nan
    return table


def answer(table, asked):
    """What a table says, in NumPy."""
    found = table[np.asarray(asked.fidelity), np.asarray(asked.rows)]
    return Told(np.nan_to_num(found), np.isnan(found))


def search(strategy, task, table, *, seed=0, batch=1, trainings=40):
    """Query by query, without compiling the whole: rows, fidelities and the last state."""
    ask = jax.jit(lambda state: strategy.ask(task, state, batch))
    tell = jax.jit(lambda state, asked, told: strategy.tell(task, state, asked, told))
    state = strategy.init(task, jax.random.fold_in(jax.random.key(seed), 0))
    rows, levels = [], []
    for _ in range(trainings // batch):
        asked = ask(state)
        state = tell(state, asked, answer(table, asked))
        rows += np.asarray(asked.rows).tolist()
        levels += np.asarray(asked.fidelity).tolist()
    return np.array(rows), np.array(levels), state
