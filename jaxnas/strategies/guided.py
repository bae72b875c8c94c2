"""Which architectures of a space too large to list are worth ranking: evolution by label-free scores."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from jaxnas.errors import InputError
from jaxnas.scoring.combine import log_rank
from jaxnas.spaces import SearchSpace
from jaxnas.strategies.listed import best_first

type Score = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Label-free scores of `archs: int32[n, D]`, each `float[n]` by name; higher is better."""
type Combine = Callable[[Mapping[str, np.ndarray]], np.ndarray]

ATTEMPTS = 20
"""A generation is made up of at most so many times its number of mutants, then of random members."""


class Explored(NamedTuple):
    """Architectures `int32[M, D]`, best first, scores by name `float64[M]`, and the combined one."""

    archs: np.ndarray
    scores: dict[str, np.ndarray]
    combined: np.ndarray


def explore(
    space: SearchSpace,
    score: Score,
    key: jax.Array,
    budget: int,
    *,
    combine: Combine = log_rank,
    generation: int = 32,
    parents: int = 32,
    tournament: int = 4,
    random: float = 0.25,
) -> Explored:
    """Evolve a population by its label-free scores, a generation being scored at once.

    The first share `random` of the budget is drawn at random. Then each child is the crossover of two
    parents, which takes each decision from either, with one decision drawn anew; a parent is the best of
    `tournament` among the `parents` best of all so far, by `combine` over all that were scored. What is
    equal once pruned is not scored again.

    Args:
        space: of the architectures.
        score: scores a generation; -inf where nothing is connected, NaN where it failed.
        key: consumed.
        budget: scorings; fewer are made where the space has no more architectures.
        combine: of several scores over a population.
        generation: architectures that are scored at once.
        parents: how many of the best have children.
        tournament: how many a parent is the best of.
        random: share of the budget that is drawn at random, at least one generation.

    Raises:
        InputError: a budget, generation, parents or tournament below 1, or a share outside 0 to 1.
    """
    if min(budget, generation, parents, tournament) < 1 or not 0 <= random <= 1:
        raise InputError(
            f"Evolution with a budget of {budget} scorings, generations of {generation}, {parents} "
            f"parents, tournaments of {tournament} and a random share of {random}: expected at least "
            "1 of each and a share from 0 to 1."
        )
    draw, key = jax.random.split(key)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    first = min(budget, max(generation, round(random * budget)))
    archs = space.sample_distinct(draw, first)
    scores = {name: np.asarray(v, np.float64) for name, v in score(archs).items()}
    while len(archs) < budget:
        fitness = np.asarray(combine(scores))
        best = best_first(fitness)[:parents]
        children = _children(
            space, archs, best, min(generation, budget - len(archs)), tournament, rng
        )
        if not len(children):
            break
        new = score(children)
        archs = np.concatenate([archs, children])
        scores = {name: np.concatenate([v, new[name]]) for name, v in scores.items()}
    combined = np.asarray(combine(scores), np.float64)
    order = best_first(combined)
    return Explored(archs[order], {n: v[order] for n, v in scores.items()}, combined[order])


def around(
    space: SearchSpace, archs: np.ndarray, n: int, key: jax.Array, *, steps: int = 3
) -> np.ndarray:
    """Up to `n` architectures `int32[m, D]`: these, others 1 to `steps` decisions away, random ones.

    For rankings that begin with the few that pruning or perturbation find. All differ once pruned; the
    key is consumed.
    """
    if not len(archs):
        raise InputError("There is no architecture to draw others around.")
    draw, key = jax.random.split(key)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    found = _Distinct(space)
    rows = [found.new(np.asarray(archs, np.int32))[:n]]
    for _ in range(ATTEMPTS):
        have = sum(map(len, rows))
        if have >= n:
            break
        near = np.resize(np.asarray(archs, np.int32), (max(n, 64), np.shape(archs)[1]))
        length = rng.integers(1, steps + 1, len(near))
        for step in range(steps):
            near = np.where((step < length)[:, None], _mutated(space, near, rng), near)
        rows.append(found.new(near)[: n - have])
    have = sum(map(len, rows))
    if have < n:
        rows.append(found.new(space.sample_distinct(draw, 2 * n))[: n - have])
    return np.concatenate(rows)


class _Distinct:
    """Which architectures are new, equal ones being told once pruned."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.seen: set[bytes] = set()

    def new(self, archs: np.ndarray) -> np.ndarray:
        kept = []
        for arch, pruned in zip(archs, self.space.pruned(archs).astype(np.int32), strict=True):
            if pruned.tobytes() not in self.seen:
                self.seen.add(pruned.tobytes())
                kept.append(arch)
        return np.array(kept, np.int32).reshape(-1, archs.shape[1])


def _children(
    space: SearchSpace,
    archs: np.ndarray,
    best: np.ndarray,
    n: int,
    tournament: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Up to `n` that are not among `archs`."""
    found, rows = _Distinct(space), []
    found.new(archs)
    for _ in range(ATTEMPTS):
        # Places are by falling fitness, so that the least drawn is the best.
        pairs = best[rng.integers(0, len(best), (2, n, tournament)).min(axis=2)]
        mixed = np.where(rng.random((n, archs.shape[1])) < 0.5, archs[pairs[0]], archs[pairs[1]])
        mixed = np.where(space.valid(mixed)[:, None], mixed, archs[pairs[0]])
        rows.append(found.new(_mutated(space, mixed, rng)))
        if sum(map(len, rows)) >= n:
            break
    else:
        key = jax.random.key(int(rng.integers(2**31)))
        rows.append(found.new(space.sample_distinct(key, n)))
    return np.concatenate(rows)[:n]


def _mutated(space: SearchSpace, archs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each with one decision drawn anew; where that is no architecture it stays as it was."""
    rows, choices = archs.copy(), space.choices
    which = rng.choice(np.flatnonzero(choices > 1), len(rows))
    every = np.arange(len(rows))
    shift = rng.integers(1, choices[which])
    rows[every, which] = (rows[every, which] + shift) % choices[which]
    return np.where(space.valid(rows)[:, None], rows, archs).astype(np.int32)
