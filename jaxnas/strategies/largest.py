"""Training the largest networks: those of the most parameters first."""

from typing import ClassVar

import jax
import numpy as np

from jaxnas.errors import InputError
from jaxnas.strategies.listed import Listed, best_first
from jaxnas.strategy import Task


class Largest(Listed):
    """By the score `params`, or else the first of the task's costs."""

    name: ClassVar[str] = "largest"
    paper: ClassVar[str] = "White et al., A Deeper Look at Zero-Cost Proxies, ICLR Blog 2022"

    def order(self, task: Task, key: jax.Array) -> np.ndarray:
        """By falling size; the key is not needed."""
        if "params" in task.pool.scores:
            return best_first(task.pool.scores["params"])
        if not task.cost_table.shape[1]:
            raise InputError(
                "largest needs the pool's score params, or costs, and there are neither."
            )
        return best_first(task.cost_table[:, 0])
