"""The outer gradient against finite differences of the one-step objective, written out slowly."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from relaxed_toys import CHANNELS, toy_images, toy_network, toy_space

from jaxnas.augment import PolicyAugment, get_policy
from jaxnas.augment.operations import NUMBER
from jaxnas.augment.search.relaxed import Logits, augmented
from jaxnas.joint.state import SMOOTHING, Outer, Rates, Tuned, adam, descended
from jaxnas.joint.step import (
    CLIP,
    Batch,
    Path,
    Program,
    Step,
    Weights,
    outer_gradient,
    weight_step,
)
from jaxnas.nn.layers import ReLU
from jaxnas.nn.mixed import SampledContext
from jaxnas.supernet.differentiable.choices import Choices
from jaxnas.supernet.differentiable.gradients import weight_masks
from jaxnas.training.hyper import Hyper, optimizer, smoothed
from jaxnas.training.objective import Objective

HYPER = jax.tree.map(
    lambda a: a[0],
    Hyper.constant(1, learning_rate=0.3, weight_decay=0.05, momentum=0.8, label_smoothing=0.1),
)
OPERATIONS = ("ShearX", "TranslateY", "Invert", "Rotate")
TEMPERATURE = 0.7


def given_step(network, batch, *, augmenter=None, seed=0, drawn=None):
    """A step in the middle of a run, and its outer parameters."""
    rng = np.random.default_rng(seed)
    variables = network.init(jax.random.key(seed))
    params, whole = ravel_pytree(variables.params)
    trained, decayed = weight_masks(network, variables.params)
    trace = jnp.asarray(0.05 * rng.standard_normal(params.size), jnp.float32)
    choices = Choices.of(network)
    alphas = jnp.asarray(0.5 * rng.standard_normal(choices.present.shape), jnp.float32)
    noise = rng.gumbel(size=alphas.shape)
    if drawn is not None:  # by a little, so that the softmax does not saturate
        scores = np.where(choices.present, np.asarray(jax.nn.log_softmax(alphas)) + noise, -9)
        at = np.arange(len(drawn)), drawn
        noise[at] += scores.max(1) + 0.3 - scores[at]
    path = Path.drawn(alphas, jnp.asarray(noise, jnp.float32), choices.present, TEMPERATURE)
    weights = Weights(params, trace, variables.statistics, whole, decayed, jnp.asarray(trained))
    program = Program(network, False, len(batch.x), Objective(), augmenter, OPERATIONS, 0.5)
    rate = jnp.asarray(HYPER.learning_rate)
    step = Step(program, weights, path, batch, HYPER, rate, get_policy("none"))
    logits = 0.5 * rng.standard_normal((3, 2, 2, len(OPERATIONS)))
    policy = None if augmenter is None else Logits(*jnp.asarray(logits, jnp.float32))
    tuned = Tuned(*(jnp.asarray(v, jnp.float32) for v in (0.2, -0.3, -1.5)))
    return step, Outer(alphas, policy, tuned)


class Point(NamedTuple):
    """Where the toy's objective is looked at, in float64; `x` and `labels` are training images."""

    alphas: np.ndarray
    rate: float
    decay: float
    smoothing: float
    x: np.ndarray


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class SlowToy:
    """J of `relaxed_toys.Toy` in float64: features, a linear classifier, its gradient in closed form."""

    def __init__(self, step, outer):
        own = step.weights
        double = [np.asarray(a, np.float64) for a in (own.params, own.trace, own.decayed)]
        self.params, self.trace, self.decayed = double
        places = own.whole(jnp.arange(len(self.params), dtype=jnp.float32))["classifier"]
        self.kernel, self.bias = (np.asarray(places[k][...], int) for k in ("kernel", "bias"))
        self.row = np.asarray(step.path.row)
        self.noise = np.asarray(step.path.noise, np.float64)
        self.rate = float(step.rate)
        self.batch = step.batch
        self.at = self.soft(np.asarray(outer.alphas, np.float64))

    def soft(self, alphas):
        return softmax((np.log(softmax(alphas)) + self.noise) / TEMPERATURE)

    def features(self, x, weights):
        half, parts = CHANNELS // 2, []
        for d, k in enumerate(self.row):
            part = x[..., d * half : (d + 1) * half]
            value = [np.zeros_like(part), part, part**2 - 1][k]
            parts.append(weights[d, k] * value.mean((1, 2)))
        return np.concatenate(parts, axis=1)

    def logits(self, params, features):
        return features @ params[self.kernel] + params[self.bias]

    def __call__(self, point):
        weights = 1 + self.soft(point.alphas) - self.at
        smoothing = 1 / (1 + np.exp(-point.smoothing))
        targets = (1 - smoothing) * np.eye(4)[np.asarray(self.batch.y)] + smoothing / 4
        features = self.features(point.x, weights)
        error = (softmax(self.logits(self.params, features)) - targets) / len(features)
        gradient = np.zeros_like(self.params)
        gradient[self.kernel] = features.T @ error
        gradient[self.bias] = error.sum(0)
        self.norm = np.linalg.norm(gradient)
        gradient *= min(1, CLIP / self.norm)
        decay = float(HYPER.weight_decay) * np.exp(point.decay)
        gradient += decay * self.decayed * self.params
        momentum = float(HYPER.momentum)
        trace = gradient + momentum * self.trace
        rate = self.rate * np.exp(point.rate)
        self.ahead = self.params - rate * (gradient + momentum * trace)
        x_val = np.asarray(self.batch.x_val, np.float64)
        z = self.logits(self.ahead, self.features(x_val, weights))
        log_p = z - z.max(1, keepdims=True)
        log_p = log_p - np.log(np.exp(log_p).sum(1, keepdims=True))
        return -log_p[np.arange(len(z)), np.asarray(self.batch.y_val)].mean()


def point_of(outer, x):
    tuned = (float(v) for v in outer.tuned)
    return Point(np.asarray(outer.alphas, np.float64), *tuned, np.asarray(x, np.float64))


def slope_along(slow, point, name, direction, eps=1e-5):
    value = getattr(point, name)
    ends = (slow(point._replace(**{name: value + s * eps * direction})) for s in (1, -1))
    above, below = ends
    return (above - below) / (2 * eps)


def toy_batch(scale=1.0):
    x, y = toy_images(24, 0)
    x_val, y_val = toy_images(32, 1)
    return Batch(scale * x, y, scale * x_val, y_val, jax.random.key(3))


@pytest.mark.parametrize(
    ("drawn", "scale"), [([2, 1], 1.0), ([1, 2], 1.0), ([0, 2], 1.0), ([2, 2], 9.0)]
)
def test_toy_against_float64(drawn, scale):
    batch = toy_batch(scale)
    step, outer = given_step(toy_network(toy_space()), batch, drawn=drawn)
    assert step.path.row.tolist() == drawn
    slow, point = SlowToy(step, outer), point_of(outer, batch.x)
    taken, slope = jax.jit(lambda z: outer_gradient(step, z))(outer)
    np.testing.assert_allclose(taken.figures[1], slow(point), rtol=1e-4)
    np.testing.assert_allclose(taken.params, slow.ahead, rtol=1e-4, atol=1e-5)
    assert (slow.norm > CLIP) == (scale > 1)
    for name, got in slope.tuned._asdict().items():
        expected = slope_along(slow, point, name, 1.0)
        np.testing.assert_allclose(got, expected, rtol=2e-3, atol=1e-6, err_msg=name)
    expected = [slope_along(slow, point, "alphas", e.reshape(2, 3)) for e in np.eye(6)]
    largest = np.abs(expected).max()
    assert largest > 1e-3
    np.testing.assert_allclose(
        np.ravel(slope.alphas), expected, rtol=2e-3, atol=1e-3 * largest, err_msg="alphas"
    )


def test_policy_against_float64():
    batch = toy_batch(0.1)
    augmenter = PolicyAugment((0.5,) * CHANNELS, (1.0,) * CHANNELS, 0.0, 1.0)
    network = toy_network(toy_space())
    step, outer = given_step(network, batch, augmenter=augmenter, drawn=[2, 1])
    slope = jax.jit(lambda z: outer_gradient(step, z)[1])(outer)

    @jax.jit
    def images(policy):
        levels = augmented(
            jax.random.split(batch.key)[1],
            augmenter.to_levels(batch.x),
            policy,
            [NUMBER[name] for name in OPERATIONS],
            fill=jnp.asarray(augmenter.fill),
            temperature=0.5,
        )
        return augmenter.to_inputs(levels)

    made, pull = jax.vjp(images, outer.policy)
    assert np.abs(made - batch.x).max() > 0.1
    slow, point = SlowToy(step, outer), point_of(outer, made)
    by_image = np.zeros(made.shape)
    for place in np.ndindex(made.shape):
        one = np.zeros(made.shape)
        one[place] = 1
        by_image[place] = slope_along(slow, point, "x", one)
    (expected,) = pull(jnp.asarray(by_image, jnp.float32))
    for name, got in slope.policy._asdict().items():
        wanted = getattr(expected, name)
        largest = float(np.abs(wanted).max())
        assert largest > 1e-6
        np.testing.assert_allclose(got, wanted, rtol=5e-3, atol=2e-3 * largest, err_msg=name)


def cell_batch():
    rng = np.random.default_rng(0)
    y = np.arange(12) % 3
    x = rng.standard_normal((2, 12, 8, 8, 3)) + np.eye(3)[y][:, None, None]
    x, labels = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)
    return Batch(x[0], labels, x[1], labels, jax.random.key(0))


def slow_cell(step, outer):
    """J of a network of convolutions and batch norms, by leaves and Optax, not differentiated."""
    network, own = step.program.network, step.weights
    fixed = step.path.weights(outer.alphas)
    soft_at = jax.nn.softmax((jax.nn.log_softmax(outer.alphas) + step.path.noise) / TEMPERATURE)

    def logits(params, alphas, x):
        soft = jax.nn.softmax((jax.nn.log_softmax(alphas) + step.path.noise) / TEMPERATURE)
        variables = network.init(jax.random.key(0))._replace(params=params)
        ctx = SampledContext(step.path.row, fixed + soft - soft_at)
        return network.apply_in(variables, ctx, x).logits

    @jax.jit
    def objective(outer):
        hyper = outer.tuned.hyper(HYPER)
        params = own.whole(own.params)

        def train(params):
            targets = smoothed(step.batch.y, 3, hyper.label_smoothing)
            z = logits(params, outer.alphas, step.batch.x)
            return optax.softmax_cross_entropy(z, targets).mean()

        masks, trace = own.whole(own.moving), own.whole(own.trace)
        gradient = jax.tree.map(jnp.multiply, jax.grad(train)(params), masks)
        sgd = optimizer(hyper, step.rate * jnp.exp(outer.tuned.rate))
        state = optax.tree.set(sgd.init(params), trace=trace)
        updates, _ = sgd.update(gradient, state, params)
        updates = jax.tree.map(jnp.multiply, updates, masks)
        z = logits(optax.apply_updates(params, updates), outer.alphas, step.batch.x_val)
        return optax.softmax_cross_entropy_with_integer_labels(z, step.batch.y_val).mean()

    return objective


def test_cells_against_differences(tiny, monkeypatch):
    # Smooth, as second derivatives say nothing of kinks, which differences of some width go over.
    monkeypatch.setattr(ReLU, "forward", lambda layer, x, ctx: jax.nn.softplus(2 * x) / 2)
    step, outer = given_step(tiny, cell_batch(), drawn=[3, 2, 3, 4, 1, 3])
    slope = jax.jit(lambda z: outer_gradient(step, z)[1])(outer)
    objective, rng = slow_cell(step, outer), np.random.default_rng(1)

    def along(direction):
        def at(t):
            return float(objective(jax.tree.map(lambda a, b: a + t * b, outer, direction)))

        # Fourth order, as steps must be wide for float32.
        eps = 0.05
        return (8 * (at(eps) - at(-eps)) - (at(2 * eps) - at(-2 * eps))) / (12 * eps)

    nowhere = jax.tree.map(jnp.zeros_like, outer)
    for name, got in slope.tuned._asdict().items():
        tuned = nowhere.tuned._replace(**{name: jnp.ones(())})
        expected = along(nowhere._replace(tuned=tuned))
        assert float(got) == pytest.approx(expected, rel=0.01, abs=2e-6), name
    unit = slope.alphas / jnp.linalg.norm(slope.alphas)
    aside = jnp.asarray(rng.standard_normal(unit.shape), jnp.float32)
    for direction in (unit, unit + 0.2 * aside):
        expected = along(nowhere._replace(alphas=direction))
        assert float((slope.alphas * direction).sum()) == pytest.approx(expected, rel=0.01)


def test_weights_alone_take_the_same_step():
    step, outer = given_step(toy_network(toy_space()), toy_batch())
    with_outer, _ = outer_gradient(step, outer)
    alone = weight_step(step, outer)
    np.testing.assert_array_equal(with_outer.params, alone.params)
    np.testing.assert_array_equal(with_outer.trace, alone.trace)
    assert np.isnan(alone.figures[1:]).all()


def test_paths_and_their_weights():
    alphas = jnp.asarray([[0.0, 2.0, 1.0], [1.0, 0.0, -1.0]])
    kept = jnp.asarray([[True, False, True], [True, True, True]])
    path = Path.drawn(alphas, jnp.zeros((2, 3)), kept, 0.5)
    assert path.row.tolist() == [2, 0]
    np.testing.assert_array_equal(path.weights(alphas), np.ones((2, 3)))
    gradient = jax.grad(lambda a: path.weights(a)[0, 2])(alphas)
    p = np.exp(2.0) / (1 + np.exp(2.0))  # of two branches at temperature 1/2
    np.testing.assert_allclose(gradient[0], [-2 * p * (1 - p), 0, 2 * p * (1 - p)], rtol=1e-5)


def test_descent_stays_within_bounds():
    outer = Outer(jnp.zeros((1, 2)), None, Tuned.of(HYPER))
    assert outer.tuned.hyper(HYPER).label_smoothing == pytest.approx(0.1)
    slope = Outer(jnp.asarray([[1.0, -3.0]]), None, Tuned(*jnp.asarray([-1.0, 1.0, -2.0])))
    moments = adam().init(outer)
    first, moments = descended(outer, slope, moments, Rates(0.1, 0.0, 0.5))
    # Adam's first step is its rate against the gradient's sign.
    np.testing.assert_allclose(first.alphas, [[-0.1, 0.1]], rtol=1e-4)
    np.testing.assert_allclose(first.tuned[:2], [0.5, -0.5], rtol=1e-4)
    for _ in range(20):
        first, moments = descended(first, slope, moments, Rates(0.1, 0.0, 0.5))
    found = first.tuned.hyper(HYPER)
    assert found.learning_rate == pytest.approx(3.0, rel=1e-4)
    assert found.weight_decay == pytest.approx(0.005, rel=1e-4)
    assert found.label_smoothing == pytest.approx(SMOOTHING[1], rel=1e-4)
