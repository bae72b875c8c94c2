"""The predictor benchmark: `python -m jaxnas.benchmarks predictors`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxnas.backend import enable_compilation_cache
from jaxnas.benchmarks.evaluation.population import choose, targets
from jaxnas.benchmarks.evaluation.store import Store
from jaxnas.benchmarks.predictors.cells import RANKING, measure, without_labels
from jaxnas.benchmarks.strategies.pool import NO_RANKING, costs, label_free
from jaxnas.benchmarks.tables import Table
from jaxnas.benchmarks.tables.sources import sha256
from jaxnas.benchmarks.tables.spaces import searched_space
from jaxnas.benchmarks.tables.tabular import TabularSpace
from jaxnas.console import Bar, Screen
from jaxnas.errors import InputError
from jaxnas.predictor import Candidates, Predictor
from jaxnas.predictors import get_predictors
from jaxnas.timing import CompileClock

KEYS = ["predictor", "labels"]


@dataclass(frozen=True)
class Asked:
    """What is fitted: each predictor on each number of labels by each seed."""

    predictors: tuple[Predictor, ...]
    labels: tuple[int, ...]
    seeds: int

    @classmethod
    def of(cls, predictors: str | Sequence[str], labels: Sequence[int], seeds: int) -> "Asked":
        """Raises `InputError` for names that are unknown, and numbers below 1 or twice."""
        if not labels or min(labels) < 1 or len(set(labels)) < len(labels):
            raise InputError(
                f"The numbers of labels are {','.join(map(str, labels)) or 'none'}; expected one or "
                "more from 1 on, each once."
            )
        if seeds < 1:
            raise InputError(f"The number of seeds is {seeds}, expected at least 1.")
        return cls(get_predictors(predictors), tuple(labels), seeds)


@dataclass(frozen=True)
class Found:
    """One row a fit (`cells`), their means and spreads (`results`), and the protocol."""

    cells: pd.DataFrame
    results: pd.DataFrame
    manifest: dict[str, Any]
    notes: tuple[str, ...]


def run(
    space_name: str,
    table: Table,
    target: str,
    asked: Asked,
    *,
    data: str | None,
    ranking: str | None,
    out: str | Path,
    screen: Screen,
) -> Found:
    """Fit every predictor to labels drawn at random and compare its order of the rest with the table's.

    The pool is what of the table is connected and has the target; it is ranked without labels once and
    the ranking is kept in `out`. Each finished fit is journalled there: an interrupted benchmark goes on,
    and others may be added to one that is finished.

    Raises:
        InputError: anything given that cannot be used: as `choose`, `targets`, `label_free`; more labels
            than the pool has beside three to rank; a directory of another benchmark.
    """
    space = searched_space(space_name)
    population = choose(space, table, asked_space=space_name)
    wanted = targets(table, [target], population.places)[0]
    kept = space.connected(population.archs) & np.isfinite(wanted.values)
    archs, fitness = population.archs[kept], wanted.values[kept]
    if max(asked.labels) > len(archs) - 3:
        raise InputError(
            f"{max(asked.labels):,} labels were asked for, and the pool has {len(archs):,} "
            "architectures, of which at least 3 must be left to rank."
        )
    manifest = {
        "benchmark": "predictors",
        "space": space.name,
        "table": sha256(table.path),
        "target": wanted.name,
        "pool": f"{len(archs)} connected architectures with a value; labels drawn at random from them, "
        "tau-b on all others",
    }
    if ranking == NO_RANKING:
        manifest["ranking"] = ranking
    store = Store.open(Path(out), manifest)
    try:
        enable_compilation_cache()
        sizes = None
        if isinstance(space, TabularSpace):
            sizes = costs(space, archs, table, wanted.column, population.places[kept])
        known = label_free(
            space, archs, sizes, data=data, file=ranking, seconds=None, folder=Path(out)
        )
        scores, prior = (known.scores, known.prior) if known else ({}, None)
        pool = Candidates(space, space.pruned(archs), scores, prior)
        manifest |= {"proxies": list(scores), "ranking": known.source if known else None}
        cells = _cells(pool, fitness, asked, store, screen)
        notes = (*population.notes, *([wanted.note] if wanted.note else []))
        found = Found(cells, summary(cells), manifest, notes)
        assert store.run is not None
        from jaxnas.benchmarks.predictors.files import write

        write(store.run, found)
    finally:
        store.close()
    return found


def _cells(
    pool: Candidates, fitness: np.ndarray, asked: Asked, store: Store, screen: Screen
) -> pd.DataFrame:
    clock, rows = CompileClock().start(), []
    draws = [(n, seed) for n in asked.labels for seed in range(asked.seeds)]
    with screen.bar("fit", len(draws) * len(asked.predictors)) as bar:
        for n, seed in draws:
            drawn = {"labels": n, "seed": seed}
            if pool.prior is not None:
                found = without_labels(pool, fitness, n, seed)
                rows.append({"predictor": RANKING, **drawn, **found})
            for predictor in asked.predictors:
                cell = _cell(predictor, pool, fitness, n, seed, store, clock, bar)
                rows.append({"predictor": predictor.name, **drawn, **cell})
    return pd.DataFrame(rows)


def _cell(
    predictor: Predictor,
    pool: Candidates,
    fitness: np.ndarray,
    labels: int,
    seed: int,
    store: Store,
    clock: CompileClock,
    bar: Bar,
) -> dict[str, Any]:
    assert store.run is not None
    unit = f"{predictor!r} {labels} {seed}"
    for entry in store.run.of_stage("fit", unit):
        bar.advance(1, unit)
        return entry["measured"]
    measured = measure(predictor, pool, fitness, labels, seed, clock)
    store.run.record(stage="fit", unit=unit, measured=measured)
    bar.advance(1, f"{predictor.name}, {labels} labels, Kendall {measured['kendall']:.3f}")
    return measured


def summary(cells: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of everything, and the standard deviation of Kendall's (n - 1; NaN of one)."""
    rows = []
    for (name, labels), own in cells.groupby(KEYS, sort=False):  # pyright: ignore
        values = own.drop(columns=[*KEYS, "seed"])
        row = {"predictor": name, "labels": labels, "seeds": len(own)}
        row |= {"kendall": own["kendall"].mean(), "kendall_std": own["kendall"].std()}
        rows.append(row | {c: values[c].mean() for c in values.columns if c != "kendall"})
    return pd.DataFrame(rows)
