"""The norm of the gradient at initialisation (Abdelfattah et al., arXiv:2101.08134)."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxnas.network import Scorable, Variables
from jaxnas.proxy import Batch, GradientProxy


def _grad_norm(network: Scorable, variables: Variables, arch: jax.Array, batch: Batch) -> jax.Array:
    """Sum over weight tensors of the Euclidean norm of d loss / d tensor, for the mean cross-entropy.

    Only weights of convolutions and classifier count, not batch norm's; branches not taken have zero
    gradients and add nothing.
    """

    assert batch.labels is not None  # needs_labels
    labels = batch.labels

    def loss(params: Any) -> jax.Array:
        logits = network.apply(variables._replace(params=params), arch, batch.images).logits
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean()

    weights = [g for g in jax.tree.leaves(jax.grad(loss)(variables.params)) if g.ndim > 1]
    return jnp.sum(jnp.stack([jnp.linalg.norm(g.reshape(-1)) for g in weights]))


grad_norm = GradientProxy(
    name="grad_norm",
    paper="Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, arXiv:2101.08134",
    needs_labels=True,
    score=_grad_norm,
)
