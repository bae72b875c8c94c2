"""Photographs that ship with scikit-learn, cut up, for the tests of augmentation."""

from functools import cache

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images


@cache
def _photographs() -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(image) for image in load_sample_images().images)


def pictures(n: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    """`uint8[n, H, W, C]`: windows of photographs, some of them shrunk, dark or of few levels."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(n):
        photograph = _photographs()[i % 2]
        times = int(rng.integers(1, 5))
        tall, wide = height * times, width * times
        top = rng.integers(0, photograph.shape[0] - tall)
        left = rng.integers(0, photograph.shape[1] - wide)
        window = Image.fromarray(photograph[top : top + tall, left : left + wide])
        window = np.asarray(window.resize((width, height)))
        if i % 5 == 4:
            window = window // 4 + 30
        made.append(window[..., :1] if channels == 1 else window)
    return np.stack(made)
