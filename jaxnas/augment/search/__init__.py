"""Searches of augmentation policies, by name. A new one is its file and a line here."""

from collections.abc import Callable

from jaxnas.augment.search.dada import dada
from jaxnas.augment.search.fast import fast
from jaxnas.augment.search.pba import pba
from jaxnas.augment.search.setting import Found, Setting

SEARCHES: dict[str, Callable[[Setting], Found]] = {"pba": pba, "fast": fast, "dada": dada}
"""From a setting to what was found: a policy, and a schedule where there is one."""

__all__ = ["SEARCHES", "Found", "Setting"]
