"""What is done to training images at random, with traced probabilities and magnitudes."""

import jax
import jax.numpy as jnp

from jaxnas.training.hyper import Hyper


def augment(key: jax.Array, images: jax.Array, hyper: Hyper) -> jax.Array:
    """Flipped, shifted and cut out, each image by a draw of its own; the key is consumed.

    `images` is `[B, H, W, C]`, already normalised: what is shifted in and cut out is 0, the mean.
    `hyper.flip` is a probability, `hyper.shift` and `hyper.cutout` are pixels; all 0 changes nothing.
    """
    batch, height, width, _ = images.shape
    draws = jax.random.uniform(key, (5, batch, 1))
    flipped = draws[0] < hyper.flip
    span = 2 * jnp.round(hyper.shift) + 1
    down, right = (jnp.floor(d * span) - jnp.round(hyper.shift) for d in draws[1:3])
    rows, columns = jnp.arange(height)[None], jnp.arange(width)[None]
    read_rows = rows - down.astype(jnp.int32)
    read_columns = columns - right.astype(jnp.int32)
    read_columns = jnp.where(flipped, width - 1 - read_columns, read_columns)
    inside = _within(read_rows, height)[:, :, None] & _within(read_columns, width)[:, None, :]
    holes = [
        _hole(axis, draw * side, hyper.cutout)
        for axis, draw, side in ((rows, draws[3], height), (columns, draws[4], width))
    ]
    there = inside & ~(holes[0][:, :, None] & holes[1][:, None, :])

    def read(image: jax.Array, r: jax.Array, c: jax.Array) -> jax.Array:
        return image[jnp.clip(r, 0, height - 1)][:, jnp.clip(c, 0, width - 1)]

    return jax.vmap(read)(images, read_rows, read_columns) * there[..., None].astype(images.dtype)


def _within(places: jax.Array, side: int) -> jax.Array:
    return (places >= 0) & (places < side)


def _hole(axis: jax.Array, draw: jax.Array, side: jax.Array) -> jax.Array:
    """`bool[B, H]`: `side` pixels around a centre; at the border less (DeVries, Taylor, 1708.04552)."""
    first = jnp.floor(draw) - jnp.floor(side / 2)
    return (axis >= first) & (axis < first + side)
