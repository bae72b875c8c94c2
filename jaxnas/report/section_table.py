"""The ten best of the ranking, and all that were trained."""

import math
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from jaxnas.report.formats import MISSING, number, percent, si
from jaxnas.report.measure import is_accuracy
from jaxnas.report.model import ReportData, TrainedCandidate, score_columns
from jaxnas.report.roles import NAMES
from jaxnas.report.section import Section, fill

_BEST = 10
_COUNTS = ("params", "macs", "flops")


@dataclass(frozen=True)
class Row:
    """One row: cells are in the order of the table's columns; `role` is empty if not trained."""

    rank: str
    arch: str
    role: str
    role_name: str
    diverged: bool
    stopped: str
    scores: tuple[str, ...]
    accuracies: tuple[str, ...]


def headings(data: ReportData) -> list[str]:
    """The proxies, with a ± where there is a deviation over repeats, and `score` last."""
    columns = score_columns(data.ranking)
    return [*(f"{name} ±" if deviation else name for name, deviation in columns.items()), "score"]


def accuracy_columns(data: ReportData) -> list[str]:
    """Validation and test accuracy are never of one column, nor are different budgets."""
    # where networks were compared by something else it must be said what this is
    what = "" if is_accuracy(data) else " accuracy"
    columns = []
    if data.trained:
        columns.append(f"validation{what}, {data.budget} epochs")
    if "val_accuracy" in data.result:
        columns.append(f"validation{what}, finished")
    if "test_accuracy" in data.result:
        columns.append(f"test{what}, finished")
    return columns


def rows(data: ReportData) -> list[Row]:
    """The ten best and all trained, by rank; one row for each training at the common budget."""
    runs: dict[str, list[TrainedCandidate]] = {}
    for run in data.at_budget():
        runs.setdefault(run.arch, []).append(run)
    trained = dict.fromkeys([*runs, *(run.arch for run in data.beyond_budget())])
    ranked = _ranked(data, trained)
    known = {row["arch"] for row in ranked}
    ranked += [{"arch": arch} for arch in trained if arch not in known]
    return [_row(data, row, run) for row in ranked for run in runs.get(row["arch"], [None])]


def _ranked(data: ReportData, trained: Container[str]) -> list[dict[str, Any]]:
    """The ranking's rows of the ten best and of those `trained`, best first."""
    ranking = data.ranking.sort_values(["rank", "index"], na_position="last")
    columns = [str(column) for column in ranking.columns]
    place = columns.index("arch")
    return [
        dict(zip(columns, values, strict=True))
        for k, values in enumerate(ranking.itertuples(index=False, name=None))
        if k < _BEST or values[place] in trained
    ]


def _row(data: ReportData, ranked: dict, run: TrainedCandidate | None) -> Row:
    role = data.role(run) if run else ""
    if not run and ranked["arch"] == data.result.get("arch") and data.trained:
        role = "winner"
    return Row(
        rank=number(ranked.get("rank")),
        arch=ranked["arch"],
        role=role,
        role_name=NAMES[role][0] if role else "",
        diverged=bool(run and run.diverged),
        stopped=f"stopped after {run.epochs[-1]}" if run and run.stopped else "",
        scores=_scores(data, ranked),
        accuracies=_accuracies(data, run, role),
    )


def _scores(data: ReportData, ranked: dict) -> tuple[str, ...]:
    cells = []
    for name, deviation in score_columns(data.ranking).items():
        cell = si(ranked.get(name)) if name in _COUNTS else number(ranked.get(name))
        spread = ranked.get(deviation, math.nan) if deviation else math.nan
        cells.append(f"{cell} ± {number(spread, 2)}" if math.isfinite(spread) else cell)
    return (*cells, number(ranked.get("score")))


def _accuracies(data: ReportData, run: TrainedCandidate | None, role: str) -> tuple[str, ...]:
    cells = []
    if data.trained:
        best = run.best_val_accuracy if run else math.nan
        cells.append(percent(best))
    for key in ("val_accuracy", "test_accuracy"):
        if key in data.result:
            cells.append(percent(data.result[key]) if role == "winner" else MISSING)
    return tuple(cells)


def _render(data: ReportData) -> Markup:
    return fill(
        "table.html",
        score_columns=headings(data),
        accuracy_columns=accuracy_columns(data),
        rows=rows(data),
    )


SECTION = Section("table", "The ten best, and those trained", _render, untrained="The ten best")
