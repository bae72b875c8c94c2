"""Pooling against a slow loop over windows, and its derivatives against `lax.reduce_window`'s."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxnas import backend
from jaxnas.errors import InputError
from jaxnas.nn.pooling import avg_pool, global_avg_pool, max_pool

SETTINGS = [
    {},
    {"stride": 2},
    {"window": 2, "stride": 2, "padding": "VALID"},
    {"window": (2, 3), "stride": (3, 1), "padding": 1},
    {"window": 5, "stride": 2},
    {"window": 4, "padding": ((0, 3), (2, 1))},
    {"window": 1, "stride": 3},
    {"window": (6, 7), "padding": "VALID"},
]
IMAGE = (2, 6, 7, 3)


@pytest.fixture(params=["cpu", "gpu"])
def platform(request, monkeypatch):
    """Pooling as it is written for each kind of device."""
    choices = backend.choices(request.param)
    monkeypatch.setattr(backend, "choices", lambda: choices)
    return request.param


def images(seed=0, shape=IMAGE):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def padding_of(setting) -> tuple:
    kernel = np.broadcast_to(setting.get("window", 3), 2)
    padding = setting.get("padding", "SAME")
    if padding == "SAME":
        return tuple(((k - 1) // 2,) * 2 for k in kernel.tolist())
    if padding == "VALID":
        return ((0, 0), (0, 0))
    return ((padding,) * 2,) * 2 if isinstance(padding, int) else padding


def slowly(x, reduction, setting):
    """`reduction` of the real cells of each window, which padding's NaNs tell from the others."""
    (kh, kw), (sh, sw) = (
        np.broadcast_to(setting.get(n, d), 2) for n, d in [("window", 3), ("stride", 1)]
    )
    padded = np.pad(x, ((0, 0), *padding_of(setting), (0, 0)), constant_values=np.nan)
    h, w = (padded.shape[1] - kh) // sh + 1, (padded.shape[2] - kw) // sw + 1
    y = np.empty((x.shape[0], h, w, x.shape[3]), x.dtype)
    for i, j in itertools.product(range(h), range(w)):
        window = padded[:, i * sh : i * sh + kh, j * sw : j * sw + kw]
        y[:, i, j] = reduction(window, axis=(1, 2))
    return y


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_values_equal_a_loop_over_windows(setting, platform):
    x = images()

    @jax.jit
    def pooled(x):
        included = avg_pool(x, count_include_pad=True, **setting)
        return avg_pool(x, **setting), included, max_pool(x, **setting)

    mean, included, largest = pooled(x)
    area = np.prod(np.broadcast_to(setting.get("window", 3), 2))
    np.testing.assert_allclose(mean, slowly(x, np.nanmean, setting), atol=1e-6)
    np.testing.assert_allclose(included, slowly(x, np.nansum, setting) / area, atol=1e-6)
    np.testing.assert_array_equal(largest, slowly(x, np.nanmax, setting))


def test_the_average_at_border_and_corner_by_hand():
    x = jnp.ones((1, 3, 3, 1)).at[0, 0, 0, 0].set(5.0)
    np.testing.assert_allclose(
        avg_pool(x)[0, :, :, 0], [[2, 10 / 6, 1], [10 / 6, 13 / 9, 1], [1, 1, 1]], rtol=1e-6
    )


def by_reduce_window(x, setting, kind):
    window, stride = (
        np.broadcast_to(setting.get(n, d), 2) for n, d in [("window", 3), ("stride", 1)]
    )
    arguments = ((1, *window, 1), (1, *stride, 1), ((0, 0), *padding_of(setting), (0, 0)))
    if kind == "max":
        return lax.reduce_window(x, -jnp.inf, lax.max, *arguments)
    total = lax.reduce_window(x, 0.0, lax.add, *arguments)
    return total / lax.reduce_window(jnp.ones_like(x), 0.0, lax.add, *arguments)


@pytest.mark.parametrize("setting", SETTINGS[:4], ids=str)
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_derivatives_to_second_order_equal_reduce_window(setting, kind):
    pool = partial({"avg": avg_pool, "max": max_pool}[kind], **setting)

    def derivatives(pool, x):
        gradient = jax.grad(lambda x: jnp.sum(jnp.sin(pool(x))))
        return gradient(x), jax.grad(lambda v: jnp.vdot(gradient(v), jnp.cos(x)))(x)

    x = jnp.asarray(images())
    got = jax.jit(lambda x: derivatives(pool, x))(x)
    expected = jax.jit(lambda x: derivatives(lambda v: by_reduce_window(v, setting, kind), x))(x)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


@pytest.mark.parametrize("pool", [avg_pool, max_pool])
def test_forward_mode_vmap_and_scan_agree_with_plain(pool, platform):
    xs = jnp.stack([jnp.asarray(images(s)) for s in range(3)])
    one = lambda x: jax.jvp(partial(pool, stride=2), (x,), (jnp.cos(x),))  # noqa: E731
    plain = jax.tree.map(lambda *a: jnp.stack(a), *map(one, xs))
    for got in (jax.vmap(one)(xs), lax.map(one, xs)):
        for a, b in zip(got, plain, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_averages_are_linear():
    x, y = images(1), images(2)
    for pool in (avg_pool, global_avg_pool):
        np.testing.assert_allclose(pool(2 * x - 3 * y), 2 * pool(x) - 3 * pool(y), atol=2e-6)


def test_the_gradient_of_a_maximum_goes_to_the_first_of_equals():
    """As in PyTorch: after a ReLU most windows are full of zeros."""
    x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 0, 0].set(1.0).at[0, 0, 1, 0].set(1.0)
    gradient = jax.grad(lambda x: max_pool(x, window=2, stride=2, padding="VALID").sum())(x)
    at = [[0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(gradient[0, :, :, 0], at)


def test_a_nan_reaches_every_window_that_holds_it():
    x = jnp.zeros((1, 5, 5, 1)).at[0, 2, 2, 0].set(jnp.nan)
    for pool in (avg_pool, max_pool):
        assert np.isnan(pool(x)[0, 1:4, 1:4, 0]).all()
        assert np.isnan(pool(x)).sum() == 9


def test_bfloat16_averages_are_summed_in_float32():
    """In bfloat16 256 + 1 is 256, so the ones would be lost."""
    x = jnp.ones((1, 1, 32, 1), jnp.bfloat16).at[0, 0, 0, 0].set(256.0)
    got = avg_pool(x, window=(1, 32), padding="VALID")
    assert got.dtype == jnp.bfloat16
    assert abs(got.item() - (256 + 31) / 32) < 0.05
    assert max_pool(x).dtype == jnp.bfloat16


def test_global_average():
    np.testing.assert_allclose(global_avg_pool(images()), images().mean((1, 2)), atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "setting", "says"),
    [
        ((6, 7, 3), {}, r"images \[B, H, W, C\], but got float32 \[6, 7, 3\]"),
        (IMAGE, {"window": 9, "padding": "VALID"}, "9 cells does not fit into 6 cells"),
        (IMAGE, {"window": 2, "padding": 2}, "Padding of 2 cells leaves a pooling window of 2"),
        (IMAGE, {"window": 0}, "window must be .* not 0"),
        (IMAGE, {"stride": 1.5}, "stride must be .* not 1.5"),
        (IMAGE, {"padding": "SAM"}, "Unknown padding 'SAM'; did you mean SAME"),
        (IMAGE, {"padding": ((0, 1), (0, -1))}, "none of them negative"),
    ],
)
@pytest.mark.parametrize("pool", [avg_pool, max_pool])
def test_bad_input_is_one_sentence(pool, shape, setting, says):
    with pytest.raises(InputError, match=says):
        pool(jnp.zeros(shape), **setting)


def test_integer_images_are_refused():
    for pool in (avg_pool, max_pool, global_avg_pool):
        with pytest.raises(InputError, match=r"floating images .* uint8"):
            pool(jnp.zeros(IMAGE, jnp.uint8))
