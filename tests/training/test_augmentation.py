"""Images against a loop over pixels; noise, augmentation and half precision in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from candidates import ARCHS, CLOSE, HYPER, data, pick, train
from helpers import assert_trees_close, assert_trees_equal

from jaxnas.errors import InputError
from jaxnas.training.augmentation import augment
from jaxnas.training.hyper import Hyper
from jaxnas.training.population import Options, Recipe

SHAPES = [(6, 8, 8, 3), (5, 4, 7, 1), (4, 9, 3, 2)]
"""Square, and grey and other images that are not."""


def rates(**values):
    return jax.tree.map(lambda a: a[0], Hyper.constant(1, **values))


def images_of(shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


@jax.jit
def augmented(seed, images, hyper):
    return augment(jax.random.key(seed), images, hyper)


def by_pixel(draws, images, *, flip, shift, cutout):
    """`draws: [5, B]`: flip, down, right, and the hole's centre, all in [0, 1)."""
    _, height, width, _ = images.shape
    result = np.zeros_like(images)
    for i, image in enumerate(images):
        source = image[:, ::-1] if draws[0, i] < flip else image
        down, right = (int(np.floor(d * (2 * shift + 1))) - shift for d in draws[1:3, i])
        centre = int(draws[3, i] * height), int(draws[4, i] * width)
        for r in range(height):
            for c in range(width):
                first = [at - cutout // 2 for at in centre]
                hole = all(f <= at < f + cutout for f, at in zip(first, (r, c), strict=True))
                inside = 0 <= r - down < height and 0 <= c - right < width
                if inside and not hole:
                    result[i, r, c] = source[r - down, c - right]
    return result


class TestImages:
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    @pytest.mark.parametrize(
        "values",
        [
            {"flip": 1.0},
            {"flip": 0.5},
            {"shift": 1},
            {"shift": 4},
            {"shift": 20},
            {"cutout": 1},
            {"cutout": 3},
            {"cutout": 4},
            {"cutout": 30},
            {"flip": 0.5, "shift": 2, "cutout": 3},
        ],
        ids=str,
    )
    def test_against_a_loop_over_pixels(self, shape, values):
        values = {"flip": 0.0, "shift": 0, "cutout": 0} | values
        images = images_of(shape)
        for seed in range(3):
            draws = jax.random.uniform(jax.random.key(seed), (5, len(images), 1))
            expected = by_pixel(np.asarray(draws)[..., 0], images, **values)
            assert_trees_equal(augmented(seed, images, rates(**values)), expected)

    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_all_zero_is_the_image(self, shape):
        images = images_of(shape)
        assert_trees_equal(augmented(0, images, rates()), images)

    def test_half_precision_stays(self):
        images = jnp.ones((2, 4, 4, 1), jnp.bfloat16)
        assert augmented(0, images, rates(shift=1.0)).dtype == jnp.bfloat16


class TestProbabilities:
    N = 6000

    @pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 1.0])
    def test_of_flips(self, rate):
        images = np.broadcast_to(np.float32([1, 2])[:, None], (self.N, 1, 2, 1))
        found = augmented(3, images, rates(flip=rate))[:, 0, 0, 0]
        assert set(np.unique(found)) <= {1, 2}
        assert (found == 2).mean() == pytest.approx(
            rate, abs=5 * np.sqrt(rate * (1 - rate) / self.N)
        )

    def test_of_shifts(self):
        """Each of 5 places both ways, alike, and one way whatever the other."""
        images = np.zeros((self.N, 5, 5, 1), np.float32)
        images[:, 2, 2] = 1
        share = np.asarray(augmented(4, images, rates(shift=2.0)))[..., 0].mean(0)
        np.testing.assert_allclose(share, np.full((5, 5), 1 / 25), atol=0.013)

    def test_of_holes(self):
        """A centre on every pixel alike: a pixel is lost to as many as lie within the hole of it."""
        images = np.ones((self.N, 5, 4, 1), np.float32)
        lost = 1 - np.asarray(augmented(5, images, rates(cutout=3.0)))[..., 0].mean(0)
        rows, columns = np.array([2, 3, 3, 3, 2]) / 5, np.array([2, 3, 3, 2]) / 4
        np.testing.assert_allclose(lost, np.outer(rows, columns), atol=0.035)


RATES = {
    "drop_path": 0.5,
    "dropout": 0.5,
    "flip": 0.5,
    "shift": 2.0,
    "cutout": 3.0,
}


@pytest.fixture(scope="module")
def plain(tiny):
    """One step an epoch, on all images."""
    return train(tiny, batch_size=8)


@pytest.fixture(scope="module")
def regularised(tiny):
    """Everything compiled in; only the middle candidate has rates other than 0."""
    own = {name: np.array([0, rate, 0], np.float32) for name, rate in RATES.items()}
    return train(tiny, HYPER._replace(**own), batch_size=8)


def differ(got, expected):
    """By much more than additions in another order make."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    return any(np.abs(a - b).max() > 1e-3 + 0.02 * np.abs(b).max() for a, b in pairs)


class TestTraining:
    def test_rates_of_0_train_as_without_any(self, regularised, plain):
        assert_trees_close(pick(regularised, 0, 2), pick(plain, 0, 2), **CLOSE)

    def test_others_are_noticed(self, regularised, plain):
        for noisy, quiet in zip(pick(regularised, 1), pick(plain, 1), strict=True):
            assert differ(noisy[0].variables, quiet[0].variables)

    @pytest.mark.parametrize("name", RATES)
    def test_each_by_itself_is_noticed(self, tiny, regularised, plain, name):
        """In the same program, which the other rates do not compile anew."""
        others = {n: np.array([0.0, 0.0, 0.0 if n == name else 1e-7]) for n in RATES}
        own = others | {name: np.array([RATES[name], 0, RATES[name]])}
        history = train(tiny, HYPER._replace(**own), epochs=1, batch_size=8)
        for row in (0, 2):
            (noisy,), (quiet, *_) = pick(history, row), pick(plain, row)
            assert differ(noisy[0].optimizer, quiet[0].optimizer)

    def test_every_step_draws_anew(self, tiny, regularised):
        """With weights at rest and all images in each step, only noise tells epochs apart."""
        still = Hyper.constant(3, learning_rate=0.0, **RATES)
        history = train(tiny, still, archs=ARCHS[[0, 0, 0]], batch_size=8)
        losses = np.stack([m.train_loss for _, m in history])
        assert len(np.unique(losses)) == losses.size

    def test_evaluation_has_none(self, tiny, regularised):
        """Losses by hand, by running averages and nothing else."""
        images = data()

        @jax.jit
        def logits(variables, arch):
            return tiny.apply(variables, arch, images.x_val, batch_norm="running").logits

        for population, metrics in regularised:
            own = jax.tree.map(lambda a: a[1], population.variables)
            chosen = jax.nn.log_softmax(logits(own, ARCHS[1]))[jnp.arange(10), images.y_val]
            assert metrics.val_loss[1] == pytest.approx(-float(chosen.mean()), rel=1e-4)


class TestHalfPrecision:
    @pytest.fixture
    def half(self, tiny):
        return train(tiny, recipe=Recipe("bfloat16"), batch_size=8)

    def test_losses_are_near_and_not_equal(self, half, plain):
        for (_, found), (_, expected) in zip(half, plain, strict=True):
            np.testing.assert_allclose(found.train_loss, expected.train_loss, rtol=0.05)
            assert (found.train_loss != expected.train_loss).all()

    def test_weights_averages_and_momentum_stay_whole(self, half):
        for population, _ in half:
            leaves = jax.tree.leaves((population.variables, population.optimizer))
            assert {str(leaf.dtype) for leaf in leaves} == {"float32"}
        kernels = [a for a in jax.tree.leaves(half[-1][0].variables.params) if a.ndim > 2]
        # They have more digits than a bfloat16 holds.
        assert all((a != np.asarray(jnp.bfloat16(a), np.float32)).any() for a in kernels)

    def test_an_unknown_one_is_refused(self, tiny):
        with pytest.raises(InputError, match=r"float16.*bfloat16"):
            train(tiny, recipe=Recipe("float16"))


class TestOptions:
    def test_only_what_somebody_needs_is_compiled(self):
        assert Options.of(HYPER, 4) == Options(4)
        noisy = {"drop_path", "dropout"}
        for name in RATES:
            hyper = HYPER._replace(**{name: np.array([0, 0.5, 0])})
            expected = Options(4, noise=name in noisy, augment=name not in noisy)
            assert Options.of(hyper, 4) == expected
