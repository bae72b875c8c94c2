"""PC-DARTS (Xu et al., arXiv:1907.05737): a part of the channels is mixed, and edges have weights."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxnas.nn.context import BatchNormMode, Context
from jaxnas.nn.partial import PartialContext
from jaxnas.supernet.differentiable.choices import Choices
from jaxnas.supernet.differentiable.strategy import Alphas, Now, Strategy, masked_softmax


@dataclass(frozen=True)
class PCDARTS(Strategy):
    """First-order DARTS on 1 / `share` of the channels, edges weighted by a softmax of their own.

    y = sum over edges e into a node of softmax(beta)_e o_e(x_e). How strong an operation is when the
    architecture is read off is softmax(beta)_e softmax(alpha)_k. For the first `warmup` of the epochs
    weights alone are trained.
    """

    learning_rate: float = 6e-4
    warmup: float = 0.3
    share: int = 4

    def context(
        self,
        alphas: Alphas,
        kept: jax.Array,
        choices: Choices,
        now: Now,
        key: jax.Array,
        batch_norm: BatchNormMode,
    ) -> Context:
        """Part of the channels by their softmax, times the edge's."""
        return PartialContext(
            masked_softmax(alphas.operations, kept),
            share=self.share,
            edges=edge_softmax(alphas.edges, choices.nodes),
            batch_norm=batch_norm,
        )

    def probabilities(self, alphas: Alphas, kept: jax.Array, choices: Choices) -> jax.Array:
        """The operation's times the edge's."""
        edges = edge_softmax(alphas.edges, choices.nodes)
        return masked_softmax(alphas.operations, kept) * edges[:, None]


def edge_softmax(betas: jax.Array, nodes: jax.Array) -> jax.Array:
    """exp(beta_e) over the sum of those of the edges that meet in the same node, `float32[P]`."""
    together = jnp.asarray(nodes)[:, None] == jnp.asarray(nodes)[None]
    logits = jnp.where(together, betas[None], -jnp.inf)
    return jnp.exp(betas - jax.nn.logsumexp(logits, axis=1))
