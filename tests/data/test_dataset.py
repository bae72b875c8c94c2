import dataclasses
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from jaxnas.data import dataset
from jaxnas.data.dataset import channel_statistics
from jaxnas.data.load import from_arrays


@pytest.fixture
def small(pictures):
    return from_arrays(*pictures())


def test_properties(small):
    assert (small.classes, small.channels, small.resolution) == (3, 3, (6, 6))
    assert small.class_names == ("0", "1", "2")
    assert len(small.train) == len(small.train.x) == len(small.train.y) == 18
    assert small.train.y.dtype == np.int32
    assert small.train.x.dtype == np.uint8


def test_statistics_are_of_train_only(small):
    train = small.train.x.reshape(-1, 3) / 255
    np.testing.assert_allclose(small.mean, train.mean(0), rtol=1e-6)
    np.testing.assert_allclose(small.std, train.std(0), rtol=1e-6)
    assert small.mean.dtype == small.std.dtype == np.float32
    assert small.mean.shape == small.std.shape == (3,)
    everything = np.concatenate([small.train.x, small.val.x, small.test.x]).reshape(-1, 3) / 255
    assert np.abs(small.mean - everything.mean(0)).max() > 1e-4


@pytest.mark.parametrize("chunk", [1, 100, 1 << 20])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_statistics_do_not_depend_on_the_pieces(monkeypatch, chunk, dtype):
    monkeypatch.setattr(dataset, "CHUNK_VALUES", chunk)
    x = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 2)).astype(dtype)
    scale = 255 if dtype == np.uint8 else 1
    mean, std = channel_statistics(x)
    np.testing.assert_allclose(mean, x.mean((0, 1, 2)) / scale, rtol=1e-5)
    np.testing.assert_allclose(std, x.std((0, 1, 2)) / scale, rtol=1e-5)


def test_statistics_of_floats_far_from_zero():
    x = (1e4 + np.random.default_rng(0).normal(size=(50, 4, 4, 1))).astype(np.float32)
    mean, std = channel_statistics(x)
    np.testing.assert_allclose(std, x.astype(np.float64).std(), rtol=1e-4)
    np.testing.assert_allclose(mean, 1e4, rtol=1e-4)


@pytest.mark.parametrize("value", [0, 77, np.float32(0.1), np.float32(-3e6)])
def test_a_constant_channel_is_only_centred(value, pictures):
    x, y = pictures()
    x = x.astype(np.asarray(value).dtype if isinstance(value, np.floating) else np.uint8)
    x[..., 1] = value
    data = from_arrays(x, y)
    assert data.std[1] == 1
    assert np.abs(data.prepare(data.val.x)[..., 1]).max() <= abs(data.mean[1]) * 1e-6


@pytest.mark.parametrize("scale", [255, 1])
def test_prepare_standardises(small, scale, pictures):
    x, y = pictures()
    data = small if scale == 255 else from_arrays(x.astype(np.float64), y)
    got = data.prepare(data.train.x)
    assert got.dtype == np.float32
    expected = (data.train.x.astype(np.float64) / scale - data.mean) / data.std
    np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_allclose(got.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(got.std((0, 1, 2)), 1, atol=1e-5)


@pytest.mark.parametrize("resolution", [1, 4, 6, 13])
def test_prepare_resizes_like_pillow(small, resolution):
    got = small.prepare(small.val.x, resolution)
    assert got.shape == (len(small.val), resolution, resolution, 3)
    for i, image in enumerate(small.val.x):
        for c in range(3):
            channel = Image.fromarray(image[..., c].astype(np.float32) / 255)
            resized = channel.resize((resolution, resolution), Image.Resampling.BILINEAR)
            expected = (np.asarray(resized) - small.mean[c]) / small.std[c]
            np.testing.assert_allclose(got[i, ..., c], expected, atol=1e-4)


def test_prepare_does_not_depend_on_the_pieces(small, monkeypatch):
    whole = small.prepare(small.train.x, 4)
    monkeypatch.setattr(dataset, "CHUNK_VALUES", 1)
    np.testing.assert_allclose(small.prepare(small.train.x, 4), whole, atol=1e-6)


def test_prepare_leaves_its_input_alone(small):
    before = small.train.x.copy()
    small.prepare(small.train.x)
    np.testing.assert_array_equal(small.train.x, before)
    floats = from_arrays(small.train.x.astype(np.float32), small.train.y)
    kept = floats.train.x.copy()
    floats.prepare(floats.train.x)
    np.testing.assert_array_equal(floats.train.x, kept)


def test_images_that_are_not_square_become_so():
    x = np.random.default_rng(0).integers(0, 256, (12, 5, 9, 1), np.uint8)
    data = from_arrays(x, np.arange(12) % 2)
    assert data.resolution == (5, 9)
    assert data.prepare(data.test.x).shape[1:] == (5, 5, 1)
    assert data.prepare(data.test.x, 7).shape[1:] == (7, 7, 1)


def test_no_images_prepare_to_none(small):
    assert small.prepare(small.train.x[:0], 4).shape == (0, 4, 4, 3)


def test_prepare_refuses_other_images(small, refused):
    with refused("(18, 6, 6, 1)", "[n, H, W, 3]"):
        small.prepare(small.train.x[..., :1])
    with refused("(6, 6, 3)", "[n, H, W, 3]"):
        small.prepare(small.train.x[0])
    with refused("float32", "uint8", "scales differ"):
        small.prepare(small.train.x.astype(np.float32))
    with refused("resolution is 0", "at least 1"):
        small.prepare(small.train.x, 0)


def test_loading_bytes_makes_no_floats():
    x = np.zeros((8000, 32, 32, 3), np.uint8)
    x[::2] = 255
    y = np.arange(8000) // 2 % 2
    tracemalloc.start()
    from_arrays(x, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The copy that splitting makes, and one piece at a time as 64-bit integers.
    assert peak < 1.5 * x.nbytes + 12 * dataset.CHUNK_VALUES


def test_fingerprint_is_of_contents_and_split(pictures):
    x, y = pictures()
    base = from_arrays(x, y)
    assert len(base.fingerprint) == 64
    assert from_arrays(x, y, name="another").fingerprint == base.fingerprint
    assert from_arrays(np.asfortranarray(x), y.astype(np.uint8)).fingerprint == base.fingerprint
    other = [
        from_arrays(x, y, split_seed=1),
        from_arrays(x, y, val_fraction=0.3),
        from_arrays(x.astype(np.float32), y),
        from_arrays(x, (y + 1) % 3),
        dataclasses.replace(base, class_names=("a", "b", "c")),
        dataclasses.replace(base, val=base.test, test=base.val),
    ]
    changed = x.copy()
    changed[3, 0, 0, 0] ^= 1
    other.append(from_arrays(changed, y))
    assert len({base.fingerprint, *(data.fingerprint for data in other)}) == len(other) + 1


def test_the_fingerprint_of_given_data_never_changes():
    """Recorded: `--resume` compares it with a value that another version may have written."""
    x = np.arange(12 * 4, dtype=np.uint8).reshape(12, 2, 2)
    data = from_arrays(x, np.arange(12) % 2)
    assert data.fingerprint.startswith("28d18979151534b4064179be899d8952")
