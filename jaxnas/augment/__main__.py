"""`python -m jaxnas.augment`: the augmentation policies, which are called by name."""

import argparse
import sys
from collections.abc import Sequence

from jaxnas.augment.named import NAMED
from jaxnas.augment.operations import OPERATIONS
from jaxnas.catalogue import listing, parameters, summary


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code, 0."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxnas.augment", description="List the augmentation policies."
    )
    parser.parse_args(argv)
    print(
        "What is done to training images; parameters go after the name, as in randaugment:n=2:m=9.\n"
    )
    print(
        listing(
            {
                name: (summary(kind.__doc__), kind.paper, parameters(kind))
                for name, kind in NAMED.items()
            }
        )
    )
    print(f"\nImage operations: {', '.join(OPERATIONS)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
