"""`python -m jaxnas.benchmarks predictors`."""

import argparse
import math
from typing import TYPE_CHECKING

import numpy as np

from jaxnas.console import Screen
from jaxnas.errors import InputError

if TYPE_CHECKING:
    from jaxnas.benchmarks.predictors.run import Found

LABELS = "20,50,100,200,400,1000"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags to the parser of `predictors`."""
    add = parser.add_argument
    add("--space", required=True, help="a space's name, FILE.yaml or module:attribute")
    add("--table", required=True, help="a table that `tables import` wrote")
    add("--target", required=True, help="the column to predict, higher is better")
    add("--predictors", default="default", help="names separated by commas; default: default")
    add("--labels", default=LABELS, help=f"numbers of labels; default {LABELS}")
    add("--seeds", type=int, default=3, help="draws of labels (default 3)")
    add("--data", help="images to rank on without labels, as `jaxnas.search --data`")
    add("--ranking", help="a ranking.parquet in place of making one from --data, or none")
    add("--out", required=True, help="directory of the results; one begun is continued")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, screen: Screen) -> None:
    """Fit, write the files and print the tables."""
    from jaxnas.benchmarks.predictors import run as benchmark
    from jaxnas.benchmarks.tables import load_table

    asked = benchmark.Asked.of(args.predictors, _whole_numbers(args.labels), args.seeds)
    found = benchmark.run(
        args.space,
        load_table(args.table),
        args.target,
        asked,
        data=args.data,
        ranking=args.ranking,
        out=args.out,
        screen=screen,
    )
    show(found, screen)
    screen.show(
        f"Files: {args.out}/results.csv, cells.csv, results.json, kendall.svg, coverage.svg"
    )


def show(found: "Found", screen: Screen) -> None:
    """Print the tables: Kendall's tau, coverage and seconds, a column a number of labels."""
    for note in found.notes:
        screen.say(note)
    pool, target = found.manifest["pool"], found.manifest["target"]
    screen.show(f"Pool: {pool}")
    seeds = int(np.max(found.results["seeds"].to_numpy()))
    columns = ["predictor", *(f"{n:,} labels" for n in found.results["labels"].unique())]
    for title, kind in (
        (f"Kendall's tau-b with {target}, mean ± deviation over {seeds} seeds", _kendall),
        ("Share of the rest within 1 and 1.645 predicted deviations (nominal .68, .90)", _coverage),
        ("Seconds to fit, and to query the rest; compiling apart", _seconds),
    ):
        rows = []
        for name, own in found.results.groupby("predictor", sort=False):
            cells = [kind(row) for row in own.to_dict("records")]
            if any(cells):
                rows.append([str(name), *cells])
        screen.table(f"\n{title}", columns, rows)


def _kendall(row: dict[str, float]) -> str:
    spread = row["kendall_std"]
    return f"{row['kendall']:.3f}" + ("" if math.isnan(spread) else f" ± {spread:.3f}")


def _coverage(row: dict[str, float]) -> str:
    known = not math.isnan(row["within_68"])
    return f"{row['within_68']:.2f} {row['within_90']:.2f}" if known else ""


def _seconds(row: dict[str, float]) -> str:
    known = not math.isnan(row["fit_seconds"])
    return f"{row['fit_seconds']:.2f} {row['query_seconds']:.2f}" if known else ""


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--labels is {text!r}, expected whole numbers as in 20,50,100.") from None
