"""The images that proxies see: the training part of a data set, and nothing else of it."""

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnas.data.checks import check_images, check_labels
from jaxnas.data.dataset import Dataset
from jaxnas.data.load import load

type Data = str | os.PathLike[str] | Dataset | np.ndarray | tuple[Any, Any]


@dataclass(frozen=True)
class Images:
    """Images `[n, H, W, C]`, labels `int32[n]` or None, and whence they are."""

    name: str
    x: np.ndarray
    y: np.ndarray | None
    fingerprint: str

    @property
    def classes(self) -> int:
        """The number of classes, 10 where there are no labels."""
        return 10 if self.y is None else int(self.y.max()) + 1

    def facts(self) -> dict[str, Any]:
        """What a manifest says of them."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "split": "train",
            "images": len(self.x),
            "shape": list(self.x.shape[1:]),
            "classes": self.classes,
        }


def training_images(data: Data) -> Images:
    """The training images of a data set, of what `--data` names, or of arrays as they are.

    Raises:
        InputError: as `jaxnas.data.load` and `jaxnas.rank`.
    """
    if isinstance(data, str | os.PathLike):
        data = load(data)
    if isinstance(data, Dataset):
        return Images(data.name, data.train.x, data.train.y, data.fingerprint)
    given, labels = data if isinstance(data, tuple) else (data, None)
    x = check_images(given, "images")
    y = None if labels is None else check_labels(labels, "labels", images=len(x))
    digest = hashlib.sha256(f"{x.shape}{x.dtype}".encode())
    for array in (x, y):
        digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    return Images("arrays", x, y, digest.hexdigest())
