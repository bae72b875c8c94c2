"""Policies: what is drawn, in which shares; and what is done, image by image with Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_equal, compilations
from pictures import pictures
from test_pillow import by_pillow

from jaxnas.augment import apply_policy, checked, get_policy, stack
from jaxnas.augment.drawn import draw
from jaxnas.augment.named import listed
from jaxnas.augment.operations import NUMBER, OPERATIONS, REACH
from jaxnas.errors import InputError

drawn = jax.jit(draw, static_argnames="shape")
N = 20_000


@jax.jit
def applied(key, images, policy, fill):
    return apply_policy(key, images, policy, fill=fill)


def mixed_policy(**others):
    """Three sub-policies of two layers with everything in them."""
    policy = listed(
        [
            [("Rotate", 0.7, 6), ("Equalize", 0.5, None)],
            [("ShearX", 1.0, 9), ("Color", 0.9, 9)],
            [("TranslateY", 0.5, 5), ("Sharpness", 0.8, 7)],
        ]
    )
    return checked(policy._replace(weights=[1, 2, 1], **others))


def framed(image, flip, down, right, fill):
    height, width, _ = image.shape
    source, made = image[:, ::-1] if flip else image, np.empty_like(image)
    for r in range(height):
        for c in range(width):
            inside = 0 <= r - down < height and 0 <= c - right < width
            made[r, c] = source[r - down, c - right] if inside else fill
    return made


def holed(image, hole, fill):
    top, left, height, width = (int(v) for v in hole)
    made = image.copy()
    made[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = fill
    return made


@pytest.mark.parametrize("shape", [(24, 12, 12, 3), (24, 8, 11, 1)], ids=str)
def test_image_by_image(shape):
    """With black from outside, as Pillow has it; noise is found where it should be, and varies."""
    images = pictures(*shape)
    policy = mixed_policy(flip=0.5, shift=0.25, cutout=0.3, erasing=0.5)
    key = jax.random.key(3)
    draws = jax.tree.map(np.asarray, drawn(jax.random.split(key)[0], policy, shape[:3]))
    found = np.asarray(applied(key, images, policy, np.zeros(shape[-1], np.float32)))
    assert found.dtype == np.uint8
    noise = []
    for i, image in enumerate(images):
        made = framed(image, *(f[i] for f in draws.frame), 0)
        for number, amount in zip(draws.operations[:, i], draws.amounts[:, i], strict=True):
            made = by_pillow(made, OPERATIONS[number], amount)
        made = holed(made, [v[i] for v in draws.cutout], 0).astype(int)
        erased = holed(np.zeros(image.shape, bool), [v[i] for v in draws.erased], True)
        noise.append(found[i][erased])
        assert np.abs(np.where(erased, 0, found[i] - made)).max() <= 2  # 1 in each layer
    noise = np.concatenate(noise)
    assert len(noise) > 200
    assert 110 < noise.mean() < 145
    assert noise.std() > 60


def test_fill_is_what_comes_in_and_is_cut_out():
    images = np.full((64, 8, 8, 3), 200, np.uint8)
    policy = mixed_policy(shift=0.25, cutout=0.3)
    policy = policy._replace(weights=np.float32([0, 1, 0]), probability=0 * policy.probability)
    found = np.asarray(applied(jax.random.key(0), images, policy, np.float32([10, 20, 30])))
    outside = (found == [10, 20, 30]).all(-1)
    assert (outside | (found == 200).all(-1)).all()
    assert 0.1 < outside.mean() < 0.5


class TestShares:
    """Of 20,000 draws; five standard deviations are at most .018."""

    def test_of_subpolicies_and_probabilities(self):
        policy = mixed_policy()
        operations = np.asarray(drawn(jax.random.key(0), policy, (N, 32, 32)).operations)
        share = [np.bincount(o, minlength=len(OPERATIONS)) / N for o in operations]
        for layer, expected in enumerate(
            (
                {"Rotate": 0.25 * 0.7, "ShearX": 0.5, "TranslateY": 0.25 * 0.5},
                {"Equalize": 0.25 * 0.5, "Color": 0.5 * 0.9, "Sharpness": 0.25 * 0.8},
            )
        ):
            expected = expected | {"Identity": 1 - sum(expected.values())}
            for name, number in NUMBER.items():
                assert share[layer][number] == pytest.approx(expected.get(name, 0), abs=0.018)
        together = np.mean(
            (operations[0] == NUMBER["ShearX"]) & (operations[1] == NUMBER["Rotate"])
        )
        assert together == 0

    def test_of_choices(self):
        policy = get_policy("randaugment:n=2")
        choice = np.zeros_like(policy.choice)
        choice[..., NUMBER["Invert"]], choice[..., NUMBER["Cutout"]] = 3, 1
        policy = policy._replace(choice=choice, probability=np.ones_like(choice))
        operations = np.asarray(drawn(jax.random.key(1), policy, (N, 32, 32)).operations)
        assert set(np.unique(operations)) == {NUMBER["Invert"], NUMBER["Cutout"]}
        inverted = operations == NUMBER["Invert"]
        np.testing.assert_allclose(inverted.mean(1), 0.75, atol=0.016)
        # Layers draw independently.
        assert (inverted[0] & inverted[1]).mean() == pytest.approx(0.75**2, abs=0.018)

    @pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
    def test_of_flips_and_erasing(self, rate):
        policy = mixed_policy(flip=rate, erasing=rate)
        draws = drawn(jax.random.key(2), policy, (N, 10, 10))
        assert np.mean(draws.frame.flip) == pytest.approx(rate, abs=0.017)
        assert np.mean(draws.erased.height > 0) == pytest.approx(rate, abs=0.017)

    def test_of_shifts(self):
        """Each of 5 x 9 places alike, of images of 16 x 32."""
        draws = drawn(jax.random.key(4), mixed_policy(shift=0.125), (N, 16, 32))
        places = np.stack([draws.frame.down, draws.frame.right])
        counts = np.histogram2d(*places, bins=[np.arange(-2.5, 3), np.arange(-4.5, 5)])[0]
        np.testing.assert_allclose(counts / N, np.full((5, 9), 1 / 45), atol=0.006)

    def test_of_cutout(self):
        """A centre on every pixel alike."""
        draws = drawn(jax.random.key(5), mixed_policy(cutout=0.5), (N, 4, 6))
        assert set(np.unique(draws.cutout.height)) == {2}
        assert set(np.unique(draws.cutout.width)) == {3}
        lost = np.asarray(draws.cutout.mask(4, 6)).mean(0)
        expected = np.outer(np.array([2, 2, 2, 1]) / 4, np.array([2, 3, 3, 3, 3, 2]) / 6)
        np.testing.assert_allclose(lost, expected, atol=0.018)

    def test_of_erased_areas(self):
        draws = drawn(jax.random.key(6), mixed_policy(erasing=1.0), (N, 64, 64))
        _, _, height, width = (np.asarray(v) for v in draws.erased)
        free = (height < 64) & (width < 64)
        area, ratio = height * width / 64**2, height / width
        assert area[free].min() > 0.013
        assert area[free].max() < 0.42
        assert area.mean() == pytest.approx(0.21, abs=0.01)
        assert ratio[free].min() == pytest.approx(0.3, abs=0.06)
        assert ratio[free].max() == pytest.approx(1 / 0.3, abs=0.6)
        assert np.median(ratio) == pytest.approx(1, abs=0.05)
        mask = np.asarray(draws.erased.mask(64, 64)).mean((1, 2))
        np.testing.assert_allclose(mask, area)  # all of it lies within


class TestMagnitudes:
    def amounts(self, name, *, magnitude=0.5, spread=0.0, shape=(N, 20, 40)):
        policy = get_policy("none")
        choice = np.zeros_like(policy.choice)
        choice[..., NUMBER[name]] = 1
        policy = policy._replace(
            choice=choice,
            probability=choice,
            magnitude=np.full_like(choice, magnitude),
            spread=np.full_like(choice, spread),
        )
        return np.asarray(drawn(jax.random.key(7), policy, shape).amounts)[0]

    @pytest.mark.parametrize(
        ("name", "expected"),
        {
            "ShearX": {-0.15, 0.15},
            "TranslateX": {-0.5 * 40 * 150 / 331, 0.5 * 40 * 150 / 331},
            "TranslateY": {-0.5 * 20 * 150 / 331, 0.5 * 20 * 150 / 331},
            "Rotate": {-15, 15},
            "Solarize": {128},
            "Posterize": {6},
            "Contrast": {0.55, 1.45},
            "Color": {0.55, 1.45},
            "Brightness": {0.55, 1.45},
            "Sharpness": {0.55, 1.45},
            "Cutout": {0.5 * 0.625 * 40},
            "SolarizeAdd": {55},
        }.items(),
    )
    def test_in_the_units_of_the_operation(self, name, expected):
        found, counts = np.unique(self.amounts(name), return_counts=True)
        np.testing.assert_allclose(found, sorted(expected), rtol=1e-6)
        np.testing.assert_allclose(counts / N, 1 / len(expected), atol=0.018)

    @pytest.mark.parametrize("name", ["Identity", *(n for n, r in REACH.items() if r)])
    def test_0_changes_nothing(self, name):
        images = pictures(16, 12, 12)
        policy = listed([[(name, 1.0, 0)]])
        found = applied(jax.random.key(0), images, policy, np.zeros(3, np.float32))
        np.testing.assert_array_equal(np.asarray(found), images)

    def test_spread(self):
        found = np.abs(self.amounts("Rotate", magnitude=0.8, spread=0.5)) / 30
        assert found.min() == pytest.approx(0.4, abs=0.001)
        assert found.max() == pytest.approx(0.8, abs=0.001)
        assert found.mean() == pytest.approx(0.6, abs=0.005)


class TestData:
    def test_another_policy_compiles_nothing(self):
        images, fill = pictures(24, 12, 12), np.zeros(3, np.float32)
        policies = stack([get_policy("randaugment"), get_policy("autoaugment_svhn")])
        applied(jax.random.key(0), images, policies.rows(0), fill)
        with compilations() as names:
            applied(jax.random.key(1), images, policies.rows(1), fill)
        assert not names

    def test_the_same_twice_and_alone_as_in_a_population(self):
        images, key = pictures(24, 12, 12), jax.random.key(8)
        names = ("none", "randaugment:n=3", "trivialaugment", "autoaugment_cifar10:erasing=0.5")
        population = stack([get_policy(name) for name in names])
        assert population.choice.shape == (4, 25, 3, len(OPERATIONS))
        assert population.flip.shape == (4,)
        together = jax.jit(jax.vmap(apply_policy, (None, None, 0)))(key, images, population)
        fill = np.zeros(3, np.float32)
        for i in range(len(names)):
            alone = applied(key, images, population.rows(i), fill)
            assert_trees_equal(together[i], alone)
            assert_trees_equal(alone, applied(key, images, population.rows(i), fill))
        assert len(np.unique(np.asarray(together).reshape(4, -1), axis=0)) == 4

    def test_padding_changes_nothing(self):
        """But for what layers draw: here there is one operation without a draw of its own."""
        images, fill = pictures(24, 12, 12), np.zeros(3, np.float32)
        policy = listed([[("Invert", 1.0, None)]])
        for padded in (policy, policy.padded(5, 3)):
            found = np.asarray(applied(jax.random.key(9), images, padded, fill))
            np.testing.assert_array_equal(found, 255 - images)

    def test_too_small_to_pad(self):
        with pytest.raises(InputError, match=r"3 sub-policies of 2 layers.* 2 of 2"):
            mixed_policy().padded(2, 2)

    def test_no_population(self):
        with pytest.raises(InputError, match="at least one"):
            stack([])


class TestChecks:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"flip": 1.5}, r"flip .* within 0\.\.1"),
            ({"mixup": -1.0}, "mixup .* at least 0"),
            ({"cutmix": np.inf}, "cutmix .* finite"),
            ({"erasing": np.nan}, "erasing"),
            ({"weights": np.zeros(3)}, "above 0"),
            ({"weights": np.ones(2)}, r"weights has shape \(2,\), expected \(3,\)"),
            ({"choice": np.ones((3, 2, 4))}, r"choice has shape .*expected \[sub-policies"),
            ({"magnitude": np.full((3, 2, len(OPERATIONS)), 2.0)}, "magnitude"),
            ({"flip": np.zeros(3)}, "flip has shape"),
        ],
    )
    def test_refused(self, change, message):
        with pytest.raises(InputError, match=message):
            checked(mixed_policy()._replace(**change))

    def test_a_layer_without_a_choice(self):
        policy = mixed_policy()
        choice = policy.choice.copy()
        choice[1, 1] = 0
        with pytest.raises(InputError, match="above 0"):
            checked(policy._replace(choice=choice))


def test_float_images_nothing_happens_to_stay_as_they_are():
    images = jnp.asarray(pictures(24, 12, 12) / np.float32(1.7), jnp.float32)
    found = applied(jax.random.key(0), images, get_policy("none"), np.zeros(3, np.float32))
    assert_trees_equal(found, images)
