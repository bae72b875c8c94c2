"""Saliency at initialisation: how much the loss, or the signal, depends on each weight being there.

Pruning criteria added up over a network (Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS,
arXiv:2101.08134). The loss is the mean cross-entropy of the batch. Weights are kernels and matrices, not
biases and not batch norm's; those of branches not taken and masked channels add nothing. A tensor's
entries are added up as they are: nothing is divided by their number.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxnas.passes import Tensors
from jaxnas.proxy import GradientProxy, Passes


def _norms(stacks: Tensors) -> jax.Array:
    """The sum of the Euclidean norms of all tensors."""
    return jnp.sum(jnp.stack([jnp.linalg.norm(stack, axis=1).sum() for stack in stacks]))


def _products(weights: Tensors, gradients: Tensors) -> list[jax.Array]:
    return [w * g for w, g in zip(weights, gradients, strict=True)]


def _grad_norm(passes: Passes) -> jax.Array:
    """Sum over weight tensors of |g|_2, g = d loss / d tensor."""
    return _norms(passes.loss_gradients)


def _snip(passes: Passes) -> jax.Array:
    """Sum over weights of |w g|."""
    products = _products(passes.weights, passes.loss_gradients)
    return jnp.sum(jnp.stack([jnp.abs(p).sum() for p in products]))


def _plain(passes: Passes) -> jax.Array:
    """Sum over weights of w g, which is positive and negative.

    A kernel before batch norm may be scaled without effect, so that its own sum is 0 but for rounding:
    what is left is that of the classifier and of kernels without batch norm.
    """
    products = _products(passes.weights, passes.loss_gradients)
    return jnp.sum(jnp.stack([p.sum() for p in products]))


def _grasp(passes: Passes) -> jax.Array:
    """Sum over weights of -w (H g), H the loss's Hessian and g its gradient by the weights.

    No temperature, and one batch both times, as in arXiv:2101.08134's code.
    """
    return -passes.loss_curvature


@dataclass(frozen=True)
class FisherInformation:
    """What one convolution or linear layer with outputs z `[B, ..., C]` adds to `fisher`."""

    kinds: frozenset[str] = frozenset({"affine"})

    def contribution(
        self,
        kind: str,
        value: jax.Array,
        gradient: jax.Array,
        active: jax.Array | None,
        fan_in: jax.Array,
    ) -> jax.Array:
        """fan-in times the sum over channels of mean_n (sum over positions of z dL/dz)^2 / 2.

        Channels that are not active have z = 0.
        """
        products = value.astype(jnp.float32) * gradient.astype(jnp.float32)
        sums = products.sum(tuple(range(1, value.ndim - 1)))
        return fan_in * jnp.square(sums).mean(0).sum() / 2


FISHER = FisherInformation()


def _fisher(passes: Passes) -> jax.Array:
    """Sum over weights of the Fisher information of the output channel that they make.

    That of a channel is mean_n (sum over positions of z dL/dz)^2 / 2, z being the outputs of convolutions
    and linear layers, before batch norm and with their biases. It counts once for each weight, as in
    arXiv:2101.08134's code: C_in k k times. Without any path to the output the classifier's bias is left.
    """
    return passes.gradient_tapped(FISHER)


def _l2_norm(passes: Passes) -> jax.Array:
    """Sum over weight tensors of |w|_2; of what does not reach the output too."""
    return _norms(passes.weights)


_PAPER = "Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, arXiv:2101.08134"

grad_norm = GradientProxy(
    name="grad_norm",
    paper=_PAPER,
    formula="sum over weight tensors of |d loss / d W|_2",
    needs_labels=True,
    needs=("forward", "loss_gradient"),
    score=_grad_norm,
)

snip = GradientProxy(
    name="snip",
    paper="Lee et al., SNIP: Single-shot Network Pruning, arXiv:1810.02340",
    formula="sum over weights of |w d loss / d w|",
    needs_labels=True,
    needs=("forward", "loss_gradient"),
    score=_snip,
)

plain = GradientProxy(
    name="plain",
    paper=f"Mozer and Smolensky, Skeletonization, NIPS 1988; {_PAPER}",
    formula="sum over weights of w d loss / d w",
    needs_labels=True,
    needs=("forward", "loss_gradient"),
    score=_plain,
)

grasp = GradientProxy(
    name="grasp",
    paper="Wang et al., Picking Winning Tickets by Preserving Gradient Flow, arXiv:2002.07376",
    formula="sum over weights of -w (H g), H the Hessian and g the gradient of the loss",
    needs_labels=True,
    needs=("forward", "loss_gradient", "loss_curvature"),
    score=_grasp,
)

fisher = GradientProxy(
    name="fisher",
    paper="Turner et al., BlockSwap: Fisher-guided Block Substitution, arXiv:1906.04113",
    formula="sum over layer outputs z: weights of a channel * mean_n (sum z d loss / d z)^2 / 2",
    needs_labels=True,
    needs=("forward", "loss_gradient"),
    gradient_tap=FISHER,
    score=_fisher,
)

l2_norm = GradientProxy(
    name="l2_norm",
    paper=_PAPER,
    formula="sum over weight tensors of |W|_2",
    protocol="weights alone",
    needs=("weights",),
    score=_l2_norm,
)
