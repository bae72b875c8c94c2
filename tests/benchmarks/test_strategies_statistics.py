"""Incumbents, spent seconds and significance against loops and SciPy."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata
from scipy.stats import wilcoxon as scipys

from jaxnas.benchmarks.strategies import curves
from jaxnas.benchmarks.strategies.significance import holm, rank_table, wilcoxon
from jaxnas.benchmarks.strategies.simulate import Trace

RNG = np.random.default_rng(0)
FITNESS = RNG.normal(90, 2, (2, 30))
FITNESS[:, 3] = np.nan
FITNESS[1, 7] = np.nan
TRACE = Trace(RNG.integers(0, 30, (5, 40)), (RNG.random((5, 40)) < 0.2).astype(int))


def test_the_incumbent_is_the_best_of_the_highest_fidelity_so_far():
    found = curves.incumbents(TRACE, FITNESS)
    for rows, levels, mine in zip(*TRACE, found, strict=True):
        for t in range(40):
            seen = [
                (level, FITNESS[level, row], -i, row)
                for i, (row, level) in enumerate(zip(rows[: t + 1], levels, strict=False))
                if not np.isnan(FITNESS[level, row])
            ]
            assert mine[t] == (max(seen)[-1] if seen else -1)


def test_queries_and_seconds_add_up_and_cut_at_the_budget():
    seconds = RNG.uniform(10, 20, 30)
    runs = curves.runs_of("mine", TRACE, FITNESS, (3, 12), seconds, 100.0)
    values = FITNESS[1]
    table = curves.by_queries(runs, {"goal": values}, 12)
    assert table["queries"].tolist() == list(range(1, 13))
    ended, timed = [], []
    points = np.array([90.0, 140.0, 250.0, 1e9])
    for run in range(5):
        spent, clock = 0.0, 100.0
        at_budget, at_points = -1, np.full(4, -1)
        for t in range(40):
            share = 1.0 if TRACE.fidelity[run, t] else 0.25
            spent, clock = spent + share, clock + share * seconds[TRACE.rows[run, t]]
            if spent <= 12:
                at_budget = runs.incumbents[run, t]
                at_points = np.where(clock <= points, at_budget, at_points)
        ended.append(values[at_budget])
        timed.append(np.where(at_points < 0, np.nan, values[at_points]))
    last = table.iloc[-1]
    assert last["goal_mean"] == pytest.approx(np.nanmean(ended))
    assert last["goal_std"] == pytest.approx(np.nanstd(ended))
    by_seconds = curves.by_seconds(runs, {"goal": values}, 12, points[:3])
    assert np.isnan(by_seconds["goal_mean"].iloc[0])  # the ranking was not done
    np.testing.assert_allclose(
        by_seconds["goal_mean"].to_numpy()[1:], np.nanmean(np.array(timed)[:, 1:3], axis=0)
    )


@pytest.mark.parametrize("ties", [False, True])
def test_wilcoxon_is_scipys(ties):
    a, b = RNG.normal(0, 1, 60), RNG.normal(0.3, 1, 60)
    if ties:
        a, b = np.round(a), np.round(b)
    expected = scipys(a, b, zero_method="wilcox", correction=False, method="asymptotic").pvalue
    assert wilcoxon(a, b) == pytest.approx(expected, rel=1e-9)
    assert wilcoxon(a, a) == 1.0
    assert wilcoxon(np.full(9, -np.inf), np.zeros(9)) < 0.01


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.6, 0.5])), [1.0, 1.0])
    assert holm(np.zeros(0)).tolist() == []


def test_ranks_are_means_over_runs_of_shared_places():
    final = {"a": RNG.normal(0, 1, 50), "b": RNG.normal(1, 1, 50), "c": np.zeros(50)}
    final["c"][:5] = np.nan
    table = rank_table(final)
    stacked = np.stack([np.nan_to_num(v, nan=-1e9) for v in final.values()])
    expected = pd.Series(rankdata(-stacked, axis=0).mean(1), index=list(final)).sort_values()
    assert table["strategy"].tolist() == expected.index.tolist()
    np.testing.assert_allclose(table["rank"], expected)
    assert table["strategy"].iloc[0] == "b"
    assert np.isnan(table["p"].iloc[0])
    p = table["p"].to_numpy()[1:]
    np.testing.assert_allclose(table["p_holm"].to_numpy()[1:], holm(p))
    assert (p < 0.05).all()
