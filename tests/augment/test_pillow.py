"""Every operation that Pillow has, against Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import pictures
from PIL import Image, ImageEnhance, ImageOps

from jaxnas.augment.operations import NUMBER, OPERATIONS, transform

AFFINE = Image.Transform.AFFINE

PILLOW = {
    "Identity": lambda image, _: image,
    "ShearX": lambda image, v: image.transform(image.size, AFFINE, (1, v, 0, 0, 1, 0)),
    "ShearY": lambda image, v: image.transform(image.size, AFFINE, (1, 0, 0, v, 1, 0)),
    "TranslateX": lambda image, v: image.transform(image.size, AFFINE, (1, 0, v, 0, 1, 0)),
    "TranslateY": lambda image, v: image.transform(image.size, AFFINE, (1, 0, 0, 0, 1, v)),
    "Rotate": lambda image, v: image.rotate(v),
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Invert": lambda image, _: ImageOps.invert(image),
    "Equalize": lambda image, _: ImageOps.equalize(image),
    "Solarize": lambda image, v: ImageOps.solarize(image, v),
    "Posterize": lambda image, v: ImageOps.posterize(image, int(v)),
    "Contrast": lambda image, v: ImageEnhance.Contrast(image).enhance(v),
    "Color": lambda image, v: ImageEnhance.Color(image).enhance(v),
    "Brightness": lambda image, v: ImageEnhance.Brightness(image).enhance(v),
    "Sharpness": lambda image, v: ImageEnhance.Sharpness(image).enhance(v),
}

FACTORS = np.linspace(0, 2, 12)
AMOUNTS = {
    "Identity": np.zeros(2),
    "ShearX": np.linspace(-0.99, 0.99, 24),
    "ShearY": np.linspace(-0.99, 0.99, 24),
    "TranslateX": np.append(np.linspace(-33, 33, 20), [-2.5, 0.5, 1.5]),
    "TranslateY": np.append(np.linspace(-33, 33, 20), [-2.5, 0.5, 1.5]),
    # Where coordinates fall on the border of two pixels, and beyond a full turn.
    "Rotate": np.array([0, 1, 2, 15, 29.7, 30, 45, 60, 90, 120, 135, 180, 270, 355.5, 400, 17.123]),
    "AutoContrast": np.zeros(16),
    "Invert": np.zeros(4),
    "Equalize": np.zeros(24),
    "Solarize": np.array([0, 1, 25.6, 100, 128, 179.2, 255, 256]),
    "Posterize": np.arange(1, 9),
    "Contrast": FACTORS,
    "Color": FACTORS,
    "Brightness": FACTORS,
    "Sharpness": FACTORS,
}
AMOUNTS["Rotate"] = np.concatenate([AMOUNTS["Rotate"], -AMOUNTS["Rotate"]])

NAMES = np.repeat(list(AMOUNTS), [len(v) for v in AMOUNTS.values()])
VALUES = np.concatenate(list(AMOUNTS.values())).astype(np.float32)
NUMBERS = np.array([NUMBER[name] for name in NAMES], np.int32)
SHAPES = [(32, 32, 3), (8, 8, 1), (33, 20, 3), (9, 31, 1), (8, 11, 3), (33, 33, 3)]

run = jax.jit(transform)


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def results(request):
    """Images, and all operations at all amounts in one call, in Pillow's type."""
    images = pictures(len(VALUES), *request.param)
    return images, np.asarray(run(images, NUMBERS, VALUES))


def by_pillow(image, name, value):
    square = image[..., 0] if image.shape[-1] == 1 else image
    done = PILLOW[name](Image.fromarray(square), float(value))
    return np.asarray(done).reshape(image.shape)


@pytest.mark.parametrize("name", PILLOW)
def test_within_one_level_of_pillow(results, name):
    images, found = results
    assert found.dtype == np.uint8
    mine = name == NAMES
    expected = [by_pillow(i, name, v) for i, v in zip(images[mine], VALUES[mine], strict=True)]
    off = np.abs(found[mine].astype(int) - np.stack(expected))
    assert off.max() <= 1, VALUES[mine][(off > 1).any((1, 2, 3))]
    # Only where a sum of floats falls on a whole number, or Pillow's just misses it.
    assert (off > 0).mean() <= (0.02 if name in ("AutoContrast", "Contrast", "Color") else 0)


def test_the_rest_are_not_pillows():
    assert set(OPERATIONS) - set(PILLOW) == {"Cutout", "SolarizeAdd"}


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 3), (5, 2, 3)], ids=str)
def test_images_of_hardly_any_pixels(shape):
    images = np.random.default_rng(1).integers(0, 256, (len(VALUES), *shape), np.uint8)
    found = np.asarray(run(images, NUMBERS, VALUES)).astype(int)
    expected = [by_pillow(*each) for each in zip(images, NAMES, VALUES, strict=True)]
    assert np.abs(found - np.stack(expected)).max() <= 1


def test_of_one_level():
    images = np.full((len(VALUES), 8, 8, 3), 77, np.uint8)
    found = np.asarray(run(images, NUMBERS, VALUES)).astype(int)
    expected = np.stack([by_pillow(*each) for each in zip(images, NAMES, VALUES, strict=True)])
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_each_by_itself_and_without_luminance(channels):
    images = pictures(len(VALUES), 8, 11)[..., [0, 1, 2, 0][:channels]]
    found = np.asarray(run(images, NUMBERS, VALUES))
    same = np.isin(NAMES, ["Contrast", "Color"])
    np.testing.assert_array_equal(found[same], images[same])
    for channel in range(channels):
        alone = images[..., channel : channel + 1]
        expected = np.asarray(run(alone, NUMBERS, VALUES))
        np.testing.assert_array_equal(found[~same][..., channel], expected[~same][..., 0])


class TestScale:
    def test_float_images_are_as_whole_ones(self):
        images = pictures(len(VALUES), 8, 11)
        expected = np.asarray(run(images, NUMBERS, VALUES))
        found = run(jnp.asarray(images, jnp.float32), NUMBERS, VALUES)
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(np.asarray(found), expected)

    def test_places_keep_levels_between_whole_ones(self):
        images = pictures(len(VALUES), 8, 11).astype(np.float32) / 2 + 0.25
        geometry = np.isin(NAMES, ["Identity", "ShearX", "ShearY", "TranslateX", "Rotate"])
        found = np.asarray(run(images, NUMBERS, VALUES))
        twice = (2 * images - 0.5).astype(np.uint8)
        moved = np.asarray(run(twice, NUMBERS, VALUES)).astype(np.float32)
        outside = np.asarray(run(np.ones_like(images), NUMBERS, VALUES)) == 0
        expected = np.where(outside, 0, moved / 2 + 0.25)
        np.testing.assert_array_equal(found[geometry], expected[geometry])


class TestOurs:
    def test_solarize_add(self):
        images = pictures(5, 8, 11)
        amounts = np.array([0, 40, 110, 200, 255], np.float32)
        found = np.asarray(run(images, np.full(5, NUMBER["SolarizeAdd"]), amounts))
        added = np.minimum(images.astype(int) + amounts[:, None, None, None].astype(int), 255)
        np.testing.assert_array_equal(found, np.where(images < 128, added, images))

    def test_cutout_and_fill(self):
        images = np.full((4, 7, 9, 3), 200, np.uint8)
        centres = np.array([[0, 0], [0.5, 0.5], [0.99, 0.99], [0.3, 0.8]], np.float32)
        sides = np.array([3, 4, 5, 1], np.float32)
        fill = np.array([1, 2, 3], np.float32)
        numbers = np.full(4, NUMBER["Cutout"])
        found = np.asarray(jax.jit(transform)(images, numbers, sides, fill=fill, centres=centres))
        for i in range(4):
            row, column = int(centres[i, 0] * 7), int(centres[i, 1] * 9)
            first = row - int(sides[i]) // 2, column - int(sides[i]) // 2
            for r in range(7):
                for c in range(9):
                    hole = 0 <= r - first[0] < sides[i] and 0 <= c - first[1] < sides[i]
                    assert found[i, r, c].tolist() == ([1, 2, 3] if hole else [200] * 3)

    def test_what_comes_in_is_the_fill(self):
        images = np.zeros((1, 4, 4, 3), np.uint8)
        number = np.array([NUMBER["TranslateX"]])
        found = transform(images, number, np.array([3.0]), fill=np.array([9.0, 8.0, 7.0]))
        np.testing.assert_array_equal(np.asarray(found)[0, :, 1:], np.tile([9, 8, 7], (4, 3, 1)))
        assert not np.asarray(found)[0, :, 0].any()
