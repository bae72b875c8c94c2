"""Packages that only some formats need."""

import importlib
from types import ModuleType

from jaxnas.errors import InputError


def imported(module: str, what: str) -> ModuleType:
    """The module of a package that `jaxnas[export]` brings.

    Raises:
        InputError: it is not installed; `what` is what needs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise InputError(
            f"{what} needs the package {error.name}; install the extra, pip install 'jaxnas[export]'."
        ) from error
