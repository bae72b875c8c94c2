"""From who was trained to how good the incumbent was after each training and each second.

The incumbent is the best by fitness of those trained at the highest fidelity reached so far; who failed
is never one. A training of e of E epochs spends e / E of a query, and that share of a full training's
seconds.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from jaxnas.benchmarks.strategies.simulate import Trace

POINTS = 120
"""Seconds that a curve is drawn at."""
QUARTILES = (25, 75)


@dataclass(frozen=True)
class Runs:
    """What came of the runs of one strategy.

    Args:
        incumbents: `int32[R, T]` after each training, -1: nobody yet.
        spent: queries `float64[T]` or `float64[R, T]` after each training.
        seconds: `float64[R, T]` after each training, the ranking's included; None: unknown.
    """

    name: str
    incumbents: np.ndarray
    spent: np.ndarray
    seconds: np.ndarray | None


def runs_of(
    name: str,
    trace: Trace,
    fitness: np.ndarray,
    epochs: tuple[int, ...],
    seconds: np.ndarray | None,
    start: float,
) -> Runs:
    """The incumbents of a trace and what they had cost.

    Args:
        name: the strategy's.
        trace: who was trained.
        fitness: `float[F, N]`, NaN: it failed.
        epochs: of each fidelity.
        seconds: of each member's full training, `float64[N]`, None: unknown.
        start: seconds spent before the first training.
    """
    share = np.array(epochs)[trace.fidelity] / epochs[-1]
    timed = None if seconds is None else start + (share * seconds[trace.rows]).cumsum(axis=1)
    return Runs(name, incumbents(trace, fitness), share.cumsum(axis=1), timed)


def incumbents(trace: Trace, fitness: np.ndarray) -> np.ndarray:
    """Rows of the best so far, `int32[R, T]`; of equals the first, -1 while all failed."""
    values = fitness[trace.fidelity, trace.rows]
    known = fitness[np.isfinite(fitness)]
    above = 1 + 2 * (known.max() - known.min()) if len(known) else 1.0
    key = np.where(np.isnan(values), -np.inf, values + above * trace.fidelity)
    best = np.maximum.accumulate(key, axis=1)
    before = np.concatenate([np.full((len(key), 1), -np.inf), best[:, :-1]], axis=1)
    place = np.where(best > before, np.arange(key.shape[1]), -1)
    place = np.maximum.accumulate(place, axis=1)
    rows = np.take_along_axis(trace.rows, np.maximum(place, 0), axis=1)
    return np.where(place < 0, -1, rows)


def at(spent: np.ndarray, incumbents: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The incumbents `int[R, P]` when so much was spent; -1: nobody yet."""
    found = np.full((len(incumbents), len(points)), -1)
    for run, rows in enumerate(incumbents):
        # Shares add up to whole numbers but for rounding.
        place = np.searchsorted(spent[run], points * (1 + 1e-9), side="right") - 1
        found[run] = np.where(place < 0, -1, rows[np.maximum(place, 0)])
    return found


def by_queries(runs: Runs, columns: dict[str, np.ndarray], budget: int) -> pd.DataFrame:
    """Statistics of the incumbent after 1 to `budget` queries."""
    points = np.arange(1, budget + 1)
    rows = at(runs.spent, runs.incumbents, points)
    return _statistics(runs.name, "queries", points, rows, columns)


def by_seconds(
    runs: Runs, columns: dict[str, np.ndarray], budget: int, points: np.ndarray
) -> pd.DataFrame:
    """Statistics of the incumbent after so many seconds, as far as the budget of queries goes."""
    assert runs.seconds is not None
    inside = np.where(runs.spent <= budget * (1 + 1e-9), runs.seconds, np.inf)
    rows = at(inside, runs.incumbents, points)
    last = np.max(np.where(np.isfinite(inside), inside, 0))
    shown = points <= last
    return _statistics(runs.name, "seconds", points[shown], rows[:, shown], columns)


def seconds_axis(every: list[Runs], budget: int) -> np.ndarray:
    """Seconds from the first training that ends to the last within the budget, evenly in logarithms."""
    ends = [r.seconds[r.spent <= budget * (1 + 1e-9)] for r in every if r.seconds is not None]
    return np.geomspace(min(e.min() for e in ends), max(e.max() for e in ends), POINTS)


def _statistics(
    name: str, unit: str, points: np.ndarray, rows: np.ndarray, columns: dict[str, np.ndarray]
) -> pd.DataFrame:
    """Mean, deviation and quartiles over runs of what columns say of the incumbents.

    NaN while a run has no incumbent; members without a value are left out.
    """
    table = {"strategy": name, unit: points}
    for column, values in columns.items():
        found = np.where(rows < 0, np.nan, values[rows])
        some = ~np.isnan(found).all(axis=0) & (rows >= 0).all(axis=0)
        shown = np.where(some, found, 0.0)
        low, high = np.nanpercentile(shown, QUARTILES, axis=0)
        for kind, numbers in (
            ("mean", np.nanmean(shown, axis=0)),
            ("std", np.nanstd(shown, axis=0)),
            ("low", low),
            ("high", high),
            ("median", np.nanmedian(shown, axis=0)),
        ):
            table[f"{column}_{kind}"] = np.where(some, numbers, np.nan)
    return pd.DataFrame(table)
