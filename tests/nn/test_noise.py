"""Paths and features dropped at random, against the network written out with a given draw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_close, assert_trees_equal
from reference import Reference, by_name

from jaxnas.nn.noise import Noise
from jaxnas.search_spaces.nasbench201 import CONV1, CONV3, EDGES, NONE, SKIP

ARCHS = np.array([[3, 4, 1, 2, 0, 3], [2, 1, 2, 3, 1, 4], [3, 2, 3, 2, 4, 3]], np.int32)
POOL = 4
FIRST = [0, 1, 3]
"""The edges that arrive in a node before all others."""


class Dropped(Reference):
    """With each path that arrives where another has multiplied by its draw, image by image."""

    def __init__(self, weights, arch, images, noise):
        self.noise = noise
        super().__init__(weights, arch, images)

    def cell(self, name, arch, x):
        nodes = [x, None, None, None]
        for e, (a, b) in enumerate(EDGES):
            y = self.operation(f"{name}.edges.{e}", int(arch[e]), nodes[a])
            if nodes[b] is not None and arch[e] in (CONV1, CONV3, POOL):
                y = jnp.stack([self.noise.paths[e, i] * y[i] for i in range(len(y))])
            nodes[b] = y if nodes[b] is None else nodes[b] + y
        return nodes[3]


def drawn(seed=0, *, drop_path=0.0, dropout=0.0, decisions=6, batch=8):
    rates = {"drop_path": jnp.float32(drop_path), "dropout": jnp.float32(dropout)}
    return Noise.draw(jax.random.key(seed), decisions, batch, **rates)


@pytest.fixture(scope="module")
def logits(tiny, variables, batch):
    """Of traced architectures, all in one program."""

    @jax.jit
    def apply(arch, noise):
        return tiny.apply(variables, arch, batch.images, noise=noise).logits

    return lambda arch, noise=None: apply(jnp.asarray(arch), noise)


class TestPaths:
    @pytest.mark.parametrize("arch", ARCHS, ids=str)
    def test_against_the_network_written_out(self, variables, batch, logits, arch):
        noise = drawn(1, drop_path=0.5)
        expected = Dropped(by_name(variables.params), arch, batch.images, noise).logits
        assert_trees_close(logits(arch, noise), expected, rtol=1e-4, atol=1e-5)
        assert np.abs(logits(arch) - expected).max() > 1e-2

    def test_an_architecture_decided_while_tracing(self, tiny, variables, batch, logits):
        noise = drawn(1, drop_path=0.5)
        arch = ARCHS[0]
        fixed = jax.jit(lambda v, n: tiny.apply(v, arch, batch.images, noise=n).logits)
        found = fixed(variables, noise)
        assert_trees_close(found, logits(arch, noise), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("arch", ARCHS, ids=str)
    def test_rates_of_0_change_nothing(self, logits, arch):
        assert_trees_close(logits(arch, drawn()), logits(arch), rtol=1e-6)

    def test_skips_and_missing_connections_are_left_alone(self, logits):
        noise = drawn(2, drop_path=0.9)
        for arch in ([SKIP] * 6, [NONE] * 6, [CONV3, CONV1, SKIP, POOL, NONE, SKIP]):
            assert_trees_close(logits(arch, noise), logits(arch), rtol=1e-6)

    @pytest.mark.parametrize("edge", range(6))
    def test_only_a_path_that_meets_another_is_dropped(self, logits, edge):
        arch = np.full(6, SKIP)
        arch[edge] = CONV3
        moved = np.abs(logits(arch, drawn(2, drop_path=0.5)) - logits(arch)).max()
        assert (moved > 1e-3) == (edge not in FIRST)

    def test_a_dropped_path_is_not_there(self, logits):
        """All images, so that batch norm sees what it sees without the path."""
        noise = drawn()._replace(paths=jnp.zeros((6, 8)))
        arch = [SKIP, SKIP, CONV3, CONV1, CONV1, POOL]
        without = [SKIP, SKIP, NONE, CONV1, NONE, NONE]
        assert_trees_close(logits(arch, noise), logits(without), rtol=1e-5, atol=1e-6)

    def test_no_gradient_comes_by_a_dropped_path(self, tiny, variables, batch):
        noise = drawn()._replace(paths=jnp.ones((6, 8)).at[4].set(0.0))

        arch = [SKIP, SKIP, CONV1, CONV1, CONV1, CONV3]

        def total(p):
            own = variables._replace(params=p)
            return tiny.apply(own, jnp.asarray(arch), batch.images, noise=noise).logits[:, 0].sum()

        found = by_name(jax.jit(jax.grad(total))(variables.params))
        kernel = "blocks.0.edges.{}.branches.{}.modules.1.kernel".format
        assert not found[kernel(4, CONV1)].any()
        assert found[kernel(2, CONV1)].any()
        assert found[kernel(5, CONV3)].any()


class TestFeatures:
    @pytest.mark.parametrize("arch", ARCHS, ids=str)
    def test_against_the_network_written_out(self, tiny, variables, batch, logits, arch):
        noise = drawn(3, dropout=0.5)
        weights = by_name(variables.params)
        whole = Reference(weights, arch, batch.images)
        # With one class a feature, and no bias, the logits are the features.
        width = weights["classifier.kernel"].shape[0]
        straight = weights | {
            "classifier.kernel": jnp.eye(width),
            "classifier.bias": jnp.zeros(width),
        }
        features = np.asarray(Reference(straight, arch, batch.images).logits)
        mask = np.asarray(noise.features(jnp.ones(features.shape)))
        expected = (features * mask) @ np.asarray(weights["classifier.kernel"])
        expected += np.asarray(weights["classifier.bias"])
        assert_trees_close(logits(arch, noise), expected, rtol=1e-4, atol=1e-5)
        assert np.abs(expected - whole.logits).max() > 1e-2

    def test_one_draw_gives_the_same_twice(self):
        noise = drawn(3, dropout=0.5)
        y = jnp.arange(80.0).reshape(8, 10)
        assert_trees_equal(noise.features(y), noise.features(y))


class TestRates:
    N = 20_000

    @pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.8])
    def test_of_paths(self, rate):
        paths = np.asarray(drawn(4, drop_path=rate, dropout=0.3, decisions=2, batch=self.N).paths)
        self.check(paths, rate)
        # Decisions are dropped apart from each other.
        both = (paths == 0).all(0).mean()
        assert both == pytest.approx(rate**2, abs=0.02)

    @pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.8])
    def test_of_features(self, rate):
        noise = drawn(5, drop_path=0.3, dropout=rate)
        y = jnp.full((2, self.N), 3.0)
        self.check(np.asarray(noise.features(y)) / 3, rate)

    def check(self, kept, rate):
        """Right in expectation, within 5 standard deviations; of two values alone."""
        deviation = np.sqrt(rate * (1 - rate) / kept.size)
        assert np.abs((kept == 0).mean() - rate) <= 5 * deviation
        assert np.abs(kept.mean() - 1) <= 5 * deviation / (1 - rate) + 1e-6
        np.testing.assert_allclose(kept[kept != 0], 1 / (1 - rate), rtol=1e-6)

    def test_at_rate_1_nothing_is_left(self):
        noise = drawn(drop_path=1.0, dropout=1.0)
        assert not noise.paths.any()
        assert not noise.features(jnp.ones((8, 5))).any()

    def test_candidates_have_rates_of_their_own_in_one_program(self):
        @jax.jit
        @jax.vmap
        def share(rate):
            return (drawn(6, drop_path=rate, batch=self.N).paths == 0).mean()

        np.testing.assert_allclose(share(jnp.array([0.0, 0.3, 0.7])), [0, 0.3, 0.7], atol=0.01)

    def test_paths_and_features_are_drawn_apart(self):
        noise = drawn(7, drop_path=0.5, dropout=0.5, decisions=1, batch=self.N)
        features = np.asarray(noise.features(jnp.ones((1, self.N))))
        assert ((features == 0) & (np.asarray(noise.paths) == 0)).mean() == pytest.approx(
            0.25, abs=0.02
        )

    def test_half_precision_stays(self):
        noise = drawn(8, drop_path=0.5, dropout=0.5)
        y = jnp.ones((8, 2, 2, 3), jnp.bfloat16)
        assert noise.path(0, y).dtype == jnp.bfloat16
        assert noise.features(y[:, 0, 0]).dtype == jnp.bfloat16
