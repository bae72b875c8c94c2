"""The tables as people read them, for the terminal and the page: `(columns, rows of strings)`."""

import math

import pandas as pd

from jaxnas.benchmarks.strategies.findings import Findings

type Rows = tuple[list[str], list[list[str]]]


def result_rows(found: Findings) -> Rows:
    """What each strategy ended with, best report value first."""
    columns = ["strategy", found.target]
    columns += [found.report] if found.report != found.target else []
    shown = columns[1:]
    timed = "seconds" in found.results
    columns += ["seconds of a search"] if timed else []
    columns.append("simulation, compiling")
    rows = []
    for row in found.results.to_dict("records"):
        cells = [str(row["strategy"]), *(_spread(row[f"{c}_mean"], row[f"{c}_std"]) for c in shown)]
        cells += [f"{row['seconds']:,.0f}"] if timed else []
        rows.append([*cells, f"{row['simulation_run']:.2f} s, {row['simulation_compile']:.1f} s"])
    best = found.results.iloc[0]
    last = ["best of the table", *(f"{best[f'{c}_best']:.3f}" for c in shown)]
    return columns, [*rows, [*last, *[""] * (len(columns) - len(last))]]


def rank_rows(found: Findings) -> Rows:
    """Mean ranks over runs, and whether the best is better than each."""
    first = str(found.ranking["strategy"].iloc[0])
    rows = [
        [str(row["strategy"]), f"{row['rank']:.2f}", _p(row["p"]), _p(row["p_holm"])]
        for row in found.ranking.to_dict("records")
    ]
    return ["strategy", "mean rank", f"p against {first}", "p, Holm"], rows


def milestone_rows(found: Findings, points: tuple[int, ...] = (10, 20, 50, 100, 200, 500)) -> Rows:
    """Mean of the incumbents' target on the way."""
    budget = found.manifest["budget"]
    shown = sorted({p for p in points if p < budget} | {budget})
    rows = []
    for name in found.results["strategy"]:
        own = found.queries[found.queries["strategy"] == name].set_index("queries")
        values = [own.loc[p, f"{found.target}_mean"] for p in shown]
        rows.append([str(name), *("–" if math.isnan(v) else f"{v:.3f}" for v in values)])
    return ["strategy", *(f"after {p}" for p in shown)], rows


def published_rows(found: Findings) -> Rows:
    """Ours beside the published figure, where there is one."""
    column = found.report
    rows = [
        [
            str(row["strategy"]),
            _spread(row[f"{column}_mean"], row[f"{column}_std"]),
            f"{row['published_mean']:.2f} ± {row['published_std']:.2f}",
            str(row["published_source"]),
        ]
        for row in found.results.to_dict("records")
        if row["published_source"]
    ]
    return ["strategy", f"ours, {column}", "published", "how"], rows


def _spread(mean: float, std: float) -> str:
    return "–" if math.isnan(mean) else f"{mean:.3f} ± {std:.3f}"


def _p(value: float) -> str:
    if pd.isna(value):
        return "–"
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"
