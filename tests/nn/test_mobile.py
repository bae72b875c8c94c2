"""Inverted residual blocks against NumPy, and masked ones against narrow ones built alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_trees_close

from jaxnas.network import Network
from jaxnas.nn import (
    BatchNorm,
    Context,
    Conv,
    GlobalAvgPool,
    HardSwish,
    Linear,
    MBConv,
    ReLU6,
    Sequential,
    SqueezeExcite,
    Width,
)
from jaxnas.nn.mobile import divisible
from jaxnas.proxies.relu_overlap import naswot

X = jnp.asarray(3 * np.random.default_rng(0).standard_normal((3, 7, 6, 4)), jnp.float32)


def filled(module, seed=1):
    """The module with random numbers for parameters, which are declared by shape alone."""
    rng = np.random.default_rng(seed)
    for _, part in nnx.iter_modules(module):
        for name, value in vars(part).items():
            if isinstance(value, nnx.Param):
                drawn = jnp.asarray(rng.standard_normal(value.get_value().shape), jnp.float32)
                setattr(part, name, value.replace(value=drawn))
    return module


def test_activations():
    x = np.asarray(3 * X)
    assert x.min() < -6
    assert x.max() > 6
    assert_trees_close(ReLU6()(3 * X, Context()), x.clip(0, 6))
    assert_trees_close(HardSwish()(3 * X, Context()), x * (x + 3).clip(0, 6) / 6, atol=1e-5)


@pytest.mark.parametrize("layer", [ReLU6(), HardSwish()])
def test_activations_report_their_input_and_keep_zeros(layer):
    ctx = Context(tap=naswot.tap, batch=3)
    layer(X, ctx)
    codes = (np.asarray(X) > 0).reshape(3, -1)
    agreeing = (codes[:, None] == codes[None]).sum(2)
    assert_trees_close(ctx.carry, agreeing.astype(np.float32))
    assert layer.keeps_zero
    assert not layer(jnp.zeros((1, 2, 2, 1)), Context()).any()


@pytest.mark.parametrize(
    ("channels", "expected"), [(1, 8), (8, 8), (12, 16), (17, 16), (18, 24), (36, 40), (100, 104)]
)
def test_channels_are_rounded_to_multiples_of_8(channels, expected):
    # 18 rounds to 16, which is less than nine tenths of it.
    assert divisible(channels) == expected
    assert expected >= 0.9 * channels


def test_squeeze_excite_against_numpy():
    layer = filled(SqueezeExcite(4))
    w1, b1, w2, b2 = (
        np.asarray(v[...])
        for v in (layer.squeeze, layer.squeeze_bias, layer.excite, layer.excite_bias)
    )
    assert w1.shape == (4, 8)
    x = np.asarray(X)
    between = np.maximum(x.mean((1, 2)) @ w1 + b1, 0)
    gate = ((between @ w2 + b2) / 6 + 0.5).clip(0, 1)
    assert_trees_close(layer(X, Context()), x * gate[:, None, None], atol=1e-5)
    assert not layer(jnp.zeros_like(X), Context()).any()


def normalised(x):
    """Batch norm with scale 1 and shift 0."""
    return (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)


def depthwise(x, kernel, stride):
    k = kernel.shape[0]
    padded = np.pad(x, ((0, 0), (k // 2,) * 2, (k // 2,) * 2, (0, 0)))
    rows, columns = range(0, x.shape[1], stride), range(0, x.shape[2], stride)
    y = np.zeros((len(x), len(rows), len(columns), x.shape[3]))
    for p, i in enumerate(rows):
        for q, j in enumerate(columns):
            y[:, p, q] = (padded[:, i : i + k, j : j + k] * kernel[:, :, 0]).sum((1, 2))
    return y


class TestMBConv:
    @pytest.mark.parametrize(
        ("outputs", "kernel", "expansion", "stride", "residual"),
        [(4, 3, 3, 1, True), (4, 5, 6, 2, False), (6, 3, 2, 1, False), (4, 5, 1, 1, True)],
    )
    def test_against_numpy(self, outputs, kernel, expansion, stride, residual):
        block = filled(MBConv(4, outputs, kernel, expansion=expansion, stride=stride))
        for _, norm in nnx.iter_modules(block):
            if isinstance(norm, BatchNorm):
                norm.scale[...], norm.bias[...] = jnp.ones_like(norm.scale[...]), 0 * norm.bias[...]
        convs = [m for _, m in nnx.iter_modules(block) if isinstance(m, Conv)]
        kernels = [np.asarray(m.kernel[...], np.float64) for m in convs]
        project = next(k for k in kernels if k.shape == (1, 1, 4 * expansion, outputs))
        expand = [k for k in kernels if k.shape == (1, 1, 4, 4 * expansion)]
        deep = next(k for k in kernels if k.shape[0] == kernel)
        assert len(kernels) == (2 if expansion == 1 else 3)
        x = np.asarray(X, np.float64)
        y = x if expansion == 1 else normalised(x @ expand[0][0, 0]).clip(0, 6)
        y = normalised(depthwise(y, deep, stride)).clip(0, 6) @ project[0, 0]
        y = normalised(y) + (x if residual else 0)
        assert_trees_close(block(X, Context()), y, rtol=1e-3, atol=1e-3)

    def test_the_width_between_can_be_given(self):
        block = MBConv(4, 4, 3, expansion=None, hidden=10)
        network = Network(Sequential(block), 8, 4, 1)
        # Three convolutions and their batch norms.
        expected = 40 + 90 + 40 + 2 * (10 + 10 + 4)
        assert network.count(np.zeros((1, 0), np.int32)).params.tolist() == [expected]


def small(width, hidden):
    """A network of one block, residual, with squeeze-and-excite."""
    block = MBConv(width, width, 3, expansion=None, hidden=hidden, squeeze_excite=True)
    module = Sequential(
        Conv(3, width, 3), BatchNorm(width), ReLU6(), block, GlobalAvgPool(), Linear(width, 2)
    )
    return Network(module, 8, 3, 2)


def narrow(row):
    return small((4, 6)[row[0]], (32, 36, 72)[row[1]])


ELASTIC = small(Width(0, (4, 6)), Width(1, (32, 36, 72)))
IMAGES = jnp.asarray(np.random.default_rng(0).standard_normal((5, 8, 8, 3)), jnp.float32)


@pytest.mark.parametrize("row", [(0, 0), (0, 2), (1, 1), (1, 2)])
class TestMasked:
    def test_it_is_the_narrow_network(self, row):
        alone, wide = narrow(row), ELASTIC.init(jax.random.key(0))
        wide = ELASTIC.specialise(wide, np.array(row))
        own = alone.init(jax.random.key(1))
        leaves, tree = jax.tree.flatten(own)
        pairs = zip(jax.tree.leaves(wide), leaves, strict=True)
        cut = jax.tree.unflatten(tree, [w[tuple(map(slice, n.shape))] for w, n in pairs])
        got = ELASTIC.apply(wide, np.array(row), IMAGES, tap=naswot.tap)
        expected = alone.apply(cut, np.zeros(0, np.int32), IMAGES, tap=naswot.tap)
        assert_trees_close(got.logits, expected.logits, rtol=1e-4, atol=1e-5)
        assert_trees_close(got.carry, expected.carry)

    def test_weights_are_drawn_as_the_narrow_networks(self, row):
        """As many times the bound of its own fan-in as they were of the built one's."""
        wide = ELASTIC.init(jax.random.key(0))
        fitted = ELASTIC.specialise(wide, np.array(row)).params
        for was, now, built, own in zip(
            jax.tree.leaves(wide.params),
            jax.tree.leaves(fitted),
            bounds(ELASTIC),
            bounds(narrow(row)),
            strict=True,
        ):
            part = tuple(map(slice, own.get_value().shape))
            if own.bound:
                assert_trees_close(now[part] / own.bound, was[part] / built.bound, rtol=1e-4)

    def test_it_is_counted_as_the_narrow_network(self, row):
        alone = narrow(row).count(np.zeros((1, 0), np.int32))
        for got, expected in zip(ELASTIC.count(np.array([row])), alone, strict=True):
            np.testing.assert_array_equal(got, expected)


def bounds(network):
    """The parameters as they were declared, in the order of the leaves."""
    params = nnx.split(network.module, nnx.Param, ...)[1]
    return jax.tree.leaves(params, is_leaf=lambda v: isinstance(v, nnx.Variable))
