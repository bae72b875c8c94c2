"""Gradients of policies against their formulas, written slowly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.augment import PolicyAugment, checked, transform
from jaxnas.augment.operations import NUMBER
from jaxnas.augment.search.relaxed import Logits, augmented
from jaxnas.augment.search.unrolled import unrolled

NAMES = ("Invert", "Brightness", "Solarize")
NUMBERS = [NUMBER[name] for name in NAMES]
KEY, FILL = jax.random.key(3), jnp.zeros(3)
LEVELS = jnp.asarray(np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)), jnp.float32)


@jax.jit
def made(key, logits, levels):
    return augmented(key, levels, logits, NUMBERS, fill=FILL, temperature=0.5)


@jax.jit
def gradients(key, logits, levels, g):
    return jax.vjp(
        lambda logits, levels: augmented(key, levels, logits, NUMBERS, fill=FILL, temperature=0.5),
        logits,
        levels,
    )[1](g)


def sure(name, probability=30.0, magnitude=0.0):
    """One layer that is surely one operation."""
    choice = jnp.asarray([[[60.0 * (n == name) for n in NAMES]]])
    return Logits(choice, jnp.full((1, 1, 3), probability), jnp.full((1, 1, 3), magnitude))


class TestForwards:
    def test_an_image_is_what_the_operation_makes_of_it(self):
        np.testing.assert_allclose(made(KEY, sure("Invert"), LEVELS), 255 - LEVELS, atol=1e-3)
        half = transform(LEVELS, jnp.full(6, NUMBER["Solarize"]), jnp.full(6, 128.0))
        np.testing.assert_allclose(made(KEY, sure("Solarize"), LEVELS), half, atol=1e-3)

    def test_what_is_not_applied_changes_nothing(self):
        unsure = sure("Invert", probability=-30.0)
        np.testing.assert_allclose(made(KEY, unsure, LEVELS), LEVELS, atol=1e-3)

    def test_operations_come_as_often_as_the_policy_says(self):
        logits = Logits(
            jnp.log(jnp.asarray([[[0.7, 0.1, 0.2]]])),
            jnp.log(jnp.asarray([[[3.0, 1.0, 1.0]]])),
            jnp.full((1, 1, 3), 30.0),
        )
        got = made(KEY, logits, jnp.full((10_000, 2, 2, 3), 100.0))[:, 0, 0, 0]
        # Solarize of all inverts too; Brightness is .1 or 1.9 times as bright.
        inverted = (np.abs(got - 155) < 1e-2).mean()
        np.testing.assert_allclose(inverted, 0.7 * 0.75 + 0.2 * 0.5, atol=0.018)
        np.testing.assert_allclose((np.abs(got - 100) > 80).mean(), 0.1 * 0.5, atol=0.008)


def test_gradients_are_those_of_the_relaxations():
    rng = np.random.default_rng(1)
    logits = Logits(*(jnp.asarray(rng.normal(size=(1, 1, 3)), jnp.float32) for _ in range(3)))
    g = rng.normal(size=LEVELS.shape).astype(np.float32)
    by_logits, by_levels = gradients(KEY, logits, LEVELS, g)
    # The draws, taken apart as the policy takes its key apart.
    keys = jax.random.split(jax.random.split(KEY, 2)[1], 3)
    gumbel = np.asarray(jax.random.gumbel(keys[0], (6, 3)))
    noise = np.asarray(jax.random.logistic(keys[1], (6, 3)))
    a, q, m = (np.asarray(t, float)[0, 0] for t in logits)
    made = [transform(LEVELS, jnp.full(6, NUMBER["Invert"]), jnp.zeros(6))]
    u = np.asarray(jax.random.uniform(keys[2], (3, 6)))
    factor = 1 + np.where(u[0] < 0.5, -0.9, 0.9) / (1 + np.exp(-m[1]))
    made.append(
        transform(LEVELS, jnp.full(6, NUMBER["Brightness"]), jnp.asarray(factor, jnp.float32))
    )
    threshold = jnp.full(6, 256 - 256 / (1 + np.exp(-m[2])), jnp.float32)
    made.append(transform(LEVELS, jnp.full(6, NUMBER["Solarize"]), threshold))
    expected = np.zeros((3, 3))
    through = np.zeros(LEVELS.shape)
    for i in range(6):
        soft = np.exp((a + gumbel[i]) / 0.5)
        soft /= soft.sum()
        applied = 1 / (1 + np.exp(-(q + noise[i]) / 0.5))
        x = np.asarray(LEVELS[i], float)
        worth = np.zeros(3)
        for k in range(3):
            y = np.asarray(made[k][i], float)
            hard = float(applied[k] > 0.5)
            worth[k] = (g[i] * (hard * y + (1 - hard) * x)).sum()
            if k == soft.argmax():
                expected[1, k] += (g[i] * (y - x)).sum() * applied[k] * (1 - applied[k]) / 0.5
                s = 1 / (1 + np.exp(-m[k]))
                expected[2, k] += (k > 0) * hard * 255 * g[i].sum() * s * (1 - s)
        expected[0] += soft * (worth - (soft * worth).sum()) / 0.5
        through[i] = g[i]
    for got, slow in zip(by_logits, expected, strict=True):
        np.testing.assert_allclose(got[0, 0], slow, rtol=2e-3, atol=0.05)
    np.testing.assert_allclose(by_levels, through, atol=1e-4)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_unrolled_gradient_is_that_of_the_whole(rate):
    rng = np.random.default_rng(2)
    params = {"a": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32), "b": jnp.zeros(3)}
    x, other = (jnp.asarray(rng.normal(size=(5, 4)), jnp.float32) for _ in range(2))
    y = jax.nn.one_hot(jnp.arange(5) % 3, 3)

    def loss(params, x):
        logits = jnp.tanh(x @ params["a"]) + params["b"][None]
        return -(y * jax.nn.log_softmax(logits)).sum(-1).mean()

    def whole(x):
        step = jax.grad(loss)(params, x)
        return loss(jax.tree.map(lambda p, s: p - rate * s, params, step), other)

    gradient = jax.grad(loss)(params, x)
    value, got = unrolled(loss, lambda p: loss(p, other), params, gradient, x, rate)
    np.testing.assert_allclose(value, whole(x), rtol=1e-5)
    expected = jax.grad(whole)(x)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(got, expected, rtol=0.02, atol=2e-4 * rate)


def test_logits_stand_for_a_policy():
    logits = Logits.even(2, 3, 3)._replace(magnitude=jnp.full((2, 3, 3), 2.0))
    policy = checked(logits.policy(NAMES))
    assert policy.choice.shape[:2] == (2, 3)
    np.testing.assert_allclose(policy.choice[..., NUMBERS], 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(policy.choice.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(policy.probability[..., NUMBERS], 0.5)
    np.testing.assert_allclose(policy.magnitude[..., NUMBERS], 1 / (1 + np.exp(-2)), rtol=1e-6)


def test_inputs_have_levels_and_levels_inputs():
    augmenter = PolicyAugment((0.5, 0.25, 0.4), (0.2, 0.25, 0.3), 0.0, 1.0)
    levels = np.asarray(LEVELS)
    x = (levels / 255 - augmenter.mean) / augmenter.std
    np.testing.assert_allclose(augmenter.to_levels(x), levels, atol=1e-3)
    np.testing.assert_allclose(augmenter.to_inputs(levels), x, atol=1e-4)
    np.testing.assert_array_equal(augmenter.fill, [128, 64, 102])
