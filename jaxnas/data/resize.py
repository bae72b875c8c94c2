"""Antialiased bilinear resizing of image batches, as two matrix products.

One output pixel i of a line of `n` pixels made from `m` is the mean of the input pixels j under a
triangle centred on it,

    w[i, j] = max(0, 1 - |j + 1/2 - (i + 1/2) s| / max(s, 1)),     s = m / n,

normalised to sum to 1 over j. Shrinking (s > 1) widens the triangle, so every input pixel counts;
enlarging is plain bilinear interpolation with the border repeated. This is the filter of
Pillow's `Image.resize(..., BILINEAR)`, without its rounding to integers.
"""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=32)
def filter_matrix(size: int, new_size: int) -> np.ndarray:
    """The weights `w`, float32 `[new_size, size]`; every row sums to 1."""
    step = size / new_size
    centres = (np.arange(new_size) + 0.5) * step
    distance = np.abs(np.arange(size) + 0.5 - centres[:, None]) / max(step, 1.0)
    weights = np.maximum(0.0, 1.0 - distance)
    weights /= weights.sum(axis=1, keepdims=True)
    weights = weights.astype(np.float32)
    weights.setflags(write=False)  # cached: every caller sees this very array
    return weights


def resize(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes float32 images `[n, H, W, C]` to `[n, height, width, C]`; `x` itself if they fit."""
    if x.shape[1] != height:
        lines = np.tensordot(filter_matrix(x.shape[1], height), x, axes=(1, 1))
        x = lines.transpose(1, 0, 2, 3)
    if x.shape[2] != width:
        columns = np.tensordot(x, filter_matrix(x.shape[2], width), axes=(2, 1))
        x = columns.transpose(0, 1, 3, 2)
    return x
