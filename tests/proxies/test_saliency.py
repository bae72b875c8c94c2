"""Saliency proxies against one architecture's own network, in plain XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import Reference, by_name

from jaxnas.nn import Conv, QueryKeyValue
from jaxnas.nn.context import Context, GradientTaps
from jaxnas.passes import Passes
from jaxnas.proxies import get_proxies
from jaxnas.proxies.saliency import FISHER
from jaxnas.scoring.per_architecture import score_per_architecture
from jaxnas.spaces import Size

ARCHS = np.array([[3, 4, 1, 2, 0, 3], [2, 3, 2, 3, 2, 3], [1, 0, 0, 4, 1, 1]], np.int32)
NAMES = ["grad_norm", "snip", "plain", "grasp", "fisher", "l2_norm"]


class Recorded(Reference):
    """The outputs of convolutions and classifier, moved by `moves` to find the gradients there."""

    def __init__(self, weights, arch, images, moves=None):
        self.moves, self.outputs, self.fan_in = moves, [], []
        super().__init__(weights, arch, images)
        kernel = weights["classifier.kernel"]
        self.logits = self.heard(self.logits, kernel)

    def heard(self, y, kernel):
        self.outputs.append(y)
        self.fan_in.append(kernel.size // kernel.shape[-1])
        return y if self.moves is None else y + self.moves[len(self.outputs) - 1]

    def conv(self, name, x, stride=1):
        return self.heard(super().conv(name, x, stride), self.weights[f"{name}.kernel"])


def cross_entropy(logits, labels):
    return -jax.nn.log_softmax(logits)[jnp.arange(len(logits)), labels].sum() / len(logits)


def taken(weights, arch):
    """The kernels that the architecture has, by name."""
    absent = {
        f"edges.{e}.branches.{op}." for e in range(6) for op in range(5) if op != int(arch[e])
    }
    kernels = {n: w for n, w in weights.items() if n.endswith("kernel")}
    return {n: w for n, w in kernels.items() if not any(a in n for a in absent)}


def reference(weights, arch, batch):
    """All scores, kernel by kernel and channel by channel."""
    kernels = taken(weights, arch)

    def loss(kernels):
        return cross_entropy(Reference(weights | kernels, arch, batch.images).logits, batch.labels)

    g = jax.jit(jax.grad(loss))(kernels)
    # The Hessian times the gradient, forward over reverse.
    hg = jax.jit(lambda g: jax.jvp(jax.grad(loss), (kernels,), (g,))[1])(g)
    rest = Recorded(weights, arch, batch.images)

    def moved(moves):
        logits = Recorded(weights, arch, batch.images, moves).logits
        return cross_entropy(logits, batch.labels)

    gradients = jax.jit(jax.grad(moved))([jnp.zeros_like(z) for z in rest.outputs])
    fisher = 0.0
    for z, dz, fan_in in zip(rest.outputs, gradients, rest.fan_in, strict=True):
        for c in range(z.shape[-1]):
            sums = [np.sum(np.asarray(z[n] * dz[n])[..., c]) for n in range(len(z))]
            fisher += fan_in * np.mean(np.square(sums)) / 2
    w, g, hg = (
        {n: np.asarray(v, np.float64) for n, v in tree.items()} for tree in (kernels, g, hg)
    )
    return {
        "grad_norm": sum(np.linalg.norm(v) for v in g.values()),
        "snip": sum(np.abs(w[n] * g[n]).sum() for n in w),
        "plain": sum((w[n] * g[n]).sum() for n in w),
        "grasp": -sum((w[n] * hg[n]).sum() for n in w),
        "fisher": fisher,
        "l2_norm": sum(np.linalg.norm(v) for v in w.values()),
    }


@pytest.fixture(scope="module", params=[(1,), (1, 1)], ids=["one_cell", "two_stages"])
def case(request, space, batch):
    """Scores by the library and by definition."""
    network = space.network(Size(channels=4, cells=request.param, resolution=8), classes=3)
    variables = network.init(jax.random.key(2))
    scores = score_per_architecture(network, variables, ARCHS, batch, get_proxies(NAMES))
    return scores, [reference(by_name(variables.params), arch, batch) for arch in ARCHS]


@pytest.mark.parametrize("name", NAMES)
def test_against_the_formula_kernel_by_kernel(case, name):
    scores, expected = case
    np.testing.assert_allclose(scores[name], [e[name] for e in expected], rtol=1e-4)


def test_they_are_the_same_without_the_second_derivative(space, batch):
    network = space.network(Size(channels=4, cells=(1,), resolution=8), classes=3)
    variables = network.init(jax.random.key(2))
    names = ["grad_norm", "snip", "fisher", "plain"]
    alone, together = (
        score_per_architecture(network, variables, ARCHS, batch, get_proxies(asked))
        for asked in (names, NAMES)
    )
    for name in names:
        np.testing.assert_allclose(alone[name], together[name], rtol=1e-4)


def test_weights_of_branches_not_taken_do_not_matter(tiny, variables, batch):
    def spoilt(path, leaf):
        # Row 2 has no convolution.
        return leaf * 100 + 1 if "edges" in jax.tree_util.keystr(path) else leaf

    params = jax.tree_util.tree_map_with_path(spoilt, variables.params)
    before, after = (
        score_per_architecture(tiny, v, ARCHS, batch, get_proxies(NAMES))
        for v in (variables, variables._replace(params=params))
    )
    for name in NAMES:
        assert after[name][2] == pytest.approx(before[name][2], rel=1e-4)
        assert after[name][0] != pytest.approx(before[name][0], rel=1e-4)


def test_plain_is_signed_and_snip_is_not(case):
    scores, _ = case
    assert (scores["snip"] > np.abs(scores["plain"])).all()


@pytest.mark.parametrize("kernel", [1, 3])
def test_fisher_counts_a_channel_once_for_each_of_its_weights(kernel):
    layer, rng = Conv(5, 7, kernel), np.random.default_rng(0)
    weight = jnp.asarray(rng.standard_normal((kernel, kernel, 5, 7)), jnp.float32)
    layer.kernel = layer.kernel.replace(value=weight)
    x = jnp.asarray(rng.standard_normal((4, 6, 6, 5)), jnp.float32)
    toward = jnp.asarray(rng.standard_normal((4, 6, 6, 7)), jnp.float32)
    ctx = Context()
    z = np.asarray(layer.forward(x, ctx))
    by_channel = np.square((z * toward).sum((1, 2))).mean(0) / 2

    def heard(zero):
        taps = GradientTaps((FISHER,), (zero,))
        return (layer(x, Context(gradient_taps=taps)) * toward).sum()

    assert jax.grad(heard)(jnp.zeros(())) == pytest.approx(
        5 * kernel**2 * by_channel.sum(), rel=1e-5
    )


def test_fisher_keeps_queries_keys_and_values_apart():
    layer, rng = QueryKeyValue(5, 4), np.random.default_rng(0)
    shapes = {"kernel": (5, 3, 4), "query_bias": (4,), "key_bias": (4,), "value_bias": (4,)}
    for name, shape in shapes.items():
        value = jnp.asarray(rng.standard_normal(shape), jnp.float32)
        setattr(layer, name, getattr(layer, name).replace(value=value))
    x = jnp.asarray(rng.standard_normal((2, 6, 5)), jnp.float32)
    toward = jnp.asarray(rng.standard_normal((2, 6, 3, 4)), jnp.float32)
    z = np.asarray(layer.forward(x, Context()))
    expected = 5 * np.square((z * toward).sum(1)).mean(0).sum() / 2

    def heard(zero):
        taps = GradientTaps((FISHER,), (zero,))
        return (layer(x, Context(gradient_taps=taps)) * toward).sum()

    assert jax.grad(heard)(jnp.zeros(())) == pytest.approx(expected, rel=1e-5)


def test_gradients_are_the_same_where_they_are_differentiated_again(tiny, variables, batch):
    def found(arch, curvature):
        passes = Passes(tiny, variables, arch, batch, curvature=curvature)
        return *passes.loss_gradients, passes.image_gradients, passes.logits

    run = jax.jit(found, static_argnums=1)
    for again, once in zip(run(ARCHS[1], True), run(ARCHS[1], False), strict=True):
        np.testing.assert_allclose(again, once, rtol=1e-4, atol=1e-6)
