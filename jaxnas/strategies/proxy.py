"""Training the best of the label-free ranking, in its order."""

from typing import ClassVar

import jax
import numpy as np

from jaxnas.strategies.listed import Listed, best_first, score
from jaxnas.strategy import Task


class Proxy(Listed):
    """The ranking itself as a strategy: what any other must be better than."""

    name: ClassVar[str] = "proxy"
    paper: ClassVar[str] = (
        "Mellor et al., Neural Architecture Search without Training, arXiv:2006.04647"
    )
    ranked: ClassVar[bool] = True

    def order(self, task: Task, key: jax.Array) -> np.ndarray:
        """By falling score; the key is not needed."""
        return best_first(score(task, "prior", self.name))
