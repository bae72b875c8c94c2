"""dss against networks written out and built alone, by NumPy's singular values; and where it applies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_trees_equal, compilations
from transformers import alone, transformer

import jaxnas
from jaxnas.errors import InputError
from jaxnas.nn.linear_maps import LinearMaps
from jaxnas.proxies.attention import dss
from jaxnas.proxy import Batch, evaluate
from jaxnas.scoring.per_architecture import score_per_architecture
from jaxnas.search_spaces.autoformer import DEPTH, FIRST_HEADS, AutoFormer
from jaxnas.spaces import Size

SPACE = AutoFormer()
SIZES = [Size(channels=30, cells=(3,), resolution=8), Size(channels=20, cells=(4,), resolution=16)]
NETWORK = SPACE.network(SIZES[0], classes=3, image_channels=2)
ARCHS = SPACE.sample(jax.random.key(5), 4)
ARCHS[:, DEPTH] = 0, 1, 2, 2
IMAGES = jnp.asarray(np.random.default_rng(0).standard_normal((4, 8, 8, 2)), jnp.float32)
BATCH = Batch(IMAGES, None)


def uneven(network):
    """Variables in which biases, norms and positions matter too."""
    noise = np.random.default_rng(1)

    def one(a):
        return a + 0.2 * jnp.asarray(noise.standard_normal(a.shape), a.dtype)

    return jax.tree.map(one, network.init(jax.random.key(0)))


def scored(network, variables, archs, batch=BATCH):
    return score_per_architecture(network, variables, SPACE.rows(archs), batch, [dss])["dss"]


def nuclear(matrix):
    return np.linalg.svd(np.asarray(matrix, np.float64), compute_uv=False).sum()


def diversity(weight, gradient):
    return nuclear(weight) * nuclear(gradient)


def saliency(weight, gradient):
    return np.abs(np.asarray(weight, np.float64) * np.asarray(gradient, np.float64)).sum()


def reference(weights, side, channels):
    """Layer by layer, on the sub-network's own matrices."""
    weights = jax.tree.map(jnp.abs, weights)
    ones = jnp.ones((1, side, side, channels))
    gradients = jax.jit(jax.grad(lambda w: transformer(w, ones).sum()))(weights)
    total = saliency(weights["patches"][0], gradients["patches"][0])
    total += saliency(weights["classifier"][0], gradients["classifier"][0])
    for w, g in zip(weights["layers"], gradients["layers"], strict=True):
        queries = [
            np.concatenate([m[:, n] for n in range(3)], axis=1) for m in (w["qkv"], g["qkv"])
        ]
        total += diversity(*queries) + diversity(w["out"][0], g["out"][0])
        total += sum(saliency(w[name][0], g[name][0]) for name in ("up", "down"))
    return total


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_against_every_network_built_alone(size):
    network = SPACE.network(size, classes=3, image_channels=2)
    variables = uneven(network)
    batch = Batch(jnp.zeros((2, size.resolution, size.resolution, 2)), None)
    got = scored(network, variables, ARCHS, batch)
    for arch, score in zip(ARCHS, got, strict=True):
        own = network.specialise(variables, SPACE.rows(arch[None])[0])
        expected = reference(alone(network, arch, own), size.resolution, 2)
        assert score == pytest.approx(expected, rel=1e-4)


@pytest.fixture(scope="module")
def variables():
    return uneven(NETWORK)


@pytest.fixture(scope="module")
def scores(variables):
    return scored(NETWORK, variables, ARCHS)


def test_layers_and_channels_that_are_not_there_do_not_count(variables, scores):
    arch = ARCHS[0]  # the last two layers are absent
    assert arch[DEPTH] == 0
    there = NETWORK.active(SPACE.rows(arch[None])[0])
    junk = jax.tree.map(lambda p, m: p * m + 9 * (1 - m), variables.params, there)
    spoilt = variables._replace(params=junk)
    got = scored(NETWORK, spoilt, ARCHS)
    assert got[0] == pytest.approx(scores[0], rel=1e-5)
    assert got[2] != pytest.approx(scores[2], rel=1e-2)
    row = SPACE.rows(arch[None])[0]
    score = jax.jit(
        lambda v: evaluate([dss], NETWORK, v, row, BATCH)["dss"]
    )  # masks nothing before
    assert float(score(spoilt)) == pytest.approx(float(score(variables)), rel=1e-5)


def test_heads_bear_on_diversity(variables, scores):
    other = ARCHS.copy()
    other[:, FIRST_HEADS] = 1 - other[:, FIRST_HEADS]
    assert (np.abs(scored(NETWORK, variables, other) / scores - 1) > 1e-3).all()


def test_images_and_signs_of_weights_do_not_matter(variables, scores):
    flipped = variables._replace(params=jax.tree.map(jnp.negative, variables.params))
    assert_trees_equal(scored(NETWORK, flipped, ARCHS, Batch(-IMAGES, None)), scores)


def test_the_same_twice_without_compiling(variables, scores):
    with compilations() as compiled:
        assert_trees_equal(scored(NETWORK, variables, ARCHS), scores)
        again = SPACE.network(SIZES[0], classes=3, image_channels=2)
        assert_trees_equal(scored(again, variables, ARCHS[::-1]), scores[::-1])
    assert compiled == []


def test_a_numerical_failure_is_nan(variables):
    sick = jax.tree.map(lambda a: a * jnp.nan, variables)
    assert np.isnan(scored(NETWORK, sick, ARCHS)).all()


def test_in_bfloat16_it_is_close_and_summed_in_float32(variables, scores):
    halved = jax.tree.map(lambda a: a.astype(jnp.bfloat16), variables)
    got = scored(NETWORK, halved, ARCHS, Batch(IMAGES.astype(jnp.bfloat16), None))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, scores, rtol=0.1)
    assert (got != scores).all()


def test_layers_say_what_they_are():
    maps = NETWORK.linear_maps
    leaves = jax.tree.leaves(NETWORK.init(jax.random.key(0)).params)
    shapes = [matrix.of(leaves).shape for matrix in maps.attention]
    assert shapes == [(30, 3 * 32), (32, 30)] * 3
    assert sorted(leaves[k].shape for k in maps.others) == sorted(
        [(8, 30), (30, 3), *[(30, 120), (120, 30)] * 3]
    )


class Attending(nnx.Module):
    """A convolution, one layer of self-attention and a linear layer, all Flax's own."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(2, 6, (2, 2), strides=2, rngs=rngs)
        self.norm = nnx.LayerNorm(6, rngs=rngs)
        self.attend = nnx.MultiHeadAttention(2, 6, 8, decode=False, rngs=rngs)
        self.out = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        x = self.conv(x).reshape(len(x), -1, 6)
        return self.out((x + self.attend(self.norm(x))).mean(1))


def test_a_module_of_flax_attention():
    module = Attending(nnx.Rngs(0))
    module.norm.bias[...] = jnp.arange(-3.0, 3.0)
    got = jaxnas.score(module, np.asarray(IMAGES), proxies="dss")["dss"]
    graph, params = nnx.split(module, nnx.Param)
    params = jax.tree.map(jnp.abs, params)
    ones = jnp.ones((1, 8, 8, 2))
    slopes = jax.grad(lambda p: nnx.merge(graph, p)(ones).sum())(params)
    w, g = nnx.to_pure_dict(params), nnx.to_pure_dict(slopes)

    def queries(tree):
        kernels = [tree["attend"][name]["kernel"] for name in ("query", "key", "value")]
        return np.concatenate([np.asarray(k).reshape(6, 8) for k in kernels], axis=1)

    def found(tree):
        return np.asarray(tree["attend"]["out"]["kernel"]).reshape(8, 6)

    expected = diversity(queries(w), queries(g)) + diversity(found(w), found(g))
    expected += sum(saliency(w[name]["kernel"], g[name]["kernel"]) for name in ("conv", "out"))
    assert got == pytest.approx(expected, rel=1e-4)


def test_keys_and_values_of_other_inputs_are_matrices_of_their_own():
    layer = nnx.MultiHeadAttention(2, 6, 8, in_kv_features=5, decode=False, rngs=nnx.Rngs(0))
    maps = LinearMaps.of(layer)
    leaves = jax.tree.leaves(nnx.state(layer, nnx.Param))
    assert [m.of(leaves).shape for m in maps.attention] == [(6, 8), (5, 16), (8, 6)]
    assert maps.others == ()


def test_spaces_and_modules_without_attention_are_refused():
    images = np.zeros((8, 8, 8, 3), np.uint8)
    with pytest.raises(InputError) as caught:
        jaxnas.rank("nasbench201", images, proxies="dss", batch_size=8)
    assert str(caught.value) == (
        "dss reads the weights of self-attention, and the networks of this space have none: "
        "it does not apply here."
    )
    module = nnx.Sequential(lambda x: x.mean((1, 2)), nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
    with pytest.raises(
        InputError, match="dss reads the weights of self-attention, and this module has no nnx"
    ):
        jaxnas.score(module, images, proxies="dss")
