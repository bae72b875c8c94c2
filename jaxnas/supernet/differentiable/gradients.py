"""Architecture gradients: at the weights as they are, or through their next step."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxnas.network import Network
from jaxnas.nn.layers import BatchNorm, Choice


def unrolled_loss(
    train_loss: Callable[[Any, Any], jax.Array],
    val_loss: Callable[[Any, Any], jax.Array],
    step: Callable[[Any, Any], Any],
) -> Callable[[Any, Any], jax.Array]:
    """L(w, a) = L_val(w', a), w' = step(w, dL_train(w, a) / dw), to be differentiated in a.

    DARTS's second-order objective (arXiv:1806.09055, equation 6), w' being differentiated exactly:
    dL/da = dL_val(w', a)/da + (dw'/da)^T dL_val/dw'.
    """

    def loss(weights: Any, alphas: Any) -> jax.Array:
        ahead = step(weights, jax.grad(train_loss)(weights, alphas))
        return val_loss(ahead, alphas)

    return loss


def trained_masks(network: Network, params: Any) -> Any:
    """1 for weights that a search trains, 0 for scale and shift of batch norms inside choices.

    Those could take over what the architecture parameters are to learn (DARTS's `affine=False`).
    """
    frozen = set()
    for path, module in nnx.iter_modules(network.module):
        if isinstance(module, Choice):
            for inner, norm in nnx.iter_modules(module):
                if isinstance(norm, BatchNorm):
                    frozen |= {(*path, *inner, name) for name in ("scale", "bias")}

    def mask(path: Any, leaf: Any) -> float:
        keys = tuple(k.key for k in path if isinstance(k, jax.tree_util.DictKey))
        return 0.0 if keys in frozen else 1.0

    return jax.tree_util.tree_map_with_path(mask, params)


def weight_masks(network: Network, params: Any) -> tuple[np.ndarray, np.ndarray]:
    """Of the vector of all weights (`ravel_pytree`) which are trained and which decay: `float32[n]`.

    Those are the ones of `trained_masks`; these, kernels: all that has more than one axis.
    """
    leaves, masks = jax.tree.leaves(params), jax.tree.leaves(trained_masks(network, params))
    trained = [np.full(a.size, m) for a, m in zip(leaves, masks, strict=True)]
    decayed = [np.full(a.size, a.ndim > 1) for a in leaves]
    return np.concatenate(trained).astype(np.float32), np.concatenate(decayed).astype(np.float32)
