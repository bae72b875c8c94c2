"""`python -m jaxnas.benchmarks strategies`: simulate, compare, write."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

import jaxnas
from jaxnas.backend import enable_compilation_cache
from jaxnas.benchmarks.evaluation.population import choose, targets
from jaxnas.benchmarks.strategies import curves, files
from jaxnas.benchmarks.strategies.findings import Findings
from jaxnas.benchmarks.strategies.pool import Ranking, costs, label_free, pool, used
from jaxnas.benchmarks.strategies.protocol import Protocol, full_seconds
from jaxnas.benchmarks.strategies.published import published
from jaxnas.benchmarks.strategies.significance import rank_table
from jaxnas.benchmarks.strategies.simulate import simulate
from jaxnas.benchmarks.tables import Table
from jaxnas.benchmarks.tables.spaces import searched_space
from jaxnas.benchmarks.tables.tabular import TabularSpace
from jaxnas.console import Screen
from jaxnas.errors import InputError
from jaxnas.spaces import SearchSpace
from jaxnas.strategies import get_strategy
from jaxnas.strategy import Strategy, Task
from jaxnas.timing import CompileClock, Stopwatch


def run(
    space: str,
    table: Table,
    target: str,
    report: str,
    names: Sequence[str],
    protocol: Protocol,
    *,
    out: str | os.PathLike[str],
    data: str | None = None,
    ranking: str | None = None,
    ranking_seconds: float | None = None,
    objectives: int = 1,
    limits: tuple[float, ...] | None = None,
    screen: Screen | None = None,
    command: str = "",
) -> Findings:
    """Simulate searches on a table.

    Args:
        space: the space's name.
        table: a table of it.
        target: the column that strategies are told.
        report: the column that is reported of their incumbents.
        names: strategies, as `get_strategy` reads them.
        protocol: budget, runs and so on.
        out: the directory of the results.
        data: images to rank on without training, for strategies that need it.
        ranking: a ranking in place of that.
        ranking_seconds: what it took.
        objectives: how many of parameters and multiply-adds are further objectives.
        limits: the most of each.
        screen: where progress goes; by default nowhere.
        command: for the manifest.

    Raises:
        InputError: for anything given that cannot be used.
    """
    enable_compilation_cache()
    screen = screen or Screen(quiet=True)
    strategies = _strategies(names)
    found = searched_space(space)
    population = choose(found, table, asked_space=space)
    goal, shown = (targets(table, [name], population.places)[0] for name in (target, report))
    epochs, columns = protocol.lengths(table, goal.column)
    _check_fidelities(strategies, epochs, table, goal.column)
    seconds, said = full_seconds(table, protocol, population.places)
    needed = any(s.ranked for s in strategies.values())
    given: dict[str, Any] = {"data": data, "file": ranking, "seconds": ranking_seconds}
    known = costs(found, population.archs, table, goal.column, population.places)
    free = None
    if needed:
        free = label_free(found, population.archs, known, **given, folder=Path(out))
    candidates = pool(found, population.archs, free, known)
    told = used(known, objectives, limits, found)
    task = Task(candidates, protocol.budget, epochs, told, limits)
    fitness = np.stack([targets(table, [c], population.places)[0].values for c in columns])
    every, took = _simulate(strategies, task, fitness, seconds, free, protocol, screen)
    values = {goal.name: goal.values} | {shown.name: shown.values}
    notes = [
        *population.notes,
        *_ranking_notes(found, free, needed),
        *_notes(said, seconds, free, fitness, columns, shown.values, shown.name),
    ]
    manifest = {
        "command": command,
        "space": space,
        "table": table.path.name,
        "architectures": len(population),
        "target": goal.name,
        "report": shown.name,
        "budget": protocol.budget,
        "runs": protocol.runs,
        "seed": protocol.seed,
        "batch": protocol.batch,
        "fidelities": dict(zip(columns, epochs, strict=True)),
        "seconds": said,
        "ranking": None if free is None else {"file": free.source, "seconds": free.seconds},
        "limits": limits,
        "strategies": {n: {"strategy": str(s), "paper": s.paper} for n, s in strategies.items()},
        "took": took,
        "device": jax.devices()[0].device_kind,
        "versions": {"jaxnas": jaxnas.__version__, "jax": jax.__version__, "numpy": np.__version__},
    }
    final = {
        r.name: curves.at(r.spent, r.incumbents, np.array([protocol.budget]))[:, 0] for r in every
    }
    ended = {n: np.where(rows < 0, np.nan, shown.values[rows]) for n, rows in final.items()}
    timed = None
    if seconds is not None:
        axis = curves.seconds_axis(every, protocol.budget)
        parts = [curves.by_seconds(r, values, protocol.budget, axis) for r in every]
        timed = pd.concat(parts, ignore_index=True)
    counted = [curves.by_queries(r, values, protocol.budget) for r in every]
    queries = pd.concat(counted, ignore_index=True)
    results = _results(every, queries, values, shown.column, space, protocol, took)
    findings = Findings(
        results, rank_table(ended), queries, timed, final, values, population.archs, manifest, notes
    )
    files.write(Path(out), findings, found)
    return findings


def _ranking_notes(space: SearchSpace, free: Ranking | None, needed: bool) -> list[str]:
    if not needed:
        return []
    if free is None:
        return ["There is no label-free ranking."]
    told = isinstance(space, TabularSpace)
    return [f"The label-free ranking is {free.source}."] if told else []


def _strategies(names: Sequence[str]) -> dict[str, Strategy]:
    if not names:
        raise InputError("No strategy was given; expected one or more names, as in random,local.")
    if len(set(names)) < len(names):
        raise InputError(f"A strategy is named twice in {','.join(names)}.")
    return {name: get_strategy(name) for name in names}


def _check_fidelities(
    strategies: dict[str, Strategy], epochs: tuple[int, ...], table: Table, target: Any
) -> None:
    needy = [name for name, s in strategies.items() if s.multi_fidelity]
    if needy and len(epochs) == 1:
        shorter = [
            c.name
            for c in table.columns.values()
            if c.quantity == target.quantity and c.name != target.name and c.epochs
        ]
        there = f"the table has {', '.join(shorter)}" if shorter else "the table has no shorter one"
        raise InputError(
            f"{', '.join(needy)} trains at several lengths: name some by --fidelity EPOCHS=COLUMN; "
            f"{there}."
        )


def _simulate(
    strategies: dict[str, Strategy],
    task: Task,
    fitness: np.ndarray,
    seconds: np.ndarray | None,
    ranking: Ranking | None,
    protocol: Protocol,
    screen: Screen,
) -> tuple[list[curves.Runs], dict[str, dict[str, float]]]:
    every, took, clock = [], {}, CompileClock().start()
    asked: dict[str, Any] = {"runs": protocol.runs, "seed": protocol.seed, "batch": protocol.batch}
    with screen.bar("simulate", len(strategies)) as bar:
        for name, strategy in strategies.items():
            watch = Stopwatch(clock)
            trace = simulate(strategy, task, fitness, **asked)
            took[name] = watch.lap()
            start = ranking.seconds if strategy.ranked and ranking else 0.0
            every.append(curves.runs_of(name, trace, fitness, task.fidelities, seconds, start))
            bar.advance(1, name)
    return every, took


def _results(
    every: list[curves.Runs],
    queries: pd.DataFrame,
    values: dict[str, np.ndarray],
    report: Any,
    space: str,
    protocol: Protocol,
    took: dict[str, dict[str, float]],
) -> pd.DataFrame:
    """The last row of each curve, and what else is known of each strategy."""
    rows = []
    last = queries[queries["queries"] == protocol.budget].set_index("strategy")
    for runs in every:
        row: dict[str, Any] = {"strategy": runs.name}
        for column, known in values.items():
            row |= {f"{column}_{k}": last.loc[runs.name, f"{column}_{k}"] for k in ("mean", "std")}
            row[f"{column}_best"] = np.nanmax(known)
        if runs.seconds is not None:
            inside = runs.spent <= protocol.budget * (1 + 1e-9)
            row["seconds"] = float(np.where(inside, runs.seconds, 0).max(axis=1).mean())
        beside = published(space, report, runs.name)
        row["published_mean"] = beside.mean if beside else np.nan
        row["published_std"] = beside.std if beside else np.nan
        row["published_source"] = beside.source if beside else ""
        rows.append(row | {f"simulation_{k}": v for k, v in took[runs.name].items()})
    table = pd.DataFrame(rows)
    return table.sort_values(f"{report.name}_mean", ascending=False, ignore_index=True)


def _notes(
    said: str,
    seconds: np.ndarray | None,
    ranking: Ranking | None,
    fitness: np.ndarray,
    columns: tuple[str, ...],
    shown: np.ndarray,
    name: str,
) -> list[str]:
    notes = [f"Seconds: {said}."]
    if ranking is not None and seconds is not None:
        notes.append(
            f"Strategies that use the label-free ranking begin {ranking.seconds:.0f} s later "
            f"({ranking.source})."
        )
    for column, values in zip(columns, fitness, strict=True):
        if missing := int(np.isnan(values).sum()):
            notes.append(f"{column} lacks {missing:,} values: those trainings are told as failed.")
    if missing := int(np.isnan(shown).sum()):
        notes.append(f"{name} lacks {missing:,} values, which are left out of its mean.")
    if len(columns) > 1:
        notes.append("Each training begins anew: a promotion pays for all epochs of its fidelity.")
    return notes
