"""Depths against all paths of a network, followed one by one, and of functions against counts by hand."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jaxnas.errors import InputError
from jaxnas.module_score import score
from jaxnas.network import Network
from jaxnas.nn import Choice, Conv, Identity, Linear, MBConv, Sequential, Zero
from jaxnas.nn.depth import longest_chain
from jaxnas.search_spaces import SPACES, get_space
from jaxnas.search_spaces.darts import DARTS
from jaxnas.search_spaces.nasbench201 import CONV1, CONV3, EDGES, NONE, NASBench201
from jaxnas.search_spaces.resnet import ResNet
from jaxnas.spaces import Size

PATHS = [
    [EDGES.index(step) for step in itertools.pairwise((0, *between, 3))]
    for n in range(3)
    for between in itertools.combinations((1, 2), n)
]
"""Of a NAS-Bench-201 cell: its four ways from input to output, as edges."""


@pytest.mark.parametrize("cells", [(1,), (2, 1)], ids=str)
def test_all_cells_of_nasbench201_path_by_path(cells):
    space = NASBench201()
    network = space.network(Size(channels=2, cells=cells, resolution=4), classes=3)
    archs = space.all()
    depths = network.depth(archs)
    assert depths.dtype == np.int64
    for arch, depth in zip(archs.tolist(), depths.tolist(), strict=True):
        ways = [[arch[e] for e in path] for path in PATHS]
        lengths = [sum(op in (CONV1, CONV3) for op in way) for way in ways if NONE not in way]
        reductions = 2 * (len(cells) - 1)
        # Through reductions alone the input still arrives, but through no cell that is cut.
        expected = 1 + sum(cells) * max(lengths) + reductions + 1 if lengths else 0
        assert depth == expected


CONVOLUTIONS = {"sep_conv": 4, "dil_conv": 2, "skip_connect": 0, "max_pool": 0, "avg_pool": 0}


def cell_depth(text, before, *, reduces):
    """The deepest of a cell's four nodes; `text` is its part of the genotype."""
    edges = [(op, int(source)) for op, source in re.findall(r"\('(\w+)', (\d)\)", text)]
    nodes = [depth + 1 for depth in before]
    for pair in itertools.batched(edges, 2):
        ends = []
        for op, source in pair:
            own = next(n for name, n in CONVOLUTIONS.items() if op.startswith(name))
            # A skip of stride 2 is a factorized reduction.
            strided_skip = op == "skip_connect" and reduces and source < 2
            ends.append(nodes[source] + (1 if strided_skip else own))
        nodes.append(max(ends))
    return max(nodes[2:])


def test_genotypes_of_darts_node_by_node():
    space = DARTS()
    archs = space.sample(jax.random.key(0), 200)
    network = space.network(Size(channels=2, cells=(1, 2), resolution=8), classes=3)
    depths = network.depth(space.rows(archs))
    for arch, depth in zip(archs, depths.tolist(), strict=True):
        normal, reduce = space.to_string(arch).split("reduce=")
        before = (1, 1)
        for reduces in (False, True, False, False):
            text = reduce if reduces else normal
            before = (before[1], cell_depth(text, before, reduces=reduces))
        assert depth == before[1] + 1
    assert len(np.unique(depths)) > 10


def test_blocks_that_are_not_there_add_nothing():
    space = ResNet()
    archs = space.sample(jax.random.key(0), 300)
    network = space.network(Size(channels=2, cells=(4, 4, 4), resolution=8), classes=3)
    blocks = [sum(map(int, re.findall(r"d(\d)", space.to_string(arch)))) for arch in archs]
    np.testing.assert_array_equal(network.depth(space.rows(archs)), 2 + 2 * np.array(blocks))


@pytest.mark.parametrize("name", SPACES)
def test_every_space_has_depths(name):
    space = get_space(name)
    archs = space.sample(jax.random.key(0), 50)
    kinds = space.shape_classes(archs)
    rows = space.rows(archs)[kinds == kinds[0]]
    network = space.network(space.proxy_size, classes=3, shape_class=int(kinds[0]))
    depths = network.depth(rows)
    assert depths.shape == (len(rows),)
    assert (depths >= 0).all()
    assert depths.max() >= 2
    for row, depth in zip(rows[:5], depths, strict=False):
        assert network.depth(row[None]) == [depth]


def network_of(*modules):
    return Network(Sequential(*modules), 4, 3, 3)


def test_the_longer_of_two_ways_counts():
    parts = Choice(0, [Identity(), Zero(), Conv(3, 3, 1), Sequential(Conv(3, 3, 1), Conv(3, 3, 3))])

    class Sum(nnx.Module):
        def __init__(self):
            self.short, self.long = Conv(3, 3, 1), parts

        def __call__(self, x, ctx):
            return self.long(x, ctx, onto=self.short(x, ctx))

    depths = Network(Sum(), 4, 3, 3).depth(np.arange(4)[:, None])
    assert depths.tolist() == [1, 1, 1, 2]


def test_what_comes_from_nothing_is_nothing():
    cut = Choice(0, [Zero(), Identity()])
    network = network_of(Conv(3, 3, 1), cut, Conv(3, 3, 1, bias=True), Linear(3, 3))
    assert network.depth(np.array([[0], [1], [0]])).tolist() == [0, 3, 0]


def test_squeeze_and_excite_are_two_linear_layers():
    plain, gated = (
        network_of(MBConv(3, 3, 3, expansion=2, squeeze_excite=gate)) for gate in (False, True)
    )
    nobody = np.zeros((2, 0), np.int32)
    assert plain.depth(nobody).tolist() == [3, 3]
    assert gated.depth(nobody).tolist() == [5, 5]


def kernel(*shape):
    return jnp.ones(shape)


def conv(x):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel(3, 3, 6, 6), (1, 1), "SAME", dimension_numbers=numbers
    )


def product(x):
    return x @ kernel(6, 6)


IMAGES = jax.ShapeDtypeStruct((2, 8, 8, 6), jnp.float32)

CHAINS = {
    "nothing": (lambda x: jnp.sin(x), 0),
    "one after another": (lambda x: product(conv(x)), 2),
    "side by side": (lambda x: (conv(x), product(product(x))), 2),
    "a sum": (lambda x: conv(x + product(product(x))) + x, 3),
    "weights alone": (lambda x: x * (kernel(6, 6) @ kernel(6, 6)).sum(), 0),
    "weights first": (lambda x: x @ (kernel(6, 6) @ kernel(6, 6)), 1),
    "attention": (lambda x: product(jnp.einsum("bijc,bklc->bijk", x, x)[..., :6]), 2),
    "not of the input": (lambda x: jnp.zeros_like(product(x)) + 0 * product(kernel(2, 8, 8, 6)), 0),
    "jit and remat": (jax.jit(jax.checkpoint(lambda x: product(product(x)))), 2),
    "custom derivatives": (lambda x: product(jax.nn.relu(product(x))), 2),
    "scan": (lambda x: lax.scan(lambda c, w: (product(c @ w), None), x, kernel(7, 6, 6))[0], 14),
    "scan over images": (lambda x: lax.map(lambda y: product(product(y)), x), 2),
    "scan's outputs": (lambda x: lax.scan(lambda c, _: (product(c), c), x, None, 5)[1], 4),
    "carries that change places": (
        lambda x: lax.scan(lambda c, _: ((c[1], product(c[0])), None), (x, x), None, 5)[0],
        3,
    ),
    "the longest branch": (
        lambda x: lax.cond(x.sum() > 0, product, lambda x: conv(conv(x)), x),
        2,
    ),
    "a while without any": (
        lambda x: product(lax.while_loop(lambda c: c.sum() > 1, lambda c: c / 2, product(x))),
        2,
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_functions_by_hand(name):
    fn, depth = CHAINS[name]
    assert longest_chain(fn, IMAGES) == depth


def test_products_in_a_while_loop_are_refused():
    with pytest.raises(InputError, match="inside a while loop"):
        longest_chain(lambda x: lax.while_loop(lambda c: c.sum() < 1, product, x), IMAGES)


def test_only_the_last_argument_is_the_input():
    assert longest_chain(lambda w, x: x * (w @ w).sum(), kernel(6, 6), IMAGES) == 0
    assert longest_chain(lambda w, x: x @ (w @ w), kernel(6, 6), IMAGES) == 1


class Residual(nnx.Module):
    """Stem, two residual blocks of two convolutions, attention of one head, classifier."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.convs = nnx.List([nnx.Conv(4, 4, (3, 3), rngs=rngs) for _ in range(4)])
        self.stem = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.classifier = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        """Logits."""
        x = self.stem(x)
        for a, b in itertools.batched(self.convs, 2):
            x = x + b(nnx.relu(a(x)))
        return self.classifier(x.mean((1, 2)))


def test_a_module():
    images = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)
    assert score(Residual(), images, proxies="depth,params") == {"depth": 6.0, "params": 719.0}
