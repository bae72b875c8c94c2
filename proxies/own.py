"""A user's own proxies: functions, registered in one line or named as `module:function`."""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxnas.errors import InputError, unknown
from jaxnas.proxy import GradientProxy, Passes, Proxy


def as_proxy(function: Callable[..., Any], name: str | None = None, **about: Any) -> Proxy:
    """A function as a proxy: `PROXIES["mine"] = as_proxy(mine)` registers it.

    The function is called as `function(network, variables, arch, batch) -> float32[]`, pure and traced
    once for all architectures, or, with one parameter, as `function(passes)` (`jaxnas.passes.Passes`,
    which shares gradients with other proxies). Parameters with defaults are left alone. `name` is
    the function's unless given, and `about` are fields of `jaxnas.proxy.GradientProxy`, such as
    `sign=-1`, `needs_labels=True`, `paper`.

    Raises:
        InputError: what is no function, or takes neither one argument nor four.
    """
    name = name or str(getattr(function, "__name__", type(function).__name__))
    if not callable(function) or isinstance(function, type):
        got = "a class" if isinstance(function, type) else f"a {type(function).__name__}"
        raise InputError(f"The proxy {name} is {got}; expected a function.")
    number = _arguments(function, name)
    if number not in (1, 4):
        raise InputError(
            f"The proxy {name} takes {number} arguments; expected four, (network, variables, arch, "
            "batch), or one, (passes)."
        )

    score = function if number == 1 else OfFour(function)
    return GradientProxy(name=name, score=score, **{"paper": "", "needs": ("its own",)} | about)


@dataclass(frozen=True)
class OfFour:
    """`function(network, variables, arch, batch)` as a function of passes; equal for equal functions."""

    function: Callable[..., Any]

    def __call__(self, passes: Passes) -> Any:
        """The function's score."""
        return self.function(passes.network, passes.variables, passes.arch, passes.batch)


def _arguments(function: Callable[..., Any], name: str) -> int:
    """How many arguments have to be given by their place."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError as error:  # functions written in C may not tell
        raise InputError(f"The proxy {name} does not tell what arguments it takes.") from error
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in by_place and p.default is p.empty for p in parameters)


_OWN: dict[str, Proxy] = {}


def imported(path: str) -> Proxy:
    """The proxy of `module:attribute`, the same object each time: compiled programs are kept by it.

    A function goes by its path; a `Proxy` by the name that it has.

    Raises:
        InputError: a module that cannot be imported, or an object in it that is no proxy.
    """
    if path in _OWN:
        return _OWN[path]
    module, _, attribute = path.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        raise InputError(
            f"The proxy {path!r} is no module:function, as mine:score for score in mine.py."
        )
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"The proxy {path} cannot be imported: {error}.") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InputError(
                f"The proxy {path}: {unknown(f'attribute of {module}', part, dir(found))}"
            )
        found = getattr(found, part)
    _OWN[path] = found if isinstance(found, Proxy) else as_proxy(found, path)
    return _OWN[path]
