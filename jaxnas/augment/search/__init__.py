"""Searches of augmentation policies, by name. A new one is its file and a line here."""

from collections.abc import Callable

from jaxnas.augment.search.dada import differentiable
from jaxnas.augment.search.fast import density_matching
from jaxnas.augment.search.pba import population_based
from jaxnas.augment.search.setting import Found, Keeper, Setting

SEARCHES: dict[str, Callable[[Setting], Found]] = {
    "pba": population_based,
    "fast": density_matching,
    "dada": differentiable,
}
"""From a setting to what was found: a policy, and a schedule where there is one."""

__all__ = ["SEARCHES", "Found", "Keeper", "Setting"]
