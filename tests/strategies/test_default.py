"""The default strategy's process against dense NumPy, its batches, and what it makes of its pool."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import SPACE, answer, make_task, search, values

from jaxnas.benchmarks.strategies.simulate import simulate
from jaxnas.errors import InputError
from jaxnas.predictor import Candidates
from jaxnas.strategies import get_strategy, residual
from jaxnas.strategies.default import Default, standardised
from jaxnas.strategies.members import members
from jaxnas.strategies.residual import Labels, features
from jaxnas.strategy import Asked, Task, Told


@pytest.fixture(scope="module")
def task():
    return make_task(30, size=150)


@pytest.fixture(scope="module")
def told(task):
    """A state that has been told 17 labels and 3 failures, in batches of 4."""
    strategy, table = Default(), values(task)
    rng = np.random.default_rng(5)
    state = strategy.init(task, jax.random.key(0))
    rows = rng.choice(150, 20, replace=False).astype(np.int32)
    failed = np.isin(np.arange(20), (3, 9, 10))
    for at in range(0, 20, 4):
        some = slice(at, at + 4)
        asked = Asked(jnp.asarray(rows[some]), jnp.zeros(4, jnp.int32))
        fitness = np.where(failed[some], np.nan, table[0][rows[some]])
        state = strategy.tell(
            task, state, asked, Told(jnp.asarray(fitness), jnp.asarray(failed[some]))
        )
    return state, rows[~failed], table[0][rows[~failed]]


def dense_kernel(known, hyper, a, b):
    """The kernel pair by pair."""
    amplitude, length = float(hyper[0]), float(hyper[1])

    def matern(x, y):
        r = np.sqrt(5 * np.square(x - y).sum()) / length
        return (1 + r + r * r / 3) * np.exp(-r)

    found = np.zeros((len(a), len(b)))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            far = matern(known.what[one].astype(float), known.what[other].astype(float))
            near = matern(known.proxies[one].astype(float), known.proxies[other].astype(float))
            found[i, j] = 36 + 0.09 * float(known.prior[one]) * float(known.prior[other])
            found[i, j] += amplitude**2 * (far + 0.36 * near)
    return found


def test_the_process_is_that_of_a_dense_solve(task, told):
    state, rows, fitness = told
    known = features(task)
    labelled, hyper = known.of[rows], np.asarray(state.process.hyper, float)
    every = np.arange(0, len(known.rows), 7)
    kernel = dense_kernel(known, hyper, labelled, labelled) + hyper[2] ** 2 * np.eye(len(rows))
    cross = dense_kernel(known, hyper, every, labelled)
    median = np.median(fitness)
    raised = np.maximum(fitness, median - 3 * (fitness.max() - median)).astype(float)
    centred = raised - raised.mean()
    prior = 0.85 * known.prior.astype(float)
    inverse = np.linalg.inv(kernel)
    # The likelihood of s by itself, on a fine grid.
    spread = centred.std()
    trial = np.exp(np.linspace(-3, 3, 20001)) * spread
    rest = centred[None] / trial[:, None] - prior[labelled][None]
    twice = np.einsum("si,ij,sj->s", rest, inverse, rest) + 2 * np.square(spread / trial)
    scale = trial[np.argmin(twice + 2 * (len(rows) + 2) * np.log(trial))]
    mean = prior[every] + cross @ inverse @ (centred / scale - prior[labelled])
    own = np.diag(dense_kernel(known, hyper, every, every))
    std = np.sqrt(own - np.einsum("ij,jk,ik->i", cross, inverse, cross) + hyper[2] ** 2)
    found = Default().predict(task, state, known.rows[every])
    np.testing.assert_allclose(found[0], mean * scale + raised.mean(), rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(found[1], std * scale, rtol=5e-3)


def test_hyperparameters_maximise_the_evidence(task, told):
    state, rows, _ = told
    known = features(task)
    labels, _ = standardised(state.labels)
    labelled = known.of[rows]
    y = np.asarray(labels.fitness, float)[: len(rows)]
    prior = 0.85 * known.prior[labelled].astype(float)
    best = (-np.inf, None)
    for hyper in residual.GRID.astype(float):
        kernel = dense_kernel(known, hyper, labelled, labelled) + hyper[2] ** 2 * np.eye(len(rows))
        inverse = np.linalg.inv(kernel)
        trial = np.exp(np.linspace(-3, 3, 2001)) * y.std()
        rest = y[None] / trial[:, None] - prior[None]
        twice = np.einsum("si,ij,sj->s", rest, inverse, rest) + 2 * np.square(y.std() / trial)
        twice = (twice + 2 * (len(rows) + 2) * np.log(trial)).min() + np.linalg.slogdet(kernel)[1]
        middle, width = np.log((0.5, 1.6, 0.2)), np.array((0.5, 0.5, 0.7))
        away = (np.log(hyper) - middle) / width
        best = max(best, (-0.5 * twice - 0.5 * away @ away, tuple(hyper)))
    chosen = residual.fitted(known, labels, jnp.zeros(3), jnp.asarray(True))
    np.testing.assert_allclose(chosen, best[1])
    kept = residual.fitted(known, labels, jnp.ones(3), jnp.asarray(False))
    np.testing.assert_array_equal(kept, np.ones(3))


def test_labels_one_by_one_are_labels_at_once(task, told):
    state, rows, fitness = told
    strategy = Default()
    once = strategy.init(task, jax.random.key(0))
    asked = Asked(jnp.asarray(rows), jnp.zeros(len(rows), jnp.int32))
    once = strategy.tell(task, once, asked, Told(jnp.asarray(fitness), jnp.zeros(len(rows), bool)))
    known = features(task)
    fixed = once.process._replace(hyper=state.process.hyper, held=jnp.zeros((), jnp.int32))
    fixed = jax.tree.map(jnp.zeros_like, fixed)._replace(
        factor=jnp.eye(30), hyper=state.process.hyper
    )
    for candidate in known.of[rows]:
        fixed = residual.appended(known, fixed, jnp.asarray(candidate))
    np.testing.assert_allclose(fixed.known, state.process.known, atol=1e-4)
    np.testing.assert_array_equal(once.labels.fitness, state.labels.fitness)


def test_a_batch_is_chosen_as_if_those_before_had_turned_out_as_expected(task, told):
    """Against asking one at a time and telling the expected fitness, hyperparameters and scale kept."""
    state = told[0]
    known = features(task)
    labels, _ = standardised(state.labels)
    scale = residual.scale_of(known, state.process, labels)
    mean, std = map(np.asarray, residual.posterior(known, state.process, labels, scale))
    process, seen = state.process, np.asarray(state.seen).copy()
    best = mean[np.asarray(labels.candidates)[: int(labels.held)]].max()
    expected = []
    for _ in range(5):
        std = np.sqrt(np.asarray(residual.variance(known, process.hyper) - process.explained))
        draws = np.random.default_rng(0).normal(size=(4000, 1))
        gain = np.maximum(mean + std * draws - best, 0).mean(axis=0)
        expected.append((np.where(seen, -1, gain).argsort()[::-1][:6]).tolist())
        found = int(np.asarray(known.of)[Default().ask(task, state, len(expected)).rows[-1]])
        # Monte Carlo can tell the best few only up to its error.
        assert found in expected[-1]
        seen[found], best = True, max(best, mean[found])
        process = residual.appended(known, process, jnp.asarray(found))
    asked = np.asarray(Default().ask(task, state, 5).rows)
    assert len(set(asked.tolist())) == 5


def test_with_no_label_it_is_the_ranking_and_with_no_ranking_chance(task):
    strategy = Default()
    first = strategy.ask(task, strategy.init(task, jax.random.key(0)), 1).rows
    assert int(first[0]) == int(np.argmax(task.pool.prior))
    bare = Task(Candidates(SPACE, task.pool.archs), 30)
    drawn = {
        int(strategy.ask(bare, strategy.init(bare, jax.random.key(k)), 1).rows[0])
        for k in range(12)
    }
    assert len(drawn) > 6
    best = values(bare)[0]
    found = simulate(strategy, bare, values(bare), runs=8, seed=0)
    random = simulate(get_strategy("random"), bare, values(bare), runs=8, seed=0)
    assert best[found.rows].max(1).mean() > best[random.rows].max(1).mean()


def test_failures_teach_nothing_and_are_not_asked_again(task, told):
    state = told[0]
    assert int(state.labels.held) == 17
    gone = members(task).classes[np.asarray(features(task).rows)[np.asarray(state.seen)]]
    asked = np.asarray(Default().ask(task, state, 40).rows)
    assert not np.isin(members(task).classes[asked], gone).any()
    strategy = Default()
    none = strategy.init(task, jax.random.key(0))
    one = Asked(jnp.asarray([7], jnp.int32), jnp.zeros(1, jnp.int32))
    after = strategy.tell(task, none, one, Told(jnp.asarray([1e9]), jnp.asarray([True])))
    assert strategy.predict(task, after, np.arange(3)) is None


def test_more_labels_than_there_is_room_for(task):
    """The oldest are forgotten, and the process is that of those that are left."""
    small = Task(task.pool, 6)
    table = values(small)
    strategy = Default()
    rows, _, state = search(strategy, small, table, trainings=9)
    assert int(state.labels.held) == 9
    held = {int(c) for c in state.labels.candidates}
    assert held == {int(features(small).of[r]) for r in rows[-6:]}
    np.testing.assert_array_equal(
        np.sort(state.labels.fitness), np.sort(table[0][rows[-6:]].astype(np.float32))
    )
    factor = np.asarray(state.process.factor, float)
    kernel = residual.covariance(
        features(small), state.process.hyper, state.labels.candidates, state.labels.candidates
    )
    whole = np.asarray(kernel) + float(state.process.hyper[2]) ** 2 * np.eye(6)
    np.testing.assert_allclose(factor @ factor.T, whole, rtol=2e-3, atol=2e-3)


def test_a_low_outlier_counts_as_the_floor():
    fitness = jnp.asarray([1.0, 2.0, 3.0, -500.0, 0.0])
    labels = Labels(jnp.zeros(5, jnp.int32), fitness, jnp.asarray(4))
    found, centre = standardised(labels)
    # The median is 1.5 and the best 1.5 above it.
    np.testing.assert_allclose(found.fitness + centre * (np.arange(5) < 4), [1, 2, 3, -3, 0])
    np.testing.assert_allclose(found.fitness.sum(), 0, atol=1e-6)


@pytest.mark.parametrize("acquisition", ["ei", "ucb", "thompson"])
def test_every_acquisition_beats_chance_and_the_greedy_ones_the_ranking(acquisition, task):
    whole = make_task(40, size=600)
    table = values(whole, failing=0.05)
    found = simulate(Default(acquisition), whole, table, runs=4, seed=0, batch=4)
    listed = simulate(get_strategy("proxy"), whole, table, runs=1, seed=0)
    later, next_best = table[0][found.rows[:, 20:]], table[0][listed.rows[0][20:]]
    assert np.nanmean(later) > np.nanmean(table[0]) + 1.5
    # Thompson sampling goes on exploring.
    if acquisition != "thompson":
        assert np.nanmean(later) > np.nanmean(next_best) + 0.1


def test_settings_that_cannot_be_are_refused():
    for text, said in (
        ("default:acquisition=eii", "did you mean ei"),
        ("default:kappa=-1", "kappa is -1.0"),
        ("bo:acquisition=pi", "acquisition"),
        ("bo:lie=median", "lie"),
        ("bo:predictor=gpp", "did you mean gp"),
        ("bananas:predictor=gp", "ensemble"),
        ("bananas:encoding=adjacenci", "did you mean adjacency"),
        ("bananas:parents=0", "at least 1"),
        ("npenas:steps=0", "at least 1"),
        ("npenas:initial=0", "expected at least 1"),
    ):
        with pytest.raises(InputError, match=said):
            get_strategy(text)


def test_asking_reads_what_it_was_told(task):
    """Where the ranking is the wrong way round, labels turn it."""
    good = -np.asarray(task.pool.prior)
    whole = Task(task.pool, 30)
    strategy = Default()
    state = strategy.init(whole, jax.random.key(0))
    for _ in range(20):
        asked = strategy.ask(whole, state, 1)
        state = strategy.tell(whole, state, asked, answer(good[None].astype(np.float32), asked))
    expected = strategy.predict(whole, state, np.arange(len(good)))[0]
    assert np.corrcoef(expected, good)[0, 1] > 0.3
