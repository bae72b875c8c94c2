"""`python -m jaxnas.supernet`: the ways to share weights, which `--trainer` takes by name."""

import argparse
import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jaxnas.catalogue import listing, parameters, summary
from jaxnas.supernet.differentiable.search import STRATEGIES
from jaxnas.supernet.train import TRAINERS


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code, 0."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxnas.supernet",
        description="List the trainers that share weights: python -m jaxnas.search --trainer NAME.",
    )
    parser.parse_args(argv)
    print("One super-net is trained; candidates are evaluated by weights inherited from it:")
    _list(TRAINERS, {name: inspect.getdoc(t) for name, t in TRAINERS.items()})
    print("\nArchitecture parameters learn with the weights, by gradient:")
    _list(
        STRATEGIES,
        {name: sys.modules[type(s).__module__].__doc__ for name, s in STRATEGIES.items()},
    )
    print("\nOr each candidate has weights of its own: --trainer population, the default.")
    return 0


def _list(registry: Mapping[str, Any], texts: Mapping[str, str | None]) -> None:
    said = {n: (summary(texts[n]), parameters(m, changed=True)) for n, m in registry.items()}
    print(listing({name: ["; ".join(filter(None, parts))] for name, parts in said.items()}))


if __name__ == "__main__":
    sys.exit(main())
