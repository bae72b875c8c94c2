"""One path a step, drawn uniformly."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from jaxnas.supernet.source import Source
from jaxnas.supernet.trainer import Trainer


@dataclass(frozen=True)
class SinglePath(Trainer):
    """SPOS (Guo et al., Single Path One-Shot NAS with Uniform Sampling, arXiv:1904.00420).

    Every step trains one architecture, drawn uniformly from those of the space that connect input and
    output; where all are valid, that is nearly every decision uniformly by itself. On all spaces.
    """

    paper: ClassVar[str] = (
        "Guo et al., Single Path One-Shot NAS with Uniform Sampling, arXiv:1904.00420"
    )

    def draw(self, source: Source, policy: Any, key: jax.Array, steps: int) -> np.ndarray:
        """`int32[steps, 1, D]`."""
        return source.draw(key, steps)[:, None]


@dataclass(frozen=True)
class RandomSearch(SinglePath):
    """Random search with weight sharing (Li and Talwalkar, arXiv:1902.07638).

    Trained as `SinglePath`; the search is a random sample, evaluated by inherited weights.
    """

    paper: ClassVar[str] = (
        "Li and Talwalkar, Random Search and Reproducibility for NAS, arXiv:1902.07638"
    )
