"""Regularized evolution that begins with the best of the label-free ranking."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.strategies.aging import AgingEvolution
from jaxnas.strategies.listed import best_first, score
from jaxnas.strategies.members import members
from jaxnas.strategy import Task


@dataclass(frozen=True)
class WarmEvolution(AgingEvolution):
    """The first population is the ranking's first P that differ; a child is the best of some mutants.

    Args:
        children: so many mutants of a parent are compared by the ranking, and the best is trained.
    """

    name: ClassVar[str] = "warm_evolution"
    paper: ClassVar[str] = (
        "Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, arXiv:2101.08134"
    )
    ranked: ClassVar[bool] = True
    children: int = 1

    def first(self, task: Task, key: jax.Array) -> np.ndarray:
        """By falling score; the key is not needed."""
        order = best_first(score(task, "prior", self.name))
        first = np.unique(members(task).classes[order], return_index=True)[1]
        return np.resize(order[np.sort(first)][: self.population], self.population)

    def screened(self, task: Task) -> tuple[jax.Array, int]:
        """By the ranking."""
        return jnp.asarray(score(task, "prior", self.name), jnp.float32), self.children
