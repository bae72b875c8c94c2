"""Relaxed choices against architectures followed one by one, and against slow references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_trees_close
from reference import by_name

from jaxnas.errors import InputError
from jaxnas.module_space import ModuleSpace
from jaxnas.nn import Choice, Conv, GlobalAvgPool, Identity, Sequential, Zero
from jaxnas.nn.context import SumTap
from jaxnas.nn.mixed import MixedContext, SampledContext, SkipDropout
from jaxnas.search_spaces import get_space
from jaxnas.spaces import Size
from jaxnas.supernet.differentiable.choices import Choices

SIZES = {
    "nasbench201": Size(channels=4, cells=(1,), resolution=8),
    "nasbench_macro": Size(channels=4, cells=(2, 3, 3), resolution=8),
    "transnas_micro": Size(channels=4, cells=(1, 1), resolution=8),
    "darts": Size(channels=4, cells=(1,), resolution=8),
    "nasnet": Size(channels=4, cells=(1,), resolution=8),
}
LARGE = ("darts", "nasnet")
ARCH = np.array([3, 4, 1, 2, 0, 3])


class Sums(SumTap):
    """The sum of squares of what ReLUs read."""

    kinds = frozenset({"pre_activation"})

    def init(self, batch):
        return jnp.zeros(())

    def contribution(self, kind, value, active=None):
        return jnp.sum(value**2)


def one_hot(row, choices):
    return jax.nn.one_hot(jnp.asarray(row), choices)


def network_of(name):
    space = get_space(name)
    return space, space.network(SIZES[name], classes=3)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in LARGE else []) for n in SIZES]
)
def test_one_hot_weights_are_an_architecture(name, batch):
    space, network = network_of(name)
    present = Choices.of(network).present
    variables = network.init(jax.random.key(0))
    arch = space.rows(space.sample(jax.random.key(3), 1))[0]

    @jax.jit
    def mixed(weights):
        return network.apply_in(variables, MixedContext(weights), batch.images).logits

    plain = jax.jit(lambda v, x: network.apply(v, arch, x).logits)(variables, batch.images)
    weights = one_hot(arch, present.shape[1])
    np.testing.assert_allclose(mixed(weights), plain, rtol=1e-4, atol=1e-5)
    assert np.abs(mixed(jnp.asarray(present, jnp.float32)) - plain).max() > 1e-3


@pytest.mark.parametrize("kind", ["mixed", "sampled"])
def test_statistics_and_taps(tiny, variables, batch, kind):
    weights = one_hot(ARCH, 5)
    settings = {"batch_norm": "update", "tap": Sums(), "batch": 8}
    if kind == "mixed":
        ctx = MixedContext(weights, **settings)
    else:
        ctx = SampledContext(jnp.asarray(ARCH), weights, **settings)
    got = tiny.apply_in(variables, ctx, batch.images)
    plain = tiny.apply(variables, jnp.asarray(ARCH), batch.images, batch_norm="update", tap=Sums())
    assert_trees_close(got.logits, plain.logits, rtol=1e-4)
    averages, expected = by_name(got.statistics), by_name(plain.statistics)
    for name, value in expected.items():
        taken = (
            not name.startswith("blocks")
            or int(name.split(".")[5]) == ARCH[int(name.split(".")[3])]
        )
        if taken or kind == "sampled":
            np.testing.assert_allclose(averages[name], value, rtol=1e-4, atol=1e-6)
    start = by_name(variables.statistics)
    moved = [n for n in averages if np.abs(averages[n] - start[n]).max() > 1e-6]
    if kind == "sampled":
        assert len(moved) < len(averages)
        np.testing.assert_allclose(got.carry, plain.carry, rtol=1e-4)
    else:
        # Every branch is computed, so that all move and all are heard.
        assert {n.rpartition(".")[0] for n in moved} == {n.rpartition(".")[0] for n in averages}
        assert got.carry > plain.carry


def test_a_mixture_by_hand():
    module = Sequential(Choice(0, [Zero(), Identity(), Conv(2, 2, 1)]), GlobalAvgPool())
    network = ModuleSpace(lambda *_: module, name="one").network(
        Size(2, (1,), 4), classes=2, image_channels=2
    )
    variables = network.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (3, 4, 4, 2))
    weights, edges = jnp.array([[0.2, 0.5, 0.3]]), jnp.array([0.7])
    got = network.apply_in(variables, MixedContext(weights, edges=edges), x).logits
    (kernel,) = jax.tree.leaves(variables.params)
    y = 0.5 * np.asarray(x) + 0.3 * np.asarray(x) @ np.asarray(kernel)[0, 0]
    np.testing.assert_allclose(got, 0.7 * y.mean((1, 2)), rtol=1e-5)


def test_dropout_reaches_skip_connections_alone():
    module = Sequential(Choice(0, [Identity(), Conv(1, 1, 1)]))
    network = ModuleSpace(lambda *_: module, name="one").network(
        Size(1, (1,), 64), classes=2, image_channels=1
    )
    variables = network.init(jax.random.key(0))
    x = jnp.ones((1, 64, 64, 1))

    def run(weights):
        dropout = SkipDropout(jnp.array(0.4), jax.random.key(2))
        ctx = MixedContext(jnp.array([weights]), skip_dropout=dropout)
        return np.asarray(network.apply_in(variables, ctx, x).logits)

    skip = run([1.0, 0.0])
    assert set(np.round(np.unique(skip), 5)) == {0.0, np.float32(1 / 0.6).round(5)}
    assert abs((skip == 0).mean() - 0.4) < 4 * np.sqrt(0.24 / 4096)
    assert len(np.unique(run([0.0, 1.0]))) == 1


def test_a_sampled_weights_gradient_is_the_branchs_output(tiny, variables, batch):
    drawn = jnp.asarray(ARCH)

    @jax.jit
    def loss(soft):
        weights = 1 + soft - jax.lax.stop_gradient(soft)
        logits = tiny.apply_in(variables, SampledContext(drawn, weights), batch.images).logits
        return jnp.sum(logits**2)

    @jax.jit
    def scaled(weights):
        logits = tiny.apply_in(variables, MixedContext(weights), batch.images).logits
        return jnp.sum(logits**2)

    soft = jnp.full((6, 5), 0.2)
    plain = tiny.apply(variables, ARCH, batch.images).logits
    np.testing.assert_allclose(loss(soft), jnp.sum(plain**2), rtol=1e-4)
    got, expected = jax.grad(loss)(soft), jax.grad(scaled)(one_hot(ARCH, 5))
    taken = one_hot(ARCH, 5)
    np.testing.assert_allclose(got, expected * taken, rtol=1e-3, atol=1e-4)
    assert jnp.abs(got).max() > 1e-3


def test_sampled_computes_one_branch_alone(tiny, variables, batch):
    ctx = lambda d: SampledContext(d, jnp.ones((6, 5)))  # noqa: E731
    lowered = jax.jit(lambda d, x: tiny.apply_in(variables, ctx(d), x).logits)
    text = lowered.lower(jnp.asarray(ARCH), batch.images).compile().as_text()
    assert "conditional" in text


def test_networks_with_widths_are_refused():
    space = get_space("nats_size")
    network = space.network(Size(8, (1, 1, 1), 8), classes=2)
    with pytest.raises(InputError, match="cannot be mixed"):
        network.apply_in(None, MixedContext(jnp.ones((5, 8))), jnp.ones((1, 8, 8, 3)))
    with pytest.raises(InputError, match="choice points alone"):
        Choices.of(network)


class TestChoices:
    def test_nodes_are_where_edges_meet(self, tiny):
        assert Choices.of(tiny).nodes.tolist() == [0, 1, 1, 3, 3, 3]
        _, darts = network_of("darts")
        # A network of one normal cell reads none of the reduction cell's columns.
        assert Choices.of(darts).nodes.tolist() == [0] * 2 + [2] * 3 + [5] * 4 + [9] * 5

    def test_skips_and_zeros_and_their_share(self, tiny):
        choices = Choices.of(tiny)
        assert choices.present.all()
        assert (choices.skips == np.eye(5, dtype=bool)[1]).all()
        assert (choices.zeros == np.eye(5, dtype=bool)[0]).all()
        assert choices.share_of_skips(np.array([1, 0, 3, 1, 2, 0])) == 0.5
        assert choices.share_of_skips(np.zeros(6, int)) == 0.0

    def test_sums_by_add_meet_too(self):
        class Two(nnx.Module):
            def __init__(self, size, classes, image_channels):
                names = ("a", "b", "c")
                self.edges = nnx.List([Choice(n, [Identity(), Zero()]) for n in names])

            def __call__(self, x, ctx):
                a, b, c = self.edges
                return c(ctx.add([b(x, ctx), a(x, ctx)]), ctx)

        network = ModuleSpace(Two).network(Size(2, (1,), 4), classes=2)
        # Columns are in the order in which they are read: b, a, c.
        assert Choices.of(network).nodes.tolist() == [0, 0, 2]
