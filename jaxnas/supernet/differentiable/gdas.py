"""GDAS (Dong and Yang, arXiv:1910.04465): one operation an edge is drawn, with the softmax's gradient."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxnas.nn.context import BatchNormMode, Context
from jaxnas.nn.mixed import SampledContext
from jaxnas.supernet.differentiable.choices import Choices
from jaxnas.supernet.differentiable.strategy import (
    Alphas,
    Now,
    Strategy,
    gumbel_softmax,
    progress,
)


@dataclass(frozen=True)
class GDAS(Strategy):
    """The branch where softmax((log p + g) / temperature) is largest, alone computed.

    Its weight is 1 and has the softmax's gradient. The temperature falls linearly from `hot` to `cold`.
    A minibatch has one draw, which all cells share.
    """

    hot: float = 10.0
    cold: float = 0.1

    def now(self, stage: int, epoch: int, epochs: int) -> Now:
        """With the temperature."""
        temperature = self.hot + (self.cold - self.hot) * progress(epoch, epochs)
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
        """The branch drawn."""
        soft = gumbel_softmax(key, alphas.operations, kept, now.temperature)
        # In this order the value is 1 exactly.
        weights = 1 + (soft - jax.lax.stop_gradient(soft))
        return SampledContext(jnp.argmax(soft, axis=-1), weights, batch_norm=batch_norm)
