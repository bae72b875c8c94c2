"""Proxies of vision transformers, which have no ReLUs to be read.

Zhou, Sheng, Zheng, Li, Sun, Tian, Chen and Ji, Training-free Transformer Architecture Search (TF-TAS),
arXiv:2203.12217, CVPR 2022.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxnas.proxy import GradientProxy, Passes


def _dss(passes: Passes) -> jax.Array:
    """Synaptic diversity of self-attention plus synaptic saliency of all other linear layers.

    R is the sum of the logits of one image of ones, with all parameters replaced by their absolute
    values, layer norm kept and batch norm left out. With G = dR/dW,

        sum over matrices of self-attention of |G|_nuc |W|_nuc
            + sum over all other kernels of sum |G * W|,

    |.|_nuc being the sum of singular values. A layer's queries, keys and values are one matrix. The
    other kernels are those of MLPs, patches and classifier, each once; biases, norms and positions do
    not count. (The authors' code reads no gradient for patches, and lists the classifier twice where
    there are 1,000 classes.) Layers that are not there have G = 0, masked channels W = G = 0, which
    changes no singular value: a sub-network scores as if it had been built alone.
    """
    network, arch = passes.network, passes.arch
    params = jax.tree.map(jnp.abs, passes.variables.params)
    ones = jnp.ones_like(passes.batch.images[:1])

    def total(params: Any) -> jax.Array:
        variables = passes.variables._replace(params=params)
        logits = network.apply(variables, arch, ones, batch_norm="none").logits
        return logits.astype(jnp.float32).sum()

    there = jax.tree.map(lambda p, m: p * m.astype(p.dtype), params, network.active(arch))
    weights, gradients = (
        [leaf.astype(jnp.float32) for leaf in jax.tree.leaves(tree)]
        for tree in (there, jax.grad(total)(params))
    )
    maps = network.linear_maps
    pairs = [(m.of(weights), m.of(gradients)) for m in maps.attention]
    saliency = [jnp.sum(jnp.abs(weights[k] * gradients[k])) for k in maps.others]
    return jnp.sum(jnp.stack([*_diversity(pairs), *saliency, jnp.zeros(())]))


def _diversity(pairs: Sequence[tuple[jax.Array, jax.Array]]) -> list[jax.Array]:
    """The sum of |G|_nuc |W|_nuc over pairs of one shape, for each shape."""
    shapes: dict[tuple[int, ...], list[jax.Array]] = defaultdict(list)
    for weight, gradient in pairs:
        shapes[weight.shape].append(jnp.stack([weight, gradient]))
    sums = []
    for stack in map(jnp.stack, shapes.values()):
        # Of the singular values themselves: those of a Gram matrix are lost in its rounding errors.
        nuclear = jnp.linalg.svd(stack, compute_uv=False).sum(-1)
        sums.append(jnp.sum(nuclear[:, 0] * nuclear[:, 1]))
    return sums


dss = GradientProxy(
    name="dss",
    paper="Zhou et al., Training-free Transformer Architecture Search, arXiv:2203.12217",
    formula="sum |dR/dW|_nuc |W|_nuc over attention + sum |dR/dW * W| over other kernels",
    protocol="one image of ones, absolute weights, R = sum of logits",
    needs=("gradient of |weights|",),
    reads_attention=True,
    score=_dss,
)
