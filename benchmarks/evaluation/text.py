"""The tables as people read them, for the terminal and the page: `(columns, rows of strings)`."""

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from jaxnas.benchmarks.evaluation.findings import Evaluation
from jaxnas.benchmarks.evaluation.plots import seconds, short
from jaxnas.benchmarks.evaluation.population import Target
from jaxnas.benchmarks.evaluation.results import STABLE
from jaxnas.benchmarks.evaluation.tops import TOPS

BASELINE_NAMES = {
    "random": "chance",
    "ceiling": "noise ceiling",
    "one_training": "one more training",
}
"""What the rows of baselines are called."""

type Rows = tuple[list[str], list[list[str]]]


def correlation_rows(found: Evaluation, target: Target) -> Rows:
    """Spearman and Kendall of all and of the top tenth, with deviations and intervals."""
    statistics = {
        "Spearman": "spearman",
        "Kendall": "kendall",
        "Spearman, top 10 %": "top_spearman",
        "Kendall, top 10 %": "top_kendall",
    }
    rows = []
    for name, row in _rows(found, target):
        rows.append([name, *(_with_interval(row, s) for s in statistics.values())])
    return ["proxy", *statistics], rows


def top_rows(found: Evaluation, target: Target) -> Rows:
    """Precision, best found and regret at each k, and how stable the top 20 is."""
    tops = [k for k in TOPS if f"best_{k}" in found.results]
    columns = ["proxy", *(f"precision@{k}" for k in tops)]
    columns += [*(f"best@{k} (regret)" for k in tops), f"top {STABLE} stable"]
    rows = []
    for name, row in _rows(found, target):
        cells = [short(row[f"precision_{k}"]) for k in tops]
        cells += [f"{_plain(row[f'best_{k}'])} ({_plain(row[f'regret_{k}'])})" for k in tops]
        rows.append([name, *cells, short(row.get(f"stability_{STABLE}", math.nan))])
    return columns, rows


def seconds_rows(found: Evaluation) -> Rows:
    """Seconds of one architecture, and of compiling, once a name."""
    rows = []
    for row in found.results.drop_duplicates("name").to_dict("records"):
        if not math.isnan(row["seconds_per_arch"]):
            one = seconds(math.log10(row["seconds_per_arch"]))
            rows.append([str(row["name"]), one, f"{row['compile_seconds']:.2f} s"])
    return ["proxy", "one architecture", "compiling"], rows


def published_rows(found: Evaluation) -> Rows:
    """Ours beside the published figure, where there is one."""
    first = found.manifest["dtypes"][0]
    rows = []
    for row in found.results.to_dict("records"):
        if row["published_source"] and row["dtype"] == first:
            cells = [row["name"], row["target"], short(row["spearman"]), short(row["published"], 2)]
            rows.append([str(c) for c in (*cells, row["published_source"])])
    return ["proxy", "target", "ours", "published", "source"], rows


def dtype_rows(found: Evaluation) -> Rows:
    """How far scores agree between dtypes; no rows where there is one."""
    rows = [
        [
            str(row["name"]),
            f"{row['dtype']}, {row['with']}",
            short(row["spearman"], 4),
            short(row["spearman_least"], 4),
            short(row[f"top_{STABLE}"]),
        ]
        for row in found.agreement.to_dict("records")
    ]
    return ["proxy", "dtypes", "mean over seeds", "least", f"top {STABLE} in common"], rows


def _rows(found: Evaluation, target: Target) -> Iterator[tuple[str, dict[str, Any]]]:
    """The names, best first, then the baselines, with what is known of each."""
    several = len(found.manifest["dtypes"]) > 1
    for row in found.rows_of(target).to_dict("records"):
        yield f"{row['name']}, {row['dtype']}" if several else str(row["name"]), row
    for row in found.baselines_of(target).to_dict("records"):
        yield BASELINE_NAMES[str(row["name"])], row


def _with_interval(row: dict[str, Any], statistic: str) -> str:
    text = short(row[statistic])
    std, low = (row.get(f"{statistic}_{kind}", math.nan) for kind in ("std", "low"))
    if not pd.isna(std):
        text += f" ± {short(std)}"
    if not pd.isna(low):
        text += f" [{short(low)}, {short(row[f'{statistic}_high'])}]"
    return text


def _plain(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"
