"""Zen, ZiCo and GradSign against their formulas, on a network written out in plain XLA."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from reference import Reference, by_name

from jaxnas.errors import InputError
from jaxnas.network import Network
from jaxnas.nn import BatchNorm, Context, Conv, Flatten, GlobalAvgPool, Linear, Width
from jaxnas.passes import Batch, noise_of
from jaxnas.proxies.expressivity import (
    gaussian_weights,
    gradient_agreement,
    gradsign,
    log_deviation,
    perturbed_noise,
    zen,
    zico,
)
from jaxnas.scoring.per_architecture import score_per_architecture
from jaxnas.scoring.shared_prefix import score_shared_prefix
from jaxnas.spaces import Size

ARCHS = np.array(
    [
        [1, 1, 1, 1, 1, 1],
        [2, 3, 2, 3, 2, 3],
        [3, 4, 1, 2, 0, 3],
        [4, 4, 4, 4, 4, 4],
        [0, 2, 3, 0, 3, 2],
        [3, 3, 3, 3, 3, 3],
        [0, 0, 0, 3, 0, 0],
        [1, 3, 0, 4, 2, 1],
    ],
    np.int32,
)


def zen_reference(variables, arch, batch):
    """ln of what a small change of the noise does to the features, and each batch norm's deviation."""
    weights = by_name(gaussian_weights(variables.params, batch))
    x, moved = np.split(np.asarray(perturbed_noise(batch)), 2)
    passes = [Reference(weights, arch, jnp.asarray(images)) for images in (x, moved)]
    one, other = (np.maximum(p.pre_activations[-1], 0) for p in passes)
    score = np.log(np.mean([np.abs(a - b).sum() for a, b in zip(one, other, strict=True)]))
    for name in passes[0].statistics:
        if name.endswith("variance"):
            running = np.ones(len(passes[0].statistics[name]))
            for each in passes:
                running = 0.9 * running + 0.1 * np.asarray(each.statistics[name])
            score += np.log(np.sqrt(running.mean()))
    return score


@cache
def compiled_gradient(arch):
    def loss(weights, images, labels):
        logits = Reference(weights, arch, images).logits
        return -jax.nn.log_softmax(logits)[jnp.arange(len(logits)), labels].mean()

    return jax.jit(jax.grad(loss))


def gradients(variables, arch, images, labels):
    """d mean cross-entropy / d kernel, by kernel."""
    found = compiled_gradient(tuple(map(int, arch)))(by_name(variables.params), images, labels)
    return {name: np.asarray(g) for name, g in found.items() if name.endswith("kernel")}


def zico_reference(variables, arch, batch):
    score = 0.0
    halves = [
        gradients(variables, arch, batch.images[part], batch.labels[part])
        for part in (slice(0, 4), slice(4, 8))
    ]
    for name in halves[0]:
        both = np.stack([half[name].astype(np.float64) for half in halves])
        mean, deviation = np.abs(both).mean(0), both.std(0)
        total = (mean[deviation != 0] / deviation[deviation != 0]).sum()
        score += np.log(total) if total > 0 else 0
    return score


def gradsign_reference(variables, arch, batch):
    each = [
        gradients(variables, arch, batch.images[n : n + 1], batch.labels[n : n + 1])
        for n in range(len(batch.images))
    ]
    return sum(np.abs(sum(np.sign(g[name]) for g in each)).sum() for name in each[0])


@pytest.fixture(scope="module")
def batch(batch):
    """With a key, so that another one compiles nothing anew."""
    return batch._replace(key=jax.random.key(0))


@pytest.fixture(scope="module", params=[(1,), (1, 1)], ids=["one_cell", "two_stages"])
def case(request, space, batch):
    network = space.network(Size(channels=4, cells=request.param, resolution=8), classes=3)
    variables = network.init(jax.random.key(2))
    scores = score_per_architecture(network, variables, ARCHS, batch, [zen, zico, gradsign])
    return network, variables, scores


def test_zen_against_the_formula_in_two_passes(case, batch):
    _, variables, scores = case
    expected = [zen_reference(variables, arch, batch) for arch in ARCHS]
    # A float32 difference of features 0.01 apart has five digits.
    np.testing.assert_allclose(scores["zen"], expected, rtol=1e-4, atol=1e-4)


def test_zico_against_the_gradients_of_each_half(case, batch):
    _, variables, scores = case
    expected = [zico_reference(variables, arch, batch) for arch in ARCHS[1:5]]
    # Where a weight's gradients nearly agree, their rounding is in the score; see the next test.
    np.testing.assert_allclose(scores["zico"][1:5], expected, rtol=2e-3)


def test_zico_of_given_gradients():
    rng = np.random.default_rng(0)
    stacks = [
        rng.standard_normal((2, k, n)).astype(np.float32) for k, n in ((3, 50), (1, 7), (2, 4))
    ]
    stacks[0][1, :, 10:20] = stacks[0][0, :, 10:20]  # no deviation
    stacks[2][:, 1] = 0  # a kernel that is not there
    expected = 0.0
    for stack in stacks:
        for kernel in np.moveaxis(stack.astype(np.float64), 1, 0):
            mean, deviation = np.abs(kernel).mean(0), kernel.std(0)
            there = deviation > 0
            expected += np.log((mean[there] / deviation[there]).sum()) if there.any() else 0
    gradients = tuple(map(jnp.asarray, stacks))
    assert gradient_agreement(gradients) == pytest.approx(expected, rel=1e-5)
    spoilt = (gradients[0].at[1, 2, 3].set(jnp.nan), *gradients[1:])
    assert np.isnan(gradient_agreement(spoilt))


def test_gradsign_against_the_gradients_image_by_image(case, batch):
    _, variables, scores = case
    expected = [gradsign_reference(variables, arch, batch) for arch in ARCHS[1:5]]
    np.testing.assert_allclose(scores["gradsign"][1:5], expected, rtol=1e-4)


def test_zens_noise_and_weights(tiny, variables, batch):
    x, moved = jnp.split(perturbed_noise(batch), 2)
    np.testing.assert_array_equal(x, noise_of(batch))
    assert float((moved - x).std()) == pytest.approx(0.01, rel=0.1)
    weights = by_name(gaussian_weights(variables.params, batch))
    given = by_name(variables.params)
    assert {n: w.shape for n, w in weights.items()} == {n: w.shape for n, w in given.items()}
    kernels = np.concatenate([w.ravel() for n, w in weights.items() if n.endswith("kernel")])
    assert (kernels.mean(), kernels.std()) == pytest.approx((0, 1), abs=0.1)
    assert len(np.unique(kernels)) == len(kernels)
    for name, w in weights.items():
        if w.ndim == 1:
            assert (np.asarray(w) == name.endswith("scale")).all()


def test_zen_reads_nothing_but_the_key(case, batch):
    network, variables, scores = case
    scores = score_per_architecture(network, variables, ARCHS, batch, [zen])
    spoilt = jax.tree.map(lambda a: a * jnp.nan, variables)
    same, other = (
        score_per_architecture(network, spoilt, ARCHS, b, [zen])["zen"]
        for b in (
            batch._replace(images=batch.images * jnp.nan),
            batch._replace(key=jax.random.key(1)),
        )
    )
    np.testing.assert_array_equal(same, scores["zen"])
    assert (other != scores["zen"]).all()


def test_the_deviation_of_masked_channels_is_left_out():
    rng = np.random.default_rng(0)
    halves = jnp.asarray(rng.standard_normal((2, 4, 9, 3)) * np.arange(3), jnp.float32)
    first, second = (np.asarray(h).reshape(-1, 3).var(0, ddof=1) for h in halves)
    running = 0.81 + 0.09 * first + 0.1 * second
    for active in ([1, 1, 1], [1, 0, 1], [0, 0, 1]):
        expected = np.log(np.sqrt(running[np.array(active) > 0].mean()))
        got = log_deviation(*halves, jnp.asarray(active, jnp.float32))
        assert got == pytest.approx(expected, rel=1e-4)
    assert log_deviation(*halves, None) == pytest.approx(np.log(running.mean()) / 2, rel=1e-4)


class Small(nnx.Module):
    """A convolution of 2 or 4 channels, then pooling, or none of it, and a classifier."""

    def __init__(self, channels, *, pools=True):
        self.stem, self.norm = Conv(3, channels, 3), BatchNorm(channels)
        self.pool = GlobalAvgPool() if pools else Flatten()
        self.classifier = Linear(channels if pools else 64 * channels, 3)

    def __call__(self, x, ctx: Context):
        x = ctx.boundary(self.norm(self.stem(x, ctx), ctx))
        return self.classifier(self.pool(x, ctx), ctx)


def test_channels_that_are_not_there_add_nothing(batch):
    """Two of four channels, masked, against a network of two with the same weights."""
    masked, plain = (Network(Small(c), 8, 3, 3) for c in (Width(0, (2, 4)), 2))
    params = gaussian_weights(masked.init(jax.random.key(0)).params, batch)
    cut = {n: w[..., :2] for n, w in by_name(params).items() if "classifier" not in n}
    variables = plain.init(jax.random.key(0))
    leaves, tree = jax.tree.flatten(variables.params)
    names = list(by_name(variables.params))
    given = jax.tree.unflatten(tree, [cut.get(n, w) for n, w in zip(names, leaves, strict=True)])

    def score(network, params, arch):
        passed = network.apply(
            variables._replace(params=params),
            jnp.asarray(arch, jnp.int32),
            perturbed_noise(batch),
            batch_norm="halves",
            tap=zen.tap_for(network),
        )
        return float(zen.finish(passed.carry))

    assert score(masked, params, [0]) == pytest.approx(score(plain, given, []), rel=1e-5)
    assert score(masked, params, [1]) != pytest.approx(score(plain, given, []), rel=1e-2)


def test_where_nothing_is_pooled_the_last_block_has_the_features(batch):
    pooled, flat = (Network(Small(4, pools=p), 8, 3, 3) for p in (True, False))
    assert zen.tap_for(pooled).kinds == {"batch_norm", "features"}
    assert zen.tap_for(flat).kinds == {"batch_norm", "block"}
    none = np.zeros((1, 0), np.int32)
    for network in (pooled, flat):
        variables = network.init(jax.random.key(0))
        params = gaussian_weights(variables.params, batch)
        kernel = by_name(params)["stem.kernel"]
        layout = ("NHWC", "HWIO", "NHWC")
        x, moved = (
            np.asarray(
                jax.lax.conv_general_dilated(h, kernel, (1, 1), "SAME", dimension_numbers=layout),
                np.float64,
            )
            for h in jnp.split(perturbed_noise(batch), 2)
        )
        one, other = (
            (h - h.mean((0, 1, 2))) / np.sqrt(h.var((0, 1, 2)) + 1e-5) for h in (x, moved)
        )
        running = 0.81 + sum(m * h.var((0, 1, 2), ddof=1) for m, h in ((0.09, x), (0.1, moved)))
        expected = np.log(np.abs(one - other).sum((1, 2, 3)).mean()) + np.log(running.mean()) / 2
        for execute in (score_per_architecture, score_shared_prefix):
            scores = execute(network, variables, none, batch, [zen])
            assert scores["zen"][0] == pytest.approx(expected, rel=1e-4)


def test_zico_leaves_an_odd_image_out_and_wants_two(tiny, variables, batch):
    def score(n):
        part = Batch(batch.images[:n], batch.labels[:n])
        return score_per_architecture(tiny, variables, ARCHS[:1], part, [zico])["zico"]

    np.testing.assert_array_equal(score(5), score(4))
    assert score(6) != score(4)
    with pytest.raises(InputError, match="got 1 image, expected at least 2"):
        score(1)
