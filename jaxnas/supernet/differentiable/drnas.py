"""DrNAS (Chen et al., arXiv:2006.10355): operations mixed by a draw from a Dirichlet distribution."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln

from jaxnas.nn.context import BatchNormMode, Context
from jaxnas.nn.mixed import MixedContext
from jaxnas.supernet.differentiable.choices import Choices
from jaxnas.supernet.differentiable.strategy import Alphas, Now, Strategy


@dataclass(frozen=True)
class DrNAS(Strategy):
    """Every branch by a draw from Dir(c), c = elu(alpha) + 1; gradients by implicit differentiation.

    `anchor` times KL(Dir(c) || Dir(1)), summed over edges, is added to the loss. The architecture is read
    off the distribution's mean. A minibatch has one draw, which all cells share. The authors' partial
    channels and pruning are left out.
    """

    learning_rate: float = 6e-4
    weight_decay: float = 0.0
    anchor: float = 1e-3

    def now(self, stage: int, epoch: int, epochs: int) -> Now:
        """With the regulariser's factor."""
        return super().now(stage, epoch, epochs)._replace(regulariser=self.anchor)

    def context(
        self,
        alphas: Alphas,
        kept: jax.Array,
        choices: Choices,
        now: Now,
        key: jax.Array,
        batch_norm: BatchNormMode,
    ) -> Context:
        """Every branch by the draw."""
        weights = dirichlet(key, concentration(alphas), kept)
        return MixedContext(weights, batch_norm=batch_norm)

    def regulariser(self, alphas: Alphas, kept: jax.Array) -> jax.Array:
        """The distance from the flat distribution."""
        return kl_to_flat(concentration(alphas), kept).sum()

    def probabilities(self, alphas: Alphas, kept: jax.Array, choices: Choices) -> jax.Array:
        """The mean c_k / sum c."""
        there = jnp.where(kept, concentration(alphas), 0)
        return there / there.sum(axis=-1, keepdims=True)


def concentration(alphas: Alphas) -> jax.Array:
    """elu(alpha) + 1, which is positive: `float32[P, K]`."""
    return jax.nn.elu(alphas.operations) + 1


def dirichlet(key: jax.Array, concentration: jax.Array, kept: jax.Array) -> jax.Array:
    """A draw from each row's Dirichlet distribution over the branches kept, `float32[P, K]`.

    Gamma variables divided by their sum, in logarithms.
    """
    logs = jax.random.loggamma(key, concentration)
    return jnp.where(kept, jax.nn.softmax(jnp.where(kept, logs, -jnp.inf), axis=-1), 0)


def kl_to_flat(concentration: jax.Array, kept: jax.Array) -> jax.Array:
    """KL(Dir(c) || Dir(1)) of each row over its n branches kept, `float32[P]`.

    ln G(s) - sum ln G(c_k) - ln G(n) + sum (c_k - 1)(psi(c_k) - psi(s)), s = sum c_k.
    """
    c = jnp.where(kept, concentration, 1)
    total = jnp.where(kept, c, 0).sum(axis=-1)
    number = kept.sum(axis=-1)
    terms = (c - 1) * (digamma(c) - digamma(total)[:, None]) - gammaln(c)
    return gammaln(total) - gammaln(number) + jnp.where(kept, terms, 0).sum(axis=-1)
