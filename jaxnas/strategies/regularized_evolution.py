"""Regularized evolution from random members."""

from dataclasses import dataclass
from typing import ClassVar

import jax

from jaxnas.strategies.aging import AgingEvolution
from jaxnas.strategies.draws import anyone
from jaxnas.strategies.members import members
from jaxnas.strategy import Task


@dataclass(frozen=True)
class RegularizedEvolution(AgingEvolution):
    """From random members."""

    name: ClassVar[str] = "regularized_evolution"
    paper: ClassVar[str] = (
        "Real et al., Regularized Evolution for Image Classifier Architecture Search, arXiv:1802.01548"
    )

    def first(self, task: Task, key: jax.Array) -> jax.Array:
        """Drawn uniformly, with replacement."""
        return anyone(members(task), key, self.population)
