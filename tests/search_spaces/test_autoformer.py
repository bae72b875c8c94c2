"""AutoFormer's space against published sizes and against networks built alone from the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_trees_close
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import alone, transformer

import jaxnas
from jaxnas.errors import InputError
from jaxnas.proxies import get_proxies
from jaxnas.proxy import Batch
from jaxnas.scoring.per_architecture import score_per_architecture
from jaxnas.search_spaces.autoformer import (
    DEPTH,
    DEPTHS,
    EMBEDDING,
    EMBEDDINGS,
    FIRST_HEADS,
    FIRST_RATIO,
    HEADS,
    LAYERS,
    RATIOS,
    AutoFormer,
    patch_side,
)
from jaxnas.spaces import Size

SPACE = AutoFormer()
SMALL = Size(channels=30, cells=(4,), resolution=8)
NETWORK = SPACE.network(SMALL, classes=3, image_channels=2)
IMAGES = jnp.asarray(np.random.default_rng(0).standard_normal((4, 8, 8, 2)), jnp.float32)
LABELS = jnp.array([0, 1, 2, 0])
ARCHS = SPACE.sample(jax.random.key(3), 6)


def text(depth, heads, ratio, embedding):
    return f"({', '.join(map(str, [depth, *[ratio] * depth, *[heads] * depth, embedding]))})"


class TestSizes:
    def test_deit_tiny_is_a_member_without_relative_positions(self):
        # DeiT-Ti (arXiv:2012.12877) has 5,717,416 parameters; keys and values of each layer have
        # tables of 30 vertical and 30 horizontal relative positions of 64 channels on top.
        arch = SPACE.from_string(text(12, 3, 4, 192))
        counts = SPACE.count(arch[None], SPACE.official_size, classes=1000)
        assert counts.params.tolist() == [5_717_416 + 12 * 4 * 30 * 64]

    @pytest.mark.parametrize("arch", ARCHS, ids=SPACE.to_string)
    def test_by_hand(self, arch):
        e, tokens = EMBEDDINGS[arch[EMBEDDING]], 14 * 14 + 1
        params = (16 * 16 * 3 + 1) * e + e + tokens * e + 2 * e + (e + 1) * 10
        macs = (tokens - 1) * 16 * 16 * 3 * e + e * 10
        for i in range(DEPTHS[arch[DEPTH]]):
            q, u = 64 * HEADS[arch[FIRST_HEADS + i]], int(RATIOS[arch[FIRST_RATIO + i]] * e)
            params += (
                4 * e + 3 * (e + 1) * q + 4 * 30 * 64 + (q + 1) * e + (e + 1) * u + (u + 1) * e
            )
            macs += tokens * (4 * e * q + 2 * e * u) + 2 * tokens**2 * q
        counts = SPACE.count(arch[None], SPACE.official_size, classes=10)
        assert (counts.params[0], counts.macs[0]) == (params, macs)

    def test_the_size_counts_architectures_without_absent_layers(self):
        assert SPACE.size == 3 * (4**12 + 4**13 + 4**14) == 1_056_964_608

    @pytest.mark.parametrize(
        ("resolution", "side"), [(8, 2), (9, 2), (16, 2), (32, 4), (64, 8), (224, 16)]
    )
    def test_patches_fit_the_images(self, resolution, side):
        assert patch_side(resolution) == side
        assert 4 <= -(-resolution // side) <= 15


@pytest.fixture(scope="module")
def variables():
    noise = np.random.default_rng(1)
    # Biases begin at 0, where a masked channel would not show.
    return jax.tree.map(
        lambda a: a + 0.2 * jnp.asarray(noise.standard_normal(a.shape), a.dtype),
        NETWORK.init(jax.random.key(0)),
    )


@pytest.fixture(scope="module")
def logits(variables):
    return jax.jit(lambda row: NETWORK.apply(variables, row, IMAGES).logits)


@pytest.mark.parametrize("arch", ARCHS, ids=SPACE.to_string)
def test_a_masked_network_is_the_one_built_alone(arch, variables, logits):
    got = logits(SPACE.rows(arch[None])[0])
    expected = transformer(alone(NETWORK, arch, variables), IMAGES)
    assert_trees_close(got, expected, rtol=1e-3, atol=1e-4)


def test_so_are_its_gradients(variables):
    rows = SPACE.rows(ARCHS)
    batch = Batch(IMAGES, LABELS)
    got = score_per_architecture(NETWORK, variables, rows, batch, get_proxies(["grad_norm"]))
    for row, arch, score in zip(rows, ARCHS, got["grad_norm"], strict=True):
        weights = alone(NETWORK, arch, NETWORK.specialise(variables, row))

        def loss(weights):
            answers = transformer(weights, IMAGES)
            return optax.softmax_cross_entropy_with_integer_labels(answers, LABELS).mean()

        gradients = jax.tree.leaves(jax.grad(loss)(weights))
        expected = sum(float(jnp.linalg.norm(g)) for g in gradients if g.ndim > 1)
        assert score == pytest.approx(expected, rel=1e-3)


def test_layers_between_the_first_and_the_last_two_are_left_out_of_small_networks():
    arch = SPACE.from_string(text(14, 3, 4, 216))
    other = arch.copy()
    other[FIRST_HEADS + 2 : FIRST_HEADS + 12] = 1
    rows = SPACE.rows(np.stack([arch, other]))
    counts = NETWORK.count(rows)
    assert counts.params[0] == counts.params[1]
    other[FIRST_HEADS + 12] = 1
    assert NETWORK.count(SPACE.rows(other[None])).params[0] > counts.params[0]


@pytest.mark.parametrize("cells", [(2,), (15,), (4, 4)])
def test_other_depths_are_refused(cells):
    with pytest.raises(InputError, match=r"from 3 to 14"):
        SPACE.network(Size(30, cells, 8), classes=3)


@pytest.mark.parametrize("name", ["naswot", "linear_regions"])
def test_what_reads_relus_is_refused_in_one_sentence(name):
    options = {"size": SMALL, "archs": ARCHS, "batch_size": 4}
    with pytest.raises(InputError) as caught:
        jaxnas.rank(SPACE, np.asarray(IMAGES), proxies=name, **options)
    assert str(caught.value) == (
        f"{name} reads the inputs of ReLUs, and the networks of this space have none: "
        "it does not apply here."
    )


def test_it_is_ranked_by_default_without_labels():
    table = jaxnas.rank(SPACE, np.asarray(IMAGES), size=SMALL, archs=ARCHS, batch_size=4)
    assert list(table.columns) == ["index", "arch", "dss", "params", "score", "rank"]
    assert (table["dss"] > 0).all()
    assert table["dss"].nunique() == len(ARCHS)


class TestStrings:
    def test_the_authors_tuple(self):
        arch = SPACE.from_string(text(12, 3, 3.5, 216))
        assert arch[[EMBEDDING, DEPTH]].tolist() == [1, 0]
        assert not arch[FIRST_HEADS:].any()
        assert SPACE.to_string(arch) == text(12, 3, 3.5, 216)
        other = SPACE.from_string(text(14, 4, 4.0, 240).removeprefix("(").removesuffix(")"))
        assert other[[EMBEDDING, DEPTH]].tolist() == [2, 2]
        assert (other[FIRST_HEADS:] == 1).all()

    def test_layers_are_in_order(self):
        arch = np.zeros(2 + 2 * LAYERS, np.int32)
        arch[FIRST_HEADS + 1] = arch[FIRST_RATIO + 2] = 1
        numbers = SPACE.to_string(arch).strip("()").split(", ")
        assert numbers[:4] == ["12", "3.5", "3.5", "4"]
        assert numbers[13:16] == ["3", "4", "3"]

    @pytest.mark.parametrize(
        ("spoil", "said"),
        [
            (lambda t: t.replace("(12", "(11"), ["depth is '11'", "12, 13, 14"]),
            (lambda t: t.replace("(12", "(13"), ["26 numbers, expected 28"]),
            (lambda t: t.replace("192", "200"), ["embedding is '200'"]),
            (lambda t: t.replace("4,", "3,", 1), ["ratio 1 is '3'", "3.5, 4"]),
            (lambda t: t.replace(" 3, 192", " 5, 192"), ["heads 12 is '5'"]),
            (lambda t: t.replace(" 3, 192", " , 192"), ["heads 12 is ''"]),
        ],
    )
    def test_a_malformed_one_is_refused_where_it_goes_wrong(self, spoil, said):
        spoilt = spoil(text(12, 3, 4, 192))
        with pytest.raises(InputError) as caught:
            SPACE.from_string(spoilt)
        assert all(part in str(caught.value) for part in [repr(spoilt), *said]), caught.value

    tokens = st.sampled_from(["12", "13", "3", "3.5", "4", "192", "", "(", ")", "x", "²"])

    @settings(max_examples=200)
    @given(st.one_of(st.text(), st.lists(tokens, max_size=30).map(",".join)))
    def test_any_text_parses_or_is_refused(self, words):
        try:
            arch = SPACE.from_string(words)
        except InputError:
            return
        np.testing.assert_array_equal(SPACE.from_string(SPACE.to_string(arch)), arch)
