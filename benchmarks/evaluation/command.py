"""`python -m jaxnas.benchmarks proxies`."""

import argparse
import shlex
from typing import TYPE_CHECKING

from jaxnas.console import Screen
from jaxnas.errors import InputError

if TYPE_CHECKING:
    from jaxnas.benchmarks.evaluation.findings import Evaluation

CSV = (".csv", ".csv.gz", ".tsv", ".tsv.gz")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags to the parser of `proxies`."""
    add = parser.add_argument
    add("--space", required=True, help="a space's name, FILE.yaml or module:attribute")
    add("--table", required=True, help="a table that `tables import` wrote")
    add("--target", required=True, help="the column to rank by, higher is better")
    add("--also", default="", help="further columns, evaluated from the same scores")
    add("--proxies", required=True, help="proxies and presets, separated by commas")
    add("--data", required=True, help="as `jaxnas.search --data`; training images are used")
    add("--sample", type=int, help="so many architectures, drawn by a fixed seed")
    add("--subset", default="all", help="all (default), unique or reachable")
    add("--seeds", type=int, default=3, help="draws of weights and images (default 3)")
    add("--dtypes", default="float32", help="float32 (default), bfloat16 or both")
    add("--batch-size", type=int, default=32, help="images a score is computed on (default 32)")
    add("--channels", type=int, help="of the scored networks; default: the space's")
    add("--cells", help="N[,N...]: cells of each stage; default: the space's")
    add("--resolution", type=int, help="side of the images; default: the space's")
    add("--executor", default="auto", help="auto (default), shared_prefix or per_architecture")
    add("--bootstrap", type=int, default=1000, help="resamples of the intervals (default 1000)")
    add("--timed", type=int, default=64, help="architectures each is timed on; 0: none")
    add("--out", required=True, help="directory of the results; an interrupted one is continued")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, screen: Screen) -> None:
    """Evaluate, write the files and print the tables."""
    if args.table.lower().endswith(CSV):
        raise InputError(
            f"{args.table} is no table yet; make one with `python -m jaxnas.benchmarks tables import "
            f"{args.table} --format csv --space {args.space} -o T.parquet` and name T.parquet."
        )
    from jaxnas.benchmarks.evaluation import run as evaluation
    from jaxnas.benchmarks.evaluation.protocol import Protocol
    from jaxnas.benchmarks.tables import load_table

    protocol = Protocol(
        subset=args.subset,
        sample=args.sample,
        seeds=args.seeds,
        dtypes=tuple(args.dtypes.split(",")),
        batch_size=args.batch_size,
        executor=args.executor,
        bootstrap=args.bootstrap,
        timed=args.timed,
        channels=args.channels,
        cells=None if args.cells is None else _whole_numbers(args.cells),
        resolution=args.resolution,
    )
    found = evaluation.run(
        args.space,
        load_table(args.table),
        [args.target, *(name for name in args.also.split(",") if name)],
        args.proxies,
        args.data,
        protocol,
        out=args.out,
        screen=screen,
        command=_command(args),
    )
    _show(found, args.out, screen)


def _command(args: argparse.Namespace) -> str:
    """The command as it may be typed again, without what was left at its default."""
    words = ["python", "-m", "jaxnas.benchmarks", "proxies"]
    plain = argparse.ArgumentParser()
    add_arguments(plain)
    for action in plain._actions:
        value = getattr(args, action.dest, None)
        if action.dest != "help" and value is not None and value != action.default:
            words += [action.option_strings[0], str(value)]
    return shlex.join(words)


def _show(found: "Evaluation", out: str, screen: Screen) -> None:
    """Print the tables, and where the files are."""
    from jaxnas.benchmarks.evaluation import text

    for note in found.notes:
        screen.say(note)
    for target in found.targets:
        screen.table(
            f"\nRank correlation with {target.name}, {target.measured:,} architectures",
            *text.correlation_rows(found, target),
        )
        screen.table(f"\nThe top of the ranking by {target.name}", *text.top_rows(found, target))
    for title, (columns, rows) in (
        ("\nEach alone", text.seconds_rows(found)),
        ("\nBeside published figures (Spearman)", text.published_rows(found)),
        ("\nBetween dtypes (Spearman)", text.dtype_rows(found)),
    ):
        if rows:
            screen.table(title, columns, rows)
    spent = found.seconds
    screen.show(
        f"\nScoring took {spent['run'] + spent['compile']:.1f} s, {spent['compile']:.1f} s of it "
        "compiling."
    )
    screen.show(f"Files: {out}/report.html, results.csv, results.json, manifest.json and more")


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--cells is {text!r}, expected whole numbers as in 5,5,5.") from None
