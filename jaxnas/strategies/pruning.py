"""From a super-network to architectures by removing branches, without training."""

from collections.abc import Callable, Mapping

import jax
import numpy as np

from jaxnas.errors import InputError
from jaxnas.scoring.combine import rank_mean
from jaxnas.spaces import SearchSpace
from jaxnas.strategies.guided import Explored
from jaxnas.strategies.relaxed import Masks

type Combine = Callable[[Mapping[str, np.ndarray]], np.ndarray]
type Found = tuple[np.ndarray, np.ndarray]
"""The branches left `bool[P, K]`, one a choice, and how much each choice mattered `float64[P]`."""


def prune(
    space: SearchSpace,
    present: np.ndarray,
    scores: Callable[[int], Masks],
    key: jax.Array,
    budget: int,
    *,
    combine: Combine = rank_mean,
) -> Explored:
    """Architectures by pruning, as TE-NAS does (Chen, Gong, Wang, arXiv:2102.11535).

    From the super-network with all branches, each round scores it without each branch that is left
    where a choice has several, and removes of every such choice the branch without which it scores best:
    the one that matters least. Scores are the proxies' ranks over a round, `combine`d; the paper's are
    `ntk` and `linear_regions`. A run of P choices of K branches takes P (K (K + 1) / 2 - 1) scorings, and
    one of what is left; further runs, with weights of their own, follow as long as the budget has room.

    Args:
        space: whose `discretise` makes an architecture of what is left.
        present: the network's branches, `bool[P, K]`, of `jaxnas.strategies.relaxed.branches`.
        scores: the function that scores masks, by seed (`jaxnas.strategies.relaxed.relaxed_scores`).
        key: of the seeds; consumed.
        budget: scorings.
        combine: of several scores over a round.

    Raises:
        InputError: a budget that is too small for one run (how many it takes).
    """
    return _runs(space, present, scores, key, budget, pruning_cost(present), _pruned, combine)


def perturb(
    space: SearchSpace,
    present: np.ndarray,
    scores: Callable[[int], Masks],
    key: jax.Array,
    budget: int,
    *,
    combine: Combine = rank_mean,
) -> Explored:
    """Architectures by perturbation, as Zero-Cost-PT does (Xiang et al., arXiv:2106.08871).

    Choices are decided one after another in random order: of each the branch stays without which the
    super-network, decided so far, scores worst, and it alone is left. A run takes one scoring for each
    branch, and one of what is left; further runs, in other orders and with other weights, follow as
    long as the budget has room.
    The paper's proxy is `naswot`. Arguments and errors are those of `prune`.
    """
    return _runs(space, present, scores, key, budget, perturbation_cost(present), _decided, combine)


def pruning_cost(present: np.ndarray) -> int:
    """The scorings of one run of `prune`."""
    counts = present.sum(axis=1)
    return int((counts * (counts + 1) // 2 - 1).sum()) + 1


def perturbation_cost(present: np.ndarray) -> int:
    """The scorings of one run of `perturb`."""
    counts = present.sum(axis=1)
    return int(counts[counts > 1].sum()) + 1


def _runs(
    space: SearchSpace,
    present: np.ndarray,
    scores: Callable[[int], Masks],
    key: jax.Array,
    budget: int,
    cost: int,
    run: Callable[[np.ndarray, Masks, Combine, np.random.Generator], Found],
    combine: Combine,
) -> Explored:
    if budget < cost:
        raise InputError(
            f"The budget of {budget:,} scorings is too small: one run takes {cost:,} of this space."
        )
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    archs, ends = [], []
    for _ in range(budget // cost):
        score = scores(int(rng.integers(2**31)))
        left, strength = run(present, score, combine, rng)
        archs.append(space.discretise(left * strength[:, None]))
        ends.append(score(left[None]))
    rows, first, again = np.unique(np.stack(archs), axis=0, return_index=True, return_inverse=True)
    # Who was found several times goes first, then by the score of what was left.
    found = {name: np.concatenate([end[name] for end in ends])[first] for name in ends[0]}
    times = np.bincount(again.reshape(-1), minlength=len(rows)).astype(float)
    combined = times + np.asarray(combine(found)) / (len(rows) + 1)
    order = np.argsort(-combined, kind="stable")
    return Explored(
        rows[order].astype(np.int32), {n: v[order] for n, v in found.items()}, combined[order]
    )


def _pruned(present: np.ndarray, score: Masks, combine: Combine, rng: np.random.Generator) -> Found:
    left = present.copy()
    strength = np.ones(len(left))
    while (left.sum(axis=1) > 1).any():
        at = np.argwhere(left & (left.sum(axis=1) > 1)[:, None])
        value = _without(left, at, score, combine)
        for choice in np.unique(at[:, 0]):
            own = np.flatnonzero(at[:, 0] == choice)
            left[choice, at[own[np.argmax(value[own])], 1]] = False
            # By the last round: how much worse it is without the branch that stays.
            strength[choice] = 1 + value.max() - value[own].min()
    return left, _shares(strength)


def _decided(
    present: np.ndarray, score: Masks, combine: Combine, rng: np.random.Generator
) -> Found:
    left = present.copy()
    strength = np.ones(len(left))
    for choice in rng.permutation(np.flatnonzero(present.sum(axis=1) > 1)):
        at = np.stack([np.full(left[choice].sum(), choice), np.flatnonzero(left[choice])], axis=1)
        value = _without(left, at, score, combine)
        left[choice] = np.arange(left.shape[1]) == at[np.argmin(value), 1]
    return left, _shares(strength)


def _without(left: np.ndarray, at: np.ndarray, score: Masks, combine: Combine) -> np.ndarray:
    """The combined score without each of the branches `at: int64[n, 2]`, `float64[n]`."""
    masks = np.repeat(left[None], len(at), axis=0)
    masks[np.arange(len(at)), at[:, 0], at[:, 1]] = False
    return np.asarray(combine(score(masks)), np.float64)


def _shares(strength: np.ndarray) -> np.ndarray:
    return strength / max(float(strength.max()), 1e-30)
