"""Layers against NumPy, and what choice points, reports and running averages do."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_trees_close, assert_trees_equal

from jaxnas.nn import (
    AvgPool,
    BatchNorm,
    Choice,
    Context,
    Conv,
    GlobalAvgPool,
    Identity,
    Layer,
    Linear,
    MaxPool,
    NoTap,
    Place,
    ReLU,
    Sequential,
    SumTap,
    Taps,
    Zero,
)

X = jnp.asarray(np.random.default_rng(0).standard_normal((3, 7, 6, 4)), jnp.float32)


def filled(module, seed=1):
    """The module with random numbers for parameters, which are declared by shape alone."""
    rng = np.random.default_rng(seed)
    for _, part in nnx.iter_modules(module):
        for name, value in vars(part).items():
            if isinstance(value, nnx.Param):
                shape = value.get_value().shape
                value = value.replace(value=jnp.asarray(rng.standard_normal(shape), jnp.float32))
                setattr(part, name, value)
    return module


@pytest.mark.parametrize(("kernel", "stride"), [((1, 3), (1, 2)), ((3, 1), (2, 1)), ((5, 3), 2)])
def test_rectangular_kernels_are_padded_and_counted_by_their_own_sides(kernel, stride):
    conv = filled(Conv(4, 2, kernel, stride=stride))
    pads = [(side // 2, side // 2) for side in kernel]
    strides = (stride, stride) if isinstance(stride, int) else stride
    expected = jax.lax.conv_general_dilated(
        X, conv.kernel[...], strides, pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert_trees_close(conv.forward(X, Context()), expected, rtol=1e-4, atol=1e-5)
    weights = kernel[0] * kernel[1] * 4 * 2
    assert conv.count(4, 2, 10) == (weights, 10 * weights)
    assert conv.kernel.bound == pytest.approx((kernel[0] * kernel[1] * 4) ** -0.5)


def window_by_window(x, kernel, stride, dilation, groups):
    """Convolution with (k - 1) d / 2 zeros on every side, as PyTorch's padding is written."""
    k, per_group, outputs = kernel.shape[0], kernel.shape[2], kernel.shape[3]
    pad = dilation * (k - 1) // 2
    x = np.pad(np.asarray(x, np.float64), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    reach = dilation * (k - 1)
    rows = range(0, x.shape[1] - reach, stride)
    columns = range(0, x.shape[2] - reach, stride)
    y = np.zeros((len(x), len(rows), len(columns), outputs))
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            window = x[:, top : top + reach + 1 : dilation, left : left + reach + 1 : dilation]
            for o in range(outputs):
                first = o // (outputs // groups) * per_group
                part = window[..., first : first + per_group]
                y[:, i, j, o] = (part * kernel[..., o]).sum((1, 2, 3))
    return y


class TestConv:
    @pytest.mark.parametrize(
        ("kernel", "settings"),
        [
            (1, {}),
            (3, {}),
            (5, {}),
            (3, {"stride": 2}),
            (1, {"stride": 2}),
            (3, {"dilation": 2}),
            (5, {"dilation": 2, "stride": 2}),
            (3, {"groups": 2}),
            (3, {"groups": 4, "stride": 2}),
            (3, {"bias": True}),
        ],
    )
    def test_window_by_window(self, kernel, settings):
        layer = filled(Conv(4, 8, kernel, **settings))
        y = layer(X, Context())
        stride = settings.get("stride", 1)
        assert y.shape == (3, -(-7 // stride), -(-6 // stride), 8)
        expected = window_by_window(
            X,
            np.asarray(layer.kernel[...], np.float64),
            stride,
            settings.get("dilation", 1),
            settings.get("groups", 1),
        )
        if layer.bias is not None:
            expected += np.asarray(layer.bias[...])
        assert_trees_close(y, expected, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("groups", [1, 4])
    def test_the_initial_bound_is_pytorchs(self, groups):
        layer = Conv(4, 8, 3, groups=groups, bias=True)
        assert layer.kernel.bound == pytest.approx((9 * 4 / groups) ** -0.5)
        assert layer.bias is not None
        assert layer.bias.bound == layer.kernel.bound


def test_linear():
    layer = filled(Linear(4, 5))
    x = X[:, 0, 0]
    expected = np.asarray(x) @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])
    assert_trees_close(layer(x, Context()), expected)
    assert layer.kernel.bound == layer.bias.bound == 0.5


class TestBatchNorm:
    def norm(self):
        layer = filled(BatchNorm(4, momentum=0.3))
        layer.mean[...] = jnp.arange(4.0)
        layer.variance[...] = 1 + jnp.arange(4.0)
        return layer

    def expected(self, layer, mean, variance):
        x = np.asarray(X, np.float64)
        normal = (x - mean) / np.sqrt(variance + 1e-5)
        return normal * np.asarray(layer.scale[...]) + np.asarray(layer.bias[...])

    @pytest.mark.parametrize("mode", ["batch", "update"])
    def test_the_batchs_own_statistics(self, mode):
        layer = self.norm()
        x = np.asarray(X, np.float64)
        expected = self.expected(layer, x.mean((0, 1, 2)), x.var((0, 1, 2)))
        assert_trees_close(layer(X, Context(batch_norm=mode)), expected, atol=1e-5)

    def test_running_averages(self):
        layer = self.norm()
        expected = self.expected(layer, np.arange(4.0), 1 + np.arange(4.0))
        assert_trees_close(layer(X, Context(batch_norm="running")), expected, atol=1e-5)

    def test_averages_move_by_momentum_towards_the_unbiased_variance(self):
        layer, ctx = self.norm(), Context(batch_norm="update")
        layer(X, ctx)
        ((_, (mean, variance)),) = ctx.statistics.values()
        x = np.asarray(X, np.float64)
        assert_trees_close(mean, 0.7 * np.arange(4) + 0.3 * x.mean((0, 1, 2)))
        unbiased = x.var((0, 1, 2), ddof=1)
        assert_trees_close(variance, 0.7 * (1 + np.arange(4)) + 0.3 * unbiased)

    def test_averages_have_no_gradient(self):
        def moved(x):
            ctx = Context(batch_norm="update")
            self.norm()(x, ctx)
            return sum(a.sum() for _, pair in ctx.statistics.values() for a in pair)

        assert not jax.grad(moved)(X).any()

    def test_a_single_value_is_no_division_by_zero(self):
        layer, ctx = self.norm(), Context(batch_norm="update")
        y = layer(X[:1, 0, 0], ctx)
        assert_trees_close(y, layer.bias[...][None])
        ((_, averages),) = ctx.statistics.values()
        assert all(jnp.isfinite(a).all() for a in averages)

    def test_images_far_from_zero_keep_their_variance(self):
        layer = self.norm()
        near = layer(X, Context())
        assert_trees_close(layer(X + 1000, Context()), near, atol=1e-2)

    def test_half_precision_in_is_half_precision_out(self):
        y = self.norm()(X.astype(jnp.bfloat16), Context())
        assert y.dtype == jnp.bfloat16
        expected = self.norm()(X, Context())
        assert_trees_close(y.astype(jnp.float32), expected, rtol=0.05, atol=0.05)


class TestPooling:
    @pytest.mark.parametrize(
        ("layer", "reduce", "window", "stride"),
        [
            (AvgPool, np.mean, 3, 1),
            (AvgPool, np.mean, 2, 2),
            (AvgPool, np.mean, 3, 2),
            (MaxPool, np.max, 3, 1),
            (MaxPool, np.max, 3, 2),
        ],
    )
    def test_over_real_cells_alone(self, layer, reduce, window, stride):
        y = np.asarray(layer(window, stride=stride)(X, Context()))
        assert y.shape == (3, -(-7 // stride), -(-6 // stride), 4)
        before = (window - 1) // 2
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                rows = slice(max(i * stride - before, 0), i * stride - before + window)
                columns = slice(max(j * stride - before, 0), j * stride - before + window)
                expected = reduce(np.asarray(X)[:, rows, columns], axis=(1, 2))
                np.testing.assert_allclose(y[:, i, j], expected, rtol=1e-5, atol=1e-6)

    def test_globally(self):
        assert_trees_close(GlobalAvgPool()(X, Context()), np.asarray(X).mean((1, 2)))


def test_relu_identity_and_zero():
    assert_trees_equal(ReLU()(X, Context()), np.maximum(np.asarray(X), 0))
    assert Identity()(X, Context()) is X
    assert_trees_equal(Zero()(X, Context()), np.zeros_like(X))
    strided = filled(Conv(4, 7, 3, stride=2))(X, Context())
    assert Zero(7, stride=2)(X, Context()).shape == strided.shape


def test_placed_side_by_side_is_a_concatenation():
    x = np.asarray(X)
    placed = Place(0, 3, 5)(X, Context()) + Place(3, 2, 5)(X[..., 1:], Context())
    assert_trees_equal(placed, np.concatenate([x[..., :3], x[..., 1:3]], axis=-1))


LAYERS = [
    Conv(4, 4, 3),
    Conv(4, 4, 3, bias=True),
    Linear(4, 4),
    BatchNorm(4),
    ReLU(),
    AvgPool(3),
    MaxPool(3),
    GlobalAvgPool(),
    Identity(),
    Zero(),
    Place(1, 2, 5),
]


def test_the_list_holds_every_layer():
    kinds = {kind for kind in Layer.__subclasses__() if kind.__module__ == "jaxnas.nn.layers"}
    assert {type(layer) for layer in LAYERS} == kinds


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_a_layer_that_says_so_keeps_zeros_whatever_its_weights(layer):
    layer = filled(layer)
    zeros = jnp.zeros((3, 4)) if isinstance(layer, Linear) else jnp.zeros((3, 7, 6, 4))
    for mode in ("batch", "running"):
        y = layer(zeros, Context(batch_norm=mode))
        assert layer.keeps_zero == (not y.any())


@dataclass(frozen=True)
class Sums(SumTap):
    """Adds up what is reported as one of `kinds`, image by image."""

    kinds: frozenset[str]

    def init(self, batch):
        return jnp.zeros(batch)

    def contribution(self, kind, value, active=None):
        return value.reshape(len(value), -1).sum(1)


class TestReports:
    def test_a_relu_reports_its_input(self):
        ctx = Context(tap=Sums(frozenset({"pre_activation"})), batch=3)
        Sequential(ReLU(), AvgPool(3), ReLU())(X, ctx)
        second = AvgPool(3)(ReLU()(X, Context()), Context())
        assert_trees_close(ctx.carry, X.sum((1, 2, 3)) + second.sum((1, 2, 3)), atol=1e-4)

    def test_taps_hear_what_they_listen_to(self):
        taps = Taps((Sums(frozenset({"block"})), Sums(frozenset({"pre_activation"}))))
        assert taps.kinds == {"block", "pre_activation"}
        ctx = Context(tap=taps, batch=3)
        ctx.boundary(X)
        ctx.report("pre_activation", 2 * X, ReLU())
        ctx.report("something else", X, ReLU())
        total = X.sum((1, 2, 3))
        assert_trees_close(ctx.carry, (total, 2 * total), atol=1e-4)

    def test_no_tap_hears_nothing(self):
        ctx = Context(tap=NoTap(), batch=3)
        ReLU()(X, ctx)
        assert ctx.carry == ()


class Doubled(nnx.Module):
    """Two choice points, the inner one within a branch of the outer."""

    def __init__(self):
        inner = Choice(1, [Identity(), Sequential(ReLU(), Conv(4, 4, 1), BatchNorm(4))])
        outer = [Zero(), Sequential(ReLU(), BatchNorm(4)), Sequential(BatchNorm(4), inner)]
        self.outer = Choice(0, outer)

    def __call__(self, x, ctx):
        return self.outer(x, ctx)


@pytest.fixture(scope="module")
def runs():
    """Outputs, carry and new averages, by an arch known while tracing and by a traced one."""
    module = filled(Doubled())
    norms = module.outer.batch_norms()

    def run(arch):
        tap = Sums(frozenset({"pre_activation"}))
        ctx = Context(arch, batch_norm="update", tap=tap, batch=3)
        y = module(X, ctx)
        moved = [ctx.statistics.get(id(n), (n, (n.mean[...], n.variance[...])))[1] for n in norms]
        return y, ctx.carry, moved

    return run, jax.jit(run)


class TestChoice:
    def test_batch_norms_are_those_inside_in_a_fixed_order(self):
        module = Doubled()
        norms = module.outer.batch_norms()
        assert len(norms) == 3
        assert [id(n) for n in norms] == [id(n) for n in module.outer.batch_norms()]

    @pytest.mark.parametrize("arch", [(0, 0), (1, 0), (2, 0), (2, 1)])
    def test_a_traced_architecture_takes_the_branch_of_a_known_one(self, runs, arch):
        known, traced = runs
        arch = np.array(arch, np.int32)
        assert_trees_close(traced(arch), known(arch), atol=1e-5)

    def test_averages_move_in_the_branches_taken_alone(self, runs):
        run, _ = runs
        _, _, before = run(np.array([0, 0], np.int32))
        for arch, expected in [((1, 0), 1), ((2, 0), 1), ((2, 1), 2)]:
            _, _, after = run(np.array(arch, np.int32))
            moved = [(a[0] != b[0]).any() for a, b in zip(after, before, strict=True)]
            assert sum(map(bool, moved)) == expected

    def test_without_an_architecture_it_refuses(self):
        with pytest.raises(ValueError, match="needs an architecture"):
            Doubled()(X, Context())


def test_a_layer_must_say_what_it_computes():
    class Empty(Layer):
        pass

    with pytest.raises(TypeError, match="Empty defines no forward"):
        Empty()(X, Context())
