"""From scores to tables of numbers: what each name is worth for each target."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from jaxnas.benchmarks.evaluation.correlation import (
    Correlation,
    interval,
    kendall,
    kendall_of,
    spearman,
    spearman_of,
)
from jaxnas.benchmarks.evaluation.population import LEAST, Target
from jaxnas.benchmarks.evaluation.tops import TOPS, best_found, chances, overlap, precision
from jaxnas.scoring.combine import ranks

TOP_SHARE = 0.1
STABLE = 20
CORRELATIONS = {"spearman": spearman_of, "kendall": kendall_of}
BASELINES = ("random", "ceiling", "one_training")

type Promising = Mapping[str, Mapping[tuple[str, int], np.ndarray]]
"""Scores `float64[N]`, higher is better, by name, and by dtype and seed."""


@dataclass(frozen=True)
class Measured:
    """One target with its values and their ranks, and the architectures that have one.

    `top` are the best tenth.
    """

    name: str
    values: np.ndarray
    places: np.ndarray
    there: np.ndarray
    top: np.ndarray

    @classmethod
    def of(cls, target: Target) -> "Measured":
        """The rows of a target that hold numbers; ties at the border of the tenth all belong to it."""
        there = np.flatnonzero(~np.isnan(target.values))
        values = target.values[there]
        k = math.ceil(TOP_SHARE * len(values))
        top = np.flatnonzero(values >= np.sort(values)[-k])
        return cls(target.name, values, ranks(values), there, top)


def statistics(scores: np.ndarray, target: Measured) -> dict[str, float]:
    """Every statistic of one ranking `float64[N]` of the architectures that the target has."""
    scores, values = ranks(scores), target.values
    inside = len(target.top) >= LEAST
    found = {}
    for prefix, x, y in (("", scores, values), ("top_", scores[target.top], values[target.top])):
        for name, correlate in (("spearman", spearman), ("kendall", kendall)):
            found[prefix + name] = correlate(x, y) if inside or not prefix else math.nan
    for k in TOPS:
        if k <= len(values):
            chance = chances(scores, k)
            best = best_found(chance, values)
            found[f"precision_{k}"] = precision(chance, chances(target.places, k))
            found[f"best_{k}"] = best
            found[f"regret_{k}"] = float(values.max()) - best
    return found


def by_seed(scores: Promising, failed: Promising, targets: Sequence[Measured]) -> pd.DataFrame:
    """One row a target, name, dtype and seed.

    `failed`, as `scores`, says of which architectures a score, or one it is made of, is NaN.
    """
    rows = []
    for target in targets:
        for name, drawn in scores.items():
            for (dtype, seed), values in drawn.items():
                own = values[target.there]
                about = {"target": target.name, "name": name, "dtype": dtype, "seed": seed}
                count = {"nan": int(failed[name][dtype, seed][target.there].sum())}
                rows.append({**about, **statistics(own, target), **count})
    return pd.DataFrame(rows)


def summary(seeds: pd.DataFrame) -> pd.DataFrame:
    """One row a target, name and dtype: the mean over seeds, and `NAME_std` beside it.

    The deviation is that of a sample (n - 1); NaN of a single seed. NaN failures are added up.
    """
    keys = ["target", "name", "dtype"]
    grouped: Any = seeds.groupby(keys, sort=False)
    numbers = [c for c in seeds if c not in (*keys, "seed", "nan")]
    mean, std = grouped[numbers].mean(), grouped[numbers].std(ddof=1)
    columns = {c: each for c in numbers for c, each in ((c, mean[c]), (f"{c}_std", std[c]))}
    table = pd.DataFrame(columns)
    table.insert(0, "seeds", grouped.size())
    table["nan"] = grouped["nan"].sum()
    return table.reset_index()


def intervals(
    scores: Promising, targets: Sequence[Measured], resamples: int
) -> Iterator[dict[str, object]]:
    """For each target, name and dtype the 95 % intervals of the mean over seeds, one after another.

    Architectures are resampled with replacement, for the top tenth those within it; which they are is
    not drawn anew.
    """
    for target in targets:
        for name, drawn in scores.items():
            for dtype in dict.fromkeys(dtype for dtype, _ in drawn):
                found: dict[str, object] = {"target": target.name, "name": name, "dtype": dtype}
                each = [v[target.there] for (d, _), v in drawn.items() if d == dtype]
                for prefix, part in (("", np.arange(len(target.values))), ("top_", target.top)):
                    for statistic in CORRELATIONS:
                        low, high = math.nan, math.nan
                        if resamples and len(part) >= LEAST:
                            made = _correlations(statistic, each, target.values, part)
                            low, high = interval(made, len(part), resamples)
                        found |= {f"{prefix}{statistic}_low": low}
                        found |= {f"{prefix}{statistic}_high": high}
                yield found


def stability(scores: Promising) -> pd.DataFrame:
    """Mean overlap of the top 20 of pairs of seeds, one row a name and dtype; NaN of one seed."""
    rows = []
    for name, drawn in scores.items():
        for dtype in dict.fromkeys(dtype for dtype, _ in drawn):
            each = [values for (d, _), values in drawn.items() if d == dtype]
            pairs = [overlap(a, b, min(STABLE, len(a))) for a, b in combinations(each, 2)]
            mean = float(np.mean(pairs)) if pairs else math.nan
            rows.append({"name": name, "dtype": dtype, f"stability_{STABLE}": mean})
    return pd.DataFrame(rows)


def agreement(scores: Promising, dtypes: Sequence[str]) -> pd.DataFrame:
    """Spearman's rho of each other dtype's scores with the first one's: mean and least over seeds."""
    rows = []
    for name, drawn in scores.items():
        for dtype in dtypes[1:]:
            pairs = [
                (drawn[dtypes[0], s], values) for (d, s), values in drawn.items() if d == dtype
            ]
            rho = [spearman(a, b) for a, b in pairs]
            top = [overlap(a, b, min(STABLE, len(a))) for a, b in pairs]
            row = {"name": name, "dtype": dtype, "with": dtypes[0]}
            row |= {"spearman": float(np.mean(rho)), "spearman_least": float(np.min(rho))}
            rows.append(row | {f"top_{STABLE}": float(np.mean(top))})
    return pd.DataFrame(rows)


def between(scores: Promising, targets: Sequence[Measured], dtype: str) -> pd.DataFrame:
    """Spearman's rho of names with each other and with the targets, mean over seeds, as a matrix."""
    names = [*scores, *(t.name for t in targets)]
    drawn = {n: [v for (d, _), v in each.items() if d == dtype] for n, each in scores.items()}
    matrix = pd.DataFrame(np.eye(len(names)), names, names)
    for a, b in combinations(scores, 2):
        rho = np.mean([spearman(x, y) for x, y in zip(drawn[a], drawn[b], strict=True)])
        matrix.loc[a, b] = matrix.loc[b, a] = rho
    for target in targets:
        for name, each in drawn.items():
            rho = np.mean([spearman(x[target.there], target.values) for x in each])
            matrix.loc[name, target.name] = matrix.loc[target.name, name] = rho
    for one, other in combinations(targets, 2):
        both, i, j = np.intersect1d(one.there, other.there, return_indices=True)
        rho = spearman(one.values[i], other.values[j]) if len(both) >= LEAST else math.nan
        matrix.loc[one.name, other.name] = matrix.loc[other.name, one.name] = rho
    return matrix


def _correlations(
    statistic: str, each: Sequence[np.ndarray], values: np.ndarray, part: np.ndarray
) -> list[Correlation]:
    """One a seed; a single one where all seeds gave the same scores."""
    if all(np.array_equal(each[0], other, equal_nan=True) for other in each[1:]):
        each = each[:1]
    return [CORRELATIONS[statistic](scores[part], values[part]) for scores in each]
