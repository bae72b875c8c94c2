"""NATS-Bench's size search space against published figures and against narrow networks built alone."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_trees_close
from hypothesis import given
from hypothesis import strategies as st

from jaxnas.errors import InputError
from jaxnas.network import Network, Variables
from jaxnas.nn import AvgPool, BatchNorm, Conv, GlobalAvgPool, Linear, ReLU, Sequential
from jaxnas.proxies import get_proxies
from jaxnas.proxy import Batch
from jaxnas.scoring.per_architecture import score_per_architecture
from jaxnas.search_spaces.nats_size import WIDTHS, NATSSize
from jaxnas.spaces import Size

SPACE = NATSSize()
IMAGES = jnp.asarray(np.random.default_rng(0).standard_normal((6, 8, 8, 3)), jnp.float32)
BATCH = Batch(IMAGES, jnp.arange(6, dtype=jnp.int32) % 3)


class TestStrings:
    def test_the_official_order_counts_up_with_the_last_width_fastest(self):
        official = [":".join(map(str, w)) for w in itertools.product(range(8, 65, 8), repeat=5)]
        assert [SPACE.to_string(arch) for arch in SPACE.all()] == official
        assert SPACE.index(np.stack([SPACE.from_string(s) for s in official[::97]])).tolist() == (
            list(range(0, 32_768, 97))
        )

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("8:8:8:8", ["4 widths", "expected 5", "8:16:24:32:40"]),
            ("8:8:8:8:8:8", ["6 widths", "expected 5"]),
            ("8:8:8:12:8", ["width 4 is '12'", "8, 16, 24"]),
            ("8:8::8:8", ["width 3 is ''"]),
            ("8:8:8: 8:8", ["width 4 is ' 8'"]),
            ("8:8:8:8:72", ["width 5 is '72'"]),
            ("٨:8:8:8:8", ["width 1 is '٨'"]),
        ],
    )
    def test_a_malformed_one_is_refused_where_it_goes_wrong(self, text, said):
        with pytest.raises(InputError) as caught:
            SPACE.from_string(text)
        assert all(part in str(caught.value) for part in [repr(text), *said]), str(caught.value)

    tokens = st.sampled_from([*map(str, WIDTHS), ":", " ", "-8", "08", ""])

    @given(st.one_of(st.text(), st.lists(tokens, max_size=12).map("".join)))
    def test_any_text_parses_or_is_refused(self, text):
        try:
            arch = SPACE.from_string(text)
        except InputError:
            return
        assert SPACE.to_string(arch) == text.strip()


@pytest.mark.parametrize(
    ("index", "arch", "params"),
    [
        (0, "8:8:8:8:8", 11_714),
        (12, "8:8:8:16:40", 67_378),  # the authors' notebook create-query-sss, get_cost_info(12)
        (100, "8:8:16:40:40", 107_826),
        (32_767, "64:64:64:64:64", 713_674),
    ],
)
def test_indices_and_parameters_are_those_stored_in_the_benchmark(index, arch, params):
    row = SPACE.from_string(arch)[None]
    assert SPACE.index(row).tolist() == [index]
    assert SPACE.count(row, SPACE.official_size, classes=10).params.tolist() == [params]


def test_macs_are_the_published_flops():
    # get_cost_info(12): 7.991706 M, which counts the classifier's ten biases too.
    row = SPACE.from_string("8:8:8:16:40")[None]
    assert SPACE.count(row, SPACE.official_size, classes=10).macs.tolist() == [7_991_706 - 10]


def test_a_size_without_the_five_layers_is_refused():
    with pytest.raises(InputError, match="cells is always 1,1,1, not 2,2"):
        SPACE.network(Size(8, (2, 2), 8), classes=3)


class Cell(nnx.Module):
    """`|conv~0|+|conv~0|conv~1|+|skip~0|conv~1|conv~2|`, written edge by edge."""

    def __init__(self, inputs, outputs):
        self.to_1 = convolution(inputs, outputs)
        self.to_2 = nnx.List([convolution(inputs, outputs), convolution(outputs, outputs)])
        self.to_3 = nnx.List([convolution(outputs, outputs), convolution(outputs, outputs)])
        project = [Conv(inputs, outputs, 1), BatchNorm(outputs)] if inputs != outputs else []
        self.skip = Sequential(*project)

    def __call__(self, x, ctx):
        a = self.to_1(x, ctx)
        b = ctx.add([self.to_2[0](x, ctx), self.to_2[1](a, ctx)])
        return ctx.add([self.skip(x, ctx), self.to_3[0](a, ctx), self.to_3[1](b, ctx)])


class Residual(nnx.Module):
    """ResNet's basic block of stride 2, its shortcut pooled and convolved."""

    def __init__(self, inputs, outputs):
        self.conv_a = convolution(inputs, outputs, stride=2)
        self.conv_b = convolution(outputs, outputs)
        self.shortcut = Sequential(AvgPool(2, stride=2), Conv(inputs, outputs, 1))

    def __call__(self, x, ctx):
        return ctx.add([self.shortcut(x, ctx), self.conv_b(self.conv_a(x, ctx), ctx)])


def convolution(inputs, outputs, stride=1):
    return Sequential(ReLU(), Conv(inputs, outputs, 3, stride=stride), BatchNorm(outputs))


class Alone(nnx.Module):
    """The network of five given widths and nothing else."""

    def __init__(self, a, b, c, d, e):
        self.stem = Sequential(Conv(3, a, 3), BatchNorm(a))
        self.blocks = nnx.List([Cell(a, a), Residual(a, b), Cell(b, c), Residual(c, d), Cell(d, e)])
        self.last = Sequential(BatchNorm(e), ReLU())
        self.pool = GlobalAvgPool()
        self.classifier = Linear(e, 3)

    def __call__(self, x, ctx):
        x = self.stem(x, ctx)
        for block in self.blocks:
            x = block(x, ctx)
        return self.classifier(self.pool(self.last(x, ctx), ctx), ctx)


def cut(wide, shapes):
    """The first channels of the wide network's variables, for the narrow one's paths."""
    known = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(wide):
        # The wide network's projection is the second branch of a choice.
        known[jax.tree_util.keystr(path).replace("['branches'][1]", "")] = leaf

    def one(path, shape):
        return known[jax.tree_util.keystr(path)][tuple(slice(n) for n in shape.shape)]

    return jax.tree_util.tree_map_with_path(one, shapes)


@pytest.fixture(scope="module")
def wide():
    """The super-network of widths 1 to 8 with weights that hide nothing at their initial value."""
    network = SPACE.network(Size(8, (1, 1, 1), 8), classes=3)
    noise = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda a: a + 0.2 * jnp.asarray(noise.standard_normal(a.shape), a.dtype) ** 2,
        network.init(jax.random.key(0)),
    )
    return network, variables


ARCHS = ["8:8:8:8:8", "16:64:24:40:40", "64:24:24:40:16"]


@pytest.mark.parametrize("arch", ARCHS)
def test_a_masked_network_is_the_narrow_one_built_alone(arch, wide):
    network, variables = wide
    (row,) = SPACE.rows(SPACE.from_string(arch)[None])
    alone = Network(Alone(*(int(w) // 8 for w in arch.split(":"))), 8, 3, 3)
    fitted = network.specialise(variables, row)
    own = Variables(*cut(fitted, jax.eval_shape(alone.init, jax.random.key(0))))
    none = np.zeros(0, np.int32)

    got = jax.jit(lambda v, r: network.apply(v, r, IMAGES).logits)(fitted, jnp.asarray(row))
    assert_trees_close(got, jax.jit(lambda v: alone.apply(v, none, IMAGES).logits)(own), rtol=1e-3)
    assert network.count(row[None]).params == sum(a.size for a in jax.tree.leaves(own.params))
    assert network.count(row[None]) == alone.count(none[None])

    names = ["naswot", "grad_norm", "snip", "fisher", "l2_norm", "synflow"]
    proxies = get_proxies(names)
    got = score_per_architecture(network, variables, row[None], BATCH, proxies)
    expected = score_per_architecture(alone, own, none[None], BATCH, proxies)
    assert np.isfinite(got["naswot"]).all()
    assert_trees_close(got, expected, rtol=1e-3)
