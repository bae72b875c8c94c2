"""beta-DARTS (Ye et al., arXiv:2203.01665): DARTS whose architecture parameters decay together."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxnas.supernet.differentiable.darts import DARTS
from jaxnas.supernet.differentiable.strategy import Alphas, Now, progress


@dataclass(frozen=True)
class BetaDARTS(DARTS):
    """First-order DARTS with lambda times the mean over edges of log sum_k exp(alpha_k) added.

    lambda rises linearly from 0 to `strength`; it replaces weight decay.
    """

    weight_decay: float = 0.0
    strength: float = 50.0

    def now(self, stage: int, epoch: int, epochs: int) -> Now:
        """With the regulariser's factor."""
        now = super().now(stage, epoch, epochs)
        return now._replace(regulariser=self.strength * progress(epoch, epochs))

    def regulariser(self, alphas: Alphas, kept: jax.Array) -> jax.Array:
        """The mean over edges of log sum_k exp(alpha_k)."""
        return jax.nn.logsumexp(jnp.where(kept, alphas.operations, -jnp.inf), axis=-1).mean()
