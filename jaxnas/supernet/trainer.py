"""What a way to train a super-net is: which paths each step takes, and what is learnt of them."""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from jaxnas.network import Network, Variables
from jaxnas.supernet.source import Source
from jaxnas.training.population import TrainingData


@dataclass(frozen=True)
class Trainer(abc.ABC):
    """A sampler of paths. Its own state, `policy`, is a pytree; by default there is none."""

    paper: ClassVar[str]
    """The reference."""

    def check(self, source: Source) -> None:
        """Raise `InputError` where it cannot train this space."""
        return

    def init(self, source: Source, key: jax.Array) -> Any:
        """The policy it begins with; the key is consumed."""
        return ()

    @abc.abstractmethod
    def draw(self, source: Source, policy: Any, key: jax.Array, steps: int) -> np.ndarray:
        """The architectures of each step, `int32[steps, K, D]`: the gradients of K are summed."""

    def turn(
        self,
        source: Source,
        network: Network,
        policy: Any,
        variables: Variables,
        data: TrainingData,
        key: jax.Array,
    ) -> tuple[Any, dict[str, float]]:
        """What follows an epoch of the weights: the renewed policy, and figures to report."""
        return policy, {}

    def propose(self, source: Source, policy: Any, key: jax.Array, n: int) -> np.ndarray:
        """Up to `n` distinct architectures that are worth evaluating by inherited weights."""
        return source.distinct(key, n)


def drawn_rows(source: Source, archs: np.ndarray) -> np.ndarray:
    """What the network reads of `archs: int32[..., D]`, `int32[..., P]`."""
    rows = source.space.rows(archs.reshape(-1, archs.shape[-1]))
    return np.asarray(rows, np.int32).reshape(*archs.shape[:-1], -1)
