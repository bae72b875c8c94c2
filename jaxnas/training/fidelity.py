"""Low fidelities: who is trained on after a rung, and what a learning curve says of a candidate."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jaxnas.errors import InputError, unknown
from jaxnas.training.population import EpochMetrics

type Curves = Sequence[EpochMetrics]
"""The metrics of each epoch, in order."""

SOTL_EPOCHS = 1
"""E of SoTL-E: the last so many epochs."""


def last_seen(curves: Curves) -> np.ndarray:
    """The last validation metric (accuracy, if no other): what is expected to stay as it is."""
    return curves[-1].val_metric


def sotl(curves: Curves) -> np.ndarray:
    """Minus the sum of training losses over all epochs (Ru et al., arXiv:2006.04492, SoTL)."""
    return -np.sum([c.train_loss for c in curves], axis=0)


def sotl_e(curves: Curves) -> np.ndarray:
    """Minus the training losses of the last `SOTL_EPOCHS` epochs (the same, SoTL-E)."""
    return sotl(curves[-SOTL_EPOCHS:])


MEASURES: dict[str, Callable[[Curves], np.ndarray]] = {
    "last_seen": last_seen,
    "sotl": sotl,
    "sotl_e": sotl_e,
}
"""What candidates are compared by, more is better: `[N]`, NaN for those not trained any more."""


@dataclass(frozen=True)
class Rung:
    """After `epochs` epochs the best `keep` are trained on."""

    epochs: int
    keep: int


def halving_rungs(n: int, epochs: int, *, eta: int = 2, first: int = 1) -> tuple[Rung, ...]:
    """Successive halving (Jamieson, Talwalkar, arXiv:1502.07943) of `n` candidates to `epochs` epochs.

    Rungs come after `first`, `first` eta, `first` eta^2, ... epochs, each keeping 1 of `eta`.

    Raises:
        InputError: `eta` below 2, or `first` not between 1 and `epochs`.
    """
    if eta < 2:
        raise InputError(f"eta is {eta}, expected at least 2: 1 of eta candidates is kept.")
    if not 1 <= first <= epochs:
        raise InputError(f"The first rung is after {first} epochs, expected 1 to {epochs}.")
    rungs, keep, after = [], n, first
    while after < epochs and keep > 1:
        keep = max(1, keep // eta)
        rungs.append(Rung(after, keep))
        after *= eta
    return tuple(rungs)


def ladder(epochs: int, *, eta: int = 3) -> tuple[int, ...]:
    """Fidelities up to `epochs` epochs, each `eta` times the one before: 1, 3, 9 and 12 for 12."""
    steps = [1]
    while steps[-1] * eta < epochs:
        steps.append(steps[-1] * eta)
    return (*(s for s in steps if s < epochs), epochs)


def survivors(rungs: Sequence[Rung], measure: str, curves: Curves) -> np.ndarray:
    """Who is trained on after the last epoch of `curves`, `bool[N]`.

    Who diverged is not. Where a rung ends, the best by `measure` are; of equals the first.

    Raises:
        InputError: the measure is not known.
    """
    if measure not in MEASURES:
        raise unknown("measure", measure, MEASURES)
    alive = np.isfinite(curves[-1].train_loss)
    for rung in rungs:
        if rung.epochs == len(curves):
            merit = np.where(alive, MEASURES[measure](curves), -np.inf)
            merit = np.where(np.isnan(merit), -np.inf, merit)
            best = np.argsort(-merit, kind="stable")[: rung.keep]
            alive &= np.isin(np.arange(len(alive)), best)
    return alive


def stale(curves: Curves, patience: int) -> bool:
    """Whether the one candidate has had no better validation metric for `patience` epochs; 0: never."""
    seen = [float(c.val_metric[0]) for c in curves]
    return 0 < patience < len(seen) and max(seen[-patience:]) <= max(seen[:-patience])


def stopped_after(rungs: Sequence[Rung], measure: str, curves: Curves) -> np.ndarray:
    """After how many epochs a rung stopped each candidate, `int64[N]`; 0: none did."""
    after = np.zeros(len(curves[0].train_loss), np.int64)
    for epoch in range(1, len(curves) + 1):
        there = np.isfinite(curves[epoch - 1].train_loss)
        out = there & ~survivors(rungs, measure, curves[:epoch])
        after[out] = epoch
    return after
