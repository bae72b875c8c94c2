"""The benchmark's statistics against SciPy, enumeration of all ways to break ties, and by hand."""

import itertools

import numpy as np
import pytest
from evaluation_fakes import accuracy, import_table, make_table, write_csv
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from jaxnas.benchmarks.evaluation.ceiling import deviations, draws
from jaxnas.benchmarks.evaluation.correlation import (
    bootstrap_weights,
    interval,
    kendall,
    kendall_of,
    spearman,
    spearman_of,
)
from jaxnas.benchmarks.evaluation.population import Target
from jaxnas.benchmarks.evaluation.results import Measured, statistics
from jaxnas.benchmarks.evaluation.tops import best_found, chances, overlap, precision
from jaxnas.benchmarks.tables import load_table
from jaxnas.benchmarks.tables.columns import column_from_name
from jaxnas.scoring.combine import ranks
from jaxnas.search_spaces import get_space

VALUES = st.one_of(st.integers(-2, 2), st.sampled_from([-np.inf, np.nan, 0.5]))


@st.composite
def pairs(draw, most=30):
    n = draw(st.integers(2, most))
    x = draw(st.lists(VALUES, min_size=n, max_size=n))
    y = draw(st.lists(st.integers(0, draw(st.integers(1, 9))), min_size=n, max_size=n))
    return np.array(x, float), np.array(y, float)


def ordered(x):
    """NaN below -inf below every number, as plain numbers that SciPy can rank."""
    return np.where(np.isnan(x), -200.0, np.where(np.isneginf(x), -100.0, x))


def references(x, y):
    if len(set(x)) < 2 or len(set(y)) < 2:
        return np.nan, np.nan
    return spearmanr(x, y).statistic, kendalltau(x, y, variant="b").statistic


@given(pairs())
def test_correlations_are_scipys_with_ties(pair):
    x, y = pair
    got = spearman(x, y), kendall(x, y)
    np.testing.assert_allclose(got, references(ordered(x), y), atol=1e-12)


@settings(max_examples=50)
@given(pairs(), st.integers(0, 1000))
def test_a_resample_is_the_sample_written_out(pair, seed):
    x, y = pair
    counts = np.random.default_rng(seed).multinomial(len(x), np.ones(len(x)) / len(x), size=4).T
    got = spearman_of(x, y)(counts.astype(float)), kendall_of(x, y)(counts.astype(float))
    for b in range(4):
        chosen = np.repeat(np.arange(len(x)), counts[:, b])
        expected = references(ordered(x)[chosen], y[chosen])
        np.testing.assert_allclose((got[0][b], got[1][b]), expected, atol=1e-12)


def test_many_distinct_values():
    rng = np.random.default_rng(0)
    x = rng.normal(size=5000)
    y = x + rng.normal(size=5000)
    np.testing.assert_allclose((spearman(x, y), kendall(x, y)), references(x, y), atol=1e-12)


def test_bootstrap_is_that_of_resampled_rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    y = x + rng.normal(size=200)
    weights = np.concatenate(list(bootstrap_weights(200, 500)), axis=1)
    assert weights.shape == (200, 500)
    assert (weights.sum(0) == 200).all()
    assert abs(weights.var() - 1) < 0.05  # counts are Poisson, nearly
    low, high = interval([spearman_of(x, y)], 200, 2000)
    drawn = rng.integers(0, 200, (2000, 200))
    expected = np.percentile([spearmanr(x[i], y[i]).statistic for i in drawn], [2.5, 97.5])
    np.testing.assert_allclose((low, high), expected, atol=0.015)
    assert np.isnan(interval([spearman_of(x, y)], 200, 0)).all()


def test_the_interval_of_several_seeds_is_that_of_their_mean():
    rng = np.random.default_rng(0)
    y = rng.normal(size=100)
    seeds = [spearman_of(y + rng.normal(size=100), y) for _ in range(2)]
    means = [np.mean([of(w) for of in seeds], 0) for w in bootstrap_weights(100, 300)]
    expected = np.percentile(np.concatenate(means), [2.5, 97.5])
    np.testing.assert_allclose(interval(seeds, 100, 300), expected)


def orders(scores):
    """Every ranking of the rows, best first, that breaking ties one way or another gives."""
    n = len(scores)
    return {
        tuple(sorted(range(n), key=lambda i: (-ordered(scores)[i], tie[i])))
        for tie in itertools.permutations(range(n))
    }


@settings(max_examples=60)
@given(pairs(most=5), st.data())
def test_tops_are_means_over_all_ways_to_break_ties(pair, data):
    x, y = pair
    k = data.draw(st.integers(1, len(x)))
    by_score, by_target = orders(x), orders(y)
    member = [np.mean([i in order[:k] for order in by_score]) for i in range(len(x))]
    by_x, by_y = chances(ranks(x), k), chances(ranks(y), k)
    np.testing.assert_allclose(by_x, member, atol=1e-12)
    shared = [len(set(a[:k]) & set(b[:k])) / k for a, b in itertools.product(by_score, by_target)]
    assert precision(by_x, by_y) == pytest.approx(np.mean(shared))
    found = np.mean([max(y[i] for i in order[:k]) for order in by_score])
    assert best_found(by_x, y) == pytest.approx(found)


@given(st.permutations(range(12)))
def test_tops_do_not_depend_on_the_order_of_rows(order):
    x = np.array([3, 3, 3, 2, 2, 1, 1, 1, 0, np.nan, -np.inf, 3])
    y = np.array([1.0, 5, 2, 9, 9, 3, 4, 4, 8, 7, 6, 5])
    i = np.array(order)
    for k in (1, 3, 6, 12):
        one, other = chances(ranks(x), k), chances(ranks(x[i]), k)
        wanted = chances(ranks(y), k)
        assert precision(other, wanted[i]) == pytest.approx(precision(one, wanted))
        assert best_found(other, y[i]) == pytest.approx(best_found(one, y))


def test_overlap_of_equal_scores_is_whole_even_with_ties():
    x = np.array([1.0, 1, 1, 1, 0, 2])
    assert overlap(x, x.copy(), 3) == 1
    assert overlap(x, -x, 3) == pytest.approx(2 / 3)  # 5, 0, 1 against 4, 0, 1


def test_failures_never_reach_the_top():
    scores = ranks(np.array([np.nan, -np.inf, 0.0, 1.0]))
    assert chances(scores, 2).tolist() == [0, 0, 1, 1]
    assert chances(scores, 3).tolist() == [0, 1, 1, 1]


def test_statistics_by_hand():
    """The target is 0 to 29, so that its top tenth are 27, 28 and 29; the score swaps 29 and 27."""
    values = np.arange(30.0)
    scores = values.copy()
    scores[[27, 29]] = scores[[29, 27]]
    found = statistics(
        scores, Measured("t", values, ranks(values), np.arange(30), np.arange(27, 30))
    )
    assert found["top_spearman"] == -1
    assert found["top_kendall"] == -1
    assert found["kendall"] == pytest.approx(1 - 2 * 3 / 435)
    assert (found["precision_1"], found["precision_8"], found["precision_20"]) == (0, 1, 1)
    assert (found["best_1"], found["regret_1"], found["best_8"], found["regret_8"]) == (
        27,
        2,
        29,
        0,
    )
    assert "best_100" not in found


def test_ties_at_the_tenth_belong_to_it():
    values = np.array([1.0, 2, 3, 4, 5, 6, 9, 9, np.nan, 9, 7, 8])
    target = Measured.of(Target(column_from_name("c10_test"), values))
    assert target.there.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11]
    assert target.values[target.top].tolist() == [9, 9, 9]


def test_noise_of_one_training_from_the_deviation_and_the_number_of_seeds(tmp_path):
    space = get_space("nasbench201")
    archs = space.all()[:50]
    table = load_table(make_table(tmp_path, archs))
    sigma, seeds = deviations(table, table.column("c10_test"), np.arange(50))
    # Three trainings of population deviation .5: the sample's is .5 sqrt(3 / 2).
    np.testing.assert_allclose(sigma, 0.5 * np.sqrt(1.5))
    assert (seeds == 3).all()
    assert deviations(table, table.column("c100_test"), np.arange(50)) is None


def test_an_unknown_deviation_is_that_of_like_architectures(tmp_path):
    archs = get_space("nasbench201").all()[:40]
    first, second = accuracy(archs), accuracy(archs) + 1
    second[::4] = np.nan
    second[20:] += 3
    columns = {"c10_test_seed777": first, "c10_test_seed888": second}
    mean = np.nanmean(np.stack([first, second]), axis=0)
    path = write_csv(tmp_path / "seeds.csv", archs, c10_test_mean=mean, **columns)
    table = load_table(import_table(path))
    sigma, seeds = deviations(table, table.column("c10_test_mean"), np.arange(40))
    assert seeds.tolist() == [1, 2, 2, 2] * 10
    known = np.arange(40) % 4 > 0
    expected = np.where(np.arange(40) < 20, 1.0, 4.0) / np.sqrt(2)
    np.testing.assert_allclose(sigma[known], expected[known])
    assert ((sigma[~known] >= 1 / np.sqrt(2) - 1e-9) & (sigma[~known] <= 4 / np.sqrt(2))).all()


def test_draws_scatter_as_told():
    values = np.arange(4.0)
    sigma, seeds = np.array([0.0, 1.0, 2.0, 2.0]), np.array([3.0, 1.0, 1.0, 4.0])
    drawn = np.stack(list(draws(values, sigma, seeds, n=4000)))
    np.testing.assert_allclose(drawn.mean(0), values, atol=0.1)
    np.testing.assert_allclose(drawn.std(0), [0, 1, 2, 1], atol=0.08)
