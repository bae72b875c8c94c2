"""`python -m jaxnas.predictors`: the surrogate predictors, which the benchmarks take by name."""

import argparse
import inspect
import sys
from collections.abc import Sequence

from jaxnas.catalogue import listing, parameters, summary
from jaxnas.predictors import PREDICTORS


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code, 0."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxnas.predictors",
        description="List the predictors: python -m jaxnas.benchmarks predictors --predictors NAME,NAME.",
    )
    parser.parse_args(argv)
    print("From trained architectures to the fitness expected of others:\n")
    entries = {}
    for name, predictor in PREDICTORS.items():
        what = summary(inspect.getdoc(type(predictor)))
        said = what if predictor.calibrated else f"{what}; deviations are not calibrated"
        entries[name] = (said, predictor.paper, parameters(predictor))
    print(listing(entries))
    return 0


if __name__ == "__main__":
    sys.exit(main())
