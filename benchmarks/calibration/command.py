"""`python -m jaxnas.benchmarks calibrate`."""

import argparse
from pathlib import Path

from jaxnas.console import Screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags to the parser of `calibrate`."""
    add = parser.add_argument
    add("--space", required=True, help="a space's name, FILE.yaml or module:attribute")
    add("--data", required=True, help="as `jaxnas.search --data`: one's own")
    add("--sample", type=int, default=24, help="architectures that are trained (default 24)")
    add("--epochs", type=int, default=12, help="epochs of each (default 12)")
    add("--proxies", help="names separated by commas; default: all that apply to the space")
    add("--channels", type=int, help="of the trained networks; default: the space's")
    add("--cells", help="N[,N...]: their cells in each stage; default: the space's")
    add("--resolution", type=int, help="side of their images; default: the space's")
    add("--seed", type=int, default=0, help="of the sample, weights and batches (default 0)")
    add("--bootstrap", type=int, default=2000, help="resamples of the intervals (default 2000)")
    add("--out", required=True, help="directory of the run; an interrupted one is continued")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, screen: Screen) -> None:
    """Train, compare, print the table and say which score to use."""
    from jaxnas.backend import deal_out_over_cores
    from jaxnas.benchmarks.calibration.run import calibrate

    deal_out_over_cores()  # before anything runs on one device
    given = {k: getattr(args, k) for k in ("channels", "cells", "resolution")}
    found = calibrate(
        args.space,
        args.data,
        sample=args.sample,
        epochs=args.epochs,
        proxies=args.proxies.split(",") if args.proxies else None,
        resamples=args.bootstrap,
        seed=args.seed,
        out=args.out,
        resume=(Path(args.out) / "config.yaml").is_file(),
        options={f"train.{k}": v for k, v in given.items() if v is not None},
    )
    table = found.table
    rows = [
        [
            row["name"],
            f"{row['kendall']:+.3f}",
            f"{row['low']:+.3f} to {row['high']:+.3f}",
            _bar(row),
        ]
        for row in table.to_dict("records")
    ]
    title = f"\nKendall with the validation accuracy of {table['n'].iloc[0]} trained architectures"
    screen.table(title, ["score", "Kendall", "95 % interval", "-1 . . . 0 . . . 1"], rows)
    others = f"; the sample cannot tell it from {', '.join(found.as_good)}" if found.as_good else ""
    screen.show(f"\nUse {found.use} here{others}.")
    screen.show(f"Files: {found.result.directory}/calibration.csv, report.html and more")


def _bar(row: dict, half: int = 10) -> str:
    """The interval as dashes and the estimate as an o, from -1 to 1."""
    marks = [" "] * (2 * half + 1)
    places = [round(half * (1 + row[k])) for k in ("low", "kendall", "high") if row[k] == row[k]]
    if len(places) == 3:
        marks[places[0] : places[2] + 1] = "─" * (places[2] - places[0] + 1)
        marks[places[1]] = "o"
    return "".join(marks)
