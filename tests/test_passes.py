"""Passes: gradients, gradient taps and cuts against plain XLA, and that they are computed once."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_trees_close
from reference import Reference, by_name

from jaxnas.network import Network
from jaxnas.nn import (
    BatchNorm,
    Choice,
    Context,
    Conv,
    GlobalAvgPool,
    Identity,
    Linear,
    ReLU,
    Sequential,
)
from jaxnas.nn.context import GradientTaps
from jaxnas.passes import Batch, Forward, Passes, cross_entropy, images_of, tensors
from jaxnas.proxy import ForwardProxy, GradientProxy, evaluate
from jaxnas.search_spaces.nasbench201 import NASBench201
from jaxnas.spaces import Size

ARCHS = np.array([[3, 4, 1, 2, 0, 3], [2, 3, 2, 3, 2, 3], [1, 0, 0, 4, 1, 1]], np.int32)


@pytest.fixture(scope="module")
def deep():
    network = NASBench201().network(Size(channels=4, cells=(1, 1), resolution=8), classes=3)
    return network, network.init(jax.random.key(2))


def plain_gradients(variables, arch, batch):
    def loss(weights):
        logits = Reference(weights, arch, batch.images).logits
        chosen = jax.nn.log_softmax(logits)[jnp.arange(len(logits)), batch.labels]
        return -chosen.mean()

    return jax.jit(jax.grad(loss))(by_name(variables.params))


def entries(stacks):
    """The tensors of `tensors(...)` one by one, in a fixed order, without those that are 0."""
    rows = [np.asarray(row) for stack in stacks for row in stack]
    return sorted((row for row in rows if row.any()), key=lambda r: (len(r), abs(r).sum()))


@pytest.mark.parametrize("arch", ARCHS)
def test_loss_gradients_are_those_of_the_architecture_alone(deep, batch, arch):
    network, variables = deep
    found = jax.jit(lambda a: Passes(network, variables, a, batch).loss_gradients)(arch)
    plain = plain_gradients(variables, arch, batch)
    expected = entries([g.reshape(1, -1) for name, g in plain.items() if name.endswith("kernel")])
    for got, want in zip(entries(found), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-6)


def test_image_gradients_are_those_of_the_sum_of_logits(deep, batch):
    network, variables = deep
    found = jax.jit(lambda a: Passes(network, variables, a, batch).image_gradients)(ARCHS[0])
    weights = by_name(variables.params)
    plain = jax.grad(lambda x: Reference(weights, ARCHS[0], x).logits.sum())(batch.images)
    np.testing.assert_allclose(found, plain, rtol=1e-3, atol=1e-5)


def test_weights_are_those_that_the_architecture_has(deep, batch):
    network, variables = deep
    row = np.array([3, 0, 0, 0, 3, 2], np.int32)
    found = entries(Passes(network, variables, row, batch).weights)
    kernels = {n: w for n, w in by_name(variables.params).items() if n.endswith("kernel")}
    taken = [f"edges.{e}.branches.{op}." for e, op in enumerate(row)]
    there = [w for n, w in kernels.items() if "edges" not in n or any(t in n for t in taken)]
    expected = entries([w.reshape(1, -1) for w in there])
    assert len(found) == len(expected) == 1 + 3 * 2 + 3 + 1
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_array_equal(got, want)


def test_sample_gradients_add_up_to_the_gradient_of_the_sum(tiny, variables, batch):
    passes = Passes(tiny, variables, ARCHS[1], batch)
    each = jnp.eye(8)[:, :, None] * jnp.ones((1, 1, 3))
    rows = passes.sample_gradients(each)
    whole = passes.sample_gradients(each.sum(0)[None])
    total = jax.tree.map(lambda a: a.sum(0), rows)
    assert_trees_close(total, jax.tree.map(lambda a: a[0], whole), rtol=1e-3, atol=1e-5)


@dataclass(frozen=True)
class Squares:
    """Sum over the entries of what is reported of (value * gradient) ** 2, times a factor."""

    kinds: frozenset[str]
    factor: float = 1.0

    def contribution(self, kind, value, gradient, active, fan_in):
        return self.factor * jnp.square(value * gradient).sum()


def test_gradient_taps_hear_values_and_gradients(tiny, variables, batch):
    taps = [Squares(frozenset({"affine"})), Squares(frozenset({"affine"}), 2.0)]
    arch = ARCHS[1]

    def score(arch):
        passes = Passes(tiny, variables, arch, batch, gradient_taps=taps)
        return jnp.stack([passes.gradient_tapped(tap) for tap in taps])

    weights, values = by_name(variables.params), []

    class Shifted(Reference):
        """A network whose convolutions' outputs are moved, to find the gradient there."""

        def conv(self, name, x, stride=1):
            y = super().conv(name, x, stride)
            values.append(y)
            return y + shifts[len(values) - 1] if shifts else y

    def loss(given):
        nonlocal shifts
        values.clear()
        shifts = given
        network = Shifted(weights, arch, batch.images)
        return cross_entropy(network.logits, batch.labels), (network.logits, list(values))

    shifts = None
    _, (logits, at_rest) = loss(None)
    zeros = [jnp.zeros_like(v) for v in at_rest]
    gradients = jax.grad(loss, has_aux=True)(zeros)[0]
    by_hand = sum(np.square(v * g).sum() for v, g in zip(at_rest, gradients, strict=True))
    by_hand += np.square(logits * jax.grad(cross_entropy)(logits, batch.labels)).sum()
    np.testing.assert_allclose(jax.jit(score)(arch), [by_hand, 2 * by_hand], rtol=1e-4)


def test_cuts_part_the_blocks(deep, batch):
    """What reaches a cut is one block's own vector-Jacobian product."""
    network, variables = deep
    arch = ARCHS[1]
    whole = network.apply(variables, arch, batch.images)
    values = [b.value for b in whole.blocks]
    assert len(values) == 4  # stem, cell, reduction, cell
    assert all(b.present is None for b in whole.blocks)

    def run(cuts):
        outputs = network.apply(variables, arch, batch.images, cuts=cuts)
        return [b.value for b in outputs.blocks[1:]]

    rng = np.random.default_rng(0)
    outward = [jnp.asarray(rng.standard_normal(v.shape), jnp.float32) for v in values[1:]]
    zeros = [jnp.zeros_like(v) for v in values]
    same, pull = jax.vjp(run, zeros)
    assert_trees_close(same, values[1:], rtol=1e-5, atol=1e-5)
    (arrived,) = pull(outward)
    plain = Reference(by_name(variables.params), arch, batch.images)
    blocks = [
        lambda x: plain.cell("blocks.0", arch, x),
        lambda x: plain.reduction("blocks.1", x),
        lambda x: plain.cell("blocks.2", arch, x),
    ]
    for block, x, v, got in zip(blocks, values, outward, arrived[:-1], strict=False):
        np.testing.assert_allclose(got, jax.vjp(block, x)[1](v)[0], rtol=1e-3, atol=1e-4)
    assert not arrived[-1].any()


def block():
    return Sequential(ReLU(), Conv(4, 4, 3), BatchNorm(4))


class Optional(nnx.Module):
    """Three blocks of 4 channels; the last two may be left out."""

    def __init__(self):
        choices = [Choice(i, [Identity(), block()]) for i in range(2)]
        self.blocks = nnx.List([block(), *choices])
        self.head = Sequential(GlobalAvgPool(), Linear(4, 3))

    def __call__(self, x, ctx: Context):
        for each in self.blocks:
            x = ctx.boundary(each(x, ctx), each)
        return self.head(x, ctx)


@dataclass(frozen=True)
class Latest:
    """The number of blocks, and the greatest step from one block's mean square to the next's."""

    kinds: frozenset[str] = frozenset({"block"})

    def init(self, batch):
        return {"n": jnp.zeros(()), "last": jnp.zeros(()), "step": jnp.zeros(())}

    def contribution(self, kind, value, active=None):
        return jnp.square(value).mean()

    def fold(self, carry, contribution):
        step = jnp.maximum(carry["step"], jnp.abs(contribution - carry["last"]))
        return {"n": carry["n"] + 1, "last": contribution, "step": step}


def test_a_block_left_out_is_not_heard_of():
    network = Network(Optional(), 8, 4, 3)
    variables = network.init(jax.random.key(0))
    images = jnp.asarray(np.random.default_rng(0).standard_normal((2, 8, 8, 4)), jnp.float32)
    run = jax.jit(lambda a: network.apply(variables, a, images, tap=Latest()))
    for row, n in (([0, 0], 1), ([1, 0], 2), ([0, 1], 2), ([1, 1], 3)):
        outputs = run(np.array(row, np.int32))
        assert outputs.carry["n"] == n
        present = [True if b.present is None else bool(b.present) for b in outputs.blocks]
        assert present == [True, *map(bool, row)]
        moments = [float(jnp.square(b.value).mean()) for b in outputs.blocks]
        kept = [0.0, *(m for m, there in zip(moments, present, strict=True) if there)]
        np.testing.assert_allclose(outputs.carry["step"], np.abs(np.diff(kept)).max(), rtol=1e-5)


def test_without_batch_norm_it_is_the_identity():
    norm = BatchNorm(4)
    x = jnp.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(norm.forward(x, Context(batch_norm="none")), x)


def test_what_several_proxies_need_is_computed_once(tiny, variables, batch):
    """The convolutions of a program for five proxies are those of a program for the dearest."""
    norm = ForwardProxy(
        name="moment", paper="", tap=Latest(), finish=lambda carry: carry["last"] + carry["n"]
    )

    def total(passes):
        return sum(jnp.abs(g).sum() for g in passes.loss_gradients)

    graded = [
        GradientProxy(name=f"g{i}", paper="", score=lambda p, i=i: (1 + i) * total(p))
        for i in range(4)
    ]

    def convolutions(proxies):
        def run(arch):
            return evaluate(proxies, tiny, variables, arch, batch)

        text = jax.jit(run).lower(ARCHS[0]).as_text()
        return text.count("stablehlo.convolution")

    assert convolutions([norm, *graded]) == convolutions(graded[:1]) > convolutions([norm]) > 0


def test_passes_of_different_inputs_are_made_apart(tiny, variables, batch):
    def doubled(batch):
        return 2 * batch.images + 1

    forwards = [
        Forward(images_of, "batch", Latest()),
        Forward(doubled, "none", Latest()),
        Forward(images_of, "batch", Latest(frozenset({"pre_activation"}))),
    ]
    passes = Passes(tiny, variables, ARCHS[0], batch, forwards=forwards, gradients=False)
    for forward in forwards:
        images = forward.inputs(batch)
        alone = tiny.apply(
            variables, ARCHS[0], images, tap=forward.tap, batch_norm=forward.batch_norm
        )
        assert_trees_close(passes.carry(forward), alone.carry, rtol=1e-5)


def test_tensors_are_stacked_by_shape_and_vectors_left_out():
    tree = {"a": np.ones((2, 3)), "b": np.zeros(5), "c": np.full((3, 2), 2.0), "d": np.ones((2, 3))}
    stacks = tensors(jax.tree.map(jnp.asarray, tree))
    assert [s.shape for s in stacks] == [(2, 6), (1, 6)]
    assert float(stacks[1].sum()) == 12.0


def test_a_batch_without_a_key_has_that_of_seed_0():
    assert Batch(jnp.zeros(1), None).random_key == jax.random.key(0)
    assert Batch(jnp.zeros(1), None, jax.random.key(3)).random_key == jax.random.key(3)


def test_no_gradient_taps_cost_nothing(tiny, variables, batch):
    def run(taps):
        return jax.jit(
            lambda a: tiny.apply(variables, a, batch.images, gradient_taps=taps).logits
        ).lower(ARCHS[0])

    assert run(None).as_text() == run(GradientTaps((), ())).as_text()
