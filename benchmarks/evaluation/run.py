"""The proxy benchmark: `python -m jaxnas.benchmarks proxies`, and `evaluate(...)` from Python."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxnas.backend import enable_compilation_cache
from jaxnas.benchmarks.evaluation import asked as names
from jaxnas.benchmarks.evaluation.baselines import baselines
from jaxnas.benchmarks.evaluation.findings import Evaluation
from jaxnas.benchmarks.evaluation.images import Data, training_images
from jaxnas.benchmarks.evaluation.population import Population, Target, choose, targets
from jaxnas.benchmarks.evaluation.protocol import Protocol, manifest
from jaxnas.benchmarks.evaluation.published import published
from jaxnas.benchmarks.evaluation.results import (
    Measured,
    Promising,
    agreement,
    between,
    by_seed,
    intervals,
    stability,
    summary,
)
from jaxnas.benchmarks.evaluation.scoring import Scorer
from jaxnas.benchmarks.evaluation.store import Store
from jaxnas.benchmarks.tables import Table, load_table
from jaxnas.console import Screen
from jaxnas.ranking import pick_batch
from jaxnas.search_spaces import get_space
from jaxnas.spaces import SearchSpace, Size
from jaxnas.timing import CompileClock

KEYS = ["target", "name", "dtype"]


def evaluate(
    space: str | SearchSpace,
    table: str | os.PathLike[str] | Table,
    target: str,
    proxies: str | Sequence[str],
    data: Data,
    *,
    also: Sequence[str] = (),
    subset: str = "all",
    sample: int | None = None,
    seeds: int = 3,
    dtypes: str | Sequence[str] = "float32",
    batch_size: int = 32,
    size: Size | None = None,
    executor: str = "auto",
    bootstrap: int = 1000,
    timed: int = 64,
    out: str | os.PathLike[str] | None = None,
    screen: Screen | None = None,
    command: str = "",
) -> pd.DataFrame:
    """How well training-free scores rank the architectures of a NAS-Bench table.

    Args:
        space: a space or its name.
        table: a table that `tables import` wrote, or its path.
        target: the column to rank by, of which higher is better.
        proxies: proxies and presets, as a list or separated by commas.
        data: what `--data` takes, a `Dataset`, images, or `(images, labels)`; of a data set the training
            part alone is used.
        also: further columns, evaluated from the same scores.
        subset: `all` of the table, one of each class of `unique` functions, or `reachable`: those without
            unreachable operations.
        sample: so many of the subset, drawn by a fixed seed.
        seeds: how many draws of weights and images.
        dtypes: `float32`, `bfloat16` or both, as a list or separated by commas.
        batch_size: images a score is computed on.
        size: how large the scored networks are; default `space.proxy_size`, its resolution no larger
            than the images'.
        executor: as `jaxnas.rank`.
        bootstrap: resamples of the 95 % intervals; 0: none.
        timed: architectures that each proxy is timed on alone; 0: none.
        out: a directory for everything found; one begun with the same manifest is continued.
        screen: where progress goes; by default nowhere.
        command: for the manifest.

    Returns:
        One row a target, name and dtype; docs/benchmark.md explains the columns. `attrs["notes"]` holds
        sentences on what is odd, `attrs["manifest"]` the protocol.

    Raises:
        InputError: for anything given that cannot be used.
    """
    dtypes = tuple(dtypes.split(",") if isinstance(dtypes, str) else dtypes)
    protocol = Protocol(subset, sample, seeds, dtypes, batch_size, size, executor, bootstrap, timed)
    found = run(
        space,
        table if isinstance(table, Table) else load_table(Path(table)),
        [target, *also],
        proxies,
        data,
        protocol,
        out=out,
        screen=screen or Screen(quiet=True),
        command=command,
    )
    found.results.attrs = {"notes": found.notes, "manifest": found.manifest}
    return found.results


def run(
    space: str | SearchSpace,
    table: Table,
    columns: Sequence[str],
    proxies: str | Sequence[str],
    data: Data,
    protocol: Protocol,
    *,
    out: str | os.PathLike[str] | None,
    screen: Screen,
    command: str = "",
) -> Evaluation:
    """`evaluate`, with everything found."""
    made = get_space(space) if isinstance(space, str) else space
    asked = names.find(proxies)
    population = choose(
        made,
        table,
        asked_space=space if isinstance(space, str) else made.name,
        subset=protocol.subset,
        sample=protocol.sample,
    )
    columns_found = targets(table, columns, population.places)
    images = training_images(data)
    names.check_labels(asked, images.y)
    protocol = protocol.checked(made, images)
    pick_batch(len(images.x), protocol.batch_size, 0)  # refuses a batch that there is not
    about = manifest(made, table, population, columns_found, asked, images, protocol)
    store = Store.open(None if out is None else Path(out), about)
    try:
        enable_compilation_cache()
        clock = CompileClock().start()
        scorer = Scorer(made, population.archs, images, asked, protocol, store, screen, clock)
        found = _evaluated(scorer, table, population, columns_found, about, command)
        if store.run:
            from jaxnas.benchmarks.evaluation.files import write

            write(store.run, found)
    finally:
        store.close()
    return found


def _evaluated(
    scorer: Scorer,
    table: Table,
    population: Population,
    columns: tuple[Target, ...],
    about: dict[str, Any],
    command: str,
) -> Evaluation:
    asked, protocol = scorer.asked, scorer.protocol
    raw = scorer.raw()
    costs = scorer.costs()
    scores = {n: {k: asked.promising(n, r) for k, r in raw.items()} for n in asked.names}
    failed = {n: {k: asked.failed(n, r) for k, r in raw.items()} for n in asked.names}
    measured = [Measured.of(target) for target in columns]
    seeds = by_seed(scores, failed, measured)
    results = summary(seeds)
    sizes = {m.name: len(m.values) for m in measured}
    results.insert(3, "n", [sizes[t] for t in results["target"]])
    results = results.merge(_intervals(scorer, scores, measured), on=KEYS, validate="1:1")
    results = results.merge(stability(scores), on=KEYS[1:], validate="m:1")
    agreeing = agreement(scores, protocol.dtypes)
    if len(agreeing):
        same = agreeing.rename(columns={"spearman": "dtype_spearman"})
        results = results.merge(same[[*KEYS[1:], "dtype_spearman"]], "left", on=KEYS[1:])
    results = _with_costs_and_published(results, costs, scorer, columns)
    return Evaluation(
        about,
        scorer.space,
        asked,
        population,
        columns,
        scores,
        results,
        seeds,
        baselines(table, population, columns),
        between(scores, measured, protocol.dtypes[0]),
        agreeing,
        scorer.store.scoring_seconds(),
        command,
        [*population.notes, *(t.note for t in columns if t.note), *_failures(failed, scorer)],
    )


def _intervals(scorer: Scorer, scores: Promising, measured: list[Measured]) -> pd.DataFrame:
    protocol = scorer.protocol
    total = len(measured) * len(scores) * len(protocol.dtypes)
    rows = []
    with scorer.screen.bar("bootstrap", total) as bar:
        for row in intervals(scores, measured, protocol.bootstrap):
            rows.append(row)
            bar.advance(1, str(row["name"]))
    return pd.DataFrame(rows)


def _with_costs_and_published(
    results: pd.DataFrame,
    costs: dict[str, dict[str, float]],
    scorer: Scorer,
    columns: tuple[Target, ...],
) -> pd.DataFrame:
    by_name = {t.name: t.column for t in columns}
    known = [
        published(scorer.space.name, by_name[target], name)
        for target, name in zip(results["target"], results["name"], strict=True)
    ]
    for column, key in (("seconds_per_arch", "seconds"), ("compile_seconds", "compile")):
        results[column] = [costs.get(n, {}).get(key, np.nan) for n in results["name"]]
    results["published"] = [p.spearman if p else np.nan for p in known]
    results["published_source"] = [p.source if p else "" for p in known]
    return results


def _failures(failed: Promising, scorer: Scorer) -> list[str]:
    notes = []
    for name, drawn in failed.items():
        if count := sum(int(f.sum()) for f in drawn.values()):
            total = len(drawn) * len(scorer.archs)
            notes.append(
                f"{name} failed numerically (NaN) on {count:,} of {total:,} scores; they rank last."
            )
    return notes
