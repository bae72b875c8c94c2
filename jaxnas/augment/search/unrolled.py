"""The gradient of a loss after one step of training, with respect to what was trained on."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax


def unrolled(
    loss: Callable[[Any, jax.Array], jax.Array],
    held: Callable[[Any], jax.Array],
    params: Any,
    gradient: Any,
    images: jax.Array,
    rate: Any,
) -> tuple[jax.Array, jax.Array]:
    """held(w - rate grad_w loss(w, images)), and its gradient with respect to the images.

    That is -rate grad_w grad_images loss v, v being held's gradient there, by central differences:
    (grad_images loss(w + eps v) - grad_images loss(w - eps v)) / (2 eps), eps = .01 / |v|.

    Args:
        loss: of weights and images.
        held: of weights.
        params: w.
        gradient: grad_w loss(w, images).
        images: as said.
        rate: as said.
    """
    value, direction = jax.value_and_grad(held)(_along(params, -rate, gradient))
    eps = 0.01 / jnp.maximum(optax.tree.norm(direction), 1e-12)

    def by_image(length: jax.Array) -> jax.Array:
        return jax.grad(loss, argnums=1)(_along(params, length, direction), images)

    above, below = lax.map(by_image, jnp.stack([eps, -eps]))
    return value, -rate * (above - below) / (2 * eps)


def _along(params: Any, length: Any, direction: Any) -> Any:
    return jax.tree.map(lambda p, d: p + length * d, params, direction)
