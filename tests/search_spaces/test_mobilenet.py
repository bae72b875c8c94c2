"""Mobile networks against their plain, narrow selves, Once-for-all's sizes and their notation."""

import re
from types import SimpleNamespace

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
from jaxnas.morphisms import morph
from jaxnas.nn import GlobalAvgPool
from jaxnas.proxies.relu_overlap import BinaryCodeKernel
from jaxnas.search_spaces.mobilenet import MobileNet
from jaxnas.spaces import Size
from jaxnas.stages.training import _programs

SPACE = MobileNet()
SIZE = Size(channels=2, cells=(3, 2, 3, 2, 2), resolution=12)
TEXTS = [
    "r0.75 w1.0 | d2 se0: k3e3 k5e6 | d2 se1: k7e4 k3e3 | d3 se0: k5e3 k3e4 k7e6 | "
    "d2 se1: k3e6 k3e3 | d2 se1: k5e3 k7e4",
    "r0.75 w1.2 | d3 se1: k7e6 k5e3 k3e3 | d2 se0: k3e3 k5e6 | d2 se1: k3e6 k7e3 | "
    "d2 se0: k5e4 k7e6 | d2 se0: k3e3 k3e3",
]
LARGEST = "k7e6 k7e6 k7e6 k7e6"
OFA = "r1.0 w1.0 | " + " | ".join(f"d4 se{se}: {LARGEST}" for se in (0, 1, 0, 1, 1))
OFA_WIDTHS = {
    1.0: (16, 24, 40, 80, 112, 160, 960, 1280),
    1.2: (24, 32, 48, 96, 136, 192, 1152, 1536),
}


def parsed(text):
    """The width multiplier, and of each stage whether it excites and its layers (kernel, expansion)."""
    first, *stages = text.split(" | ")
    layers = [re.findall(r"k(\d)e(\d)", stage) for stage in stages]
    excites = ["se1" in stage for stage in stages]
    return float(first.split("w")[1]), [
        (excite, [(int(k), int(e)) for k, e in own])
        for excite, own in zip(excites, layers, strict=True)
    ]


def hard_swish(x):
    return x * np.clip(x + 3, 0, 6) / 6


def relu(x):
    return np.maximum(x, 0)


class Plain:
    """The network that a notation describes, alone: nothing but its own channels and branches."""

    def __init__(self, weights, text, channels, images):
        self.weights, self.codes = weights, []
        multiplier, stages = parsed(text)
        stem, *widths, last, mixed = (
            round(width * channels / 16) for width in OFA_WIDTHS[multiplier]
        )
        small = images.shape[1] < 64
        x = self.conv("stem.modules.0", images, stem, 1 if small else 2)
        x = self.act(hard_swish, self.norm("stem.modules.1", x))
        x = self.first_block("stem.modules.3.layers.modules", x)
        place = 0
        for s, (width, (excite, layers)) in enumerate(zip(widths, stages, strict=True)):
            act = relu if s < 2 else hard_swish
            for i, (kernel, expansion) in enumerate(layers):
                stride = 2 if i == 0 and s != 3 and not (small and s == 0) else 1
                name = f"layers.{place + i}" + (".branches.1" if i >= 2 else "")
                x = self.layer(name, x, width, kernel, expansion, excite, stride, act)
            place += SIZE.cells[s]
        x = self.act(
            hard_swish, self.norm("head.modules.1", self.conv("head.modules.0", x, last, 1))
        )
        x = x.mean((1, 2))
        x = self.act(hard_swish, x @ weights["head.modules.4.kernel"][: x.shape[1], :mixed])
        self.logits = x @ weights["classifier.kernel"][:mixed] + weights["classifier.bias"]

    def first_block(self, name, x):
        y = self.conv(f"{name}.0", x, x.shape[3], 1, groups=x.shape[3])
        y = self.act(relu, self.norm(f"{name}.1", y))
        return x + self.norm(f"{name}.4", self.conv(f"{name}.3", y, x.shape[3], 1))

    def layer(self, name, x, width, kernel, expansion, excite, stride, act):
        hidden = expansion * x.shape[3]
        y = self.conv(f"{name}.expand.modules.0", x, hidden, 1)
        y = self.act(act, self.norm(f"{name}.expand.modules.1", y))
        branch = f"{name}.depthwise.branches.{(kernel - 3) // 2}"
        y = self.conv(branch, y, hidden, stride, groups=hidden)
        y = self.act(act, self.norm(f"{name}.activate.modules.0", y))
        if excite:
            y = y * self.gate(f"{name}.excite.branches.1", y.mean((1, 2)))[:, None, None]
        y = self.norm(f"{name}.norm", self.conv(f"{name}.project", y, width, 1))
        return y if stride == 2 or x.shape[3] != width else x + y

    def gate(self, name, mean):
        channels, w = mean.shape[1], self.weights
        # The multiple of 8 nearest to a quarter, as MobileNetV3's authors round.
        between = max(8, (channels // 4 + 4) // 8 * 8)
        between += 8 if between < 0.9 * (channels // 4) else 0
        squeeze = w[f"{name}.squeeze"][:channels, :between]
        hidden = relu(mean @ squeeze + w[f"{name}.squeeze_bias"][:between])
        excite = w[f"{name}.excite"][:between, :channels]
        return np.clip(hidden @ excite + w[f"{name}.excite_bias"][:channels] + 3, 0, 6) / 6

    def conv(self, name, x, outputs, stride, groups=1):
        inner = x.shape[3] // groups
        kernel = self.weights[f"{name}.kernel"][:, :, :inner, :outputs]
        pad = ((len(kernel) - 1) // 2,) * 2
        y = lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            (pad, pad),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
        return np.asarray(y)

    def norm(self, name, x):
        scale, bias = (self.weights[f"{name}.{part}"][: x.shape[3]] for part in ("scale", "bias"))
        return (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5) * scale + bias

    def act(self, function, x):
        self.codes.append((x > 0).reshape(len(x), -1))
        return function(x)


@pytest.fixture(scope="module")
def network():
    return SPACE.network(SIZE, classes=3, shape_class=0)


@pytest.fixture(scope="module")
def variables(network):
    """Everything random, so that nothing is 0 or 1 by chance."""
    fresh = network.init(jax.random.key(0))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: a + np.float32(rng.uniform(0, 0.1, a.shape)), fresh)


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).standard_normal((8, 9, 9, 3)), jnp.float32)


@pytest.fixture(scope="module")
def run(network, images):
    """Logits and NASWOT's kernel of a row."""

    @jax.jit
    def run(variables, row):
        outputs = network.apply(variables, row, images, tap=BinaryCodeKernel())
        return outputs.logits, outputs.carry

    return lambda variables, arch: run(variables, SPACE.rows(arch[None])[0])


class TestNetwork:
    @pytest.mark.parametrize("text", TEXTS)
    def test_it_is_the_plain_network_of_its_own_channels(self, run, variables, images, text):
        logits, kernel = run(variables, SPACE.from_string(text))
        weights = {k: np.asarray(v, np.float64) for k, v in by_name(variables.params).items()}
        with jax.enable_x64(True):
            plain = Plain(weights, text, SIZE.channels, np.asarray(images, np.float64))
        assert_trees_close(logits, plain.logits, rtol=1e-3, atol=1e-3)
        codes = np.concatenate(plain.codes, axis=1)
        units = codes.shape[1]
        expected = (codes[:, None] == codes[None]).sum(2)
        assert np.diag(kernel).tolist() == [units] * len(images)
        # A code may be of another sign where its number is all but 0.
        np.testing.assert_allclose(kernel, expected, atol=1e-3 * units)

    @pytest.mark.parametrize(
        ("side", "last"), [(224, 7), (64, 2), (63, 8), (32, 4), (9, 2), (8, 1)]
    )
    def test_the_side_of_the_last_images(self, side, last):
        size = Size(channels=1, cells=(1,) * 5, resolution=side)
        network = SPACE.network(size, classes=3, shape_class=1)
        (pool,) = [s for s in network.survey.sites if isinstance(s.layer, GlobalAvgPool)]
        assert pool.x.shape[1:3] == (last, last)

    def test_resolutions_are_shape_classes_and_may_coincide(self):
        assert SPACE.programs == 2
        rows = np.stack([SPACE.from_string(OFA), SPACE.from_string(OFA.replace("r1.0", "r0.75"))])
        assert SPACE.shape_classes(rows).tolist() == [1, 0]

        def of(side, kind):
            size = Size(channels=1, cells=(1,) * 5, resolution=side)
            return SPACE.network(size, classes=3, shape_class=kind)

        assert [of(224, k).resolution for k in (0, 1)] == [168, 224]
        assert [of(10, k).resolution for k in (0, 1)] == [8, 10]
        assert of(8, 0) == of(8, 1)
        assert of(10, 0) != of(10, 1)

    @pytest.mark.parametrize(("side", "programs"), [(8, 1), (10, 2)])
    def test_resolutions_that_coincide_are_trained_in_one_program(self, side, programs):
        rows = np.stack([SPACE.from_string(OFA), SPACE.from_string(OFA.replace("r1.0", "r0.75"))])
        size = Size(channels=1, cells=(1,) * 5, resolution=side)

        def network(config, shape_class):
            return SPACE.network(size, classes=3, shape_class=shape_class)

        job = SimpleNamespace(space=SPACE, network=network)
        kinds, networks = _programs(job, None, rows)
        assert kinds.tolist() == ([0, 0] if programs == 1 else [1, 0])
        assert {k: n.resolution for k, n in networks.items()} == {0: 8, 1: 10} or programs == 1
        assert len(networks) == programs

    @pytest.mark.parametrize("cells", [(4,) * 4, (4, 4, 4, 4, 5), (0, 1, 1, 1, 1)])
    def test_cells_that_are_no_depths_are_refused(self, cells):
        with pytest.raises(InputError, match=f"cells is {','.join(map(str, cells))}"):
            SPACE.network(Size(channels=2, cells=cells, resolution=8), classes=3)


class TestSizes:
    def test_once_for_alls_largest_network_has_the_published_parameters(self):
        """7.7 M: "we only require 7.7M parameters to store all of them" (arXiv:1908.09791, 3.2)."""
        arch = SPACE.from_string(OFA)
        counts = SPACE.count(arch[None], SPACE.official_size, classes=1000)
        assert round(counts.params[0] / 1e6, 1) == 7.7
        assert counts.params[0] == parameters(OFA, classes=1000)

    @pytest.mark.parametrize("text", TEXTS)
    def test_parameters_by_hand(self, text):
        arch = SPACE.from_string(text)
        counts = SPACE.count(arch[None], SPACE.official_size, classes=10)
        assert counts.params[0] == parameters(text, classes=10)

    def test_the_numbers_of_the_docstring(self):
        assert SPACE.size == 4 * (3 * 2 * 9**4) ** 5
        # What is left of a stage once decisions of absent layers are 0.
        rng = np.random.default_rng(0)
        archs = np.zeros((60_000, 52), np.int32)
        archs[:, 2:12] = rng.integers(0, SPACE.choices[2:12], (60_000, 10))
        a_stage = np.unique(SPACE.canonical(archs), axis=0)
        shallow = a_stage[a_stage[:, 2] == 0]
        assert len(shallow) == 2 * 9**2
        assert len(np.unique(a_stage[a_stage[:, 2] == 1], axis=0)) == 2 * 9**3
        # Once-for-all's "roughly 2 x 10^19", without squeeze-excite and the multipliers.
        assert f"{(9**2 + 9**3 + 9**4) ** 5:.0e}" == "2e+19"


def parameters(text, *, classes):
    """Weights, biases and two numbers a batch-normalised channel, added up layer by layer."""
    multiplier, stages = parsed(text)
    stem, *widths, last, mixed = OFA_WIDTHS[multiplier]
    total = 27 * stem + 2 * stem + 9 * stem + 2 * stem + stem**2 + 2 * stem
    x = stem
    for width, (excite, layers) in zip(widths, stages, strict=True):
        for kernel, expansion in layers:
            h = expansion * x
            total += x * h + 2 * h + kernel**2 * h + 2 * h + h * width + 2 * width
            if excite:
                between = int(max(8, (h // 4 + 4) // 8 * 8))
                between += 8 if between < 0.9 * (h // 4) else 0
                total += h * between + between + between * h + h
            x = width
    return total + x * last + 2 * last + last * mixed + mixed * classes + classes


class TestMorphisms:
    @pytest.mark.parametrize(
        "child",
        [
            TEXTS[0].replace("w1.0", "w1.2"),
            TEXTS[0].replace("k3e3 k5e6", "k7e4 k7e6"),
            TEXTS[0].replace("d2 se0: k3e3 k5e6", "d3 se0: k3e3 k5e6 k7e4"),
            "r0.75 w1.2 | d3 se0: k5e4 k7e6 k3e4 | d2 se1: k7e6 k5e6 | d3 se0: k7e6 k5e6 k7e6 | "
            "d2 se1: k7e6 k5e4 | d2 se1: k7e4 k7e6",
        ],
        ids=["wider", "expansion and kernel", "deeper", "all"],
    )
    def test_a_network_grows_and_keeps_its_function(self, network, variables, run, child):
        arch, grown = SPACE.from_string(TEXTS[0]), SPACE.from_string(child)
        new = morph(SPACE, network, variables, arch, grown, jax.random.key(3))
        (before, _), (after, _) = run(variables, arch), run(new, grown)
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("d2 se0: k3e3", "d2 se1: k3e3", "stage1.se goes from no to yes"),
            ("r0.75", "r1.0", "resolution goes from 0.75 to 1.0"),
            ("k5e6", "k5e3", "stage1.layer2.expansion goes from 6 to 3"),
        ],
    )
    def test_what_is_not_reachable_is_said(self, network, variables, old, new, said):
        child = SPACE.from_string(TEXTS[0].replace(old, new))
        with pytest.raises(InputError, match=re.escape(said)):
            morph(SPACE, network, variables, SPACE.from_string(TEXTS[0]), child, jax.random.key(0))


class TestStrings:
    def test_the_layers_that_are_there(self):
        arch = SPACE.from_string(TEXTS[0])
        assert arch[:12].tolist() == [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0]
        assert SPACE.to_string(arch) == TEXTS[0]

    @given(st.integers(0, 2**32 - 1))
    def test_every_pruned_row_comes_back(self, seed):
        row = SPACE.sample(jax.random.key(seed), 1)
        text = SPACE.to_string(row[0])
        np.testing.assert_array_equal(SPACE.from_string(text), SPACE.pruned(row)[0])

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            (" | d2 se1: k5e3 k7e4", "", ["has 4 stages", "expected 5"]),
            ("r0.75", "r0.5", ["resolution 0.5", "0.75, 1.0"]),
            ("w1.0", "w1", ["width 1 ", "1.0, 1.2"]),
            ("r0.75 w1.0", "w1.0 r0.75", ["multipliers", "'w1.0 r0.75'"]),
            ("d2 se0: k3e3", "d5 se0: k3e3", ["stage 1", "depth 5", "2, 3, 4"]),
            ("d2 se0: k3e3", "d3 se0: k3e3", ["stage 1", "2 layers, expected 3"]),
            ("d2 se0: k3e3", "d2 se2: k3e3", ["stage 1", "se 2", "0, 1"]),
            ("d2 se0: k3e3", "se0 d2: k3e3", ["stage 1", "expected depth"]),
            ("k5e6", "k4e6", ["stage 1", "kernel of layer 2 4", "3, 5, 7"]),
            ("k5e6", "k5e5", ["stage 1", "expansion of layer 2 5", "3, 4, 6"]),
            ("k5e6", "e6k5", ["stage 1", "layer 2", "'e6k5'"]),
        ],
    )
    def test_a_malformed_one_is_refused_where_it_goes_wrong(self, old, new, said):
        text = TEXTS[0].replace(old, new, 1)
        with pytest.raises(InputError) as caught:
            SPACE.from_string(text)
        assert all(part in str(caught.value) for part in [repr(text), *said]), caught.value

    tokens = st.sampled_from(
        ["r1.0", "w1.0", " ", "|", " | ", "d2", "se0", ":", "k3e3", "k", "e", "7"]
    )

    @settings(max_examples=200)
    @given(st.lists(tokens, max_size=40).map("".join) | st.text())
    def test_any_text_parses_or_is_refused(self, text):
        try:
            arch = SPACE.from_string(text)
        except InputError:
            return
        SPACE.check(arch[None])


def test_the_drawing_has_every_layer():
    ((caption, graph),) = SPACE.graphs(SPACE.from_string(TEXTS[0]))
    assert caption == "network r0.75 w1.0"
    layers = [operation for *_, operation in graph.edges]
    assert layers[:4] == ["stem", "mbconv k3e1", "mbconv k3e3", "mbconv k5e6"]
    assert layers[4:6] == ["mbconv k7e4 se", "mbconv k3e3 se"]
    assert len(layers) == 2 + 11 + 1
