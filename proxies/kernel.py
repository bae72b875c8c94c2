"""Spectra of matrices made of one gradient an image: neural tangent kernel and Fisher information."""

import jax
import jax.numpy as jnp

from jaxnas.proxies.spectrum import EPSILON, singular_values
from jaxnas.proxy import GradientProxy, Passes

UNIFORM = 0.05
"""VKDNW mixes this much of the uniform distribution into the predicted one."""


def _ntk(passes: Passes) -> jax.Array:
    """`lambda_max / lambda_min` of the kernel `K[n, m] = <g_n, g_m>` of the batch's images.

    `g_n` is the gradient of the sum of image n's logits with respect to all weights, back through the
    batch's own statistics in batch norm, and so through all images. TE-NAS computes it of 16 images and
    counts batch norm's scales among the weights; here it is the whole batch, and weights of convolutions
    and linear layers only. The ratio is that of squared singular values of the gradients, which float32
    can tell up to about 1e10 rather than 1e5.

    inf where the kernel is singular as far as float32 can tell, as for an architecture that connects
    nothing; TE-NAS's own code gives whatever is left of the smallest eigenvalue.
    """
    images, classes = passes.logits.shape
    cotangents = jnp.broadcast_to(jnp.eye(images)[:, :, None], (images, images, classes))
    rows = [part.reshape(images, -1) for part in passes.sample_gradients(cotangents)]
    scale = jnp.max(jnp.stack([jnp.abs(part).max() for part in rows]))
    scale = jnp.where(scale == 0, 1.0, scale)
    values = singular_values([part / scale for part in rows])
    ratio = jnp.square(values[0] / values[-1])
    return jnp.where(values[-1] <= images * EPSILON * values[0], jnp.inf, ratio)


def _vkdnw(passes: Passes) -> jax.Array:
    """`layers - sum_i q_i ln q_i`, q the deciles of the Fisher information's spectrum, of sum 1.

    The Fisher information is that of one weight a layer, the first entry of its tensor (in TensorFlow's
    order and in PyTorch's): `F = mean_n J_n' (diag(p) - p p') J_n`, with `J_n [classes, layers]` the
    derivatives of image n's logits and p its softmax with 0.05 of the uniform distribution mixed in.
    Batch norm has its running averages, 0 and 1 in a fresh network. As in the authors' code the nine
    deciles (0.1 to 0.9, linearly interpolated) of the eigenvalues are divided by their sum plus 1e-10,
    and the entropy, at most ln 9, breaks ties between networks of equally many layers.

    Layers are tensors of weights, counted where they bear on the output. The authors count batch norm's
    vectors and biases too, and draw weights with Kaiming's deviation; here they are as given. With
    nothing connected the derivatives are 0 and no layer counts: 0.
    """
    deviations = _fisher_root(passes)
    layers = sum(jnp.any(part != 0, axis=1).sum() for part in passes.output_gradients)
    tall = deviations.shape[0] > deviations.shape[1]
    spectrum = jnp.square(singular_values([deviations.T if tall else deviations]))
    # Largest first: zeros, of layers that are not there and of a lack of images, come last.
    spectrum = jnp.append(spectrum, 0.0)
    places = (layers - 1) * jnp.arange(0.9, 0.05, -0.1)
    deciles = jnp.interp(places, jnp.arange(len(spectrum)), spectrum)
    share = deciles / (deciles.sum() + 1e-10)
    return layers - jnp.sum(share * jnp.log(share + 1e-10))


def _fisher_root(passes: Passes) -> jax.Array:
    """`A [B classes, layers]` with `A' A = F`.

    `A[n, k] = sqrt(p_nk / B) (J_nk - sum_j p_nj J_nj)`. One backward pass a class: without the batch's
    statistics images do not bear on each other, and each has nudges of its own.
    """
    images = passes.batch.images
    weights = [w for w in jax.tree.leaves(passes.variables.params) if w.ndim > 1]

    def logits(nudges: jax.Array) -> jax.Array:
        outputs = passes.network.apply(
            passes.variables, passes.arch, images, batch_norm="running", nudges=list(nudges)
        )
        return outputs.logits.astype(jnp.float32)

    z, pull = jax.vjp(logits, jnp.zeros((len(weights), len(images))))
    jacobian = jax.lax.map(lambda one: pull(jnp.broadcast_to(one, z.shape))[0], jnp.eye(z.shape[1]))
    jacobian = jacobian.transpose(2, 0, 1)  # [B, classes, layers]
    p = (1 - UNIFORM) * jax.nn.softmax(z) + UNIFORM / z.shape[1]
    mean = jnp.einsum("bk,bkl->bl", p, jacobian, precision=jax.lax.Precision.HIGHEST)
    root = jnp.sqrt(p / len(images))[:, :, None] * (jacobian - mean[:, None, :])
    return root.reshape(-1, len(weights))


ntk = GradientProxy(
    name="ntk",
    paper="Chen et al., Neural Architecture Search on ImageNet in Four GPU Hours, arXiv:2102.11535",
    formula="lambda_max / lambda_min of <g_n, g_m>, g_n gradient of image n's logits",
    sign=-1,
    needs=("forward", "sample_gradients"),
    score=_ntk,
)

vkdnw = GradientProxy(
    name="vkdnw",
    paper="Tybl and Neumann, Training-free NAS through Variance of Knowledge of Deep Network Weights, "
    "arXiv:2502.04975",
    formula="layers + entropy of the deciles of the Fisher information's spectrum",
    needs=("forward", "image_gradient", "a gradient per class"),
    score=_vkdnw,
)
