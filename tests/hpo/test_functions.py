"""A user's model as a population: against a plain loop, and compiled once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_close, assert_trees_equal, compilations

from jaxnas.errors import InputError
from jaxnas.hpo import FunctionTrials

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((5, 8, 3)).astype(np.float32), RNG.standard_normal((5, 8)).astype("f")


def init(key):
    return {"w": jax.random.normal(key, (3,)), "b": jnp.zeros(())}


def loss(params, batch):
    x, y = batch
    return jnp.square(x @ params["w"] + params["b"] - y).mean()


def step(params, hyper, batch):
    grads = jax.grad(loss)(params, batch)
    return jax.tree.map(lambda p, g: p - hyper["rate"] * g, params, grads)


def evaluate(params):
    return -loss(params, (X[0], Y[0]))


def draw(key):
    x = jax.random.normal(key, (8, 3))
    return x, x.sum(axis=1)


def made(layout="map", batches=(X, Y), **kwargs):
    return FunctionTrials(init, step, evaluate, batches, layout=layout, **kwargs)


def by_hand(seed, rate, steps, batches):
    """One member alone, step by step."""
    params = init(jax.random.key(seed))
    for i in range(steps):
        batch = batches(jax.random.fold_in(jax.random.key(seed), i)) if callable(batches) else None
        batch = (X[i % 5], Y[i % 5]) if batch is None else batch
        params = step(params, {"rate": jnp.float32(rate)}, batch)
    return params


@pytest.mark.parametrize("layout", ["map", "vmap"])
@pytest.mark.parametrize("batches", [(X, Y), draw], ids=["given", "drawn"])
def test_members_are_trained_as_they_would_be_alone(layout, batches):
    unit = 5 if isinstance(batches, tuple) else 1
    trials = made(layout, batches)
    rates = np.array([0.01, 0.05, 0.1])
    state = trials.init(np.array([3, 4, 5], np.uint32))
    state = trials.train(state, {"rate": rates}, np.array([True, False, True]), 2)
    state = trials.train(state, {"rate": rates}, np.array([True, True, True]), 1)
    for i, steps in enumerate([3, 1, 3]):
        alone = by_hand(3 + i, rates[i], steps * unit, batches)
        own = jax.tree.map(lambda a, i=i: a[i], state.params)
        assert_trees_close(own, alone, rtol=1e-4, atol=1e-5)
        assert trials.evaluate(state)[i] == pytest.approx(float(evaluate(alone)), rel=1e-4)


def test_gathering_copies_and_begins_anew():
    trials = made()
    rate = {"rate": np.full(3, 0.05)}
    everybody = np.ones(3, bool)
    state = trials.train(trials.init(np.array([3, 4, 5])), rate, everybody, 2)
    before = jax.tree.map(np.array, state.params)
    found = trials.gather(state, np.array([2, -1, 2]), np.array([7, 8, 9]))
    for i, expected in enumerate([5, None, 5]):
        own = jax.tree.map(lambda a, i=i: np.array(a[i]), found.params)
        if expected is None:
            assert_trees_close(own, init(jax.random.key(8)))
        else:
            assert_trees_equal(own, jax.tree.map(lambda a: a[2], before))
    np.testing.assert_array_equal(found.seeds, [3, 8, 5])
    np.testing.assert_array_equal(found.steps, [10, 0, 10])
    assert_trees_equal(trials.gather(found, np.arange(3), np.zeros(3)), found)


@pytest.mark.parametrize("layout", ["map", "vmap"])
def test_a_second_call_compiles_nothing(layout):
    trials = made(layout)

    def course(rates, which, units, rows, seeds):
        state = trials.init(seeds)
        state = trials.train(state, {"rate": rates}, which, units)
        state = trials.gather(state, rows, seeds)
        state = trials.train(state, {"rate": rates}, which, units)
        return trials.evaluate(state)

    rng = np.random.default_rng(0)
    course(rng.random(4) / 99, np.ones(4, bool), 1, np.array([1, -1, 2, 3]), np.arange(4))
    with compilations() as compiled:
        course(
            rng.random(4) / 9, np.array([1, 0, 0, 1], bool), 3, np.arange(4)[::-1], np.arange(7, 11)
        )
    assert compiled == []


def test_a_member_that_diverges_leaves_the_others_alone():
    trials = made()
    both = trials.init(np.array([3, 4]))
    found = trials.train(both, {"rate": np.array([1e30, 0.05])}, np.ones(2, bool), 4)
    fitness = trials.evaluate(found)
    assert not np.isfinite(fitness[0])
    assert fitness[1] == pytest.approx(float(evaluate(by_hand(4, 0.05, 20, (X, Y)))), rel=1e-4)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: made("pmap"), "layout is 'pmap'"),
        (lambda: made(batches=(X[:0], Y[:0])), "at least one; got 0"),
        (lambda: made(batches=(X, Y[:1])), "equally many and at least one; got "),
        (lambda: made(batches=(X, np.float32(1))), "at least one; got .*no axis"),
    ],
)
def test_trials_that_cannot_be(make, said):
    with pytest.raises(InputError, match=said):
        make()
