"""Random search: members drawn uniformly, without repetition."""

from typing import ClassVar

import jax

from jaxnas.strategies.listed import Listed
from jaxnas.strategy import Task


class Random(Listed):
    """A random order of the pool."""

    name: ClassVar[str] = "random"
    paper: ClassVar[str] = (
        "Li, Talwalkar, Random Search and Reproducibility for NAS, arXiv:1902.07638"
    )

    def order(self, task: Task, key: jax.Array) -> jax.Array:
        """A permutation."""
        return jax.random.permutation(key, len(task.pool))
