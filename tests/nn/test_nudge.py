"""Nudges against the weights themselves moved, image by image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnas.network import Network
from jaxnas.nn import (
    Choice,
    Context,
    Conv,
    FactorizedReduce,
    GlobalAvgPool,
    GroupedConv,
    GroupWidthConv,
    Identity,
    Linear,
    QueryKeyValue,
    ReLU,
    Sequential,
    SqueezeExcite,
    Width,
)
from jaxnas.nn.nudge import nudged

LAYERS = {
    "conv": Conv(4, 6, 3, stride=2, bias=True),
    "dilated": Conv(4, 4, 3, dilation=2),
    "depthwise": Conv(4, 4, 5, groups=4),
    "groups": Conv(4, 6, 3, groups=2),
    "interleaved": GroupedConv(4, 6, groups=2),
    "group_width": GroupWidthConv(4, 6, group_width=2),
    "linear": Linear(4, 3),
    "factorized": FactorizedReduce(4, 6),
    "squeeze_excite": SqueezeExcite(4, reduction=1),
    "attention": QueryKeyValue(4, 6),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_nudge_moves_one_weight_for_one_image(name):
    layer, rng = LAYERS[name], np.random.default_rng(0)
    weights = {}
    for path, node in nnx.iter_graph(layer):
        if isinstance(node, nnx.Param):
            value = jnp.asarray(rng.standard_normal(node.get_value().shape), jnp.float32)
            node.set_value(value)
            if value.ndim > 1:
                weights[path] = node
    x = jnp.asarray(rng.standard_normal((3, 6, 5, 4)), jnp.float32)
    x = x.reshape(3, 30, 4) if name == "attention" else x

    def moved(by, path):
        other = nnx.clone(layer)
        node = dict(nnx.iter_graph(other))[path]
        node[...] = node[...].at[(0,) * node[...].ndim].add(by)
        return other.forward(x, Context())

    def output(*nudges):
        by_weight = dict(zip(map(id, weights.values()), nudges, strict=True))
        return nudged(layer, x, layer.forward(x, Context()), Context(), by_weight)

    found = jax.jacrev(output, range(len(weights)))(*[jnp.zeros(3)] * len(weights))
    for (path, _), jacobian in zip(weights.items(), found, strict=True):
        own = np.einsum("n...n->n...", jacobian)
        expected = jax.jacrev(moved)(0.0, path)
        assert np.any(expected)
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-5)
        assert np.count_nonzero(jacobian) == np.count_nonzero(own)


def test_a_network_is_nudged_where_it_chooses_and_where_it_is_masked():
    """Two images of a masked network: nudges of unequal sizes against two networks of their own."""
    width = Width("width", (2, 4))

    class Module(nnx.Module):
        def __init__(self):
            self.stem = Sequential(Conv(3, width, 3), ReLU())
            self.choice = Choice("op", [Identity(), Conv(width, width, 3), Conv(width, width, 1)])
            self.classifier = Linear(width, 3)

        def __call__(self, x, ctx):
            x = self.choice(self.stem(x, ctx), ctx)
            return self.classifier(GlobalAvgPool()(x, ctx), ctx)

    network = Network(Module(), 6, 3, 3)
    variables = network.init(jax.random.key(0))
    leaves, tree = jax.tree.flatten(variables.params)
    weights = [i for i, leaf in enumerate(leaves) if leaf.ndim > 1]
    images = jnp.asarray(np.random.default_rng(1).standard_normal((2, 6, 6, 3)), jnp.float32)
    row = dict(zip(network.decision_names, range(2), strict=True))

    def logits(arch, params=variables.params, nudges=None, images=images):
        return network.apply(
            variables._replace(params=params), arch, images, batch_norm="running", nudges=nudges
        ).logits

    for op, narrow in [(1, 0), (2, 0), (1, 1), (0, 1)]:
        arch = np.zeros(2, np.int32)
        arch[row["op"]], arch[row["width"]] = op, narrow
        zeros = [jnp.zeros(2) for _ in weights]
        jacobian = jax.jit(jax.jacrev(lambda n, a: logits(a, nudges=n)))(zeros, jnp.asarray(arch))
        for k, i in enumerate(weights):

            def moved(by, i=i, arch=arch):
                some = list(leaves)
                some[i] = some[i].at[(0,) * some[i].ndim].add(by)
                return logits(arch, jax.tree.unflatten(tree, some))

            own = np.einsum("bkb->bk", jacobian[k])
            np.testing.assert_allclose(own, jax.jacrev(moved)(0.0), rtol=1e-4, atol=1e-6)
            assert np.count_nonzero(jacobian[k]) == np.count_nonzero(own)
