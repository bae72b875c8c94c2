"""What a data set is: three splits of labelled images, and how images become network inputs.

The rows of a table are images of one pixel, with a channel for each feature.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jaxnas.data.resize import resize
from jaxnas.errors import InputError

CHUNK_VALUES = 1 << 20
"""Values converted to floating point at a time: a few MB, so that temporaries stay in the cache."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images with their labels.

    Attributes:
        x: uint8 or float32 `[n, H, W, C]`.
        y: int32 `[n]`, class numbers from 0.
    """

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        """The number of images, n."""
        return len(self.x)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images in three disjoint splits: `train` to fit, `val` to choose by, `test` to report once.

    All splits have the same image shape and type. Any prefix of a split made here is a random
    sample (splitting shuffles); a split that was given keeps its own order.

    Attributes:
        name: what reports call it.
        train, val, test: the splits.
        class_names: K names; label k is `class_names[k]`.
        mean, std: float32 `[C]`, of the training split only; on the 0..1 scale for uint8 images, on
            the images' own scale for float32. A constant channel has std 1, so it is only centred.
        notes: sentences on what was left out when it was read.
        tested: whether `test` is images that nothing is chosen by; where there are none to spare it is
            `val` again, and networks are not tested.
    """

    name: str
    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    notes: tuple[str, ...] = ()
    tested: bool = True

    @property
    def classes(self) -> int:
        """The number of classes, K."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """The number of channels, C."""
        return self.train.x.shape[3]

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width of the stored images."""
        return self.train.x.shape[1], self.train.x.shape[2]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over every split's images, labels and the class names; not over `name`.

        The same contents split the same way give the same value on any machine, wherever the files
        lie; a resumed run refuses data with another one.
        """
        digest = hashlib.sha256("\0".join(("jaxnas-data-1", *self.class_names)).encode())
        for split in (self.train, self.val, self.test):
            for array in (split.x, split.y):
                little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
                digest.update(f"{little.shape}{array.dtype.name}".encode())
                digest.update(little.reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    def prepare(self, x: np.ndarray, resolution: int | None = None) -> np.ndarray:
        """Turns stored images into network inputs: resized, then standardised.

        `(resize(x) - mean) / std`, per channel, where uint8 values are first divided by 255. The
        resize is an antialiased bilinear one (see `jaxnas.data.resize`), skipped where the size
        is right already; the aspect ratio is not kept, so images that are not square are squeezed
        into one.

        Args:
            x: `[n, H, W, C]` images of this data set's channels, any H and W; uint8 if its own are
                uint8, floating point if they are.
            resolution: side R of the result. None keeps the images' own size, or the shorter
                side where they are not square.

        Returns:
            float32 `[n, R, R, C]`, a new array. Only `x` is converted, in small pieces.

        Raises:
            InputError: `x` has another number of axes or channels, or is on another scale (uint8
                against floating point); `resolution` is below 1.
        """
        self._check_like_stored(x)
        if resolution is not None and resolution < 1:
            raise InputError(f"The resolution is {resolution}; it must be at least 1.")
        side = min(x.shape[1:3]) if resolution is None else resolution
        scale = np.float32(1 / 255 if x.dtype == np.uint8 else 1)
        out = np.empty((len(x), side, side, self.channels), np.float32)
        for part in pieces(x):
            out[part] = resize(x[part].astype(np.float32), side, side)
            out[part] *= scale
            out[part] -= self.mean
            out[part] /= self.std
        return out

    def _check_like_stored(self, x: np.ndarray) -> None:
        stored = self.train.x
        if x.ndim != 4 or x.shape[3] != self.channels or 0 in x.shape[1:]:
            raise InputError(
                f"Images of shape {x.shape} cannot be prepared; expected "
                f"[n, H, W, {self.channels}]."
            )
        if x.dtype != stored.dtype and not x.dtype.kind == stored.dtype.kind == "f":
            raise InputError(
                f"Images of type {x.dtype} cannot be prepared with the mean of {self.name}, whose "
                f"images are {stored.dtype}: the scales differ."
            )


def pieces(x: np.ndarray) -> Iterator[slice]:
    """Slices of the first axis that cover `x` in order, about `CHUNK_VALUES` values each."""
    step = max(1, CHUNK_VALUES // max(1, x[:1].size))
    return (slice(i, i + step) for i in range(0, len(x), step))


def channel_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of `[n, H, W, C]` images, as float32 `[C]`.

    The deviation is the population's. uint8 images count as 0..1. A channel whose deviation is
    below float32's resolution of its mean, or of zero, is constant: its std is 1.
    """
    mean, variance = _uint8_moments(x) if x.dtype == np.uint8 else _float_moments(x)
    std = np.sqrt(variance)
    least = np.maximum(1e-7 * np.abs(mean), np.finfo(np.float32).tiny)
    std = np.where(std <= least, 1.0, std)
    return mean.astype(np.float32), std.astype(np.float32)


def _uint8_moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance from one histogram a channel: exact, and never a set of floats."""
    channels = x.shape[3]
    counts = np.zeros((channels, 256), np.int64)
    for part in pieces(x):
        pixels = x[part].reshape(-1, channels)
        counts += [np.bincount(pixels[:, c], minlength=256) for c in range(channels)]
    share = counts / counts.sum(axis=1, keepdims=True)
    values = np.arange(256) / 255
    mean = share @ values
    return mean, (share * np.square(values - mean[:, None])).sum(axis=1)


def _float_moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance in two passes in float64, since one pass would cancel."""
    channels = x.shape[3]
    pixels = x.size // channels
    total, squares = np.zeros(channels), np.zeros(channels)
    for part in pieces(x):
        total += x[part].sum(axis=(0, 1, 2), dtype=np.float64)
    mean = total / pixels
    for part in pieces(x):
        squares += np.square(x[part] - mean).sum(axis=(0, 1, 2))
    return mean, squares / pixels
