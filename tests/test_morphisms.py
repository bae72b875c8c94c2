"""A grown network computes what its trained parent does, and is trained on from there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_trees_equal
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import by_name

from jaxnas.errors import InputError
from jaxnas.morphisms import grow, morph
from jaxnas.network import Network
from jaxnas.nn import (
    BatchNorm,
    Choice,
    Conv,
    GlobalAvgPool,
    Identity,
    Layer,
    Linear,
    MBConv,
    ReLU,
    Sequential,
    Width,
)
from jaxnas.search_spaces.resnet import ResNet
from jaxnas.spaces import Size
from jaxnas.training.evaluation import evaluate_population
from jaxnas.training.hyper import Hyper
from jaxnas.training.population import (
    TrainingData,
    init_population,
    population_of,
    train_population,
)

SPACE = ResNet()
SIZE = Size(channels=2, cells=(2, 2, 1), resolution=8)
PARENTS = [
    "d1w16k3s0-d1w32k3s0-d1w64k3s0",
    "d2w16k3s0-d2w32k3s0-d2w64k3s0",
    "d1w32k5s0-d2w64k3s1-d1w128k5s0",
    "d2w48k3s1-d1w32k7s0-d2w64k3s0",
]
ROWS = np.stack([SPACE.from_string(text) for text in PARENTS])


def split(n, seed):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = rng.standard_normal((n, 8, 8, 1)) + 0.5 * y[:, None, None, None]
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)


DATA = TrainingData(*split(32, 0), *split(30, 1))


@pytest.fixture(scope="module")
def network():
    return SPACE.network(SIZE, classes=3, image_channels=1)


@pytest.fixture(scope="module")
def trained(network):
    """A population of the parents, after three epochs."""
    rows = SPACE.rows(ROWS)
    population = init_population(network, np.arange(len(rows)), rows)
    return train(network, population, ROWS, epochs=3)


def state_of(members):
    """As many places as the parents have, so that nothing is compiled anew."""
    repeated = [members[i % len(members)] for i in range(len(PARENTS))]
    return population_of(repeated, np.arange(len(PARENTS)) + 5)


def train(network, population, archs, **settings):
    """The state is used up, so a copy is trained."""
    copy = jax.tree.map(jnp.array, population)
    hyper = Hyper.constant(len(archs), learning_rate=0.05)
    return train_population(
        network, SPACE.rows(archs), hyper, DATA, population=copy, batch_size=8, **settings
    )


@pytest.fixture(scope="module")
def logits(network):
    """In both modes, `[2, 32, 3]`."""

    @jax.jit
    def logits(variables, row):
        modes = ("batch", "running")
        given = [network.apply(variables, row, DATA.x, batch_norm=m).logits for m in modes]
        return jnp.stack(given)

    return lambda variables, arch: np.asarray(logits(variables, SPACE.rows(arch[None])[0]))


def member(population, i):
    return jax.tree.map(lambda a: a[i], population.variables)


def grown(network, population, i, child, **settings):
    key = jax.random.key(3)
    return morph(SPACE, network, member(population, i), ROWS[i], child, key, **settings)


def assert_same_function(network, population, logits, i, child):
    before = logits(member(population, i), ROWS[i])
    after = logits(grown(network, population, i, child), child)
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


KINDS = {
    "wider": ["d1w48k3s0-d1w32k3s0-d1w64k3s0", "d1w16k3s0-d1w128k3s0-d1w64k3s0"],
    "wider last": ["d1w16k3s0-d1w32k3s0-d1w192k3s0"],
    "deeper": ["d2w16k3s0-d1w32k3s0-d1w64k3s0", "d2w16k3s0-d2w32k3s0-d1w64k3s0"],
    "larger kernels": ["d1w16k5s0-d1w32k3s0-d1w64k7s0", "d1w16k3s0-d1w32k7s0-d1w64k5s0"],
    "all": ["d2w64k7s1-d2w128k7s1-d2w256k7s1"],
}


class TestResNet:
    @pytest.mark.parametrize(("kind", "text"), [(k, t) for k, v in KINDS.items() for t in v])
    def test_each_kind_keeps_the_function(self, network, trained, logits, kind, text):
        assert_same_function(network, trained, logits, 0, SPACE.from_string(text))

    @pytest.mark.parametrize("stages", ["1", "2", "12"])
    def test_a_skip_connection_keeps_the_function(self, network, trained, logits, stages):
        child = ROWS[1].copy()
        child[[4 * int(stage) - 1 for stage in stages]] = 1
        assert_same_function(network, trained, logits, 1, child)

    @settings(max_examples=60)
    @given(st.integers(0, len(PARENTS) - 1), st.data())
    def test_any_mixture_keeps_the_function(self, network, trained, logits, i, data):
        child = [
            data.draw(st.integers(low, n - 1))
            for low, n in zip(ROWS[i].tolist(), SPACE.choices.tolist(), strict=True)
        ]
        assert_same_function(network, trained, logits, i, np.array(child, np.int32))

    def test_the_parents_learned_something_and_differ(self, trained, logits):
        found = [logits(member(trained, i), ROWS[i]) for i in range(len(PARENTS))]
        fresh = [np.abs(a - b).max() for a in found for b in found if a is not b]
        assert min(fresh) > 0.01
        statistics = member(trained, 0).statistics
        assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(statistics)) > 0.5

    def test_a_generation_grows_from_a_generation(self, network, trained, logits):
        child = SPACE.from_string("d2w32k5s1-d2w32k3s0-d1w64k3s0")
        first = grown(network, trained, 0, child)
        state = train(network, state_of([first]), child[None], epochs=1)
        last = SPACE.from_string("d2w48k7s1-d2w64k3s1-d2w128k3s0")
        variables = member(state, 0)
        second = morph(SPACE, network, variables, child, last, jax.random.key(4))
        np.testing.assert_allclose(
            logits(second, last), logits(variables, child), rtol=1e-5, atol=1e-5
        )

    def test_training_goes_on_from_the_parents_accuracy(self, network, trained):
        children = np.stack(
            [SPACE.from_string("d2w32k5s1-d2w32k5s0-d1w64k3s0"), SPACE.from_string(PARENTS[1])]
        )
        members = [grown(network, trained, i, child) for i, child in enumerate(children)]
        population = state_of(members)
        before = evaluate_population(network, trained.variables, SPACE.rows(ROWS), DATA.x, DATA.y)
        start = evaluate_population(
            network, population.variables, SPACE.rows(children), DATA.x, DATA.y
        )
        np.testing.assert_allclose(start[0], before[0][:2], rtol=1e-5)
        np.testing.assert_array_equal(start[1], before[1][:2])
        after = train(network, population, children, epochs=6)
        loss, *_ = evaluate_population(
            network, after.variables, SPACE.rows(children), DATA.x, DATA.y
        )
        assert (loss < start[0]).all()
        # What began at 0, and so did nothing, is trained as well.
        scale = by_name(after.variables.params)["stages.0.skip.branches.1.scale"][0]
        assert float(jnp.abs(scale[:4]).min()) > 0

    def test_channels_are_copied_and_their_readers_divided(self, network, trained):
        child = SPACE.from_string("d1w64k3s0-d1w32k3s0-d1w64k3s0")
        old, new = (
            by_name(v.params) for v in (member(trained, 0), grown(network, trained, 0, child))
        )
        into = "stages.0.first.conv.branches.0.kernel"
        of = "stages.1.first.first.modules.0.branches.0.kernel"
        # The columns are told apart by what leads into them, both in the stage and out of it.
        parents, copies = (np.asarray(w["stages.0.first.norm.scale"]) for w in (old, new))
        matches = [np.flatnonzero(parents[:2] == scale) for scale in copies]
        assert all(len(match) == 1 for match in matches)
        source = np.concatenate(matches)
        assert set(source) == {0, 1}
        np.testing.assert_array_equal(source[:2], [0, 1])
        for i in range(2):
            read = np.asarray(new[of])[:, :, source == i].sum(2)
            np.testing.assert_allclose(read, old[of][:, :, i], rtol=1e-5, atol=1e-7)
        inner = np.asarray(new[into]).reshape(9, 8, 8)
        folded = np.stack([inner[:, source == i].sum(1) for i in range(2)], axis=1)
        expected = np.asarray(old[into]).reshape(9, 8, 8)[:, :2, source]
        np.testing.assert_allclose(folded, expected, rtol=1e-5, atol=1e-7)

    def test_noise_is_on_copies_alone(self, network, trained, logits):
        child = SPACE.from_string("d1w48k3s0-d1w32k3s0-d1w64k3s0")
        plain = by_name(grown(network, trained, 0, child).params)
        noisy_variables = grown(network, trained, 0, child, noise=0.01)
        noisy = by_name(noisy_variables.params)
        kernel = "stages.0.first.shortcut.modules.0.kernel"
        np.testing.assert_array_equal(noisy[kernel][..., :2], plain[kernel][..., :2])
        moved = np.abs(noisy[kernel] - plain[kernel])[0, 0]
        assert (moved[:, 2:6] > 0).all()
        assert moved.max() < 0.1 * np.abs(plain[kernel]).max()
        assert (moved[:, 6:] == 0).all()
        far = np.abs(logits(noisy_variables, child) - logits(member(trained, 0), ROWS[0])).max()
        assert 1e-5 < far < 0.3

    def test_the_parent_is_left_as_it_is(self, network, trained):
        parent = member(trained, 0)
        before = jax.tree.map(np.array, parent)
        morph(SPACE, network, parent, ROWS[0], ROWS[2], jax.random.key(0))
        assert_trees_equal(parent, before)

    def test_the_same_key_gives_the_same_child(self, network, trained):
        child = SPACE.from_string("d2w64k3s0-d1w32k3s0-d1w64k3s0")
        assert_trees_equal(grown(network, trained, 0, child), grown(network, trained, 0, child))

    @pytest.mark.parametrize(
        ("child", "said"),
        [
            ("d2w32k5s0-d2w32k3s1-d1w128k5s0", ["stage2.width goes from 64 to 32"]),
            ("d1w32k5s0-d1w64k3s0-d1w128k5s0", ["stage2.depth goes from 2 to 1", "stage2.skip"]),
            ("d1w32k3s0-d2w64k3s1-d1w128k5s0", ["stage1.kernel goes from 5 to 3"]),
            ("d1w32k5s0-d2w64k3s0-d1w128k5s0", ["stage2.skip goes from add to none"]),
            ("d1w16k5s0-d2w64k3s1-d1w128k3s0", ["stage1.width", "stage3.kernel"]),
        ],
    )
    def test_what_is_not_reachable_is_said(self, network, trained, child, said):
        with pytest.raises(InputError) as caught:
            grown(network, trained, 2, SPACE.from_string(child))
        message = str(caught.value)
        assert all(part in message for part in [repr(PARENTS[2]), repr(child), *said]), message
        assert message.count(" goes from ") == len(said)


class Net(nnx.Module):
    """Convolution, what is to be grown, pooling, classifier; `width` is decision 0."""

    width = Width(0, (2, 5, 8))

    def __init__(self, *inner):
        self.inner = Sequential(Conv(1, self.width, 3), *inner)
        self.pool, self.classifier = GlobalAvgPool(), Linear(self.width, 3)

    def __call__(self, x, ctx):
        return self.classifier(self.pool(self.inner(x, ctx), ctx), ctx)


class Mixing(Layer):
    """Subtracts the mean over channels: no way to widen what it works on."""

    def __init__(self):
        self.factor = nnx.Param(jax.ShapeDtypeStruct((8,), jnp.float32), bound=1.0, offset=0.0)

    def channel_axes(self):
        return {"factor": ((0, "in"),)}

    def forward(self, x, ctx):
        return (x - x.mean(-1, keepdims=True)) * self.factor[...][None, None, None]


def random_variables(network):
    fresh = network.init(jax.random.key(0))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: a + np.float32(rng.uniform(0, 0.3, a.shape)), fresh)


class TestOtherNetworks:
    def test_inverted_residuals_with_squeeze_and_excite(self):
        hidden = Width(1, (4, 40, 72))
        block = MBConv(Net.width, Net.width, 3, expansion=None, hidden=hidden, squeeze_excite=True)
        network = Network(Net(BatchNorm(Net.width), ReLU(), block), 8, 1, 3)
        variables = random_variables(network)
        for rows in ([[0, 0], [1, 2]], [[1, 1], [2, 2]], [[0, 1], [0, 2]]):
            before, after = np.array(rows, np.int32)
            child = grow(network, variables, before, after, jax.random.key(2))
            for mode in ("batch", "running"):
                np.testing.assert_allclose(
                    network.apply(child, after, DATA.x, batch_norm=mode).logits,
                    network.apply(variables, before, DATA.x, batch_norm=mode).logits,
                    rtol=1e-5,
                    atol=1e-5,
                )

    def test_a_layer_that_mixes_channels_is_not_widened(self):
        network = Network(Net(Mixing()), 8, 1, 3)
        variables = random_variables(network)
        with pytest.raises(InputError, match=r"Row \[0\] cannot be grown into \[1\]"):
            grow(network, variables, np.array([0]), np.array([1]), jax.random.key(0))

    def test_a_branch_that_is_no_identity_at_zero_is_not_reached(self):
        choice = Choice(1, [Identity(), Sequential(ReLU(), BatchNorm(Net.width))])
        network = Network(Net(choice), 8, 1, 3)
        with pytest.raises(InputError, match=r"\[0, 0\] cannot be grown into \[0, 1\]"):
            grow(
                network,
                random_variables(network),
                np.array([0, 0]),
                np.array([0, 1]),
                jax.random.key(0),
            )
