"""Splitting by class: every part holds the same share of each class."""

from collections.abc import Sequence

import numpy as np

from jaxnas.errors import InputError


def part_sizes(n: int, fractions: Sequence[float]) -> np.ndarray:
    """How many of a class's `n` examples each part takes; the rest, at least 1, is left for train.

    `n * fraction` rounded, at least 1. Where that leaves nothing for train, the part that was
    rounded up furthest gives one back. Needs n > len(fractions).
    """
    exact = n * np.asarray(fractions, np.float64)
    sizes = np.maximum(1, np.floor(exact + 0.5)).astype(int)
    while sizes.sum() >= n:
        excess = np.where(sizes > 1, sizes - exact, -np.inf)
        sizes[excess.argmax()] -= 1
    return sizes


def stratified(
    y: np.ndarray, fractions: Sequence[float], *, seed: int, class_names: Sequence[str]
) -> list[np.ndarray]:
    """Splits positions by class into train and one part for each fraction.

    Args:
        y: int `[n]` labels.
        fractions: the share of every class for each part after train.
        seed: decides everything: equal labels and seed give equal splits, on any machine.
        class_names: for messages.

    Returns:
        `[train, part 1, ...]`: disjoint int arrays that cover 0..n-1, each in random order.

    Raises:
        InputError: a class has examples, but fewer than there are parts.
    """
    counts = np.bincount(y, minlength=len(class_names))
    _check_enough(counts, len(fractions) + 1, class_names)
    # RandomState and not default_rng: NumPy promises that its stream never changes.
    order = np.random.RandomState(seed).permutation(len(y))
    by_class = np.split(np.argsort(y[order], kind="stable"), np.cumsum(counts)[:-1])
    part = np.zeros(len(y), int)
    for members in by_class:
        if len(members) > 0:
            ends = np.cumsum(part_sizes(len(members), fractions))
            part[members] = 1 + np.searchsorted(ends, np.arange(len(members)), side="right")
    part[part > len(fractions)] = 0
    return [order[part == i] for i in range(len(fractions) + 1)]


def check_options(*, split_seed: int, val_fraction: float, test_fraction: float) -> None:
    """Raises an `InputError` for a seed or fractions that cannot be used."""
    if not 0 <= split_seed < 2**32:
        raise InputError(f"The split seed is {split_seed}; it must lie in 0..{2**32 - 1}.")
    for name, value in (("validation", val_fraction), ("test", test_fraction)):
        if not 0 < value < 1:
            raise InputError(f"The {name} fraction is {value}; it must lie between 0 and 1.")
    if val_fraction + test_fraction >= 1:
        raise InputError(
            f"The validation and test fractions {val_fraction} and {test_fraction} leave nothing "
            "to train on; their sum must be below 1."
        )


def _check_enough(counts: np.ndarray, needed: int, class_names: Sequence[str]) -> None:
    few = [(class_names[k], n) for k, n in enumerate(counts) if 0 < n < needed]
    if not few:
        return
    listed = ", ".join(f"{name!r} has {n}" for name, n in few[:3])
    more = f" and {len(few) - 3} more classes" if len(few) > 3 else ""
    raise InputError(
        f"Too few examples to split: class {listed}{more}; every class needs at least {needed}, "
        "one for each split."
    )
