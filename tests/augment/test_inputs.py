"""Policies on normalised inputs."""

import jax
import numpy as np
import pytest
from helpers import assert_trees_close, assert_trees_equal
from pictures import pictures

from jaxnas.augment import PolicyAugment, apply_policy, get_policy, mix
from jaxnas.augment.named import listed
from jaxnas.errors import InputError

MEAN, STD = (120.5, 110.0, 90.25), (60.0, 55.5, 70.0)
PIXELS = PolicyAugment(MEAN, STD)
KEY = jax.random.key(0)


@jax.jit(static_argnames="augment")
def augmented(augment, key, x, targets, policy):
    return augment(key, x, targets, policy)


def normalised(images, mean=MEAN, std=STD):
    return ((images.astype(np.float64) - mean) / std).astype(np.float32)


def targets(n=24):
    return np.eye(5, dtype=np.float32)[np.arange(n) % 5]


@pytest.mark.parametrize("name", ["none", "flip_crop:flip=0:shift=0"])
def test_nothing_is_nothing_to_the_last_bit(name):
    x = np.random.default_rng(0).standard_normal((24, 12, 12, 3)).astype(np.float32)
    found = augmented(PIXELS, KEY, x, targets(), get_policy(name))
    assert_trees_equal(found, (x, targets()))


def test_as_on_levels():
    images = pictures(24, 12, 12)
    policy = get_policy("autoaugment_cifar10")
    found, _ = augmented(PIXELS, KEY, normalised(images), targets(), policy)
    fill = np.round(np.float32(MEAN))
    expected = jax.jit(apply_policy)(jax.random.split(KEY)[0], images, policy, fill=fill)
    np.testing.assert_allclose(np.asarray(found), normalised(np.asarray(expected)), atol=1e-4)
    assert not np.array_equal(np.asarray(expected), images)


def test_another_range_of_pixels():
    """0..16, as the digits have; levels in between are kept by what moves pixels alone."""
    pixels = np.random.default_rng(1).integers(0, 17, (24, 8, 8, 1)).astype(np.float32)
    digits = PolicyAugment((4.9,), (6.0,), high=16.0)
    x = normalised(pixels, 4.9, 6.0)
    inverted, _ = augmented(digits, KEY, x, targets(), listed([[("Invert", 1.0, None)]]))
    levels = np.round(pixels / 16 * 255)
    expected = (255 - levels) * 16 / 255
    np.testing.assert_allclose(np.asarray(inverted), normalised(expected, 4.9, 6.0), atol=1e-4)
    moved, _ = augmented(digits, KEY, x, targets(), listed([[("TranslateX", 1.0, 9)]]))
    moved = np.asarray(moved) * 6 + 4.9
    inside = np.abs(moved - np.round(78 / 255 * 16, 2)) > 0.05
    assert inside.mean() > 0.4
    np.testing.assert_allclose(moved[inside], np.round(moved[inside]), atol=1e-4)


def test_holes_are_about_0():
    x = normalised(pictures(24, 12, 12))
    found, _ = augmented(PIXELS, KEY, x, targets(), get_policy("none:cutout=1"))
    cut = np.abs(np.asarray(found) - x) > 1e-4
    assert cut.mean() > 0.5
    assert np.abs(np.asarray(found)[cut]).max() <= 0.5 / min(STD) + 1e-5


def test_pairs_are_mixed_after_all_else():
    x = normalised(pictures(24, 12, 12))
    found, mixed = augmented(PIXELS, KEY, x, targets(), get_policy("none:mixup=1"))
    assert ((np.asarray(mixed) > 0).sum(1) == 2).any()
    np.testing.assert_allclose(np.asarray(mixed).sum(1), 1, rtol=1e-6)
    expected = mix(jax.random.split(KEY)[1], x, targets(), 1.0, 0.0)
    assert_trees_close((found, mixed), expected)


def test_is_hashable_and_equal_by_value():
    assert hash(PIXELS) == hash(PolicyAugment(MEAN, STD))
    assert PolicyAugment(MEAN, STD) == PIXELS != PolicyAugment(MEAN, STD, high=1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0.5,), (1.0, 1.0)), "1 channels and std 2"),
        (((), ()), "channels"),
        (((0.5,), (0.0,)), "above 0"),
        (((0.5,), (1.0,), 1.0, 1.0), "no range"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        PolicyAugment(*arguments)
