"""SNAS (Xie et al., arXiv:1812.09926): operations mixed by a sample that grows harder."""

from dataclasses import dataclass

import jax

from jaxnas.nn.context import BatchNormMode, Context
from jaxnas.nn.mixed import MixedContext
from jaxnas.supernet.differentiable.choices import Choices
from jaxnas.supernet.differentiable.strategy import (
    Alphas,
    Now,
    Strategy,
    gumbel_softmax,
    progress,
)


@dataclass(frozen=True)
class SNAS(Strategy):
    """Every branch by softmax((log p + g) / temperature), p = softmax(alpha) and g Gumbel noise.

    The temperature falls geometrically from `hot` to `cold`. A minibatch has one draw, which all cells
    share. As in the other strategies architecture steps are taken on validation images; the authors
    train both on the same, and can add a cost of resources.
    """

    hot: float = 1.0
    cold: float = 0.03

    def now(self, stage: int, epoch: int, epochs: int) -> Now:
        """With the temperature."""
        temperature = self.hot * (self.cold / self.hot) ** progress(epoch, epochs)
        return super().now(stage, epoch, epochs)._replace(temperature=temperature)

    def context(
        self,
        alphas: Alphas,
        kept: jax.Array,
        choices: Choices,
        now: Now,
        key: jax.Array,
        batch_norm: BatchNormMode,
    ) -> Context:
        """Every branch by the sample."""
        weights = gumbel_softmax(key, alphas.operations, kept, now.temperature)
        return MixedContext(weights, batch_norm=batch_norm)
