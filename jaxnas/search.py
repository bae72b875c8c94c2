"""The main job: `python -m jaxnas.search`, and `search(...)` from Python."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxnas.errors import InputError

if TYPE_CHECKING:
    from jaxnas.pipeline import Result
    from jaxnas.spaces import SearchSpace


def search(
    space: "str | SearchSpace | None" = None,
    data: Any = None,
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    quiet: bool = False,
    **options: Any,
) -> "Result":
    """Rank a space without training, train the best, finish the winner.

    Args:
        space: a space or its name; default nasbench201, or the resumed run's.
        data: a name or path as `--data` takes it, arrays `(x, y)` or `(x, y, x_test, y_test)`, or a
            `jaxnas.data.dataset.Dataset`; default digits, or the resumed run's.
        out: directory of the run; default under runs/.
        resume: continue the run in `out`.
        quiet: print nothing.
        **options: keys of the configuration as in YAML: short (`top=4`), by section
            (`train={"epochs": 2}`) or in full (`**{"data.split_seed": 1}`).

    Returns:
        The winner, its accuracies, the ranking and where the files are.

    Raises:
        InputError: for anything given that cannot be used.
    """
    from jaxnas.config import flatten
    from jaxnas.pipeline import run_search

    values = flatten(options) | {"out": None if out is None else os.fspath(out), "resume": resume}
    if isinstance(space, str):
        values["space"], space = space, None
    elif space is not None:
        values["space"] = space.name
    if isinstance(data, str | os.PathLike):
        values["data.source"], data = os.fspath(data), None
    elif data is not None:
        values["data.source"] = getattr(data, "name", "arrays")
    return run_search(values, data=data, space=space, quiet=quiet)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 2 for bad input, 1 otherwise."""
    try:
        from jaxnas.command_line import help_text, parse

        values = parse(list(sys.argv[1:] if argv is None else argv))
        if values is None:
            print(help_text(), flush=True)
            return 0
        from jaxnas.pipeline import run_search

        run_search(values)
    except InputError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except BrokenPipeError:
        _close_stdout()
        return 1
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _close_stdout()
        print(f"error: A disk is full: {error.strerror}.", file=sys.stderr)
        return 2
    return 0


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_INTERRUPTED = "Interrupted; a run directory named above continues with --resume --out DIR.\n"


def _close_stdout() -> None:
    # What could not be written would be tried again, and fail again, when Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end_on_interrupt() -> None:
    """On Ctrl-C end at once, wherever the program is: a run survives being killed at any moment.

    `KeyboardInterrupt` would wait until a compilation is done, and gets lost in libraries' callbacks.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return  # started in the background, where Ctrl-C is meant for another program
    heard, said = os.pipe()
    os.set_blocking(said, False)
    signal.set_wakeup_fd(said, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, lambda number, frame: None)

    def end() -> None:
        os.read(heard, 1)
        restored = "\n\x1b[?25h" if sys.stderr.isatty() else ""  # rich hides the cursor
        os.write(2, (restored + _INTERRUPTED).encode())
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


if __name__ == "__main__":
    _end_on_interrupt()
    sys.exit(main())
