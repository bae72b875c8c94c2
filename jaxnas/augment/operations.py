"""AutoAugment's image operations (1805.09501) for batches, each image by an operation of its own.

Nothing branches. Of the many things that may happen to an image all are written as one of four: a
nearest-neighbour affine map (`geometry`), a table of 256 levels, a blend with grey, or a blend with a
smoothed image (`intensity`). One layer does all four to all images, with parameters that are neutral
where an image's operation is another, so that operation and magnitude are traced data.

Results are those of Pillow (`Image.transform`, `rotate`, `ImageOps`, `ImageEnhance`) within one
grey level.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.augment.geometry import Affine, Frame, Hole, rotation, shear, translated, warp
from jaxnas.augment.intensity import Curve, colored, grey, looked_up, sharpened, tables
from jaxnas.errors import unknown

REACH: Mapping[str, float] = {
    "Identity": 0.0,
    "ShearX": 0.3,
    "ShearY": 0.3,
    "TranslateX": 150 / 331,
    "TranslateY": 150 / 331,
    "Rotate": 30.0,
    "AutoContrast": 0.0,
    "Invert": 0.0,
    "Equalize": 0.0,
    "Solarize": 256.0,
    "Posterize": 4.0,
    "Contrast": 0.9,
    "Color": 0.9,
    "Brightness": 0.9,
    "Sharpness": 0.9,
    "Cutout": 0.625,
    "SolarizeAdd": 110.0,
}
"""The operations in the order of their numbers, and what a magnitude of 1 is.

ShearX/Y: pixels a row or column; TranslateX/Y, Cutout: share of the side; Rotate: degrees; Solarize: how
far below 256 the threshold is; Posterize: bits that are taken away; Contrast, Color, Brightness,
Sharpness: how far the factor is from 1; SolarizeAdd: what is added to levels below 128. The ranges are
those of 1805.09501 (Cutout: 20 of 32 pixels, as for CIFAR-10; SolarizeAdd: RandAugment's code).
"""

OPERATIONS = tuple(REACH)
NUMBER: Mapping[str, int] = {name: i for i, name in enumerate(OPERATIONS)}

SIGNED = (
    *("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"),
    *("Contrast", "Color", "Brightness", "Sharpness"),
)
"""Operations that go either way, which is drawn."""


def reach(**others: float) -> np.ndarray:
    """`REACH` as an array `float32[K]`, with other values for the operations named.

    Raises:
        InputError: no such operation.
    """
    for name in others:
        if name not in REACH:
            raise unknown("image operation", name, OPERATIONS)
    return np.array(list((dict(REACH) | others).values()), np.float32)


def amounts(
    operations: jax.Array,
    magnitudes: jax.Array,
    minus: jax.Array,
    reach: jax.Array,
    side: jax.Array,
) -> jax.Array:
    """What `transform` takes, from magnitudes in 0..1, `float32[B]`.

    Args:
        operations: numbers `int32[B]`.
        magnitudes: `float32[B]`; 0 changes nothing, 1 goes as far as `reach`.
        minus: `bool[B]`, whether signed operations go the other way.
        reach: `float32[K]`, see `REACH`.
        side: `float32[2]`, height and width of the images.
    """
    amount = magnitudes * reach[operations]
    amount = jnp.where(minus & _among(operations, *SIGNED), -amount, amount)
    height, width = side
    vertical = operations == NUMBER["TranslateY"]
    across = (operations == NUMBER["TranslateX"]) | (operations == NUMBER["Cutout"])
    amount *= jnp.where(vertical, height, jnp.where(across, width, 1))
    one = _among(operations, "Contrast", "Color", "Brightness", "Sharpness")
    amount = jnp.where(one, 1 + amount, amount)
    amount = jnp.where(operations == NUMBER["Solarize"], 256 - amount, amount)
    return jnp.where(operations == NUMBER["Posterize"], 8 - jnp.round(amount), amount)


def transform(
    images: jax.Array,
    operations: jax.Array,
    amounts: jax.Array,
    *,
    fill: jax.Array | None = None,
    centres: jax.Array | None = None,
) -> jax.Array:
    """One operation on each image, `[B, H, W, C]` as they came: float32 or uint8, levels 0..255.

    Operations on levels round float32 images to whole numbers first; those on places leave levels as they
    are. Contrast and Color need a luminance: images of other than 1 or 3 channels they leave as they
    are (and so does Color those of 1). All others take any number of channels, each by itself.

    Args:
        images: of any height and width.
        operations: numbers `int32[B]`, places in `OPERATIONS`.
        amounts: `float32[B]` in the operation's own unit. ShearX, ShearY: the matrix entry of
            Pillow's AFFINE; TranslateX, TranslateY: pixels (as there, the content moves to
            smaller coordinates); Rotate: degrees counter-clockwise; Solarize: levels from this one
            on are inverted; Posterize: bits kept; Contrast, Color, Brightness, Sharpness:
            Pillow's factor, 1 changes nothing; Cutout: side in pixels; SolarizeAdd: levels added to
            those below 128. It does not matter for the others.
        fill: `float32[C]`, what comes in from outside, and of a hole; None: 0, black.
        centres: `float32[B, 2]` in [0, 1), where Cutout's holes are, down and right; None: the middle.
    """
    batch, channels = images.shape[0], images.shape[-1]
    fill = jnp.zeros(channels) if fill is None else jnp.asarray(fill, jnp.float32)
    centres = jnp.full((batch, 2), 0.5) if centres is None else centres
    made = layer(to_planes(images), operations, amounts, fill, centres)
    return from_planes(made, images.dtype)


def to_planes(images: jax.Array) -> jax.Array:
    """`[B, H, W, C]` as `float32[B, C, H, W]`."""
    return lax.optimization_barrier(images.astype(jnp.float32).transpose(0, 3, 1, 2))


def from_planes(planes: jax.Array, dtype: Any) -> jax.Array:
    """`[B, C, H, W]` as `[B, H, W, C]`; rounded where `dtype` is of whole numbers."""
    images = lax.optimization_barrier(planes).transpose(0, 2, 3, 1)
    return (jnp.round(images) if jnp.issubdtype(dtype, jnp.integer) else images).astype(dtype)


def layer(
    planes: jax.Array,
    operations: jax.Array,
    amounts: jax.Array,
    fill: jax.Array,
    centres: jax.Array,
    frame: Frame | None = None,
) -> jax.Array:
    """`transform` of planes `float32[B, C, H, W]`; `frame` is a flip and a shift that come before it.

    The barriers keep XLA from computing again for each pixel what whole images are reduced to.
    """
    height, width = planes.shape[2:]
    is_ = {name: operations == number for name, number in NUMBER.items()}

    def only(name: str, neutral: float = 0.0) -> jax.Array:
        return jnp.where(is_[name], amounts, neutral)

    hole = Hole.square(centres, jnp.floor(only("Cutout")), (height, width))
    moved = warp(planes, _affine(is_["Rotate"], only, height, width), frame, hole, fill)
    moved, levels = lax.optimization_barrier((moved, jnp.round(moved)))
    luminance = lax.optimization_barrier(grey(levels)) if planes.shape[1] in (1, 3) else None
    curve = Curve(
        stretch=is_["AutoContrast"],
        equalize=is_["Equalize"],
        threshold=jnp.where(is_["Invert"], 0.0, only("Solarize", 256.0)),
        add=only("SolarizeAdd"),
        step=jnp.exp2(8 - only("Posterize", 8.0)),
        brightness=only("Brightness", 1.0),
        contrast=only("Contrast", 1.0),
    )
    table = lax.optimization_barrier(tables(levels, luminance, curve))
    found = lax.optimization_barrier(looked_up(levels, table))
    made = jnp.where(_pixels(_among(operations, *TABLED)), found, moved)
    if planes.shape[1] == 3 and luminance is not None:
        color = colored(levels, luminance, only("Color", 1.0))
        made = jnp.where(_pixels(is_["Color"]), color, made)
    sharp = lax.optimization_barrier(sharpened(levels, only("Sharpness", 1.0)))
    return jnp.where(_pixels(is_["Sharpness"]), sharp, made)


TABLED = (
    "AutoContrast",
    "Invert",
    "Equalize",
    "Solarize",
    "Posterize",
    "Contrast",
    "Brightness",
    "SolarizeAdd",
)
"""Operations that a table of levels can say."""


def _among(operations: jax.Array, *names: str) -> jax.Array:
    return jnp.asarray([name in names for name in OPERATIONS])[operations]


def _pixels(images: jax.Array) -> jax.Array:
    return images[:, None, None, None]


def _affine(
    rotated: jax.Array, only: Callable[[str], jax.Array], height: int, width: int
) -> Affine:
    """The map of each image's operation; of operations that do not move pixels, the identity."""
    turned = rotation(only("Rotate"), height, width)
    sheared = shear(only("ShearY"), only("ShearX"))
    both = (jnp.where(rotated, t, s) for t, s in zip(turned, sheared, strict=True))
    made = translated(Affine(*both), only("TranslateY"), only("TranslateX"))
    return lax.optimization_barrier(made)
