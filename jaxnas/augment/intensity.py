"""What an image's grey levels become: look-up tables, colour and sharpness, with Pillow's rounding.

Images are planes here, `[B, C, H, W]`, of whole numbers: with three channels innermost XLA's loops do not
vectorise on CPUs.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LEVELS = 256


class Curve(NamedTuple):
    """How levels change, `[B]` each.

    `stretch` and `equalize` are bool: the darkest and lightest levels of each channel to 0 and 255, and
    its histogram made flat. Levels from `threshold` (256: none) on are inverted, those below 128 get
    `add` more, `step` is a power of 2 that they are rounded down to, `brightness` and `contrast`
    are factors.
    """

    stretch: jax.Array
    equalize: jax.Array
    threshold: jax.Array
    add: jax.Array
    step: jax.Array
    brightness: jax.Array
    contrast: jax.Array


def blend(base: jax.Array, image: jax.Array, factor: jax.Array) -> jax.Array:
    """base + factor (image - base), within 0..255 and rounded down, as `Image.blend`."""
    return jnp.floor(_levels(base + factor * (image - base)))


def _levels(values: jax.Array) -> jax.Array:
    return jnp.clip(values, 0, LEVELS - 1)


def grey(planes: jax.Array) -> jax.Array:
    """Luminance `[B, H, W]`: of 3 channels .299 R + .587 G + .114 B in 16 bits, as `convert("L")`."""
    if planes.shape[1] == 1:
        return planes[:, 0]
    red, green, blue = planes[:, 0], planes[:, 1], planes[:, 2]
    total = 19595.0 * red + 38470.0 * green + 7471.0 * blue  # exact in float32
    return jnp.floor((total + 32768) / 65536)


def tables(planes: jax.Array, luminance: jax.Array | None, curve: Curve) -> jax.Array:
    """What each level becomes, by image and channel, `float32[B, C, 256]`.

    `luminance: [B, H, W]` is what contrast's mean is taken of; None: contrast changes nothing.
    """
    level = jnp.arange(LEVELS, dtype=jnp.float32)[None, None]
    stretch, equalize, threshold, add, step, brightness, contrast = (
        a[:, None, None] for a in curve
    )
    made = level
    if luminance is not None:
        mean = jnp.floor(luminance.mean((1, 2)) + 0.5)
        made = blend(mean[:, None, None], level, contrast)
    made = blend(jnp.zeros_like(level), made, brightness)
    low, high = planes.min((2, 3))[..., None], planes.max((2, 3))[..., None]
    varied = stretch & (high > low)
    low, high = jnp.where(varied, low, 0), jnp.where(varied, high, LEVELS - 1)
    made = jnp.floor(_levels((LEVELS - 1) * (made - low) / (high - low)))
    made = jnp.where(made < threshold, made, LEVELS - 1 - made)
    made = jnp.where(made < 128, _levels(made + add), made)
    made = jnp.floor(made / step) * step
    return jnp.where(equalize, _equalized(planes), made)


def _equalized(planes: jax.Array) -> jax.Array:
    """The tables of `ImageOps.equalize`: (step / 2 + pixels darker than a level) / step, whole numbers.

    step is 1/255 of the pixels that are not of the lightest level; 0: nothing is changed.
    """
    height, width = planes.shape[2:]
    counts = lax.optimization_barrier(_histograms(planes))
    coarse = counts.reshape(
        -1, 16, 16
    )  # a cumulative sum in two steps, each a small matrix product
    upto = coarse @ np.triu(np.ones((16, 16), np.float32))
    before = upto[..., -1] @ np.triu(np.ones((16, 16), np.float32), 1)
    darker = (upto - coarse + before[..., None]).reshape(counts.shape)
    level = jnp.arange(LEVELS, dtype=jnp.float32)[None, None]
    lightest = jnp.where(counts > 0, level, 0).max(-1, keepdims=True)
    last = jnp.where(level == lightest, counts, 0).sum(-1, keepdims=True)
    step = jnp.floor((height * width - last) / 255)
    flat = jnp.floor((jnp.floor(step / 2) + darker) / jnp.maximum(step, 1))
    return jnp.where(step > 0, jnp.minimum(flat, LEVELS - 1), level)


def _histograms(planes: jax.Array) -> jax.Array:
    """How many pixels have each level, `float32[B, C, 256]`."""
    batch, channels = planes.shape[:2]
    table = jnp.arange(batch * channels).reshape(batch, channels, 1, 1)
    places = table * LEVELS + planes.astype(jnp.int32)
    zeros = jnp.zeros(batch * channels * LEVELS, jnp.float32)
    counts = zeros.at[places.reshape(-1)].add(1, mode="promise_in_bounds")
    return counts.reshape(batch, channels, LEVELS)


def looked_up(planes: jax.Array, made: jax.Array) -> jax.Array:
    """Each pixel's entry of its image's and channel's table."""
    levels = planes.astype(jnp.int32).reshape(*planes.shape[:2], -1)
    found = jnp.take_along_axis(made, levels, axis=2, mode="promise_in_bounds")
    return found.reshape(planes.shape)


def colored(planes: jax.Array, luminance: jax.Array, factor: jax.Array) -> jax.Array:
    """Nearer to grey (below 1) or further from it, `factor: [B]`, as `ImageEnhance.Color`."""
    return blend(luminance[:, None], planes, factor[:, None, None, None])


def sharpened(planes: jax.Array, factor: jax.Array) -> jax.Array:
    """Between smoothed (0) and sharpened (2), `factor: [B]`, as `ImageEnhance.Sharpness`.

    The smooth one is a mean over 3x3 pixels in which the middle weighs 5; pixels at the border stay.
    """
    height, width = planes.shape[2:]
    wider = jnp.pad(planes, ((0, 0), (0, 0), (1, 1), (1, 1)))
    three = wider[:, :, :-2] + wider[:, :, 1:-1] + wider[:, :, 2:]
    nine = three[..., :-2] + three[..., 1:-1] + three[..., 2:]
    smooth = jnp.floor((nine + 4 * planes) / 13 + 0.5)
    inner = np.zeros((height, width), bool)
    inner[1:-1, 1:-1] = True
    made = blend(smooth, planes, factor[:, None, None, None])
    return jnp.where(inner[None, None], made, planes)
