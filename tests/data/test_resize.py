import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxnas.data.resize import filter_matrix, resize


def slow_line(values: list[float], new_size: int) -> list[float]:
    """The documented formula, one pixel at a time."""
    ratio = len(values) / new_size
    out = []
    for i in range(new_size):
        total = weight_sum = 0.0
        for j, value in enumerate(values):
            weight = max(0.0, 1 - abs(j + 0.5 - (i + 0.5) * ratio) / max(ratio, 1.0))
            total += weight * value
            weight_sum += weight
        out.append(total / weight_sum)
    return out


def slow_resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    rows = [
        np.transpose([slow_line(list(row[:, c]), width) for c in range(image.shape[2])])
        for row in image
    ]
    columns = np.array(rows)
    out = np.empty((height, width, image.shape[2]))
    for w in range(width):
        for c in range(image.shape[2]):
            out[:, w, c] = slow_line(list(columns[:, w, c]), height)
    return out


sizes = st.integers(1, 9)


@given(sizes, sizes, sizes, sizes, st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_equals_the_slow_reference(h, w, new_h, new_w, channels):
    x = np.random.default_rng(h * 10 + w).normal(size=(2, h, w, channels)).astype(np.float32)
    got = resize(x, new_h, new_w)
    expected = np.stack([slow_resize(image, new_h, new_w) for image in x])
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("new", [(16, 16), (7, 20), (45, 33), (32, 10), (1, 1)])
def test_equals_pillow_on_float_images(new):
    x = np.random.default_rng(0).uniform(0, 255, (32, 24)).astype(np.float32)
    pillow = Image.fromarray(x).resize((new[1], new[0]), Image.Resampling.BILINEAR)
    got = resize(x[None, :, :, None], *new)[0, :, :, 0]
    np.testing.assert_allclose(got, np.asarray(pillow), atol=1e-3)


def test_halving_a_checkerboard_gives_grey():
    board = (np.indices((8, 8)).sum(0) % 2).astype(np.float32)[None, :, :, None]
    np.testing.assert_allclose(resize(board, 4, 4)[:, 1:3, 1:3], 0.5, atol=1e-6)


def test_the_same_size_is_the_same_array():
    x = np.ones((1, 5, 4, 2), np.float32)
    assert resize(x, 5, 4) is x


@given(st.integers(1, 64), st.integers(1, 64))
def test_rows_of_the_filter_sum_to_one(size, new_size):
    weights = filter_matrix(size, new_size)
    assert weights.shape == (new_size, size)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
