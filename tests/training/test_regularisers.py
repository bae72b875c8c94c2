"""Averages of weights against a recursion by hand; distorted feature maps counted place by place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from candidates import ARCHS, CLOSE, HYPER, SEEDS, data, pick, train
from helpers import assert_trees_close, assert_trees_equal

from jaxnas.errors import InputError
from jaxnas.nn.noise import INTENSITY, Noise
from jaxnas.training.epoch import Options
from jaxnas.training.evaluation import evaluate_population
from jaxnas.training.population import final_variables, init_population

EPOCHS = 5
DECAYS = np.array([0.0, 0.9, 0.25])
AVERAGED = HYPER._replace(ema=DECAYS)


def averaging(network, **settings):
    """One step an epoch, on all images, so that each step is seen."""
    population = init_population(network, SEEDS, ARCHS, averages=True)
    settings = {"population": population, "batch_size": 8, "epochs": EPOCHS} | settings
    return train(network, AVERAGED, **settings)


@pytest.fixture(scope="module")
def averaged(tiny):
    return averaging(tiny)


class TestAverages:
    @pytest.mark.parametrize("row", range(3))
    def test_against_a_recursion_over_all_steps(self, tiny, averaged, row):
        """a = d a + (1 - d) v with d = min(decay, (1 + t) / (10 + t)), of batch statistics too."""
        fresh = init_population(tiny, SEEDS, ARCHS).variables
        average = [np.asarray(a[row], np.float64) for a in jax.tree.leaves(fresh)]
        for number, (state, _) in enumerate(pick(averaged, row)):
            decay = min(DECAYS[row], (1 + number) / (10 + number))
            values = [v[0] for v in jax.tree.leaves(state.variables)]
            average = [decay * a + (1 - decay) * v for a, v in zip(average, values, strict=True)]
            for got, expected in zip(jax.tree.leaves(state.average), average, strict=True):
                np.testing.assert_allclose(got[0], expected, rtol=1e-5, atol=1e-6)

    def test_training_itself_goes_on_as_without(self, tiny, averaged):
        plain = train(tiny, batch_size=8, epochs=EPOCHS)
        for (mine, metrics), (usual, others) in zip(averaged, plain, strict=True):
            assert_trees_close(mine.variables, usual.variables, **CLOSE)
            np.testing.assert_allclose(metrics.train_loss, others.train_loss, rtol=1e-4)

    def test_are_what_is_evaluated_where_candidates_have_one(self, tiny, averaged):
        images = data()
        for state, metrics in averaged:
            state = jax.tree.map(jnp.asarray, state)
            both = [
                evaluate_population(tiny, of, ARCHS, images.x_val, images.y_val)[0]
                for of in (state.variables, state.average)
            ]
            expected = [both[0][0], both[1][1], both[1][2]]
            np.testing.assert_array_equal(metrics.val_loss, expected)
            assert (np.abs(both[0] - both[1])[1:] > 1e-4).all()

    def test_final_variables(self, averaged):
        state = jax.tree.map(jnp.asarray, averaged[-1][0])
        state = state._replace(average=jax.tree.map(lambda a: a + 1, state.average))
        found = final_variables(state, AVERAGED)
        assert len(jax.tree.leaves(found)[0]) == len(SEEDS)
        for row, of in enumerate((state.variables, state.average, state.average)):
            one, other = (jax.tree.map(lambda a, r=row: a[r], v) for v in (found, of))
            assert_trees_equal(one, other)
        without = state._replace(average=None)
        assert final_variables(without, AVERAGED) is without.variables

    @pytest.mark.parametrize("epoch", [1, 4])
    def test_resumed_as_undisturbed(self, tiny, averaged, epoch):
        before = jax.tree.map(jnp.asarray, averaged[epoch - 1][0])
        resumed = averaging(tiny, population=before, start_epoch=epoch)
        assert_trees_equal(resumed, averaged[epoch:])

    def test_without_a_place_for_them_are_refused(self, tiny):
        with pytest.raises(InputError, match=r"Hyper\.ema is above 0.*averages=True"):
            train(tiny, AVERAGED, batch_size=8)


DRAWS = 600


@jax.jit
def distort(y, rate, seed=0, number=1):
    noise = Noise(jnp.ones((1, 1)), jax.random.key(seed), jnp.float32(0), jnp.float32(rate))
    return noise.block(number, y)


@jax.jit
def many(y, rate):
    """By draws: `[DRAWS, B, H, W, C]`."""
    return jax.vmap(distort, (None, None, 0))(y, rate, jnp.arange(DRAWS))


SIZES = {(8, 8): 4, (13, 12): 6, (16, 15): 6, (5, 9): 2, (1, 1): 1}
"""The side of a square by the size of a map: 6, at most half of either side, at least 1."""


def squares(size, rate):
    """Where draws distort two images of three channels, `bool[DRAWS, 2, H, W, 3]`, and the images.

    A map of ones has no deviation: what is distorted is 0.
    """
    out = np.asarray(many(jnp.ones((2, *size, 3)), rate))
    return out == 0, out


def opened(hit, side):
    """The union of all squares of a side that lie within `hit: bool[H, W]`."""
    found = np.zeros_like(hit)
    for i in range(hit.shape[0] - side + 1):
        for j in range(hit.shape[1] - side + 1):
            if hit[i : i + side, j : j + side].all():
                found[i : i + side, j : j + side] = True
    return found


class TestSquares:
    @pytest.mark.parametrize(("size", "side"), SIZES.items(), ids=str)
    def test_have_the_side_that_suits_the_map(self, size, side):
        hits = squares(size, 0.05)[0].transpose(0, 1, 4, 2, 3).reshape(-1, *size)
        hits = hits[hits.any((1, 2))]
        assert len(hits) > 10
        assert min(hit.sum() for hit in hits) == side**2
        for hit in hits[:50]:
            np.testing.assert_array_equal(opened(hit, side), hit)

    @pytest.mark.parametrize(("size", "side"), SIZES.items(), ids=str)
    @pytest.mark.parametrize("rate", [0.05, 0.2])
    def test_each_place_as_often_as_squares_over_it(self, size, side, rate):
        """1 - (1 - g)^k with k squares over a place, g the rate H W / (side^2 squares)."""
        height, width = size
        over = np.zeros(size)
        for i in range(height - side + 1):
            for j in range(width - side + 1):
                over[i : i + side, j : j + side] += 1
        number = (height - side + 1) * (width - side + 1)
        expected = 1 - (1 - rate * height * width / (side**2 * number)) ** over
        found = squares(size, rate)[0].mean((0, 1, 4))
        error = 5 * np.sqrt(expected * (1 - expected) / (6 * DRAWS))
        assert (np.abs(found - expected) < error).all()
        # All in all it is about the rate, less what overlaps.
        assert 0.85 * rate - error.max() < found.mean() < rate + error.max()

    def test_of_every_image_channel_and_block_are_its_own(self):
        hits, _ = squares((8, 8), 0.3)
        for a, b in ((hits[:, 0], hits[:, 1]), (hits[..., 0], hits[..., 1])):
            assert (a != b).any()
        y = jnp.ones((2, 8, 8, 3))
        assert (
            np.asarray(distort(y, 0.3, number=1)) != np.asarray(distort(y, 0.3, number=2))
        ).any()
        assert_trees_equal(distort(y, 0.3, number=1), distort(y, 0.3, number=1))


Y = jnp.asarray(2 + 3 * np.random.default_rng(0).standard_normal((2, 8, 8, 3)), jnp.float32)


class TestDistorted:
    def test_outside_squares_values_are_over_the_share_that_is_kept(self):
        for seed in range(5):
            hit = np.asarray(distort(jnp.ones(Y.shape), 0.2, seed)) == 0
            kept = np.float32(1) - np.float32(hit.mean())
            found = np.asarray(distort(Y, 0.2, seed))
            assert 0 < hit.mean() < 1
            np.testing.assert_allclose(found[~hit], np.asarray(Y)[~hit] / kept, rtol=1e-6)

    def test_inside_they_are_normal_of_a_share_of_the_maps_deviation(self):
        hit = np.asarray(many(jnp.ones(Y.shape), 0.2)) == 0
        kept = 1 - hit.mean((1, 2, 3, 4), keepdims=True)
        noise = (np.asarray(many(Y, 0.2)) * kept)[hit]
        deviation = INTENSITY * np.asarray(Y).std()
        assert noise.std() == pytest.approx(deviation, rel=0.03)
        assert noise.mean() == pytest.approx(0, abs=5 * deviation / np.sqrt(hit.sum()))
        scores = np.sort(noise / deviation)[:: len(noise) // 20][1:-1]
        quantiles = [-1.64, -1.28, -1.04, -0.84, -0.67, -0.52, -0.39, -0.25, -0.13, 0.0]
        np.testing.assert_allclose(scores[: len(quantiles)], quantiles, atol=0.05)

    def test_the_mean_is_kept(self):
        """Of a constant map exactly; else of any, in expectation."""
        _, out = squares((8, 8), 0.2)
        np.testing.assert_allclose(out.mean((1, 2, 3, 4)), 1, rtol=1e-5)
        means = np.asarray(many(Y, 0.2)).mean((1, 2, 3, 4))
        error = 5 * means.std() / np.sqrt(len(means))
        # Places in the middle are hit more often, by which this one map's mean is a little off.
        assert means.mean() == pytest.approx(float(Y.mean()), abs=error + 0.02)

    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_rate_0_is_the_identity(self, size):
        y = np.random.default_rng(1).standard_normal((2, *size, 3)).astype(np.float32)
        assert_trees_equal(many(y, 0.0), np.broadcast_to(y, (DRAWS, *y.shape)))

    def test_all_of_it_is_finite(self):
        found = np.asarray(distort(Y, 1.0))
        assert np.isfinite(found).all()

    def test_no_gradient_passes_through_the_noise(self):
        weights = jax.random.normal(jax.random.key(2), Y.shape)
        gradient = jax.grad(lambda y: (weights * distort(y, 0.2)).sum())(Y)
        hit = np.asarray(distort(jnp.ones(Y.shape), 0.2)) == 0
        expected = np.where(hit, 0, np.asarray(weights) / (1 - hit.mean()))
        np.testing.assert_allclose(gradient, expected, rtol=1e-5)

    def test_half_precision_stays(self):
        assert distort(Y.astype(jnp.bfloat16), 0.2).dtype == jnp.bfloat16

    def test_what_is_no_map_stays(self):
        rows = jnp.ones((4, 3))
        assert_trees_equal(distort(rows, 0.5), rows)
        assert Noise(jnp.ones((1, 1)), jax.random.key(0), jnp.float32(0)).block(1, Y) is Y


DISTORTED = HYPER._replace(distortion=np.array([0.0, 0.4, 0.1]))


@pytest.fixture(scope="module")
def distorted(tiny):
    return train(tiny, DISTORTED, batch_size=8, epochs=1)


class TestTraining:
    def test_beside_others_who_are_not(self, tiny, distorted):
        plain = train(tiny, batch_size=8, epochs=1)
        assert_trees_close(pick(distorted, 0), pick(plain, 0), **CLOSE)
        for row in (1, 2):
            difference = distorted[0][1].train_loss[row] - plain[0][1].train_loss[row]
            assert abs(difference) > 1e-4

    def test_grows_with_what_is_behind(self, tiny, distorted):
        """The middle of one epoch is a half of the whole, that of the first of two a quarter."""
        double = DISTORTED._replace(distortion=2 * DISTORTED.distortion)
        longer = train(tiny, double, batch_size=8, epochs=2)
        np.testing.assert_array_equal(longer[0][1].train_loss, distorted[0][1].train_loss)
        same = train(tiny, DISTORTED, batch_size=8, epochs=2)
        assert (same[0][1].train_loss != distorted[0][1].train_loss)[1:].all()

    def test_is_compiled_where_somebody_needs_it(self):
        assert Options.of(DISTORTED, 8) == Options(8, noise=True, distorts=True)
        assert Options.of(AVERAGED, 8) == Options(8, averages=True)
