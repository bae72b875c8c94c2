"""What every strategy of the registry keeps to, on spaces and samples whose best is known."""

import jax
import numpy as np
import pytest
from helpers import assert_trees_equal, compilations
from toys import BEST, SPACE, answer, make_task, search, values

from jaxnas.benchmarks.strategies.simulate import simulate, trainings
from jaxnas.errors import InputError
from jaxnas.predictor import Candidates
from jaxnas.strategies import STRATEGIES, get_strategy
from jaxnas.strategies.members import members
from jaxnas.strategy import Task

NAMES = list(STRATEGIES)
ALONE = [n for n in NAMES if n not in ("random", "grid")]
AGAIN = ["regularized_evolution", "warm_evolution", "area", "reinforce", "rnn_controller"]
"""Those whose papers may train an architecture twice."""
FIXED = ["proxy", "largest", "default"]
"""Those that draw nothing where there is a ranking."""
SETTINGS = {
    "nsga2": ":population=10",
    "cars": ":population=10",
    "bananas": ":predictor=boosting",
    "npenas": ":predictor=bayesian_linear",
    "bo": ":predictor=bayesian_linear",
}
"""For searches of few trainings, and predictors that are fitted soon."""


def few(strategy, runs):
    """Fewer and larger steps for those that are not traced."""
    return {"runs": runs} if strategy.traced else {"runs": 2, "batch": 10}


@pytest.fixture(scope="module")
def task():
    return make_task(60, fidelities=(1, 3, 9))


@pytest.fixture(scope="module")
def small():
    """A sample."""
    return make_task(20, size=90, fidelities=(1, 2))


@pytest.fixture(scope="module")
def table(task):
    return values(task, failing=0.1)


def levels(strategy, task):
    return set(range(task.full + 1)) if strategy.multi_fidelity else {task.full}


@pytest.mark.parametrize("name", NAMES)
def test_asking_is_pure_and_stays_in_the_pool(name, small):
    strategy, table = get_strategy(name + SETTINGS.get(name, "")), values(small, failing=0.1)
    init, ask, tell = strategy.init, strategy.ask, strategy.tell
    if strategy.traced:
        init, ask = jax.jit(init, static_argnums=0), jax.jit(ask, static_argnums=(0, 2))
        tell = jax.jit(tell, static_argnums=0)
    state = init(small, jax.random.key(0))
    for _ in range(2):
        first = ask(small, state, 3)
        assert_trees_equal(first, ask(small, state, 3))
        assert first.rows.shape == first.fidelity.shape == (3,)
        assert np.all((first.rows >= 0) & (first.rows < len(small.pool)))
        assert set(np.asarray(first.fidelity).tolist()) <= levels(strategy, small)
        before = jax.tree.map(np.array, _numbers(state))
        after = tell(small, state, first, answer(table, first))
        assert_trees_equal(_numbers(state), before)
        state = after


def _numbers(state):
    """A state with random keys as numbers."""
    is_key = lambda a: jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key)  # noqa: E731
    return jax.tree.map(lambda a: jax.random.key_data(a) if is_key(a) else a, state)


@pytest.mark.parametrize("name", NAMES)
def test_simulations_repeat_differ_by_seed_and_compile_once(name, task, table):
    strategy = get_strategy(name + ("" if get_strategy(name).traced else SETTINGS[name]))
    steps = few(strategy, 6)
    first = simulate(strategy, task, table, **steps, seed=1)
    with compilations() as compiled:
        again = simulate(strategy, task, table, **steps, seed=1)
        other = simulate(strategy, task, table, **steps, seed=2)
    assert compiled == []
    assert_trees_equal(first, again)
    assert first.rows.shape == (steps["runs"], trainings(strategy, task))
    assert first.rows.min() >= 0
    assert first.rows.max() < len(task.pool)
    assert set(np.unique(first.fidelity).tolist()) <= levels(strategy, task)
    if name not in FIXED:
        assert (first.rows != other.rows).any()
        assert (first.rows[0] != first.rows[1]).any()
    classes = members(task).classes
    for rows, fidelity in zip(*first, strict=True):
        pairs = np.stack([classes[rows], fidelity], axis=1)
        repeats = len(pairs) - len(np.unique(pairs, axis=0))
        if name in AGAIN:
            continue
        # Genetic children may come again when some tries found nothing new.
        assert repeats == 0 if name not in ("nsga2", "cars") else repeats < 0.1 * len(pairs)


@pytest.mark.parametrize("name", ALONE)
def test_a_toy_is_solved_better_than_at_random(name):
    strategy = get_strategy(name + SETTINGS.get(name, ""))
    fidelities = (1, 4) if strategy.multi_fidelity else (1,)
    task = make_task(60 if name == "default" or not strategy.traced else 150, fidelities=fidelities)
    if name == "largest":
        # The largest are the best where size is what counts.
        sized = np.asarray(task.cost_table[:, 0], np.float32)[None]
        assert (
            sized[0][np.asarray(simulate(strategy, task, sized, runs=1, seed=0).rows[0])].max()
            == 17
        )
        return
    table = values(task)
    ended = [_best(s, task, table) for s in (strategy, get_strategy("random"))]
    assert ended[0] > ended[1] + 0.3
    assert table[-1].max() == fitness_of(task, BEST)


def fitness_of(task, arch):
    return values(task)[-1][(task.pool.archs == arch).all(1)][0]


def _best(strategy, task, table):
    """The mean over runs of the best full training that the budget pays for."""
    found = simulate(strategy, task, table, **few(strategy, 12), seed=0)
    share = np.array(task.fidelities)[found.fidelity] / task.fidelities[-1]
    paid = (share.cumsum(1) <= task.budget + 1e-6) & (found.fidelity == task.full)
    return np.where(paid, table[-1][found.rows], -np.inf).max(1).mean()


@pytest.mark.parametrize(
    "name", ["regularized_evolution", "local", "nsga2", "cars", "warm_evolution"]
)
def test_who_failed_is_never_a_parent(name):
    """Where one decision's choice always fails, no child of a failed one is asked for.

    Fitness falls with the distance from who failed, so that they would be the best parents by far.
    """
    strategy = get_strategy(name + (":population=6" if name != "local" else ":initial=4"))
    task = make_task(60, fidelities=(1, 3) if strategy.multi_fidelity else (1,))
    bad = task.pool.archs[:, 0] == 2
    table = np.repeat(np.where(bad, np.nan, 1.0)[None], task.full + 1, axis=0).astype(np.float32)
    # Sixteen decisions must change from a good parent's to reach two that differ in all but the first.
    rows, _, state = search(strategy, task, table, trainings=60)
    parents = getattr(state, "parents", None)
    failed = [r for r in rows if bad[r]]
    assert 0 < len(failed) < 45
    if parents is not None:
        chosen = np.asarray(parents.rows)[np.asarray(parents.merits) > -np.inf]
        assert len(chosen)
        assert not bad[chosen].any()
    if name == "local":
        assert not bad[int(state.here)] or int(state.here) < 0


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_searched_too(name, small):
    strategy = get_strategy(name + ("" if get_strategy(name).traced else SETTINGS[name]))
    found = simulate(strategy, small, values(small, failing=0.2), **few(strategy, 3), seed=0)
    assert found.rows.min() >= 0
    assert found.rows.max() < 90


def test_all_failing_is_survived():
    task = make_task(25, size=60, fidelities=(1, 2))
    table = np.full((2, 60), np.nan, np.float32)
    for name in (
        "regularized_evolution",
        "local",
        "reinforce",
        "hyperband",
        "asha",
        "nsga2",
        "cars",
    ):
        found = simulate(get_strategy(name), task, table, runs=2, seed=0)
        assert len(np.unique(found.rows[0])) > 8


def test_names_and_parameters_are_read():
    evolution = get_strategy("regularized_evolution:population=100:sample=25:identity=0.05")
    assert (evolution.population, evolution.sample, evolution.identity) == (100, 25, 0.05)
    assert get_strategy("local:whole=false").whole is False
    for text, said in (
        ("regularised_evolution", "did you mean regularized_evolution"),
        ("regularized_evolution:populaton=3", "did you mean population"),
        ("regularized_evolution:population=many", "expected a whole number"),
        ("regularized_evolution:population=0", "expected at least 1"),
        ("hyperband:eta=1", "expected at least 2"),
        ("local:whole=maybe", "expected true or false"),
        ("nsga2:population=1", "expected at least 2"),
    ):
        with pytest.raises(InputError, match=said):
            get_strategy(text)


def test_tasks_that_cannot_be_are_refused():
    pool = make_task().pool
    for given, said in (
        ({"budget": 0}, "budget is 0"),
        ({"budget": 5, "fidelities": (3, 2)}, "ascending"),
        ({"budget": 5, "costs": np.zeros((3, 1))}, "shape"),
        ({"budget": 5, "costs": np.full((len(pool), 1), 9.0), "limits": (3.0,)}, "nearest.*9"),
        ({"budget": 5, "limits": (3.0,)}, "1 limits for 0 costs"),
    ):
        with pytest.raises(InputError, match=said):
            Task(pool, **given)
    bare = Task(Candidates(SPACE, pool.archs), 5)
    for name in ("proxy", "largest", "area", "warm_evolution"):
        with pytest.raises(InputError, match=r"absent|neither"):
            get_strategy(name).init(bare, jax.random.key(0))
