"""P-DARTS (Chen et al., arXiv:1904.12760): in stages, of fewer operations on deeper networks."""

import math
from dataclasses import dataclass

import jax
import numpy as np

from jaxnas.nn.context import BatchNormMode, Context
from jaxnas.nn.mixed import MixedContext, SkipDropout
from jaxnas.spaces import SearchSpace
from jaxnas.supernet.differentiable.choices import Choices
from jaxnas.supernet.differentiable.strategy import Alphas, Now, Strategy, masked_softmax, progress


@dataclass(frozen=True)
class PDARTS(Strategy):
    """First-order DARTS that begins anew with each stage, with the strongest operations of the last.

    Stage s keeps of an edge's n operations the ceil(`shares[s]` n) most probable (8, 5, 3 of 8), by mask:
    those dropped have weight 0. Each stage may have a deeper network, and new weights; architecture
    parameters begin anew too. What skip connections give goes through dropout of rate
    `skip_dropout[s]`, which falls exponentially within a stage, to e^-3 of it at the end. An architecture
    has at most `skips` skip connections in each of its cells, the most probable ones.
    """

    learning_rate: float = 6e-4
    warmup: float = 0.4
    shares: tuple[float, ...] = (1.0, 5 / 8, 3 / 8)
    skip_dropout: tuple[float, ...] = (0.0, 0.4, 0.7)
    skips: int = 2

    @property
    def stages(self) -> int:
        """As many as `shares`."""
        return len(self.shares)

    def now(self, stage: int, epoch: int, epochs: int) -> Now:
        """With the rate of dropout."""
        rate = self.skip_dropout[stage] * math.exp(-3 * progress(epoch, epochs))
        return super().now(stage, epoch, epochs)._replace(skip_dropout=rate)

    def context(
        self,
        alphas: Alphas,
        kept: jax.Array,
        choices: Choices,
        now: Now,
        key: jax.Array,
        batch_norm: BatchNormMode,
    ) -> Context:
        """Every branch kept by its softmax, skip connections with dropout."""
        weights = masked_softmax(alphas.operations, kept)
        dropout = SkipDropout(now.skip_dropout, key)
        return MixedContext(weights, skip_dropout=dropout, batch_norm=batch_norm)

    def kept_in(self, stage: int, probabilities: np.ndarray, choices: Choices) -> np.ndarray:
        """Of each edge the most probable branches; those dropped before have probability 0."""
        numbers = np.ceil(self.shares[stage] * choices.present.sum(axis=1) - 1e-6)
        order = np.argsort(np.where(choices.present, -probabilities, 1), axis=1, kind="stable")
        place = np.argsort(order, axis=1)
        return place < numbers[:, None]

    def discretise(
        self, space: SearchSpace, probabilities: np.ndarray, choices: Choices
    ) -> np.ndarray:
        """Skip connections beyond `skips` in a cell give way, the weakest first."""
        strength = np.array(probabilities)
        cells = space.cells_of(len(strength))
        while True:
            arch = space.discretise(strength)
            row = space.rows(arch[None])[0]
            at = np.arange(len(row)), row
            # One that has given way and is taken all the same has no rival.
            skipping = choices.skips[at] & (strength[at] > 0)
            crowded = np.flatnonzero(np.bincount(cells, skipping) > self.skips)
            if not len(crowded):
                return arch
            there = skipping & (cells == crowded[0])
            weakest = int(np.argmin(np.where(there, strength[at], np.inf)))
            strength[weakest, choices.skips[weakest]] = 0
