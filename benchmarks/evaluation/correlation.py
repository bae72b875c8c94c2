"""Rank correlations with ties, also of many resamples at once.

A resample of n architectures is how often it holds each of them: `weights: float64[n, B]`, whole numbers,
one column a resample. Copies of one architecture are tied with each other. Both correlations are those of
the sample written out, computed without sorting it again.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jaxnas.scoring.combine import ranks

BLOCK = 2**19
"""Numbers of a block of resamples: a few MB, so that temporaries stay in the cache."""

type Correlation = Callable[[np.ndarray], np.ndarray]
"""From `weights: [n, B]` to the correlation of each resample, `float64[B]`."""


def codes(scores: np.ndarray) -> np.ndarray:
    """Whole numbers from 0 in the order of the scores, equal where they tie; NaN is the lowest."""
    return np.unique(ranks(scores), return_inverse=True)[1].reshape(-1)


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rho: Pearson's correlation of the ranks, ties sharing their mean.

    NaN where either is constant.
    """
    return float(spearman_of(x, y)(np.ones((len(x), 1)))[0])


def kendall(x: np.ndarray, y: np.ndarray) -> float:
    """Kendall's tau-b, (C - D) / sqrt((n0 - tx) (n0 - ty)).

    C and D count concordant and discordant pairs, n0 all, tx and ty those tied in x and in y. NaN where
    either is constant.
    """
    return float(kendall_of(x, y)(np.ones((len(x), 1)))[0])


def spearman_of(x: np.ndarray, y: np.ndarray) -> Correlation:
    """Spearman's rho of resamples of these pairs."""
    groups = [_Groups(codes(x)), _Groups(codes(y))]

    def of(weights: np.ndarray) -> np.ndarray:
        n = weights.sum(axis=0)
        centred, variances = [], []
        for group in groups:
            count = group.sums(weights)
            middle = np.cumsum(count, axis=0) - (count - 1) / 2 - (n + 1) / 2
            variances.append(np.einsum("gb,gb,gb->b", count, middle, middle))
            centred.append(middle[group.codes])
        covariance = np.einsum("nb,nb,nb->b", weights, *centred)
        return _ratio(covariance, variances[0] * variances[1])

    return of


def kendall_of(x: np.ndarray, y: np.ndarray) -> Correlation:
    """Kendall's tau-b of resamples of these pairs.

    Discordant pairs are counted bit by bit of y's codes, from the highest (a radix sort whose order does
    not depend on the weights): of two rows in the order of x whose higher bits agree, they are those with
    1 before 0. Rows tied in x stand in the order of y, and so never count.
    """
    xs, ys = codes(x), codes(y)
    both = np.unique(xs * (ys.max(initial=0) + 1) + ys, return_inverse=True)[1].reshape(-1)
    groups = [_Groups(each) for each in (xs, ys, both)]
    levels = _levels(xs, ys)

    def of(weights: np.ndarray) -> np.ndarray:
        discordant = np.zeros(weights.shape[1])
        for ones, zeros, before, start in levels:
            ahead = np.zeros((len(ones) + 1, weights.shape[1]))
            np.cumsum(weights[ones], axis=0, out=ahead[1:])
            discordant += np.einsum("nb,nb->b", weights[zeros], ahead[before] - ahead[start])
        n = weights.sum(axis=0)
        tied = [(c * (c - 1)).sum(axis=0) / 2 for c in (g.sums(weights) for g in groups)]
        pairs = n * (n - 1) / 2
        agreeing = pairs - tied[0] - tied[1] + tied[2] - 2 * discordant
        return _ratio(agreeing, (pairs - tied[0]) * (pairs - tied[1]))

    return of


def bootstrap_weights(n: int, resamples: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Blocks of weights `[n, B]`: in all `resamples` draws of n architectures with replacement."""
    rng = np.random.default_rng(seed)
    columns = max(1, BLOCK // max(n, 1))
    for first in range(0, resamples, columns):
        size = min(columns, resamples - first)
        drawn = rng.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(drawn.reshape(-1), minlength=size * n).reshape(size, n)
        yield np.ascontiguousarray(counts.T, np.float64)


def interval(correlations: Sequence[Correlation], n: int, resamples: int) -> tuple[float, float]:
    """The bootstrap's 95 % interval of the mean of several correlations of the same n architectures.

    The 2.5 and 97.5 percentiles over resamples, which all correlations share; NaN without any.
    """
    means = [
        np.mean([of(weights) for of in correlations], axis=0)
        for weights in bootstrap_weights(n, resamples)
    ]
    known = np.concatenate([np.zeros(0), *means])
    known = known[~np.isnan(known)]  # a resample of equal architectures has no correlation
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


class _Groups:
    """Rows grouped by code; `sums` adds up weights within each group."""

    def __init__(self, grouped: np.ndarray) -> None:
        self.codes = grouped
        self._order = np.argsort(grouped, kind="stable")
        self._starts = np.flatnonzero(np.diff(grouped[self._order], prepend=-1))

    def sums(self, weights: np.ndarray) -> np.ndarray:
        return np.add.reduceat(weights[self._order], self._starts, axis=0)


def _levels(xs: np.ndarray, ys: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """For each bit: rows with 1, rows with 0, and for these how many rows with 1 stand before them, and
    before their group, in the order of the groups."""
    order = np.lexsort((ys, xs))
    levels = []
    for bit in range(int(ys.max(initial=0)).bit_length()):
        grouped = order[np.argsort(ys[order] >> (bit + 1), kind="stable")]
        high = (ys[grouped] >> bit & 1).astype(bool)
        before = np.cumsum(high)  # that of a row with 0 leaves it out
        group = ys[grouped] >> (bit + 1)
        first = np.searchsorted(group, group)  # where each row's group begins
        start = before[first] - high[first]
        levels.append((grouped[high], grouped[~high], before[~high], start[~high]))
    return levels


def _ratio(numerator: np.ndarray, squared: np.ndarray) -> np.ndarray:
    """Numerator over root; NaN where a side is constant."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = numerator / np.sqrt(squared)
    return np.where(squared > 0, np.clip(found, -1, 1), np.nan)
