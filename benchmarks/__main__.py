"""`python -m jaxnas.benchmarks`: NAS-Bench tables, and how far rankings can be trusted."""

import argparse
import sys
from collections.abc import Sequence

from jaxnas.benchmarks.calibration import command as calibration
from jaxnas.benchmarks.evaluation import command as evaluation
from jaxnas.benchmarks.predictors import command as predictors
from jaxnas.benchmarks.strategies import command as strategies
from jaxnas.benchmarks.tables.command import add_commands
from jaxnas.console import Screen
from jaxnas.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxnas.benchmarks",
        description="NAS-Bench tables, and how far rankings can be trusted.",
    )
    topics = parser.add_subparsers(dest="topic", required=True, metavar="TOPIC")
    add_commands(topics.add_parser("tables", help="import, describe, list and download tables"))
    proxies = topics.add_parser("proxies", help="how well training-free scores rank a table")
    evaluation.add_arguments(proxies)
    calibrate = topics.add_parser("calibrate", help="how well they rank on your own data")
    calibration.add_arguments(calibrate)
    strategies.add_arguments(topics.add_parser("strategies", help="searches simulated on a table"))
    predictors.add_arguments(topics.add_parser("predictors", help="surrogates fitted on a table"))
    args = parser.parse_args(argv)
    try:
        args.run(args, Screen())
    except InputError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
