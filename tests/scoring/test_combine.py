"""Ranks against `scipy.stats.rankdata`, and what becomes of several."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from jaxnas.scoring.combine import COMBINATIONS, VOTERS, log_rank, rank_mean, ranks, vote

INF, NAN = np.inf, np.nan

numbers = st.floats(-1e6, 1e6, width=32)
few = st.sampled_from([0.0, -0.0, 1.0, 2.0, -INF, INF, NAN])


def reference(scores):
    """NaN below -inf below every number; ties share their mean."""
    keys = [(not np.isnan(s), 0 if np.isnan(s) else s) for s in scores]
    order = {key: i for i, key in enumerate(sorted(set(keys)))}
    return rankdata([order[k] for k in keys], method="average")


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([3.0, 1.0, 2.0], [3, 1, 2]),
        ([1.0, 1.0, 0.0], [2.5, 2.5, 1]),
        ([-INF, -1e30, NAN], [2, 3, 1]),
        ([NAN, -INF, NAN, -INF, 0.0], [1.5, 3.5, 1.5, 3.5, 5]),
        ([INF, 1.0], [2, 1]),
        ([7.0], [1]),
        ([NAN], [1]),
        ([], []),
    ],
)
def test_ranks_by_example(scores, expected):
    got = ranks(np.array(scores, np.float32))
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, expected)


@given(st.lists(st.one_of(few, numbers), min_size=1, max_size=30))
def test_ranks_are_scipys(scores):
    np.testing.assert_array_equal(ranks(np.array(scores, np.float32)), reference(scores))


def test_ranks_of_large_counts_are_exact():
    # 2^24 and 2^24 + 1 are one number in float32.
    np.testing.assert_array_equal(ranks(np.array([2**24 + 1, 2**24])), [2, 1])


SCORES = {"a": np.array([3.0, 1.0, NAN, 2.0]), "b": np.array([5.0, 5.0, 6.0, -INF])}
RANKS = np.array([[4, 2, 1, 3], [2.5, 2.5, 4, 1]]) / 4


def test_log_rank_is_the_sum_of_the_logarithms_of_ranks():
    np.testing.assert_allclose(log_rank(SCORES), np.log(RANKS).sum(0))


def test_rank_mean_is_the_mean_of_ranks():
    np.testing.assert_allclose(rank_mean(SCORES), RANKS.mean(0))


def wins(scores):
    """Every pair put to the vote, by the definition."""
    columns = [reference(s) for s in scores.values()]
    n = len(columns[0])
    total = np.zeros(n)
    for i in range(n):
        for j in range(n):
            votes = sum(int(c[i] > c[j]) - int(c[i] < c[j]) for c in columns)
            if i != j:
                total[i] += 1.0 if votes > 0 else 0.5 if votes == 0 else 0.0
    return total


@given(st.data(), st.integers(1, 12), st.integers(1, 5), st.sampled_from([1, 2, 3, 5, 256]))
def test_vote_counts_the_pairs_that_a_majority_decides(data, n, k, block):
    values = st.lists(st.one_of(few, numbers), min_size=n, max_size=n).map(np.array)
    scores = {str(i): data.draw(values) for i in range(k)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxnas.scoring.combine.VOTERS", block)
        np.testing.assert_array_equal(vote(scores), wins(scores))


def test_vote_goes_over_more_architectures_than_one_block():
    rng = np.random.default_rng(0)
    scores = {name: rng.integers(0, 40, 700).astype(float) for name in "abc"}
    assert len(scores["a"]) > 2 * VOTERS
    np.testing.assert_array_equal(vote(scores), wins(scores))
    assert vote(scores).sum() == 700 * 699 / 2


def test_a_majority_outvotes_one_proxy_and_a_circle_is_a_tie():
    scores = {"a": np.array([3.0, 2, 1]), "b": np.array([3.0, 2, 1]), "c": np.array([-1e9, 2, 1])}
    np.testing.assert_array_equal(vote(scores), [2, 1, 0])
    circle = {"a": np.array([3.0, 2, 1]), "b": np.array([1.0, 3, 2]), "c": np.array([2.0, 1, 3])}
    np.testing.assert_array_equal(vote(circle), [1, 1, 1])
    np.testing.assert_array_equal(vote({"a": np.array([5.0, 5.0, NAN])}), [1.5, 1.5, 0])
    assert vote({"a": np.zeros(0)}).shape == (0,)


def test_by_logarithms_a_bad_rank_costs_more_than_a_good_one_gains():
    # The first is 1st and 5th, the last 3rd twice.
    scores = {"a": np.array([5.0, 4, 2, 1, 3]), "b": np.array([1.0, 2, 4, 5, 3])}
    assert log_rank(scores).argmax() == 4
    np.testing.assert_allclose(rank_mean(scores), 0.6)


@pytest.mark.parametrize("combine", COMBINATIONS.values(), ids=COMBINATIONS)
@given(st.data(), st.integers(2, 12))
def test_every_combination_is_finite_and_follows_what_all_proxies_agree_on(combine, data, n):
    values = st.lists(st.one_of(few, numbers), min_size=n, max_size=n).map(np.array)
    one, other = data.draw(values), data.draw(values)
    combined = combine({"one": one, "other": other})
    assert np.isfinite(combined).all()
    assert combined.shape == (n,)
    better = (ranks(one)[:, None] > ranks(one)) & (ranks(other)[:, None] > ranks(other))
    assert (combined[:, None] > combined)[better].all()


@pytest.mark.parametrize("combine", COMBINATIONS.values(), ids=COMBINATIONS)
def test_only_the_order_of_scores_counts(combine):
    rng = np.random.default_rng(0)
    scores = {"a": rng.standard_normal(20), "b": rng.standard_normal(20)}
    np.testing.assert_array_equal(
        combine(scores), combine({"a": np.exp(scores["a"]), "b": 3 * scores["b"] - 1})
    )
