"""Cells whose edges are computed in a loop, against the same written out edge by edge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_trees_close

from jaxnas.module_space import ModuleSpace
from jaxnas.nn import (
    BatchNorm,
    Choice,
    Conv,
    GlobalAvgPool,
    Identity,
    Linear,
    ReLU,
    Sequential,
    Zero,
    wired,
)
from jaxnas.nn.mixed import MixedContext, SampledContext, SkipDropout
from jaxnas.nn.partial import PartialContext
from jaxnas.spaces import Size

WIRING = ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (0, 4), (2, 4), (3, 4))
X = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
WEIGHTS = jax.nn.softmax(jax.random.normal(jax.random.key(1), (len(WIRING), 3)))
DRAWN = jnp.array([2, 1, 0, 2, 1, 2, 2, 1])
EDGES = jax.random.uniform(jax.random.key(2), (len(WIRING),))
STRIDES = (1, 2)


def edge(number, stride):
    depthwise = Conv(4, 4, 5, stride=stride, dilation=2, groups=4)
    conv = Sequential(ReLU(), depthwise, Conv(4, 4, 3), BatchNorm(4))
    skip = Identity() if stride == 1 else Sequential(Conv(4, 4, 1, stride=2), BatchNorm(4))
    return Choice(number, {"none": Zero(stride=stride), "skip": skip, "conv": conv})


class Toy(nnx.Module):
    """Two inputs, three nodes; edges from the inputs are of stride 1 or 2."""

    stride = 1

    def __init__(self, size, classes, image_channels):
        self.stems = nnx.List([Conv(image_channels, 4, k) for k in (1, 3)])
        numbered = enumerate(WIRING)
        self.edges = nnx.List([edge(e, self.stride if a < 2 else 1) for e, (a, _) in numbered])
        self.pool, self.classifier = GlobalAvgPool(), Linear(4, classes)

    def __call__(self, x, ctx):
        nodes = wired(self.edges, WIRING, [stem(x, ctx) for stem in self.stems], ctx)
        return self.classifier(self.pool(ctx.add(nodes[3:]), ctx), ctx)


class Strided(Toy):
    stride = 2


@pytest.fixture(scope="module", params=[Toy, Strided])
def network(request):
    size = Size(channels=4, cells=(1,), resolution=8)
    return ModuleSpace(request.param, size=size).network(size, classes=3, image_channels=3)


def mixed(weights):
    return MixedContext(weights, edges=EDGES, batch_norm="update")


def sampled(weights):
    return SampledContext(DRAWN, weights, batch_norm="update")


def partial(weights):
    return PartialContext(weights, share=2, edges=EDGES, batch_norm="update")


def outputs_and_gradients(network, variables, context):
    def loss(params, weights):
        outputs = network.apply_in(variables._replace(params=params), context(weights), X)
        return (outputs.logits**2).sum(), (outputs.logits, outputs.statistics)

    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(variables.params, WEIGHTS)


@pytest.mark.parametrize("context", [mixed, sampled, partial])
def test_loops_compute_what_is_written_out(network, context, monkeypatch):
    variables = network.init(jax.random.key(4))
    looped = outputs_and_gradients(network, variables, context)
    text = str(jax.make_jaxpr(lambda v: network.apply_in(v, context(WEIGHTS), X).logits)(variables))
    assert text.count("scan[") >= 1
    for kind in (MixedContext, SampledContext):
        monkeypatch.setattr(kind, "loops", False)
    written_out = outputs_and_gradients(network, variables, context)
    assert_trees_close(looped, written_out, rtol=1e-3, atol=1e-4)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), looped[1][1], variables.statistics)
    assert np.mean(jax.tree.leaves(moved)) > 0.3


def test_each_edge_has_dropout_of_its_own(network):
    # Of ones that take skip connections alone, each edge drops others.
    ctx = MixedContext(WEIGHTS, skip_dropout=SkipDropout(jnp.float32(0.5), jax.random.key(0)))
    edges = [edge(e, 1) for e in range(2)]
    for choice in edges:
        choice.branches = nnx.List([choice.branches[1]])
        choice.names = ("skip",)
    x = jnp.ones((4, 8, 8, 4))
    (_, first, second) = wired(edges, ((0, 1), (0, 2)), [x], ctx)
    for e, y in enumerate((first, second)):
        kept = np.asarray(y) != 0
        assert 0.4 < kept.mean() < 0.6
        np.testing.assert_allclose(np.asarray(y)[kept], 2 * WEIGHTS[e, 0], rtol=1e-6)
    assert 0.3 < ((first != 0) != (second != 0)).mean() < 0.7
