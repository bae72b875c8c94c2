"""MixUp and CutMix: pairs of images, and their targets with them."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnas.augment.geometry import Hole


def mix(
    key: jax.Array, images: jax.Array, targets: jax.Array, mixup: Any, cutmix: Any
) -> tuple[jax.Array, jax.Array]:
    """Each image with another of the batch, by MixUp (1710.09412) or CutMix (1905.04899).

    MixUp: lam x + (1 - lam) x' with lam from Beta(alpha, alpha). CutMix: a rectangle of sqrt(1 - lam)
    of both sides around a pixel drawn uniformly is x' there, and lam becomes the share of the pixels that
    stayed x. Targets are lam y + (1 - lam) y'. Where both have an alpha above 0, an image gets one of
    them, either alike. lam is drawn for each image; the partners are a permutation. The key is
    consumed.

    Args:
        key: a JAX random key.
        images: `float32[B, H, W, C]`, on any scale.
        targets: `float32[B, classes]`, one-hot or smoothed.
        mixup: alpha; 0: none.
        cutmix: alpha; 0: none.
    """
    batch, height, width, _ = images.shape
    keys = jax.random.split(key, 3)
    mixup, cutmix = jnp.asarray(mixup, jnp.float32), jnp.asarray(cutmix, jnp.float32)
    draws = jax.random.uniform(keys[0], (3, batch))
    both = (mixup > 0) & (cutmix > 0)
    cut = (cutmix > 0) & (~both | (draws[0] < 0.5))
    alpha = jnp.where(cut, cutmix, mixup)
    share = jax.random.beta(keys[1], jnp.where(alpha > 0, alpha, 1), jnp.where(alpha > 0, alpha, 1))
    share = jnp.where(alpha > 0, share, 1.0)
    hole = _rectangle(draws[1:], jnp.where(cut, share, 1.0), height, width).mask(height, width)
    share = jnp.where(cut, 1 - hole.mean((1, 2), dtype=jnp.float32), share)
    partner = jax.random.permutation(keys[2], batch)
    weight = jnp.where(cut[:, None, None], 1.0 - hole, share[:, None, None])[..., None]
    others = images[partner]
    mixed = jnp.where(weight < 1, weight * images + (1 - weight) * others, images)
    share = share[:, None]
    return mixed, share * targets + (1 - share) * targets[partner]


def _rectangle(draws: jax.Array, share: jax.Array, height: int, width: int) -> Hole:
    """Around a pixel that `draws: [2, B]` choose, of 1 - `share` of the area where it fits."""
    side = jnp.sqrt(1 - share)
    extent = [jnp.floor(side * length) for length in (height, width)]
    centre = [jnp.floor(d * length) for d, length in zip(draws, (height, width), strict=True)]
    first = [c - jnp.floor(e / 2) for c, e in zip(centre, extent, strict=True)]
    return Hole(*first, *extent)
