"""The main job: `python -m jaxnas.search`, and `search(...)` from Python."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxnas.errors import InputError

if TYPE_CHECKING:
    from jaxnas.pipeline import Result
    from jaxnas.spaces import SearchSpace


def search(
    space: "str | SearchSpace" = "nasbench201",
    data: Any = "digits",
    *,
    out: str | None = None,
    resume: bool = False,
    quiet: bool = False,
    **options: Any,
) -> "Result":
    """Rank a space without training, train the best, finish the winner.

    Args:
        space: a space or its name.
        data: a name or path as `--data` takes it, arrays `(x, y)` or `(x, y, x_test, y_test)`, or a
            `jaxnas.data.dataset.Dataset`.
        out: directory of the run; default under runs/.
        resume: continue the run in `out`.
        quiet: print nothing.
        **options: keys of the configuration as in YAML: short (`top=4`) or by section
            (`train={"epochs": 2}`).

    Returns:
        The winner, its accuracies, the ranking and where the files are.

    Raises:
        InputError: for anything given that cannot be used.
    """
    from jaxnas.config import flatten
    from jaxnas.pipeline import run_search

    named = isinstance(space, str)
    values = flatten(options)
    values |= {"space": space if named else space.name, "out": out, "resume": resume}
    if isinstance(data, str):
        values["data.source"] = data
    return run_search(
        values,
        data=None if isinstance(data, str) else data,
        space=None if named else space,
        quiet=quiet,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 2 for bad input, 1 otherwise."""
    from jaxnas.command_line import parse

    try:
        values = parse(list(sys.argv[1:] if argv is None else argv))
        if values is None:
            return 0
        from jaxnas.pipeline import run_search

        run_search(values)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; continue with --resume --out DIR.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
