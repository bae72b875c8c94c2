"""MeCo and NEAR against their formulas in float64, map by map of a network in plain XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import Reference, by_name

from jaxnas.proxies.features import EffectiveRanks, SmallestEigenvalue, effective_rank, meco, near
from jaxnas.proxy import Batch
from jaxnas.scoring.per_architecture import score_per_architecture
from jaxnas.scoring.shared_prefix import score_shared_prefix
from jaxnas.spaces import Size

ARCHS = np.array(
    [
        [1, 1, 1, 1, 1, 1],
        [2, 3, 2, 3, 2, 3],
        [3, 4, 1, 2, 0, 3],
        [0, 2, 3, 0, 3, 2],
        [0, 0, 0, 0, 0, 0],
    ],
    np.int32,
)


def smallest_eigenvalue(image):
    """Of the correlation of the channels of one map `[H, W, C]`; constant channels have none."""
    channels = np.asarray(image, np.float64).reshape(-1, image.shape[-1]).T
    varies = channels.std(1) > 1e-6 * np.abs(channels).max(1)
    correlation = np.zeros((len(channels),) * 2)
    correlation[np.ix_(varies, varies)] = np.corrcoef(channels[varies])
    return np.linalg.eigvalsh(correlation)[0]


def rank(matrix):
    """exp of the entropy of the normalised singular values."""
    values = np.linalg.svd(matrix, compute_uv=False)
    values = values[values > 0]
    return np.exp(-sum(v / values.sum() * np.log(v / values.sum()) for v in values))


def ranks(value):
    """What enters and what leaves one ReLU: the first C positions of the first images."""
    rows = np.stack(
        [pixel for image in np.asarray(value, np.float64) for line in image for pixel in line]
    )
    square = rows[: rows.shape[1]]
    return (rank(square) + rank(np.maximum(square, 0))) if square.any() else 0


def reference(variables, arch, images):
    seen = Reference(by_name(variables.params), arch, images)
    return {
        "meco": sum(smallest_eigenvalue(y[0]) for y in seen.convolutions),
        "near": sum(ranks(x) for x in seen.pre_activations),
    }


@pytest.mark.parametrize("cells", [(1,), (1, 1)], ids=["one_cell", "two_stages"])
def test_against_the_formulas(space, batch, cells):
    network = space.network(Size(channels=4, cells=cells, resolution=8), classes=3)
    variables = network.init(jax.random.key(2))
    scores = score_per_architecture(network, variables, ARCHS, batch, [meco, near])
    for i, arch in enumerate(ARCHS):
        for name, expected in reference(variables, arch, batch.images).items():
            assert scores[name][i] == pytest.approx(expected, rel=1e-4)


def test_both_executors_agree(space, tiny, variables, batch):
    archs = np.concatenate([ARCHS, space.sample(jax.random.key(5), 20)])
    one, other = (
        score(tiny, variables, archs, batch, [meco, near])
        for score in (score_per_architecture, score_shared_prefix)
    )
    for name in ("meco", "near"):
        np.testing.assert_allclose(one[name], other[name], rtol=2e-4)
        assert len(np.unique(one[name])) > len(archs) / 2


class TestMeCo:
    def heard(self, value, active=None):
        return SmallestEigenvalue().contribution("affine", jnp.asarray(value, jnp.float32), active)

    def test_one_map(self):
        rng = np.random.default_rng(0)
        value = rng.standard_normal((3, 6, 5, 8)) + 5
        assert self.heard(value) == pytest.approx(smallest_eigenvalue(value[0]), rel=1e-4)

    def test_only_the_first_image_counts(self):
        value = np.random.default_rng(0).standard_normal((2, 6, 5, 8))
        assert self.heard(value) == self.heard(value[:1])

    def test_a_channel_that_does_not_vary_makes_it_0(self):
        value = np.random.default_rng(0).standard_normal((1, 6, 5, 8))
        value[..., 3] = 0.1
        assert self.heard(value) == 0

    def test_channels_that_depend_on_each_other_make_it_0(self):
        value = np.random.default_rng(0).standard_normal((1, 6, 5, 8))
        assert self.heard(value[:, :2, :4]) == 0  # as many channels as positions
        value[..., 3] = value[..., 2] - 2 * value[..., 1]
        assert self.heard(value) == pytest.approx(0, abs=1e-6)

    def test_masked_channels_are_left_out(self):
        value = np.random.default_rng(0).standard_normal((1, 3, 3, 12))
        value[..., 5:] = 0
        active = jnp.asarray(np.arange(12) < 5, jnp.float32)
        assert self.heard(value, active) == pytest.approx(float(self.heard(value[..., :5])), 1e-5)
        assert self.heard(value) == 0

    def test_vectors_have_no_map(self):
        assert self.heard(np.ones((4, 3))) == 0
        assert np.isnan(self.heard(np.full((4, 3), np.nan)))


class TestNEAR:
    def test_effective_ranks(self):
        assert effective_rank(jnp.eye(5)) == pytest.approx(5, rel=1e-6)
        assert effective_rank(jnp.ones((5, 3))) == pytest.approx(1, rel=1e-4)
        assert effective_rank(jnp.zeros((5, 3))) == 0
        assert np.isnan(effective_rank(jnp.full((3, 3), jnp.nan)))
        matrix = np.random.default_rng(0).standard_normal((7, 4))
        assert effective_rank(jnp.asarray(matrix, jnp.float32)) == pytest.approx(rank(matrix), 1e-5)

    def test_masked_channels_are_left_out(self):
        value = np.random.default_rng(0).standard_normal((2, 4, 4, 12)).astype(np.float32)
        value[..., 5:] = 0
        active = jnp.asarray(np.arange(12) < 5, jnp.float32)
        tap = EffectiveRanks()
        got = tap.contribution("pre_activation", jnp.asarray(value), active)
        assert got == pytest.approx(ranks(value[..., :5]), rel=1e-4)

    def test_fewer_rows_than_channels(self):
        value = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
        got = EffectiveRanks().contribution("pre_activation", jnp.asarray(value))
        assert got == pytest.approx(ranks(value[:, None, None]), rel=1e-4)


@pytest.mark.parametrize("proxy", [meco, near], ids=lambda p: p.name)
def test_bfloat16_is_reduced_in_float32(tiny, variables, batch, proxy):
    narrow = jax.tree.map(lambda a: a.astype(jnp.bfloat16), variables.params)
    images = Batch(batch.images.astype(jnp.bfloat16), None)
    wide = score_per_architecture(tiny, variables, ARCHS[:4], batch, [proxy])[proxy.name]
    got = score_per_architecture(
        tiny, variables._replace(params=narrow), ARCHS[:4], images, [proxy]
    )[proxy.name]
    np.testing.assert_allclose(got, wide, rtol=0.1)
