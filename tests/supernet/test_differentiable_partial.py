"""Mixtures of a part of the channels against a slow one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import by_name

from jaxnas.errors import InputError
from jaxnas.module_space import ModuleSpace
from jaxnas.nn import BatchNorm, Choice, Conv, Identity, Linear, Sequential, Zero
from jaxnas.nn.mixed import MixedContext
from jaxnas.nn.partial import PartialContext, narrowed, shuffled
from jaxnas.spaces import Size


class TestPartialChannels:
    def edge(self, stride=1):
        conv = Sequential(Conv(8, 8, 3, stride=stride), BatchNorm(8))
        deep = Conv(8, 8, 3, stride=stride, groups=8)
        skip = Zero(stride=stride) if stride > 1 else Identity()
        return Choice(0, [conv, deep, skip])

    def network(self, stride=1):
        module = Sequential(self.edge(stride))
        space = ModuleSpace(lambda *_: module, name="one")
        return space.network(Size(8, (1,), 6), classes=2, image_channels=8)

    @pytest.mark.parametrize("stride", [1, 2])
    def test_against_a_slow_one(self, stride):
        network = self.network(stride)
        variables = network.init(jax.random.key(0))
        x = jax.random.normal(jax.random.key(1), (2, 6, 6, 8))
        weights = jnp.array([[0.5, 0.2, 0.3]])

        def ctx():
            edges = jnp.array([0.6])
            return PartialContext(weights, share=4, edges=edges, batch_norm="update")

        got = jax.jit(lambda v, x: network.apply_in(v, ctx(), x))(variables, x)
        named = by_name(variables.params)
        kernel = next(v for n, v in named.items() if v.shape == (3, 3, 8, 8))
        depthwise = next(v for n, v in named.items() if v.shape == (3, 3, 1, 8))
        layout = ("NHWC", "HWIO", "NHWC")

        def conv(a, k, groups):
            return jax.lax.conv_general_dilated(
                a, k, (stride,) * 2, [(1, 1)] * 2, None, None, layout, groups
            )

        part = x[..., :2]
        y = conv(part, kernel[:, :, :2, :2], 1)
        mean, variance = y.mean((0, 1, 2)), y.var((0, 1, 2))
        mixed = 0.5 * (y - mean[None, None, None]) / jnp.sqrt(variance + 1e-5)[None, None, None]
        mixed += 0.2 * conv(part, depthwise[..., :2], 2)
        mixed += 0.3 * part if stride == 1 else 0
        rest = x[..., 2:]
        if stride == 2:
            rest = rest.reshape(2, 3, 2, 3, 2, 6).max((2, 4))
        both = np.concatenate([mixed, rest], axis=-1)
        expected = np.zeros_like(both)
        for group in range(4):
            for c in range(2):
                expected[..., c * 4 + group] = both[..., group * 2 + c]
        assert got.logits.shape == expected.shape
        np.testing.assert_allclose(got.logits, 0.6 * expected, rtol=1e-4, atol=1e-5)
        averages = next(v for n, v in by_name(got.statistics).items() if n.endswith("mean"))
        np.testing.assert_allclose(averages[:2], 0.1 * mean, rtol=1e-4, atol=1e-6)
        assert not np.asarray(averages[2:]).any()

    def test_channels_that_are_not_divided_go_whole(self):
        network = self.network()
        variables = network.init(jax.random.key(0))
        x = jax.random.normal(jax.random.key(1), (2, 6, 6, 8))
        weights = jnp.array([[0.5, 0.2, 0.3]])
        partial = network.apply_in(variables, PartialContext(weights, share=3), x).logits
        whole = network.apply_in(variables, MixedContext(weights), x).logits
        np.testing.assert_array_equal(partial, whole)

    def test_every_channel_of_a_shuffle_has_a_place(self):
        x = jnp.arange(12.0)[None]
        assert shuffled(x, 4)[0].tolist() == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]

    def test_a_layer_that_cannot_be_narrowed_is_refused(self):
        class Own(Linear):
            def channel_axes(self):
                return {}

        with pytest.raises(InputError, match="Own does not say"):
            narrowed(Own(4, 4), 2)
