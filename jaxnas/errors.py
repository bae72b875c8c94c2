"""The one error that bad input raises, and the sentences it is made of."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave cannot be used. The message is one sentence, meant to be read.

    The command line prints it on one line and exits with 2; from Python it is a `ValueError`.
    """


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """The up to `n` members of `known` whose spelling is nearest to `name`, best first."""
    known = list(known)
    lowered = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), list(lowered), n=n, cutoff=0.5)
    starts = [k for k in known if k.lower().startswith(name.lower()) and name]
    return list(dict.fromkeys([*starts, *(lowered[c] for c in close)]))[:n]


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """An `InputError` for a name that is not among `known`, with the nearest that are."""
    known = list(known)
    close = nearest(name, known)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(sorted(known))}."
    return InputError(f"Unknown {kind} {name!r}; {hint}")
