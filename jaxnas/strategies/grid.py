"""Grid search: members spread evenly over the pool's order."""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.strategies.listed import Listed
from jaxnas.strategy import Task


class Grid(Listed):
    """Member (u + i s) mod N is the i-th, in the order of the decisions' mixed-radix numbers.

    The start u is random; the stride s is the number without a common divisor with N that is nearest to N
    over the golden ratio, so that the first n spread evenly whatever n is.
    """

    name: ClassVar[str] = "grid"
    paper: ClassVar[str] = "Knuth, The Art of Computer Programming 3, 6.4 (Fibonacci hashing)"

    def order(self, task: Task, key: jax.Array) -> jax.Array:
        """The walk."""
        size = len(task.pool)
        golden = size * (math.sqrt(5) - 1) / 2
        coprime = [s for s in range(1, size + 1) if math.gcd(s, size) == 1]
        stride = min(coprime, key=lambda s: abs(s - golden))
        start = jax.random.randint(key, (), 0, size)
        # In int64: i s does not fit into 32 bits.
        steps = (np.arange(size, dtype=np.int64) * stride % size).astype(np.int32)
        counted = np.lexsort(np.asarray(task.pool.archs).T[::-1])
        return jnp.asarray(counted)[(start + steps) % size]
