"""Who is better than whom: ranks over runs, and Wilcoxon's signed-rank test with Holm's correction."""

from collections.abc import Mapping
from math import erfc, sqrt

import numpy as np
import pandas as pd

from jaxnas.scoring.combine import ranks


def rank_table(final: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """One row a strategy, best mean rank first.

    `final[name]: float64[R]` is what each run ended with, higher is better; run r of one strategy is
    compared with run r of the others. A run that ended with nothing is the worst.

    Columns: `strategy`, `rank` (mean over runs, 1 is best, ties share), `p` against the first row by
    Wilcoxon's signed-rank test, two-sided, pairs that tie left out, and `p_holm`, corrected for the
    number of comparisons; NaN in the first row.
    """
    names = list(final)
    values = np.stack([np.nan_to_num(final[name], nan=-np.inf) for name in names])
    placed = np.stack([len(names) + 1 - ranks(column) for column in values.T])
    table = pd.DataFrame({"strategy": names, "rank": placed.mean(axis=0)})
    table = table.sort_values("rank", kind="stable", ignore_index=True)
    best = values[names.index(str(table["strategy"].iloc[0]))]
    others = [values[names.index(str(n))] for n in table["strategy"].iloc[1:]]
    p = np.array([wilcoxon(best, other) for other in others])
    table["p"] = [np.nan, *p]
    table["p_holm"] = [np.nan, *holm(p)]
    return table


def wilcoxon(a: np.ndarray, b: np.ndarray) -> float:
    """p of Wilcoxon's signed-rank test of paired samples, two-sided, by the normal approximation.

    Pairs that tie are left out, equal differences share their rank, and the variance is corrected for
    them; 1 where all pairs tie. Infinite differences are the largest.
    """
    with np.errstate(invalid="ignore"):
        difference = np.where(a == b, 0.0, a - b)
    difference = difference[difference != 0]
    n = len(difference)
    if not n:
        return 1.0
    order = ranks(np.abs(difference))
    positive = order[difference > 0].sum()
    counts = np.unique(order, return_counts=True)[1].astype(float)
    variance = n * (n + 1) * (2 * n + 1) / 24 - (counts**3 - counts).sum() / 48
    z = (positive - n * (n + 1) / 4) / sqrt(variance)
    return min(1.0, erfc(abs(z) / sqrt(2)))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction: the k-th smallest of m times m + 1 - k, made monotone, at most 1."""
    order = np.argsort(p, kind="stable")
    scaled = p[order] * (len(p) - np.arange(len(p)))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return corrected
