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


def vote(scores: Mapping[str, np.ndarray]) -> np.ndarray:
    """Pairwise wins by the proxies' majority vote (Abdelfattah et al., arXiv:2101.08134).

    An architecture wins against another if more proxies rank it above than below it, and half wins if
    as many do; a proxy that ranks both alike abstains. The paper's vote is between two architectures
    and may go round in circles; the number of wins against all others, 0 to N - 1 in steps of a half,
    is an order of any number. Those of equal wins stay tied.

    All N (N - 1) / 2 pairs are looked at, in blocks of a few MB.
    """
    places = [np.unique(ranks(s), return_inverse=True)[1].astype(np.int32) for s in scores.values()]
    n = len(places[0])
    balance = np.zeros(n, np.int64)
    for start in range(0, n, VOTERS):
        rows = slice(start, start + VOTERS)
        margin = np.zeros((len(places[0][rows]), n - start), np.int8)
        for place in places:
            mine, others = place[rows, None], place[None, start:]
            margin += (mine > others).view(np.int8)
            margin -= (mine < others).view(np.int8)
        margin = np.sign(margin)
        balance[rows] += margin.sum(axis=1, dtype=np.int64)
        # What one wins the other loses; inside the block every pair was met from both sides.
        balance[start + VOTERS :] -= margin[:, VOTERS:].sum(axis=0, dtype=np.int64)
    return (balance + n - 1) / 2


VOTERS = 256
"""Architectures that are compared with all others at once."""

COMBINATIONS: dict[str, Callable[[Mapping[str, np.ndarray]], np.ndarray]] = {
    "log_rank": log_rank,
    "rank_mean": rank_mean,
    "vote": vote,
}
