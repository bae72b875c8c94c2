"""Architectures as rows of numbers, one function an encoding. A new one is a line in `ENCODINGS`."""

from collections import Counter
from collections.abc import Callable

import numpy as np
from scipy.special import ndtri

from jaxnas.errors import InputError, unknown
from jaxnas.predictor import Candidates
from jaxnas.predictors.dags import dags, once, path_counts
from jaxnas.predictors.structure import shape, structure
from jaxnas.scoring.combine import ranks
from jaxnas.spaces import SearchSpace

MOST_PATHS = 512
"""Columns of the path encoding; of more paths the most frequent ones are kept."""


def encode(names: str, pool: Candidates) -> np.ndarray:
    """The pool as numbers, `float64[N, F]`: encodings joined by `+`, as in `adjacency+ranks`.

    Raises:
        InputError: an unknown name (with the nearest), or something missing that an encoding needs.
    """
    parts = []
    for name in names.split("+"):
        if name not in ENCODINGS:
            raise unknown("encoding", name, ENCODINGS)
        parts.append(ENCODINGS[name](pool))
    return np.concatenate(parts, axis=1)


def normal_scores(values: np.ndarray) -> np.ndarray:
    """`Phi^-1((rank - 1/2) / N)`, ranks ascending, ties sharing their mean; NaN is lowest."""
    return ndtri((ranks(values) - 0.5) / len(values))


def adjacency(pool: Candidates) -> np.ndarray:
    """A column for each choice of each decision, 1 where it was taken and bears on the output."""
    active = pool.space.active_decisions(pool.archs)
    columns = [
        (pool.archs[:, [d]] == np.arange(n)) & active[:, [d]]
        for d, n in enumerate(pool.space.choices)
    ]
    return np.concatenate(columns, axis=1).astype(np.float64)


def operations(pool: Candidates) -> np.ndarray:
    """How many active decisions took each choice, by the choice's name, standardised over the pool."""
    names = sorted({choice for decision in pool.space.decisions for choice in decision.choices})
    active = pool.space.active_decisions(pool.archs)
    counts = np.zeros((len(pool), len(names)))
    for d, decision in enumerate(pool.space.decisions):
        column = np.array([names.index(choice) for choice in decision.choices])
        np.add.at(counts, (np.arange(len(pool)), column[pool.archs[:, d]]), active[:, d])
    return standardised(counts)


@once
def path(pool: Candidates) -> np.ndarray:
    """A column for each path from input to output through operations, 1 where it is there.

    White et al., BANANAS, arXiv:1910.11858, truncated likewise, to the `MOST_PATHS` most frequent.

    Raises:
        InputError: a space of chains, or of architectures with more than `MOST_PATHS` paths each.
    """
    number = np.exp(shape(dags(pool))[:, -1]).max(initial=0)
    if type(pool.space).graphs is SearchSpace.graphs or number < 1.5:
        raise InputError(
            f"The encoding path needs cells with several paths, and the architectures of "
            f"{pool.space.name} are chains; near: adjacency, structure."
        )
    if number > MOST_PATHS:
        raise InputError(
            f"An architecture of {pool.space.name} has {number:,.0f} paths, expected at most "
            f"{MOST_PATHS:,} for the encoding path; near: structure, which counts them."
        )
    counts = path_counts(dags(pool))
    common = Counter(each for member in counts for each in member)
    kept = {each: i for i, (each, _) in enumerate(common.most_common(MOST_PATHS))}
    found = np.zeros((len(pool), len(kept)))
    for i, member in enumerate(counts):
        found[i, [kept[each] for each in member if each in kept]] = 1.0
    return found


def proxy_ranks(pool: Candidates) -> np.ndarray:
    """Each label-free score's normal scores over the pool, a column a proxy."""
    if not pool.scores:
        raise InputError(
            "The encoding ranks needs label-free scores, and the candidates have none."
        )
    return np.stack([normal_scores(values) for values in pool.scores.values()], axis=1)


def prior(pool: Candidates) -> np.ndarray:
    """The label-free ranking's normal scores over the pool, one column."""
    if pool.prior is None:
        raise InputError(
            "The encoding prior needs a label-free ranking, and the candidates have none."
        )
    return normal_scores(pool.prior)[:, None]


def curves(pool: Candidates) -> np.ndarray:
    """Each epoch of the learning curves, standardised over who was trained so far, and whether one was.

    Who was not has the mean, 0.
    """
    if pool.curves is None:
        raise InputError("The encoding curves needs learning curves, and the candidates have none.")
    known = np.isfinite(pool.curves)
    count = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, pool.curves, 0.0)
    centred = np.where(known, filled - filled.sum(axis=0) / count, 0.0)
    deviation = np.sqrt((centred**2).sum(axis=0) / count)
    scaled = centred / np.where(deviation > 0, deviation, 1.0)
    return np.concatenate([scaled, known.any(axis=1, keepdims=True)], axis=1)


def known(pool: Candidates) -> np.ndarray:
    """What there is: structure, adjacency, and ranks and prior where the candidates have them."""
    there = ["structure", "adjacency", *(["ranks"] if pool.scores else [])]
    return encode("+".join([*there, *(["prior"] if pool.prior is not None else [])]), pool)


def standardised(columns: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and standard deviation 1, without those that are constant."""
    varied = columns[:, columns.std(axis=0) > 0]
    return (varied - varied.mean(axis=0)) / varied.std(axis=0)


ENCODINGS: dict[str, Callable[[Candidates], np.ndarray]] = {
    "adjacency": adjacency,
    "operations": operations,
    "path": path,
    "structure": structure,
    "ranks": proxy_ranks,
    "prior": prior,
    "curves": curves,
    "known": known,
}
