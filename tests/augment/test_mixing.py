"""MixUp and CutMix: pairs, shares and targets."""

import jax
import numpy as np
import pytest
from scipy import stats

from jaxnas.augment.mixing import mix

B = 2000
mixed = jax.jit(mix)


def batch(height=6, width=10):
    """Image i is i everywhere, its target row i of the identity."""
    images = np.broadcast_to(
        np.arange(B, dtype=np.float32)[:, None, None, None], (B, height, width, 1)
    )
    return images, np.eye(B, dtype=np.float32)


@pytest.fixture(scope="module")
def rows():
    images, targets = batch()

    def one(seed, mixup, cutmix):
        found = mixed(jax.random.key(seed), images, targets, mixup, cutmix)
        return tuple(map(np.asarray, found))

    return one


def shares(targets):
    """By image: its own share, and its partner."""
    own = np.diag(targets)
    others = targets - np.diag(own)
    return own, np.where(own < 1, others.argmax(1), np.arange(B))


def test_0_changes_nothing(rows):
    images, targets = batch()
    found, found_targets = rows(0, 0.0, 0.0)
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(found_targets, targets)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.0])
def test_mixup(rows, alpha):
    found, targets = rows(1, alpha, 0.0)
    own, partner = shares(targets)
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
    assert ((targets > 0).sum(1) <= 2).all()
    expected = own * np.arange(B) + (1 - own) * partner
    np.testing.assert_allclose(
        found, np.broadcast_to(expected[:, None, None, None], found.shape), rtol=1e-5
    )
    apart = partner != np.arange(B)
    assert stats.kstest(own[apart], stats.beta(alpha, alpha).cdf).pvalue > 0.001


def test_cutmix(rows):
    found, targets = rows(2, 0.0, 1.0)
    own, partner = shares(targets)
    for i in range(B):
        here = found[i, ..., 0] == i
        assert (here | (found[i, ..., 0] == partner[i])).all()
        if partner[i] == i:
            continue
        assert own[i] == pytest.approx(here.mean(), abs=1e-6)
        rows_, columns = np.nonzero(~here)
        assert len(rows_) == np.prod([len(np.unique(v)) for v in (rows_, columns)])  # a rectangle
        if len(rows_):
            assert np.ptp(rows_) + 1 == len(np.unique(rows_))
    # lam of Beta(1, 1) leaves 1/2 were nothing outside; a quarter of each side is, for half of the side.
    assert 0.5 < own.mean() < 0.75


def test_both_come_alike(rows):
    found, targets = rows(3, 1.0, 1.0)
    own, partner = shares(targets)
    values = np.array([len(np.unique(v)) for v in found])
    mixed_up = (own < 1) & (values == 1) & (found[:, 0, 0, 0] != partner)
    cut = values == 2
    assert mixed_up.mean() == pytest.approx(0.5, abs=0.06)
    assert cut.mean() == pytest.approx(0.47, abs=0.08)


def test_partners_are_a_permutation(rows):
    _, targets = rows(4, 1.0, 0.0)
    _, partner = shares(targets)
    assert len(np.unique(partner)) > 0.99 * B
    assert (partner != np.arange(B)).mean() > 0.99


def test_smoothed_targets_stay_a_distribution():
    images, _ = batch()
    targets = np.full((B, 4), 0.1 / 4, np.float32)
    targets[np.arange(B), np.arange(B) % 4] += 0.9
    _, found = mixed(jax.random.key(5), images, targets, 0.4, 1.0)
    np.testing.assert_allclose(np.asarray(found).sum(1), 1, rtol=1e-5)
    assert np.asarray(found).min() >= 0.1 / 4 - 1e-6
