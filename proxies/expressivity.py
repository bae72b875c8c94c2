"""How expressive a network is before training, and how far its gradients agree: Zen, ZiCo, GradSign."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.network import Scorable
from jaxnas.passes import Batch, Tensors, cross_entropy, noise_of, tensors
from jaxnas.proxy import ForwardProxy, GradientProxy, Passes

PERTURBATION = 0.01
PERTURBATION_STREAM, WEIGHTS_STREAM = 0x2E1, 0x2E2
"""Keep these draws apart from what else comes from the batch's key."""


def perturbed_noise(batch: Batch) -> jax.Array:
    """Gaussian noise x, then x + 0.01 e with e Gaussian too: `[2 B, H, W, C]`."""
    x = noise_of(batch)
    e = jax.random.normal(jax.random.fold_in(batch.random_key, PERTURBATION_STREAM), x.shape)
    return jnp.concatenate([x, x + PERTURBATION * e])


def gaussian_weights(params: Any, batch: Batch) -> Any:
    """Kernels and matrices drawn from N(0, 1), scales 1, biases and shifts 0.

    One flat draw, cut up.
    """
    flat, tree = jax.tree.flatten_with_path(params)
    sizes = [leaf.size if leaf.ndim > 1 else 0 for _, leaf in flat]
    key = jax.random.fold_in(batch.random_key, WEIGHTS_STREAM)
    drawn = jnp.split(jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes)[:-1])
    leaves = []
    for (path, leaf), values in zip(flat, drawn, strict=True):
        if leaf.ndim > 1:
            leaves.append(values.reshape(leaf.shape).astype(leaf.dtype))
        else:
            is_scale = "scale" in jax.tree_util.keystr(path[-2:])
            leaves.append(jnp.full_like(leaf, 1 if is_scale else 0))
    return jax.tree.unflatten(tree, leaves)


class Amplification(NamedTuple):
    """The difference of the last features that were heard, and the log-deviations of batch norms."""

    difference: jax.Array
    deviations: jax.Array
    heard: jax.Array


@dataclass(frozen=True)
class ZenTap:
    """Compares the two halves of a batch, and adds up the logarithms of batch norms' deviations."""

    kinds: frozenset[str]

    def init(self, batch: int) -> Amplification:
        """Nothing heard."""
        return Amplification(*(jnp.zeros((), jnp.float32) for _ in range(3)))

    def contribution(
        self, kind: str, value: jax.Array, active: jax.Array | None = None
    ) -> Amplification:
        """Of a batch norm's input, its log-deviation; of features, the difference of the halves."""
        one, other = jnp.split(value.astype(jnp.float32), 2)
        zero = jnp.zeros((), jnp.float32)
        if kind == "batch_norm":
            return Amplification(zero, log_deviation(one, other, active), zero)
        difference = jnp.abs(one - other).sum() / len(one)
        return Amplification(difference, zero, zero + 1)

    def fold(self, carry: Amplification, contribution: Amplification) -> Amplification:
        """Later features replace earlier ones."""
        heard = contribution.heard > 0
        return Amplification(
            jnp.where(heard, contribution.difference, carry.difference),
            carry.deviations + contribution.deviations,
            jnp.maximum(carry.heard, contribution.heard),
        )


def log_deviation(one: jax.Array, other: jax.Array, active: jax.Array | None) -> jax.Array:
    """1/2 ln(mean over channels of the running variance after two passes), of inputs `[B, ..., C]`.

    Running variances begin at 1 and move by .1 towards each pass's unbiased variance.
    """
    n = one[..., 0].size
    first, second = (_variance(x) * (n / max(n - 1, 1)) for x in (one, other))
    running = 0.81 + 0.09 * first + 0.1 * second
    if active is None:
        return jnp.log(running.mean()) / 2
    return jnp.log(jnp.sum(running * active) / jnp.sum(active)) / 2


def _variance(x: jax.Array) -> jax.Array:
    # Step by step as the batch norm whose input it is, so that it is computed once.
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes).reshape((1,) * (x.ndim - 1) + x.shape[-1:])
    return jnp.square(x - mean).mean(axes)


def _zen_tap(network: Scorable) -> ZenTap:
    """Features are what is pooled over all positions; without such a layer, the last block's output."""
    features = "features" if network.units("features") else "block"
    return ZenTap(frozenset({"batch_norm", features}))


def _zen(found: Amplification) -> jax.Array:
    """-inf where the features do not depend on the images."""
    return jnp.log(found.difference) + found.deviations


def gradients_of(passes: Passes, images: jax.Array, labels: jax.Array) -> Tensors:
    """d mean cross-entropy / d weight of some of the images, batch norm with their own statistics."""

    def loss(params: Any) -> jax.Array:
        variables = passes.variables._replace(params=params)
        logits = passes.network.apply(variables, passes.arch, images).logits
        return cross_entropy(logits, labels)

    return tensors(jax.grad(loss)(passes.variables.params))


def _zico(passes: Passes) -> jax.Array:
    """The agreement of the halves' gradients; of an odd number of images the last is not read."""
    batch = (passes.batch.images, passes.labels)
    half = len(batch[0]) // 2
    if half < 1:
        raise InputError("zico compares the halves of a batch; got 1 image, expected at least 2.")
    halves = [a[: 2 * half].reshape(2, half, *a.shape[1:]) for a in batch]
    return gradient_agreement(jax.lax.map(lambda part: gradients_of(passes, *part), halves))


def gradient_agreement(gradients: Tensors) -> jax.Array:
    """ZiCo: sum over weight tensors of ln sum_w mean_b |g_bw| / std_b g_bw, b = 1, 2.

    `gradients: [2, k, n]` for each shape. As in the authors' code the deviation is that of the signed
    gradients, weights of deviation 0 are left out, and so are tensors without any other (0 for an
    architecture that connects nothing). Weights whose two gradients nearly agree weigh most, so that the
    rounding of gradients shows: scores of one network computed in two ways agree to about .001.
    """
    logarithms = []
    for one, other in gradients:
        # Mean over deviation for two values; the difference of near ones is exact.
        apart = jnp.abs(one - other)
        ratios = (jnp.abs(one) + jnp.abs(other)) / jnp.where(apart == 0, 1, apart)
        total = jnp.where(apart == 0, 0, ratios).sum(1)
        logarithms.append(jnp.where(total == 0, 0, jnp.log(total)).sum())
    return jnp.sum(jnp.stack(logarithms))


def _gradsign(passes: Passes) -> jax.Array:
    """Sum over weights of |sum_n sign(g_nw)|, g_n the gradient of image n's own loss.

    Each image goes through alone, batch norm with its own statistics, as in the authors' code. A batch
    norm that sees one position of it gives 0, and so do all gradients before it: of little use where
    resolution falls to 1 x 1 or there are no positions.
    """

    def add(total: Tensors, sample: tuple[jax.Array, jax.Array]) -> tuple[Tensors, None]:
        image, label = sample
        found = gradients_of(passes, image[None], label[None])
        return jax.tree.map(lambda t, g: t + jnp.sign(g), total, found), None

    start = jax.tree.map(jnp.zeros_like, tensors(passes.variables.params))
    total, _ = jax.lax.scan(add, start, (passes.batch.images, passes.labels))
    return jnp.sum(jnp.stack([jnp.abs(t).sum() for t in total]))


zen = ForwardProxy(
    name="zen",
    paper="Lin et al., Zen-NAS, arXiv:2102.01063",
    formula="ln mean |f(x) - f(x + .01 e)|_1 + sum over batch norms of ln deviation",
    protocol="Gaussian noise in place of images, weights drawn anew from N(0, 1)",
    inputs=perturbed_noise,
    batch_norm="halves",
    weights=gaussian_weights,
    tap=_zen_tap,
    finish=_zen,
)

zico = GradientProxy(
    name="zico",
    paper="Li et al., ZiCo, arXiv:2301.11300",
    formula="sum over weight tensors of ln sum_w mean |g_w| / std g_w, over the halves of the batch",
    needs_labels=True,
    needs=("the loss gradients of two halves",),
    score=_zico,
)

gradsign = GradientProxy(
    name="gradsign",
    paper="Zhang and Jia, GradSign, arXiv:2110.08616",
    formula="sum over weights of |sum over images of sign(d loss_n / dw)|",
    needs_labels=True,
    needs=("a gradient per image",),
    score=_gradsign,
)
