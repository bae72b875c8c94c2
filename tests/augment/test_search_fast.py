"""Density matching against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import compilations

from jaxnas.augment import OPERATIONS, PolicyAugment, checked, stack
from jaxnas.augment.operations import NUMBER
from jaxnas.augment.search.fast import Plan, joined, mean_losses, searched, space_of, subpolicies
from jaxnas.training.evaluation import batched

THREE = ("Rotate", "Invert", "Brightness")
NUMBERS = np.array([NUMBER[name] for name in THREE])
AUGMENTER = PolicyAugment((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 0.0, 1.0)
ARCH = np.array([3, 2, 3, 1, 2, 3], np.int32)
KEY = jax.random.key(5)


@pytest.fixture(scope="module")
def proposals():
    rng = np.random.default_rng(0)
    space = space_of(THREE)
    return subpolicies(space.values(space.sample(rng, 3)), NUMBERS)


@pytest.fixture(scope="module")
def held():
    rng = np.random.default_rng(1)
    levels = rng.integers(0, 256, (200, 8, 8, 3)) / 255
    x = ((levels - 0.5) / 0.25).astype(np.float32)
    return batched(jnp.asarray(x), jnp.asarray(rng.integers(0, 3, 200), jnp.int32))


class TestLosses:
    def test_they_are_those_of_numpy(self, tiny, variables, proposals, held):
        got = mean_losses(tiny, AUGMENTER, variables, ARCH, held, proposals, KEY)
        augment = jax.jit(AUGMENTER)
        for i in range(3):
            losses = []
            for k, (x, y) in enumerate(zip(*held, strict=True)):
                labels = np.eye(3, dtype=np.float32)[np.maximum(y, 0)]
                made, _ = augment(jax.random.fold_in(KEY, k), x, labels, proposals.rows(i))
                logits = tiny.apply(variables, ARCH, made, batch_norm="running").logits
                z = np.asarray(logits, np.float64)
                log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
                losses += [-log_p[j, label] for j, label in enumerate(y) if label >= 0]
            assert len(losses) == 200
            np.testing.assert_allclose(got[i], np.mean(losses), rtol=1e-4)
        assert len(set(np.asarray(got).tolist())) == 3

    def test_others_are_not_compiled_for(self, tiny, variables, proposals, held):
        mean_losses(tiny, AUGMENTER, variables, ARCH, held, proposals, KEY)
        arrays = jax.tree.map(lambda a: a[::-1].copy(), proposals)
        with compilations() as names:
            mean_losses(tiny, AUGMENTER, variables, ARCH[::-1].copy(), held, arrays, KEY)
        assert names == []


def wished(policies):
    """Low where Invert is sure to be the first operation, and brightness is left alone."""
    first = policies.choice[:, 0, 0] * policies.probability[:, 0, 0]
    second = policies.choice[:, 0, 1] * policies.probability[:, 0, 1]
    loss = 1 - first[:, NUMBER["Invert"]] + 0.5 * second[:, NUMBER["Brightness"]]
    return np.where(policies.choice[:, 0, 0, NUMBER["Rotate"]] > 0, np.nan, loss)


class TestProposals:
    def test_later_rounds_are_better_than_the_first(self):
        plan = Plan(rounds=4, proposals=40)
        rows, merits = searched(wished, THREE, np.random.default_rng(0), plan)
        assert rows.shape == (160, 6)
        finite = np.where(np.isfinite(merits), merits, -2)
        assert finite[80:].mean() > finite[:40].mean() + 0.3
        best = space_of(THREE).configurations(rows[[np.argmax(merits)]])[0]
        assert best["operation_0"] == "Invert"
        assert best["probability_0"] > 0.9
        assert (merits[np.isfinite(merits)] <= 0).all()
        diverged = space_of(THREE).values(rows)["operation_0"] == THREE.index("Rotate")
        np.testing.assert_array_equal(merits == -np.inf, diverged)

    def test_they_are_drawn_from_the_generator_alone(self):
        plan = Plan(rounds=2, proposals=10)
        one, two, other = (
            searched(wished, THREE, np.random.default_rng(seed), plan)[0] for seed in (0, 0, 1)
        )
        np.testing.assert_array_equal(one, two)
        assert not np.array_equal(one, other)


def test_values_have_their_places(proposals):
    values = {
        "operation_0": [1, 0], "probability_0": [0.25, 1], "magnitude_0": [0.5, 0.75],
        "operation_1": [2, 1], "probability_1": [0.125, 0], "magnitude_1": [1, 0.25],
    }  # fmt: skip
    made = subpolicies({k: np.array(v, np.float32) for k, v in values.items()}, NUMBERS)
    expected = np.zeros((2, 1, 2, len(OPERATIONS), 3))
    expected[0, 0, 0, NUMBER["Invert"]] = 1, 0.25, 0.5
    expected[0, 0, 1, NUMBER["Brightness"]] = 1, 0.125, 1
    expected[1, 0, 0, NUMBER["Rotate"]] = 1, 1, 0.75
    expected[1, 0, 1, NUMBER["Invert"]] = 1, 0, 0.25
    tables = np.stack([made.choice, made.probability, made.magnitude], -1)
    np.testing.assert_array_equal(tables, expected)


def test_folds_are_joined_sub_policy_by_sub_policy(proposals):
    two = stack([proposals.rows(2), proposals.rows(0)])
    policy = checked(joined([proposals, two]))
    assert policy.subpolicies == 5
    assert policy.weights.tolist() == [1] * 5
    for s, i in enumerate([0, 1, 2, 2, 0]):
        np.testing.assert_array_equal(policy.choice[s], proposals.choice[i, 0])
        np.testing.assert_array_equal(policy.magnitude[s], proposals.magnitude[i, 0])
