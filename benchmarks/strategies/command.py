"""`python -m jaxnas.benchmarks strategies`."""

import argparse
import shlex
import sys
from typing import TYPE_CHECKING

from jaxnas.console import Screen
from jaxnas.errors import InputError

if TYPE_CHECKING:
    from jaxnas.benchmarks.strategies.findings import Findings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags to the parser of `strategies`."""
    add = parser.add_argument
    add("--space", required=True, help="a space's name, FILE.yaml or module:attribute")
    add("--table", required=True, help="a table that `tables import` wrote")
    add("--target", required=True, help="the column that strategies are told, higher is better")
    add("--report", help="the column reported of who they chose; default: the target")
    add("--strategies", required=True, help="names separated by commas, with NAME:PARAMETER=VALUE")
    add("--budget", type=int, default=200, help="full trainings of a search (default 200)")
    add("--runs", type=int, default=500, help="searches of each strategy (default 500)")
    add("--seed", type=int, default=0, help="of all searches (default 0)")
    add("--batch", type=int, default=1, help="trainings asked for at once (default 1)")
    add(
        "--fidelity",
        action="append",
        default=[],
        help="EPOCHS=COLUMN of shorter trainings; several",
    )
    add("--epochs", type=int, help="of the target; default: what the table says")
    add("--seconds", help="the column with the seconds of a full training")
    add("--seconds-per-query", type=float, help="or what every one is taken to last")
    add("--data", help="images that strategies with a label-free ranking rank on")
    add("--ranking", help="or a ranking.parquet, or none; --out keeps the one made")
    add("--ranking-seconds", type=float, help="what that took")
    add("--max-params", type=float, help="no more parameters (nsga2, cars)")
    add("--max-macs", type=float, help="no more multiply-adds, a further objective then")
    add("--out", required=True, help="directory of the results")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, screen: Screen) -> None:
    """Simulate, write the files and print the tables."""
    from jaxnas.benchmarks.strategies import run as simulation
    from jaxnas.benchmarks.strategies.protocol import Protocol, fidelity_flags
    from jaxnas.benchmarks.tables import load_table

    if args.seconds is not None and args.seconds_per_query is not None:
        raise InputError("--seconds and --seconds-per-query say the same; give one of them.")
    protocol = Protocol(
        budget=args.budget,
        runs=args.runs,
        seed=args.seed,
        batch=args.batch,
        fidelities=fidelity_flags(args.fidelity),
        epochs=args.epochs,
        seconds=args.seconds if args.seconds_per_query is None else args.seconds_per_query,
    )
    unlimited = float("inf")
    costs = 1 if args.max_macs is None else 2
    given = (args.max_params, args.max_macs)
    limits = tuple(unlimited if limit is None else limit for limit in given[:costs])
    found = simulation.run(
        args.space,
        load_table(args.table),
        args.target,
        args.report or args.target,
        [name for name in args.strategies.split(",") if name],
        protocol,
        out=args.out,
        data=args.data,
        ranking=args.ranking,
        ranking_seconds=args.ranking_seconds,
        objectives=costs,
        limits=None if all(limit == unlimited for limit in limits) else limits,
        screen=screen,
        command=shlex.join(["python", "-m", "jaxnas.benchmarks", *sys.argv[1:]]),
    )
    _show(found, args.out, screen)


def _show(found: "Findings", out: str, screen: Screen) -> None:
    """Print the tables, and where the files are."""
    from jaxnas.benchmarks.strategies import text

    for note in found.notes:
        screen.say(note)
    runs, budget = found.manifest["runs"], found.manifest["budget"]
    title = f"\n{runs:,} searches of {budget:,} full trainings, mean ± standard deviation"
    screen.table(title, *text.result_rows(found))
    screen.table(f"\nMean {found.target} of the incumbent", *text.milestone_rows(found))
    screen.table(f"\nRanks by {found.report}", *text.rank_rows(found))
    columns, rows = text.published_rows(found)
    if rows:
        screen.table("\nBeside published figures", columns, rows, folded=("how",))
    screen.show(f"\nFiles: {out}/report.html, results.csv, queries.csv, runs.csv and more")
