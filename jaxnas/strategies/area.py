"""AREA: regularized evolution whose first population is chosen by NASWOT among random members."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxnas.strategies.aging import AgingEvolution
from jaxnas.strategies.listed import score
from jaxnas.strategies.members import members
from jaxnas.strategy import Task


@dataclass(frozen=True)
class Area(AgingEvolution):
    """The best P of `drawn` random members by a label-free score.

    Args:
        drawn: how many are scored; the paper's 1,000.
        by: the score, a proxy's name or `prior`.
        children: so many mutants of a parent are compared by the score, and the best is trained; the
            paper screens the first population only.
    """

    name: ClassVar[str] = "area"
    paper: ClassVar[str] = (
        "Mellor et al., Neural Architecture Search without Training, arXiv:2006.04647"
    )
    ranked: ClassVar[bool] = True
    drawn: int = 1000
    by: str = "naswot"
    children: int = 1

    def first(self, task: Task, key: jax.Array) -> jax.Array:
        """Drawn without regard to what computes the same, then by falling score."""
        pool = members(task)
        wanted = min(max(self.drawn, self.population), len(pool.archs))
        drawn = jax.random.permutation(key, len(pool.archs))[:wanted]
        best = drawn[jnp.argsort(-self.screened(task)[0][drawn], stable=True)]
        return jnp.resize(best[: self.population], (self.population,))

    def screened(self, task: Task) -> tuple[jax.Array, int]:
        """By the score; NaN is worse than all."""
        known = jnp.asarray(score(task, self.by, self.name), jnp.float32)
        return jnp.where(jnp.isnan(known), -jnp.inf, known), self.children
