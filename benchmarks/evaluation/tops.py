"""The top of a ranking: what it holds, what is the best in it, and how far that is from the best.

Architectures that tie at the border of the top k are in it with equal chances; what is given is the
expected value, so that nothing is drawn and the order of the rows does not matter.
"""

import numpy as np

from jaxnas.scoring.combine import ranks

TOPS = (1, 8, 20, 100)
"""The k of precision, best found and regret."""


def chances(places: np.ndarray, k: int) -> np.ndarray:
    """The chance of each architecture to be in the top k, `float64[n]`; they add up to k.

    `places` are ascending ranks (`jaxnas.scoring.combine.ranks`), in which -inf is below every number
    and NaN below that.
    """
    border = np.partition(places, len(places) - k)[len(places) - k]
    above, tied = places > border, places == border
    return np.where(above, 1.0, np.where(tied, (k - above.sum()) / tied.sum(), 0.0))


def precision(chance: np.ndarray, wanted: np.ndarray) -> float:
    """How many of the top k by score are among the top k by target, as a share of k.

    Both are `chances`; where both have ties at the border they are broken independently: sum of
    p_i q_i over k.
    """
    return float((chance * wanted).sum() / chance.sum())  # not @: BLAS wakes all its threads


def best_found(chance: np.ndarray, target: np.ndarray) -> float:
    """The best target `float64[n]` among the top k by score, in expectation over ties.

    With m places left for t tied architectures, whose targets ascend, the best of those drawn is the
    j-th with probability C(j - 1, m - 1) / C(t, m).
    """
    sure = target[chance == 1]
    tied = np.sort(target[(chance > 0) & (chance < 1)])
    if not len(tied):
        return float(sure.max())
    t = len(tied)
    m = round(chance.sum()) - len(sure)
    j = np.arange(t, m, -1)
    # From the best downwards: m / t, then times (j - m) / (j - 1) at each step.
    weights = m / t * np.cumprod(np.concatenate([[1.0], (j - m) / (j - 1)]))
    values = tied[::-1][: len(weights)]
    if len(sure):
        values = np.maximum(values, sure.max())
    return float((weights * values).sum() / weights.sum())


def overlap(one: np.ndarray, other: np.ndarray, k: int) -> float:
    """The share that the top k by two scores have in common.

    Ties go to the earlier row here, so that equal scores have all in common.
    """
    mine, theirs = (np.argsort(-ranks(s), kind="stable")[:k] for s in (one, other))
    return len(np.intersect1d(mine, theirs)) / k
