"""What a graph of operations amounts to: how many there are, what they follow, how deep its paths are."""

import numpy as np

from jaxnas.predictor import Candidates
from jaxnas.predictors.dags import Dag, dags, once, weisfeiler_lehman

IDENTITIES = frozenset({"skip_connect", "identity", "skip", "concat"})
"""Operations that hand on what they get."""


def shape(members: list[Dag]) -> np.ndarray:
    """Of all paths from an input to an output, `float64[N, 2 L + 4]`.

    For each label, how often it is on a path at most and in the mean; then how many operations are on a
    path at most, in the mean and at least, and the logarithm of the number of paths, an architecture
    without any counting as one empty path. Identities are not counted. One walk along the vertices in
    their order, whatever the number of paths.
    """
    names = sorted({v.label for member in members for v in member} - IDENTITIES)
    code = {name: i for i, name in enumerate(names)}
    rows = {member: _walk(member, code) for member in dict.fromkeys(members)}
    return np.stack([rows[member] for member in members])


def _walk(member: Dag, code: dict[str, int]) -> np.ndarray:
    own = np.zeros((len(member), len(code)))
    number, total, most = np.ones(len(member)), own.copy(), own.copy()
    deepest, shallowest = np.zeros(len(member)), np.zeros(len(member))
    ends = set(range(len(member)))
    for i, vertex in enumerate(member):
        counted = vertex.before and vertex.label in code
        if counted:
            own[i, code[vertex.label]] = 1.0
        before = list(vertex.before)
        if before:
            number[i] = number[before].sum()
            total[i] = total[before].sum(axis=0)
            most[i] = most[before].max(axis=0)
            deepest[i], shallowest[i] = deepest[before].max(), shallowest[before].min()
        total[i] += number[i] * own[i]
        most[i] += own[i]
        deepest[i] += bool(counted)
        shallowest[i] += bool(counted)
        ends -= set(before)
    last = sorted(ends)
    if not last:
        return np.zeros(2 * len(code) + 4)
    paths = number[last].sum()
    mean = total[last].sum(axis=0) / paths
    depth = [deepest[last].max(), mean.sum(), shallowest[last].min()]
    return np.concatenate([most[last].max(axis=0), mean, depth, [np.log(paths)]])


@once
def structure(pool: Candidates) -> np.ndarray:
    """`shape`, and the counts of labels and of labels with what they read, over the pool `float64[N, F]`.

    Each of the three is standardised (`shape`) or centred (counts) and scaled so that its members lie at
    a mean squared distance of 1 from their mean: each weighs as much.
    """
    words = [_recurring(counts.toarray()) for counts in weisfeiler_lehman(dags(pool), 1)]
    return np.concatenate([paths(pool), *map(unit, words)], axis=1)


@once
def paths(pool: Candidates) -> np.ndarray:
    """`shape`, its columns standardised over the pool and all scaled as `structure` says."""
    found = shape(dags(pool))
    deviation = found.std(axis=0)
    return unit(found / np.where(deviation > 0, deviation, np.inf))


def unit(columns: np.ndarray) -> np.ndarray:
    """Centred columns, all scaled by one number so that the mean squared norm of a row is 1."""
    varied = columns[:, columns.std(axis=0) > 0]
    centred = varied - varied.mean(axis=0)
    size = np.square(centred).sum(axis=1).mean() if len(centred) else 0.0
    return centred / np.sqrt(size) if size > 0 else centred


def _recurring(counts: np.ndarray) -> np.ndarray:
    """Without labels of which no two members have any."""
    return counts[:, (counts > 0).sum(axis=0) > 1]
