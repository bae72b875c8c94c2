"""`python -m jaxnas.hpo`: the tuners of hyper-parameters, by name."""

import argparse
import sys
from collections.abc import Sequence

from jaxnas.catalogue import listing_of
from jaxnas.hpo import TUNERS


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code, 0."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxnas.hpo", description="List the tuners of hyper-parameters."
    )
    parser.parse_args(argv)
    print("Who is trained how; parameters go after the name, as in pbt:exploit=t_test.\n")
    print(listing_of(TUNERS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
