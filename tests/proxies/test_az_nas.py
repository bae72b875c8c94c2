"""AZ-NAS's scores against its formulas, block by block on a network written out in plain XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from reference import Reference, by_name

from jaxnas.network import Network
from jaxnas.nn import Choice, Context, Conv, GlobalAvgPool, Identity, Linear
from jaxnas.passes import noise_of
from jaxnas.proxies import PROXIES
from jaxnas.proxies.az_nas import (
    BlockEntropies,
    az_complexity,
    az_expressivity,
    az_progressivity,
    az_trainability,
    feature_entropy,
    rademacher,
)
from jaxnas.proxies.presets import PRESETS
from jaxnas.scoring.per_architecture import score_per_architecture
from jaxnas.scoring.shared_prefix import score_shared_prefix
from jaxnas.search_spaces.nasbench201 import NONE, POOL, SKIP
from jaxnas.spaces import Size

ARCHS = np.array(
    [
        [1, 1, 1, 1, 1, 1],
        [2, 3, 2, 3, 2, 3],
        [3, 4, 1, 2, 0, 3],
        [4, 4, 4, 4, 4, 4],
        [0, 2, 3, 0, 3, 2],
        [3, 3, 3, 3, 3, 3],
        [0, 0, 0, 3, 0, 0],
        [1, 3, 0, 4, 2, 1],
    ],
    np.int32,
)
ONE_SKIP = np.array([[NONE, NONE, NONE, SKIP, NONE, NONE]] * len(ARCHS), np.int32)
COMPUTED = [az_expressivity, az_progressivity, az_trainability]


def steps(variables, arch, images):
    """The stem's output, and each block as a function of what the one before gives."""
    plain = Reference(by_name(variables.params), arch, images)
    stem = plain.batch_norm("stem.modules.1", plain.conv("stem.modules.0", images))

    def block(name):
        reduces = f"{name}.conv_a.modules.1.kernel" in plain.weights
        if reduces:
            return lambda x: plain.reduction(name, x)
        return lambda x: plain.cell(name, arch, x)

    names = {".".join(n.split(".")[:2]) for n in plain.weights if n.startswith("blocks")}
    return stem, [block(name) for name in sorted(names)]


def entropy(features):
    """Of the spectrum of the channels' covariance, in float64."""
    rows = np.asarray(features, np.float64).reshape(-1, features.shape[-1])
    eigenvalues = np.linalg.eigvalsh(np.cov(rows.T, ddof=0)).clip(0)
    p = eigenvalues / eigenvalues.sum()
    return -(p * np.log(p + 1e-8)).sum()


def isometry(block, x, r):
    """2 - s - 1 / (s + 1e-6): each of r's positions against what comes back to its cells."""
    v = np.asarray(jax.vjp(block, x)[1](jnp.asarray(r))[0], np.float64)
    side = x.shape[1] // r.shape[1]
    total = np.zeros((side * side * x.shape[3], r.shape[3]))
    for b, i, j in np.ndindex(r.shape[:3]):
        cells = v[b, i * side : (i + 1) * side, j * side : (j + 1) * side].reshape(-1)
        total += np.outer(cells, r[b, i, j])
    s = np.linalg.svd(total / r[..., 0].size)[1][0]
    return 2 - s - 1 / (s + 1e-6)


def references(variables, arch, batch):
    """Expressivity, progressivity and trainability."""
    x, blocks = steps(variables, arch, noise_of(batch))
    features = [x]
    for block in blocks:
        features.append(block(features[-1]))
    entropies = np.array([entropy(f) for f in features])
    vectors = rademacher(batch.random_key, [f.shape for f in features[1:]])
    scores = [isometry(b, x, np.asarray(r)) for b, x, r in zip(blocks, features, vectors)]  # noqa: B905
    return entropies.sum(), np.diff(entropies).min(), np.mean(scores)


@pytest.fixture(scope="module")
def batch(batch):
    """With a key, so that another one compiles nothing anew."""
    return batch._replace(key=jax.random.key(0))


@pytest.fixture(scope="module", params=[(1,), (1, 1)], ids=["one_cell", "two_stages"])
def case(request, space, batch):
    network = space.network(Size(channels=4, cells=request.param, resolution=8), classes=3)
    variables = network.init(jax.random.key(2))
    scores = score_per_architecture(network, variables, ARCHS, batch, COMPUTED)
    return network, variables, scores


def test_against_the_formulas_block_by_block(case, batch):
    _, variables, scores = case
    for i, arch in enumerate(ARCHS):
        expected = references(variables, arch, batch)
        got = [scores[p.name][i] for p in COMPUTED]
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_the_batchs_key_draws_the_noise_and_images_are_not_read(case, batch):
    network, variables, scores = case
    again, other = (
        score_per_architecture(network, variables, ARCHS, b, COMPUTED)
        for b in (
            batch._replace(images=batch.images * jnp.nan),
            batch._replace(key=jax.random.key(7)),
        )
    )
    for name in scores:
        np.testing.assert_array_equal(again[name], scores[name])
        # Row 0 multiplies its input by 4, which changes no entropy.
        assert not np.isclose(other[name], scores[name], rtol=1e-6)[1:].any()


def test_a_cell_that_repeats_its_input(case, batch):
    """No entropy is gained, and a gradient goes back as it came: the paper's -inf."""
    network, variables, _ = case
    scores = score_per_architecture(network, variables, ONE_SKIP, batch, COMPUTED)
    assert (scores["az_trainability"] == -np.inf).all()
    shared = score_shared_prefix(network, variables, ONE_SKIP, batch, COMPUTED[:2])
    for found in (scores, shared):
        assert (found["az_progressivity"] <= 0).all()
    for p in COMPUTED[:2]:
        np.testing.assert_allclose(shared[p.name], scores[p.name], rtol=1e-5, atol=1e-6)


def test_entropy_of_features():
    rng = np.random.default_rng(0)
    equal = np.eye(4)[rng.permutation(np.repeat(np.arange(4), 8))].astype(np.float32)
    # Centred, four one-hot channels span three dimensions evenly.
    assert feature_entropy(jnp.asarray(equal)) == pytest.approx(np.log(3), rel=1e-5)
    x = rng.standard_normal((2, 3, 5, 4)).astype(np.float32)
    masked = np.concatenate([x, np.zeros_like(x)], axis=-1)
    assert feature_entropy(jnp.asarray(x)) == pytest.approx(entropy(x), rel=1e-5)
    assert feature_entropy(jnp.asarray(masked)) == pytest.approx(entropy(x), rel=1e-5)
    assert feature_entropy(jnp.zeros((2, 3, 5, 4))) == -np.inf
    assert np.isnan(feature_entropy(jnp.asarray(x).at[0, 0, 0, 0].set(np.nan)))


@pytest.mark.parametrize(
    ("entropies", "total", "rise"),
    [
        ([1.0], 1, -np.inf),
        ([1.0, 3.0, 2.5, 4.0], 10.5, -0.5),
        ([1.0, -np.inf, 2.0], -np.inf, -np.inf),
        ([-np.inf, -np.inf], -np.inf, -np.inf),
        ([1.0, np.nan, 2.0], np.nan, np.nan),
    ],
)
def test_entropies_add_up_and_the_least_rise_is_kept(entropies, total, rise):
    tap = BlockEntropies()
    carry = tap.init(8)
    for h in entropies:
        carry = tap.fold(carry, jnp.float32(h))
    got = [p.finish(carry) for p in (az_expressivity, az_progressivity)]
    np.testing.assert_array_equal(got, [total, rise])


class Deep(nnx.Module):
    """Two blocks of convolutions without norm, the second of which may be left out."""

    def __init__(self):
        self.stem = Conv(3, 4, 3)
        self.blocks = nnx.List(
            [Conv(4, 4, 3), Choice("deeper", {"no": Identity(), "yes": Conv(4, 4, 3)})]
        )
        self.pool, self.classifier = GlobalAvgPool(), Linear(4, 3)

    def __call__(self, x, ctx: Context):
        x = ctx.boundary(self.stem(x, ctx))
        for block in self.blocks:
            x = ctx.boundary(block(x, ctx), block)
        return self.classifier(self.pool(x, ctx), ctx)


class Shallow(Deep):
    """The same without the second block."""

    def __init__(self):
        super().__init__()
        self.blocks = nnx.List([Conv(4, 4, 3)])


class Stem(Deep):
    """The same without blocks."""

    def __init__(self):
        super().__init__()
        self.blocks = nnx.List([])


def test_without_blocks_there_is_nothing_to_compare(batch):
    network = Network(Stem(), 8, 3, 3)
    variables, none = network.init(jax.random.key(0)), np.zeros((1, 0), np.int32)
    scores = score_per_architecture(network, variables, none, batch, COMPUTED)
    assert np.isfinite(scores["az_expressivity"]).all()
    assert scores["az_progressivity"] == scores["az_trainability"] == -np.inf


@pytest.mark.parametrize("proxy", COMPUTED, ids=lambda p: p.name)
def test_a_block_that_is_left_out_is_not_there(proxy, batch):
    deep, shallow = (Network(m, 8, 3, 3) for m in (Deep(), Shallow()))
    weights = by_name(deep.init(jax.random.key(0)).params)
    variables = shallow.init(jax.random.key(1))
    names = list(by_name(variables.params))
    leaves, tree = jax.tree.flatten(variables.params)
    assert len(names) == len(leaves)
    same = variables._replace(params=jax.tree.unflatten(tree, [weights[n] for n in names]))
    got = score_per_architecture(
        deep, deep.init(jax.random.key(0)), np.array([[0], [1]], np.int32), batch, [proxy]
    )[proxy.name]
    expected = score_per_architecture(shallow, same, np.zeros((1, 0), np.int32), batch, [proxy])
    if proxy is not az_trainability:
        assert got[0] == pytest.approx(expected[proxy.name][0], rel=1e-5)
    assert np.isfinite(got).all()
    assert got[0] != got[1]


def test_complexity_is_the_multiply_adds_that_reach_the_output(tiny, variables, batch):
    scores = score_per_architecture(tiny, variables, ARCHS, batch, [az_complexity])
    np.testing.assert_array_equal(scores["az_complexity"], tiny.count(ARCHS).macs)
    leads_nowhere = np.array([[3, 0, 0, POOL, 0, 0]], np.int32)
    assert tiny.count(leads_nowhere).macs == tiny.count(ARCHS[3:4]).macs


def test_the_preset():
    preset = PRESETS["az_nas"]
    assert all(name in PROXIES for name in preset.proxies)
    assert preset.proxies == tuple(p.name for p in [*COMPUTED, az_complexity])
    assert preset.combine == "log_rank"
