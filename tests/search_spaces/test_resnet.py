"""Residual networks against their plain, narrow selves, published sizes and their notation."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_close
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from reference import by_name

from jaxnas.errors import InputError
from jaxnas.proxies.relu_overlap import naswot
from jaxnas.proxy import Batch
from jaxnas.scoring.per_architecture import score_per_architecture
from jaxnas.search_spaces.resnet import ResNet
from jaxnas.spaces import Size

SPACE = ResNet()
VALID = "d2w16k3s0-d3w32k5s1-d1w64k3s0"
SIZE = Size(channels=2, cells=(3, 3, 2), resolution=9)
TEXTS = [VALID, "d1w48k7s0-d2w128k3s1-d2w192k5s1", "d3w64k5s1-d2w32k3s0-d2w256k7s0"]

rows = st.integers(0, SPACE.size - 1).map(
    lambda i: np.array(np.unravel_index(i, tuple(SPACE.choices)), np.int32)
)


class Plain:
    """The network that a notation describes, alone: nothing but its own channels and branches."""

    def __init__(self, weights, statistics, text, channels, images, *, running=False):
        self.weights, self.statistics, self.running = weights, statistics, running
        self.pre_activations = []
        stem = self.norm("stem.modules.1", self.conv("stem.modules.0", images, channels, 1))
        x = self.relu(stem)
        for stage, part in enumerate(text.split("-")):
            depth, width, kernel, skip = map(int, re.findall(r"\d+", part))
            width = width * channels // 16
            place, branch = f"stages.{stage}", (kernel - 3) // 2
            stride = 1 if stage == 0 else 2
            first = y = self.block(f"{place}.first", x, width, branch, stride, project=True)
            for i in range(depth - 1):
                inner = f"{place}.rest.{i}.branches.1"
                y = self.block(inner, y, width, branch, 1, project=False)
            if skip:
                y = y + first * weights[f"{place}.skip.branches.1.scale"][:width]
            x = y
        x = x.mean((1, 2))
        self.logits = x @ weights["classifier.kernel"][: x.shape[1]] + weights["classifier.bias"]

    def block(self, place, x, width, branch, stride, *, project):
        inner = self.conv(f"{place}.first.modules.0.branches.{branch}", x, width, stride)
        inner = self.relu(self.norm(f"{place}.first.modules.1", inner))
        y = self.norm(
            f"{place}.norm", self.conv(f"{place}.conv.branches.{branch}", inner, width, 1)
        )
        if project:
            x = self.conv(f"{place}.shortcut.modules.0", x, width, stride)
            x = self.norm(f"{place}.shortcut.modules.1", x)
        return self.relu(x + y)

    def conv(self, place, x, outputs, stride):
        kernel = self.weights[f"{place}.kernel"][:, :, : x.shape[3], :outputs]
        pad = ((len(kernel) - 1) // 2,) * 2
        layout = ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(
            x, kernel, (stride, stride), (pad, pad), dimension_numbers=layout
        )
        return np.asarray(y)

    def norm(self, place, x):
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        if self.running:
            mean, variance = (
                self.statistics[f"{place}.{name}"][: x.shape[3]] for name in ("mean", "variance")
            )
        scale, bias = (self.weights[f"{place}.{name}"][: x.shape[3]] for name in ("scale", "bias"))
        return (x - mean) / np.sqrt(variance + 1e-5) * scale + bias

    def relu(self, x):
        self.pre_activations.append(x)
        return np.maximum(x, 0)


@pytest.fixture(scope="module")
def network():
    return SPACE.network(SIZE, classes=3)


@pytest.fixture(scope="module")
def variables(network):
    """Everything random, so that nothing is 0 or 1 by chance."""
    fresh = network.init(jax.random.key(0))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: a + np.float32(rng.uniform(0, 0.1, a.shape)), fresh)


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).standard_normal((6, 9, 9, 3)), jnp.float32)


def plain(variables, text, images, **settings):
    arrays = [{k: np.asarray(v, np.float64) for k, v in by_name(t).items()} for t in variables]
    with jax.enable_x64(True):
        return Plain(*arrays, text, SIZE.channels, np.asarray(images, np.float64), **settings)


class TestNetwork:
    @pytest.mark.parametrize("mode", ["batch", "running"])
    def test_it_is_the_plain_network_of_its_own_channels(self, network, variables, images, mode):
        apply = jax.jit(lambda row: network.apply(variables, row, images, batch_norm=mode).logits)
        for text in TEXTS:
            got = apply(SPACE.rows(SPACE.from_string(text)[None])[0])
            expected = plain(variables, text, images, running=mode == "running").logits
            assert_trees_close(got, expected, rtol=1e-4, atol=1e-4)

    def test_naswot_is_that_of_the_plain_network(self, network, variables, images):
        archs = np.stack([SPACE.from_string(text) for text in TEXTS])
        batch = Batch(images, jnp.zeros(6, jnp.int32))
        fitted = [network.specialise(variables, row) for row in SPACE.rows(archs)]
        for text, arch, own in zip(TEXTS, archs, fitted, strict=True):
            row = SPACE.rows(arch[None])
            score = score_per_architecture(network, own, row, batch, [naswot])["naswot"]
            # Scoring gives each architecture the deviations of its own fan-in, here once more.
            twice = network.specialise(own, row[0])
            codes = [np.asarray(x) > 0 for x in plain(twice, text, images).pre_activations]
            assert len(codes) == 1 + 2 * sum(int(d) for d in re.findall(r"d(\d)", text))
            flat = np.concatenate([c.reshape(6, -1) for c in codes], axis=1)
            kernel = (flat[:, None] == flat[None]).sum(2)
            assert score[0] == pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-4)

    def test_fewer_cells_leave_out_the_last_blocks(self):
        archs = np.stack([SPACE.from_string(f"d2w16k3s0-d3w32k5s1-d{d}w64k3s0") for d in (4, 2, 1)])
        deep, two, one = SPACE.count(archs, SIZE, classes=3).params
        assert deep == two > one

    @pytest.mark.parametrize("cells", [(4, 4), (4, 4, 5), (0, 1, 1), (1,) * 4])
    def test_cells_that_are_no_depths_are_refused(self, cells):
        with pytest.raises(InputError, match=f"cells is {','.join(map(str, cells))}"):
            SPACE.network(Size(channels=2, cells=cells, resolution=8), classes=3)


class TestSizes:
    def test_resnet_20_has_the_published_parameters(self):
        """272,474 with projection shortcuts (0.27 M in the paper), and one projection more here."""
        arch = SPACE.from_string("d3w16k3s0-d3w32k3s0-d3w64k3s0")
        counts = SPACE.count(arch[None], SPACE.official_size, classes=10)
        projection = 16 * 16 + 2 * 16
        assert counts.params[0] == 272_474 + projection
        assert counts.macs[0] == 40_813_184 + 16 * 16 * 32 * 32

    def test_the_numbers_of_the_docstring(self):
        assert SPACE.size == 884_736
        a_stage = np.array(list(itertools.product(range(4), range(4), range(3), range(2))))
        archs = np.concatenate([a_stage, np.zeros((len(a_stage), 8), int)], axis=1)
        assert len(np.unique(SPACE.canonical(archs), axis=0)) ** 3 == 592_704


class TestStrings:
    def test_widths_are_those_of_the_official_size(self):
        arch = SPACE.from_string(VALID)
        assert arch.tolist() == [1, 0, 0, 0, 2, 0, 1, 1, 0, 0, 0, 0]
        assert SPACE.to_string(arch) == VALID

    @given(rows)
    def test_every_row_comes_back(self, row):
        np.testing.assert_array_equal(SPACE.from_string(SPACE.to_string(row)), row)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("d2w16k3s0", ["has 1 stages", "expected 3"]),
            (VALID + "-d1w16k3s0", ["has 4 stages"]),
            (VALID.replace("d3", "d5"), ["stage 2", "depth 5", "1, 2, 3, 4"]),
            (VALID.replace("w64", "w16"), ["stage 3", "width 16", "64, 128, 192, 256"]),
            (VALID.replace("k5", "k4"), ["stage 2", "kernel 4", "3, 5, 7"]),
            (VALID.replace("s1", "s2"), ["stage 2", "skip 2"]),
            (VALID.replace("d2w16", "w16d2"), ["stage 1", "'w16d2k3s0'"]),
            (VALID.replace("d2", "d²"), ["stage 1"]),
            (VALID.replace("-d1", "-"), ["stage 3", "'w64k3s0'"]),
        ],
    )
    def test_a_malformed_one_is_refused_where_it_goes_wrong(self, text, said):
        with pytest.raises(InputError) as caught:
            SPACE.from_string(text)
        assert all(part in str(caught.value) for part in [repr(text), *said]), caught.value

    @settings(max_examples=200)
    @given(st.text("dwks0123456-", max_size=32) | st.text())
    def test_any_text_parses_or_is_refused(self, text):
        try:
            arch = SPACE.from_string(text)
        except InputError:
            return
        SPACE.check(arch[None])


def test_the_drawing_has_every_block_and_the_skip():
    ((_, graph),) = SPACE.graphs(SPACE.from_string(VALID))
    blocks = [edge for edge in graph.edges if edge[2].startswith("block")]
    assert [edge[2] for edge in blocks] == ["block 3x3"] * 2 + ["block 5x5"] * 3 + ["block 3x3"]
    (skip,) = [edge for edge in graph.edges if edge[2] == "skip"]
    assert (graph.nodes[skip[0]], graph.nodes[skip[1]]) == ("2.1", "2.3 (32)")
    assert all(graph.live_edges())
