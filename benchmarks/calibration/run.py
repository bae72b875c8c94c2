"""A sample of a space, scored by every proxy and trained on the data that is asked about."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxnas.benchmarks.evaluation.correlation import interval, kendall, kendall_of
from jaxnas.errors import InputError
from jaxnas.pipeline import Result, run_search
from jaxnas.proxies import PROXIES, get_proxies
from jaxnas.proxies.presets import PRESETS
from jaxnas.ranking import check_applies, oriented
from jaxnas.scoring.combine import COMBINATIONS
from jaxnas.search_spaces import get_space
from jaxnas.spaces import SearchSpace

QUICK = "quick"
"""The space's default ranking of a search."""
LEAST = 8
"""Fewer trained architectures say nothing."""


@dataclass(frozen=True)
class Calibration:
    """`table` has a row a score, best first: name, kendall, low, high, n; `result` is the run.

    `use` is the score that ranks best on this data; `as_good` are those whose Kendall lies within its
    interval, so that the sample cannot tell them apart.
    """

    table: pd.DataFrame
    result: Result
    use: str
    as_good: tuple[str, ...]


def applicable(space: SearchSpace) -> tuple[str, ...]:
    """The registered proxies that have something to read in a space."""
    network = space.network(space.proxy_size, classes=10)
    names = []
    for name in PROXIES:
        try:
            check_applies(network, get_proxies([name]))
        except InputError:
            continue
        names.append(name)
    return tuple(names)


def calibrate(
    space: str,
    data: Any,
    *,
    sample: int = 24,
    epochs: int = 12,
    proxies: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    out: str | Path,
    resume: bool = False,
    options: dict[str, Any] | None = None,
) -> Calibration:
    """Train `sample` random architectures on `data` and compare every proxy with what they reach.

    Kendall's tau-b with the validation accuracy after the last epoch, and the bootstrap's 95 % interval
    over architectures. Networks are scored at the space's `deep_size`, where it has one. Presets whose
    members are scored are scored too. `options` are further keys of the search, such as `train.channels`.

    Raises:
        InputError: a sample below 8, or fewer than 8 trainings that ended in a number.
    """
    if sample < LEAST:
        raise InputError(f"--sample is {sample}, expected at least {LEAST} architectures.")
    known = get_space(space)
    names = tuple(proxies) if proxies else applicable(known)
    deep = known.deep_size
    scored = {}
    if deep is not None:
        cells = ",".join(map(str, deep.cells))
        scored = {"channels": deep.channels, "cells": cells, "resolution": deep.resolution}
    values = {
        "space": space,
        "seed": seed,
        "out": str(out),
        "resume": resume,
        "pipeline": "rank,train",
        "data.source": data,
        "rank.proxies": ",".join(names),
        "rank.combine": "log_rank",
        "rank.sample": sample,
        **{f"rank.{name}": value for name, value in scored.items()},
        "train.top": sample,
        "train.baselines": 0,
        "train.epochs": epochs,
        **(options or {}),
    }
    result = run_search(values)
    table = compare(scores(known, result.ranking, names), accuracies(result), resamples)
    table.to_csv(result.directory / "calibration.csv", index=False)
    best = table.iloc[0]
    close = table["kendall"] >= best["low"]
    return Calibration(table, result, str(best["name"]), tuple(table["name"][close])[1:])


def accuracies(result: Result) -> dict[str, float]:
    """The last validation accuracy by architecture, of trainings that ended in a number."""
    found = {c.arch: c.val_accuracy[-1] for c in result.trained if not c.diverged}
    if len(found) < LEAST:
        raise InputError(
            f"Only {len(found)} different architectures were trained to the end, expected {LEAST}; ask "
            "for a larger --sample."
        )
    return found


def scores(space: SearchSpace, ranking: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """A row an architecture that was ranked, a column a proxy or a combination; higher is better."""
    rows = np.stack([space.from_string(arch) for arch in ranking["arch"]])
    pruned = [space.to_string(row) for row in space.pruned(rows)]
    proxies = get_proxies(names)
    columns = {p.name: oriented(p, ranking[p.name].to_numpy(float)) for p in proxies}
    table = pd.DataFrame(columns, index=pruned)
    combined = {QUICK: (space.default_proxies, "log_rank")}
    combined |= {p.name: (p.proxies, p.combine) for p in PRESETS.values()}
    for name, (members, how) in combined.items():
        if set(members) <= set(table.columns):
            table[name] = COMBINATIONS[how]({m: table[m].to_numpy() for m in members})
    return table.loc[~table.index.duplicated()]


def compare(scored: pd.DataFrame, reached: dict[str, float], resamples: int) -> pd.DataFrame:
    """Kendall of each column of `scored` with the accuracies, and its interval, best first."""
    archs = [arch for arch in reached if arch in scored.index]
    labels = np.array([reached[arch] for arch in archs])
    rows = []
    for name in scored.columns:
        x = scored.loc[archs, name].to_numpy()
        low, high = interval([kendall_of(x, labels)], len(archs), resamples)
        rows.append((name, kendall(x, labels), low, high, len(archs)))
    table = pd.DataFrame(rows, columns=["name", "kendall", "low", "high", "n"])
    return table.sort_values("kendall", ascending=False, kind="stable", ignore_index=True)
