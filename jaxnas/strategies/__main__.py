"""`python -m jaxnas.strategies`: the search strategies, which `--strategy` takes by name."""

import argparse
import sys
from collections.abc import Sequence

from jaxnas.catalogue import listing_of
from jaxnas.strategies import STRATEGIES


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code, 0."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxnas.strategies",
        description="List the search strategies: python -m jaxnas.search --strategy NAME.",
    )
    parser.parse_args(argv)
    print("Who is trained next; parameters go after the name, as in successive_halving:eta=4.\n")
    print(listing_of(STRATEGIES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
