"""TransNAS-Bench-101's macro networks against ResNet-18, and each against the narrow one built alone."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_close, compilations
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxnas.errors import InputError
from jaxnas.proxies.relu_overlap import naswot
from jaxnas.search_spaces.transnas_macro import SLOTS, TransNASMacro
from jaxnas.spaces import Size

SPACE = TransNASMacro()
ARCHS = SPACE.all()
STEM = 27 * 32 + 2 * 32 + 9 * 32 * 64 + 2 * 64
"""The official stem's parameters."""


def members():
    """Every string of the space, by its definition."""
    for modules in (4, 5, 6):
        for codes in itertools.product("1234", repeat=modules):
            doubled = sum(code in "24" for code in codes)
            halved = sum(code in "34" for code in codes)
            if 1 <= doubled <= 3 and 1 <= halved <= 4:
                yield f"64-{''.join(codes)}-basic"


class TestStrings:
    def test_there_are_3256_of_them(self):
        strings = [SPACE.to_string(arch) for arch in ARCHS]
        assert sorted(strings) == sorted(members())
        assert len(strings) == SPACE.size == 3256
        np.testing.assert_array_equal([SPACE.from_string(text) for text in strings], ARCHS)

    def test_modules_that_are_not_there_are_0(self):
        assert SPACE.from_string(" 64-1234-basic\n").tolist() == [0, 1, 2, 3, 0, 0]
        assert SPACE.from_string("64-123414-basic").tolist() == [0, 1, 2, 3, 1, 4]
        ((_, graph),) = SPACE.graphs(SPACE.from_string("64-1234-basic"))
        assert [op for _, _, op in graph.edges] == [
            "stem",
            "normal",
            "channels x2",
            "resolution /2",
            "channels x2, resolution /2",
            "head",
        ]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", ["is not written '64-MODULES-basic'", "64-1234-basic"]),
            ("32-1234-basic", ["is not written '64-MODULES-basic'"]),
            ("64-41414-1_02_333", ["is not written"]),
            ("64-1234", ["is not written"]),
            ("64-1254-basic", ["'5' among them", "4 (channels x2, resolution /2)"]),
            ("64-12³4-basic", ["'³' among them"]),
            ("64-124-basic", ["3 of them", "expected 4 to 6"]),
            ("64-1234123-basic", ["7 of them"]),
            ("64--basic", ["''", "0 of them"]),
            ("64-1111-basic", ["channels 0 times", "resolution 0 times"]),
            (
                "64-4444-basic",
                ["channels 4 times", "resolution 4 times, expected 1 to 3 and 1 to 4"],
            ),
            ("64-433332-basic", ["channels 2 times", "resolution 5 times"]),
        ],
    )
    def test_a_malformed_one_is_refused_where_it_goes_wrong(self, text, said):
        with pytest.raises(InputError) as caught:
            SPACE.from_string(text)
        message = str(caught.value)
        assert all(part in message for part in [repr(text), *said]), message

    @settings(max_examples=300)
    @given(st.text("1234", min_size=3, max_size=7), st.integers(0, 12), st.text(max_size=2))
    def test_any_text_parses_or_is_refused(self, modules, at, put):
        whole = f"64-{modules}-basic"
        text = whole[:at] + put + whole[at:]
        try:
            arch = SPACE.from_string(text)
        except InputError:
            return
        assert SPACE.to_string(arch) == text.strip()

    def test_rows_outside_the_space_are_not_valid(self):
        rows = np.array([[0, 1, 2, 3, 0, 1], [0, 0, 0, 0, 0, 0], [3, 3, 3, 3, 0, 0]])
        assert not SPACE.valid(rows).any()


class TestSizes:
    def test_parameters_are_resnet_18s_but_for_the_stem(self):
        # torchvision's has 11,689,512; its stem is one 7x7 convolution and batch norm.
        arch = SPACE.from_string("64-1444-basic")[None]
        params = SPACE.count(arch, SPACE.official_size, classes=1000).params[0]
        assert params - STEM + 49 * 3 * 64 + 2 * 64 == 11_689_512

    def test_multiply_adds_are_resnet_18s_but_for_the_stem(self):
        # 1.814 G at 224x224.
        arch = SPACE.from_string("64-1444-basic")[None]
        macs = SPACE.count(arch, Size(64, (2,), 224), classes=1000).macs[0]
        own = 27 * 32 * 112**2 + 9 * 32 * 64 * 56**2
        assert round((macs - own + 49 * 3 * 64 * 112**2) / 1e6) == 1814

    def test_all_as_counted_slowly(self):
        counts = SPACE.count(ARCHS, SPACE.official_size, classes=75)
        for arch, params, macs in zip(ARCHS, *counts, strict=True):
            assert counted_slowly(SPACE.to_string(arch)) == (params, macs)

    @pytest.mark.parametrize("cells", [(), (0,), (2, 2)])
    def test_cells_are_one_number(self, cells):
        with pytest.raises(InputError, match="one number of cells"):
            SPACE.network(Size(channels=2, cells=cells, resolution=8), classes=3)


def counted_slowly(text):
    """Parameters and multiply-adds of the official network of 75 classes, convolution by convolution."""
    channels, side = 64, 64
    params, macs = STEM, 27 * 32 * 128**2 + 9 * 32 * 64 * 64**2
    for code in text.split("-")[1]:
        inputs, channels = channels, channels * (2 if code in "24" else 1)
        side = side // (2 if code in "34" else 1)
        weights = [9 * inputs * channels, *[9 * channels**2] * 3]
        if code != "1":
            weights.append(inputs * channels)
        params += sum(weights) + 2 * channels * len(weights)
        macs += sum(weights) * side**2
    return params + (channels + 1) * 75, macs + channels * 75


def convolution(x, kernel, stride=1):
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def normalised(x):
    axes = (0, 1, 2)
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-5)


class Narrow:
    """A network of 9x9 images built alone from the super-network's weights: exactly its own channels."""

    def __init__(self, params):
        self.params, self.codes = params, []

    def relu(self, x):
        self.codes.append(np.asarray(x > 0, np.float64).reshape(len(x), -1))
        return jnp.maximum(x, 0)

    def unit(self, parts, x, outputs, stride=1):
        kernel = parts["modules"][1]["kernel"][...][:, :, : x.shape[-1], :outputs]
        return normalised(convolution(self.relu(x), kernel, stride))

    def block(self, parts, x, outputs, stride, projection):
        y = self.unit(parts["conv_a"], x, outputs, stride)
        y = self.unit(parts["conv_b"], y, outputs)
        if projection is None:
            return y + x
        kernel = projection["modules"][0]["kernel"][...][:, :, : x.shape[-1], :outputs]
        return y + normalised(convolution(x, kernel, stride))

    def modules(self, codes):
        """Each module's code and where the super-network keeps it."""
        phase, parts, place = 0, self.params["phases"], 0
        for code in codes:
            if code in "34":
                rest = parts["rest"]
                parts = rest if phase == 0 else rest["branches"][1]
                phase, place = phase + 1, 0
                yield code, parts["modules"][0]
            else:
                yield code, parts["modules"][place + (phase > 0)]["branches"][1]
                place += 1
            assert place <= SLOTS[phase]

    def logits(self, text, x):
        stem = self.params["stem"]["modules"]
        x = normalised(convolution(x, stem[0]["kernel"][...]))
        channels = stem[2]["modules"][1]["kernel"].shape[3]
        x = self.unit(stem[2], x, channels)
        for code, parts in self.modules(text.split("-")[1]):
            channels *= 2 if code in "24" else 1
            first, second = parts["modules"][0], parts["modules"][1]
            shortcut = first.get("shortcut", None)
            if code == "1":
                shortcut = None
            elif code == "2":
                shortcut = shortcut["branches"][1]
            x = self.block(first, x, channels, 2 if code in "34" else 1, shortcut)
            x = self.block(second, x, channels, 1, None)
        classifier = self.params["classifier"]
        pooled = x.mean((1, 2))
        return pooled @ classifier["kernel"][...][:channels] + classifier["bias"][...][None]

    @property
    def naswot_kernel(self):
        return sum(c @ c.T + (1 - c) @ (1 - c).T for c in self.codes)


IMAGES = jnp.asarray(np.random.default_rng(0).standard_normal((4, 9, 9, 3)), jnp.float32)


@pytest.fixture(scope="module")
def small():
    """A network of few channels, its variables, and `run(row)`, which is compiled once."""
    network = SPACE.network(Size(channels=2, cells=(2,), resolution=9), classes=3)
    variables = network.init(jax.random.key(0))

    @jax.jit
    def run(row):
        fitted = network.specialise(variables, row)
        return network.apply(fitted, row, IMAGES, tap=naswot.tap)

    return network, variables, run


@pytest.mark.parametrize(
    "text", ["64-1234-basic", "64-111114-basic", "64-431243-basic", "64-322213-basic"]
)
def test_masked_networks_are_the_narrow_ones_built_alone(small, text):
    network, variables, run = small
    row = SPACE.rows(SPACE.from_string(text)[None])[0]
    got = run(row)
    alone = Narrow(network.specialise(variables, row).params)
    assert_trees_close(got.logits, alone.logits(text, IMAGES), rtol=1e-3, atol=1e-4)
    assert_trees_close(got.carry, alone.naswot_kernel)


def test_one_program_serves_all_resolutions(small):
    _, _, run = small
    rows = SPACE.rows(ARCHS[[0, 100, 1500, 3255]])
    run(rows[0])
    with compilations() as compiled:
        outputs = [run(row).logits for row in rows[1:]]
    assert compiled == []
    assert all(jnp.isfinite(logits).all() for logits in outputs)
    assert SPACE.programs == 1


def test_every_module_has_a_place_of_its_own():
    """The rows say of each network how many modules there are, in each of its phases."""
    rows = SPACE.rows(ARCHS)
    assert rows.shape == (3256, 3 * (sum(SLOTS) + 4) + 1)
    there = rows[:, :-1].reshape(len(rows), -1, 3)[..., 0]
    codes = [SPACE.to_string(arch).split("-")[1] for arch in ARCHS]
    np.testing.assert_array_equal(there.sum(1), [len(modules) for modules in codes])
    doubled = [sum(code in "24" for code in modules) for modules in codes]
    np.testing.assert_array_equal(rows[:, -1], doubled)
    assert len(np.unique(rows, axis=0)) == len(rows)
