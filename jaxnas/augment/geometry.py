"""Moving pixels: every affine map by the nearest neighbour, in Pillow's own fixed-point arithmetic.

A map takes places of the result to places of the source. Its six numbers are counted in 1/65536 of a
pixel, as `PIL.Image.transform(size, AFFINE, ...)` counts them, so that the same pixel is read even where
a coordinate falls on the border between two: x = 1/2 + ... rounded down after an exact sum of integers.
float32 alone would be off by some units; sines are therefore sums of two float32.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

ONE = 65536
"""A pixel in fixed point."""


class Affine(NamedTuple):
    """Maps of `[B]` images, in 1/65536 pixel: the source of (row, column) is read at
    (row_start + row_by_row row + row_by_column column, column_start + ...)."""

    row_by_row: jax.Array
    row_by_column: jax.Array
    row_start: jax.Array
    column_by_row: jax.Array
    column_by_column: jax.Array
    column_start: jax.Array


class _Fixed(NamedTuple):
    """A number as whole units and what is left of them, within half a unit."""

    units: jax.Array
    rest: jax.Array


def _fixed(high: jax.Array, low: jax.Array | float = 0.0) -> _Fixed:
    """`high + low` to about 1e-7 of a unit; |high| below 100 pixels."""
    scaled = high * ONE  # exact, as is what is left of it
    whole = jnp.floor(scaled)
    rest = scaled - whole + low * ONE
    up = jnp.floor(rest + 0.5)
    return _Fixed(whole.astype(jnp.int32) + up.astype(jnp.int32), rest - up)


def _start(centre: int, other: int, along: _Fixed, across: _Fixed) -> jax.Array:
    """centre + (1/2 - centre) along + (1/2 - other) across, rounded; centres counted in half pixels."""
    first, second = 1 - centre, 1 - other
    doubled = centre * ONE + first * along.units + second * across.units + 1
    rest = first * along.rest + second * across.rest
    return (doubled >> 1) + jnp.floor(((doubled & 1) + rest) / 2).astype(jnp.int32)


def _sine_table() -> np.ndarray:
    """Sines of whole degrees, `float32[2, 360]`: their nearest float32, and what that lacks."""
    exact = np.sin(np.radians(np.arange(360.0)))
    exact[[0, 30, 90, 150, 180, 210, 270, 330]] = [0, 0.5, 1, 0.5, 0, -0.5, -1, -0.5]
    high = exact.astype(np.float32)
    return np.stack([high, (exact - high).astype(np.float32)])


SINES = _sine_table()


def _sine(degrees: jax.Array, ahead: int) -> _Fixed:
    """sin(degrees + ahead), by its nearest whole degree and the addition theorem."""
    whole = jnp.round(degrees)
    turn = (degrees - whole) * np.float32(np.pi / 180)
    table = jnp.asarray(SINES)
    place = jnp.mod(whole.astype(jnp.int32) + ahead, 360)
    high, low = table[:, place]
    cosine = table[0, jnp.mod(place + 90, 360)]
    square = turn * turn
    less = -square / 2 * (1 - square / 12)  # cos(turn) - 1
    sine = turn * (1 - square / 6)
    return _fixed(high, low + high * less + cosine * sine)


def rotation(degrees: jax.Array, height: int, width: int) -> Affine:
    """Counter-clockwise about the centre, as `Image.rotate`."""
    sine, cosine = _sine(degrees, 0), _sine(degrees, 90)
    minus = _sine(-degrees, 0)
    return Affine(
        row_by_row=cosine.units,
        row_by_column=sine.units,
        row_start=_start(height, width, cosine, sine),
        column_by_row=minus.units,
        column_by_column=cosine.units,
        column_start=_start(width, height, cosine, minus),
    )


def shear(rows: jax.Array, columns: jax.Array) -> Affine:
    """Rows read from `rows` times their column further down, columns from `columns` times their row."""
    down, right = _fixed(rows), _fixed(columns)
    one = _Fixed(jnp.full_like(down.units, ONE), jnp.zeros_like(down.rest))
    return Affine(
        one.units,
        down.units,
        _start(0, 0, one, down),
        right.units,
        one.units,
        _start(0, 0, one, right),
    )


def translated(affine: Affine, rows: jax.Array, columns: jax.Array) -> Affine:
    """Read from `rows` further down and `columns` further right, to the nearest whole pixel."""
    down, right = (_nearest(d) * ONE for d in (rows, columns))
    return affine._replace(
        row_start=affine.row_start + down, column_start=affine.column_start + right
    )


def _nearest(distance: jax.Array) -> jax.Array:
    whole = jnp.floor(distance)  # half a pixel is rounded up, as it comes of floor(place + 1/2)
    return whole.astype(jnp.int32) + (distance - whole >= 0.5)


class Frame(NamedTuple):
    """What is done to an image before it is mapped, `[B]` each: mirrored left to right, then moved.

    `down` and `right` are whole pixels.
    """

    flip: jax.Array
    down: jax.Array
    right: jax.Array


class Hole(NamedTuple):
    """Rectangles `[B]` of whole pixels; beyond the border there is nothing of them."""

    top: jax.Array
    left: jax.Array
    height: jax.Array
    width: jax.Array

    @classmethod
    def square(cls, draws: jax.Array, side: jax.Array, shape: tuple[int, int]) -> "Hole":
        """`side` pixels around a pixel that `draws: [B, 2]` in [0, 1) choose (1708.04552)."""
        first = [jnp.floor(draws[:, axis] * shape[axis]) - jnp.floor(side / 2) for axis in range(2)]
        return cls(first[0], first[1], side, side)

    def mask(self, height: int, width: int) -> jax.Array:
        """`bool[B, H, W]`."""
        rows = jnp.arange(height, dtype=jnp.float32)[None]
        columns = jnp.arange(width, dtype=jnp.float32)[None]
        down = _within(rows, self.top[:, None], self.height[:, None])
        right = _within(columns, self.left[:, None], self.width[:, None])
        return down[:, :, None] & right[:, None, :]


def _within(places: jax.Array, first: jax.Array, length: jax.Array) -> jax.Array:
    return (places >= first) & (places < first + length)


def warp(
    planes: jax.Array, affine: Affine, frame: Frame | None, hole: Hole, fill: jax.Array
) -> jax.Array:
    """`planes: [B, C, H, W]` framed, mapped and cut out in one read.

    What is read from outside or cut out is `fill: [C]`.
    """
    batch, channels, height, width = planes.shape
    row, column = jnp.arange(height)[None, :, None], jnp.arange(width)[None, None, :]
    by_row, by_column, start, by_row2, by_column2, start2 = (a[:, None, None] for a in affine)
    rows = (start + by_row * row + by_column * column) >> 16
    columns = (start2 + by_row2 * row + by_column2 * column) >> 16
    there = _inside(rows, height) & _inside(columns, width) & ~hole.mask(height, width)
    if frame is not None:
        flip, down, right = (f[:, None, None] for f in frame)
        rows, columns = rows - down, columns - right
        there &= _inside(rows, height) & _inside(columns, width)
        columns = jnp.where(flip, width - 1 - columns, columns)
    places = jnp.clip(rows, 0, height - 1) * width + jnp.clip(columns, 0, width - 1)
    read = jnp.take_along_axis(
        planes.reshape(batch, channels, height * width),
        places.reshape(batch, 1, height * width),
        axis=2,
        mode="promise_in_bounds",
    )
    return jnp.where(there[:, None], read.reshape(planes.shape), fill[None, :, None, None])


def _inside(places: jax.Array, side: int) -> jax.Array:
    return (places >= 0) & (places < side)
