"""How well anything could rank a table whose accuracies are themselves measured with noise.

The table gives of architecture i the mean y_i of m_i trainings and the standard deviation s_i over them,
of those at hand. One training then scatters with sigma_i = s_i sqrt(m_i / (m_i - 1)). Simulated, with z
standard normal:

    ceiling        y_i + sigma_i / sqrt(m_i) z_i    the mean of m_i other trainings
    one_training   y_i + sigma_i z_i                one other training

Each draw is evaluated as if it were a proxy's scores. The measured y_i stand for the true means, which
lie somewhat closer together, so that a ceiling is a little too high rather than too low.
"""

from collections.abc import Iterator

import numpy as np

from jaxnas.benchmarks.tables import Table
from jaxnas.benchmarks.tables.columns import Column
from jaxnas.errors import InputError

DRAWS = 20
PARTS = 10
"""An unknown deviation is the root mean square of the known ones in its tenth of the target."""


def deviations(
    table: Table, column: Column, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """sigma of one training and the number of trainings, `float64[N]`; None where no noise is known."""
    try:
        spread = table.noise(column.name)[places]
    except InputError:
        return None
    values, seeds = table.values(column.name)[places], _seeds(table, column)[places]
    seeds = np.where(np.isnan(seeds), np.inf, seeds)  # not known: s is taken as sigma
    usable = np.isfinite(spread) & (seeds >= 2) & np.isfinite(values)
    if not usable.any():
        return None
    variance = np.full(len(spread), np.nan)
    variance[usable] = spread[usable] ** 2 / (1 - 1 / seeds[usable])
    order = np.argsort(values, kind="stable")
    overall = np.nanmean(variance)
    for part in np.array_split(order, PARTS):
        known = variance[part][~np.isnan(variance[part])]
        variance[part] = np.where(
            np.isnan(variance[part]), known.mean() if len(known) else overall, variance[part]
        )
    return np.sqrt(variance), np.where(np.isfinite(seeds), np.maximum(seeds, 1), 1.0)


def draws(
    values: np.ndarray, sigma: np.ndarray, seeds: np.ndarray | float, n: int = DRAWS
) -> Iterator[np.ndarray]:
    """`n` independent re-measurements of `values`, each the mean of `seeds` trainings."""
    rng = np.random.default_rng(0)
    for _ in range(n):
        yield values + sigma / np.sqrt(seeds) * rng.standard_normal(len(values))


def _seeds(table: Table, column: Column) -> np.ndarray:
    """The number of trainings of each row, NaN where it is not known."""
    every = list(table.columns.values())
    same = [c for c in every if (c.quantity, c.epochs) == (column.quantity, column.epochs)]
    counts = [c for c in same if c.statistic == "count"] or [
        # `c10_nseeds` counts for every column of that data set that says nothing else.
        c
        for c in every
        if c.statistic == "count"
        and c.dataset == column.dataset
        and c.split in (None, column.split)
        and c.epochs in (None, column.epochs)
    ]
    if counts:
        return table.values(counts[0].name)
    single = [table.values(c.name) for c in same if c.statistic == "seed"]
    if single:
        return (~np.isnan(np.stack(single))).sum(axis=0).astype(np.float64)
    return np.full(len(table), len(column.seeds) or np.nan)
