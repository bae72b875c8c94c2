"""ENAS's controller against an LSTM written out, decision by decision."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_trees_close, compilations
from reference import by_name
from scipy.stats import chisquare

from jaxnas.strategies import controller
from jaxnas.strategies.controller import Controller

OWN = Controller(
    (2, 4, 3), hidden=5, learning_rate=0.01, entropy_weight=0.2, tanh_constant=2.0, temperature=3.0
)
EVERY = np.array(list(itertools.product(range(2), range(4), range(3))), np.int32)


@pytest.fixture(scope="module")
def state():
    """Far from uniform."""
    state = controller.init(OWN, jax.random.key(0))
    params = jax.tree.map(
        lambda a: a + jax.random.normal(jax.random.key(a.size), a.shape), state.params
    )
    return state._replace(params=params)


def slow(w, arch):
    """log p and the entropy on the way, from weights by name."""
    sigmoid = lambda z: 1 / (1 + jnp.exp(-z))  # noqa: E731
    c = h = jnp.zeros(5)
    x, log_p, entropy = w["start"], 0.0, 0.0
    for d, choices in enumerate((2, 4, 3)):
        gates = (
            w["lstm.dense_i.kernel"].T @ x + w["lstm.dense_h.kernel"].T @ h + w["lstm.dense_h.bias"]
        )
        i, f, g, o = gates[:5], gates[5:10], gates[10:15], gates[15:]
        c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
        h = sigmoid(o) * jnp.tanh(c)
        scores = w["weights"][d].T @ h + w["bias"][d]
        p = jnp.exp(2 * jnp.tanh(scores[:choices] / 3))
        p = p / p.sum()
        log_p += jnp.log(p[arch[d]])
        entropy -= (p * jnp.log(p)).sum()
        x = w["embedding"][d, arch[d]]
    return log_p, entropy


def test_log_probabilities_and_entropies_against_the_formula(state):
    weights = by_name(state.params)
    expected = np.array([slow(weights, arch) for arch in EVERY])
    np.testing.assert_allclose(
        controller.log_prob(OWN, state.params, EVERY), expected[:, 0], rtol=1e-4
    )
    np.testing.assert_allclose(
        controller.entropy(OWN, state.params, EVERY), expected[:, 1], rtol=1e-4
    )
    assert expected[:, 0].std() > 0.1


def test_they_sum_to_one(state):
    total = np.exp(np.asarray(controller.log_prob(OWN, state.params, EVERY), np.float64)).sum()
    assert total == pytest.approx(1, abs=1e-5)


def test_samples_come_as_often_as_they_are_likely(state):
    archs = np.asarray(controller.sample(OWN, state.params, jax.random.key(1), 20_000))
    assert archs.dtype == np.int32
    code = np.ravel_multi_index(tuple(archs.T), (2, 4, 3))
    p = np.exp(np.asarray(controller.log_prob(OWN, state.params, EVERY), np.float64))
    assert chisquare(np.bincount(code, minlength=24), 20_000 * p / p.sum()).pvalue > 1e-3


def test_fresh_controllers_are_nearly_uniform():
    fresh = controller.init(Controller((2, 4, 3)), jax.random.key(2))
    p = np.exp(controller.log_prob(Controller((2, 4, 3)), fresh.params, EVERY))
    assert np.abs(p * 24 - 1).max() < 0.1


def test_an_update_is_adam_on_reinforce(state):
    archs, adam = EVERY[[3, 17, 8]], optax.adam(0.01)
    rewards = np.array([[0.2, 0.9, 0.4], [0.5, 0.1, 0.0]], np.float32)
    weights = by_name(state.params)
    moments, baseline = adam.init(weights), rewards[0].mean()
    found = state
    for i, reward in enumerate(rewards):
        found = controller.update(OWN, found, archs, reward)
        if i:
            baseline = 0.99 * baseline + 0.01 * reward.mean()
        assert float(found.baseline) == pytest.approx(baseline, rel=1e-5)

        def loss(w, reward=reward, baseline=baseline):
            each = [slow(w, arch) for arch in archs]
            gain = sum((r - baseline) * log_p for r, (log_p, _) in zip(reward, each, strict=True))
            return -(gain + 0.2 * sum(h for _, h in each)) / 3

        updates, moments = adam.update(jax.grad(loss)(weights), moments)
        weights = optax.apply_updates(weights, updates)
        assert_trees_close(by_name(found.params), weights, rtol=1e-3, atol=1e-4)
    assert int(found.updates) == 2


def test_it_learns_what_is_rewarded_and_compiles_once():
    own = Controller((2, 4, 3), hidden=5, learning_rate=0.03)
    found = controller.init(own, jax.random.key(3))

    def step(found, i):
        archs = controller.sample(own, found.params, jax.random.key(i), 8)
        rewards = np.float32((np.asarray(archs) == [1, 2, 0]).mean(1))
        return controller.update(own, found, archs, rewards)

    found = step(found, 0)
    with compilations() as compiled:
        for i in range(1, 150):
            found = step(found, i)
    assert compiled == []
    best = EVERY[int(np.argmax(controller.log_prob(own, found.params, EVERY)))]
    assert best.tolist() == [1, 2, 0]
