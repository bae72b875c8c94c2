"""From several proxies' scores to one ranking."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd


def ranks(scores: np.ndarray) -> np.ndarray:
    """Ascending ranks `float64[N]`, 1 for the worst; ties share their mean.

    -inf (no path to the output) ranks below every number and NaN (a numerical failure) below that.
    """
    scores = np.asarray(scores, np.float64)
    return pd.Series(scores).rank(method="average", na_option="top").to_numpy()


def log_rank(scores: Mapping[str, np.ndarray]) -> np.ndarray:
    """Sum over proxies of ln(rank / N), the non-linear aggregation of AZ-NAS (arXiv:2403.19232).

    Ranks ascend, so that one bad rank costs more than one good rank gains.
    """
    return np.sum([np.log(ranks(s) / len(s)) for s in scores.values()], axis=0)


def rank_mean(scores: Mapping[str, np.ndarray]) -> np.ndarray:
    """Mean over proxies of rank / N."""
    return np.mean([ranks(s) / len(s) for s in scores.values()], axis=0)


COMBINATIONS: dict[str, Callable[[Mapping[str, np.ndarray]], np.ndarray]] = {
    "log_rank": log_rank,
    "rank_mean": rank_mean,
}
