"""A policy applied to images at levels 0..255."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnas.augment.drawn import draw
from jaxnas.augment.geometry import Frame
from jaxnas.augment.operations import from_planes, layer, to_planes
from jaxnas.augment.policy import Policy


def apply_policy(
    key: jax.Array, images: jax.Array, policy: Policy, *, fill: jax.Array | None = None
) -> jax.Array:
    """Images `[B, H, W, C]` at levels 0..255 as a policy makes them, each by draws of its own.

    All of it but `mix`. What comes in from outside and is cut out is `fill: float32[C]`, by default 0
    (black); what is erased is noise. The key is consumed. An image that nothing happens to
    is what it was, bit for bit.

    Args:
        key: a JAX random key.
        images: float32 or uint8.
        policy: one, traced.
        fill: see above.
    """
    for_draws, for_noise = jax.random.split(key)
    batch, height, width, channels = images.shape
    draws = draw(for_draws, policy, (batch, height, width))
    fill = jnp.zeros(channels) if fill is None else jnp.asarray(fill, jnp.float32)
    planes = to_planes(images)

    def step(planes: jax.Array, drawn: tuple[jax.Array, jax.Array, jax.Array, Frame]) -> Any:
        operations, amounts, centres, frame = drawn
        return layer(planes, operations, amounts, fill, centres, frame), None

    # Only the first layer has a frame. A loop, since each layer takes seconds to compile.
    frames = jax.tree.map(
        lambda a: jnp.zeros((policy.layers, batch), a.dtype).at[0].set(a), draws.frame
    )
    planes, _ = jax.lax.scan(step, planes, (draws.operations, draws.amounts, draws.centres, frames))
    hole = draws.cutout.mask(height, width)[:, None]
    planes = jnp.where(hole, fill[None, :, None, None], planes)

    def erased(planes: jax.Array) -> jax.Array:
        noise = jax.random.bits(for_noise, planes.shape, "uint8").astype(jnp.float32)
        return jnp.where(draws.erased.mask(height, width)[:, None], noise, planes)

    planes = jax.lax.cond(jnp.asarray(policy.erasing) > 0, erased, lambda p: p, planes)
    return from_planes(planes, images.dtype)
