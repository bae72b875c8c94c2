"""Acquisitions against Monte Carlo, and the strategies on predictors against slow loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import make_task, values

from jaxnas.benchmarks.strategies.simulate import simulate
from jaxnas.predictors import PREDICTORS
from jaxnas.strategies import get_strategy
from jaxnas.strategies.acquisition import (
    expected_improvement,
    independent_thompson,
    upper_confidence_bound,
)
from jaxnas.strategies.members import members
from jaxnas.strategies.surrogate import mutants
from jaxnas.strategy import Asked, Told

MEAN, STD = np.array([0.0, 0.5, -1.0, 0.2]), np.array([1.0, 0.3, 2.0, 0.01])


def test_expected_improvement_is_the_mean_of_what_lies_above():
    draws = MEAN + STD * np.random.default_rng(0).normal(size=(400_000, 4))
    expected = np.maximum(draws - 0.4, 0).mean(axis=0)
    found = expected_improvement(jnp.asarray(MEAN), jnp.asarray(STD), jnp.asarray(0.4))
    np.testing.assert_allclose(found, expected, atol=4e-3)
    sure = expected_improvement(jnp.asarray([1.0, 0.0]), jnp.zeros(2), jnp.asarray(0.4))
    np.testing.assert_allclose(sure, [0.6, 0.0], atol=1e-6)


def test_the_upper_bound_leaves_the_share_above_it_that_it_says():
    bound = upper_confidence_bound(jnp.asarray(MEAN), jnp.asarray(STD), 1.2815516)
    draws = MEAN + STD * np.random.default_rng(0).normal(size=(100_000, 4))
    np.testing.assert_allclose((draws > np.asarray(bound)).mean(axis=0), 0.1, atol=5e-3)


def test_thompson_chooses_as_often_as_one_is_the_best():
    keys = jax.random.split(jax.random.key(0), 40_000)
    drawn = jax.vmap(lambda k: independent_thompson(k, jnp.asarray(MEAN), jnp.asarray(STD)))(keys)
    best = np.bincount(np.argmax(np.asarray(drawn), axis=1), minlength=4) / 40_000
    draws = MEAN + STD * np.random.default_rng(0).normal(size=(200_000, 4))
    expected = np.bincount(draws.argmax(axis=1), minlength=4) / 200_000
    np.testing.assert_allclose(best, expected, atol=0.012)


def told(strategy, task, n=16, failing=2):
    """A state with `n` random labels, the first `failing` of which failed."""
    table = values(task)[0]
    state = strategy.init(task, jax.random.key(3))
    rows = strategy.ask(task, state, n).rows
    failed = jnp.arange(n) < failing
    fitness = jnp.where(failed, jnp.nan, jnp.asarray(table)[rows])
    return strategy.tell(task, state, Asked(rows, jnp.zeros(n, jnp.int32)), Told(fitness, failed))


@pytest.mark.parametrize("lie", ["min", "mean", "max"])
def test_batches_by_constant_liar(lie):
    task = make_task(30, size=120)
    strategy = get_strategy(f"bo:predictor=bayesian_linear:lie={lie}:acquisition=ucb")
    state = told(strategy, task)
    fine = np.isfinite(state.merits)
    rows, fitness = state.rows[fine].tolist(), state.merits[fine].astype(float).tolist()
    assert len(rows) == 14
    value = {"min": min, "max": max, "mean": lambda f: sum(f) / len(f)}[lie](fitness)
    classes, taken, expected = members(task).classes, set(), []
    taken = {int(classes[row]) for row in state.rows}
    for _ in range(4):
        model = strategy.model().fit(task.pool, np.array(rows), np.array(fitness), seed=0)
        mean, std = model.predict(np.arange(120))
        promise = [
            -np.inf if int(classes[i]) in taken else m + 2 * s
            for i, (m, s) in enumerate(zip(mean, std, strict=True))
        ]
        best = int(np.argmax(promise))
        expected.append(best)
        taken.add(int(classes[best]))
        rows, fitness = [*rows, best], [*fitness, value]
    assert np.asarray(strategy.ask(task, state, 4).rows).tolist() == expected


def test_npenas_trains_the_offspring_of_the_highest_mean():
    task = make_task(30)
    strategy = get_strategy("npenas:predictor=bayesian_linear:parents=3:offspring=60")
    state = told(strategy, task)
    asked = np.asarray(strategy.ask(task, state, 3).rows)
    order = [row for row in np.argsort(-state.merits) if np.isfinite(state.merits[row])]
    parents = task.pool.archs[state.rows[order[:3]]]
    apart = (task.pool.archs[asked][:, None] != parents[None]).sum(axis=2)
    assert (apart.min(axis=1) == 1).all()
    mean = strategy.predict(task, state, np.arange(len(task.pool)))[0]
    # Those asked are better than offspring are by and large, and come best first.
    near = (task.pool.archs[:, None] != parents[None]).sum(axis=2).min(axis=1) == 1
    assert mean[asked].min() > np.quantile(mean[near], 0.6)
    assert (np.diff(mean[asked]) <= 0).all()


def test_mutants_are_near_the_best_and_new():
    task = make_task(30)
    strategy = get_strategy("bananas")
    state = told(strategy, task)
    pool = members(task)
    found = mutants(pool, state, np.random.default_rng(0), 2, 400, steps=2)
    best = state.rows[np.argsort(-state.merits, kind="stable")][:2]
    best = best[np.isfinite(np.sort(state.merits)[::-1][:2])]
    apart = (task.pool.archs[found][:, None] != task.pool.archs[best][None]).sum(axis=2).min(axis=1)
    assert set(np.unique(apart).tolist()) == {1, 2}
    assert not np.isin(pool.classes[found], pool.classes[state.rows]).any()
    assert len(np.unique(pool.classes[found])) == len(found) > 50


def test_bananas_draws_more_than_the_mean():
    """Two keys draw other members for the same labels, all of them mutants."""
    task = make_task(30, size=200)
    strategy = get_strategy("bananas:predictor=boosting")
    state = told(strategy, task)
    other = state._replace(key=jax.random.key(11))
    one, two = (np.asarray(strategy.ask(task, s, 4).rows) for s in (state, other))
    assert set(one.tolist()) != set(two.tolist())


@pytest.mark.parametrize(
    "text",
    [
        "bo:predictor=bayesian_linear",
        "npenas:predictor=bayesian_linear",
        "bananas:predictor=boosting",
    ],
)
def test_a_toy_is_searched_better_than_at_random(text):
    assert "bayesian_linear" in PREDICTORS
    task = make_task(50)
    table = values(task, failing=0.1)
    ended = [
        np.nanmax(
            table[0][simulate(get_strategy(t), task, table, runs=2, seed=0, batch=10).rows], axis=1
        )
        for t in (text, "random")
    ]
    assert ended[0].mean() > ended[1].mean() + 0.3


def test_what_is_expected_is_the_predictors():
    task = make_task(30, size=120)
    strategy = get_strategy("bo:predictor=bayesian_linear")
    assert strategy.predict(task, strategy.init(task, jax.random.key(0)), np.arange(3)) is None
    state = told(strategy, task)
    fine = np.isfinite(state.merits)
    model = strategy.model().fit(
        task.pool, state.rows[fine].astype(np.int64), state.merits[fine].astype(float), seed=0
    )
    for found, expected in zip(
        strategy.predict(task, state, np.arange(9)), model.predict(np.arange(9)), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert get_strategy("random").predict(task, None, np.arange(3)) is None
