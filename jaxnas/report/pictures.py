"""Images within the page, as PNG in data URIs."""

import base64
import io

import numpy as np
from markupsafe import Markup
from PIL import Image

LARGEST = 64
"""Pixels of a side; larger images are shrunk, so that pages stay small."""


def levels(images: np.ndarray) -> np.ndarray:
    """`uint8[n, H, W, 1 or 3]` to show images `[n, H, W, C]` by.

    uint8 is taken as it is, floating point from its least to its greatest value, NaN as 0. Of two
    channels the first is shown, of more than three the first three.
    """
    shown = images[..., :3] if images.shape[-1] >= 3 else images[..., :1]
    if shown.dtype == np.uint8:
        return shown
    shown = np.nan_to_num(shown.astype(float))
    low, high = (shown.min(), shown.max()) if shown.size else (0.0, 0.0)
    return np.rint(255 * (shown - low) / max(high - low, 1e-12)).astype(np.uint8)


def data_uri(image: np.ndarray) -> str:
    """An image `uint8[H, W, 1 or 3]` as `data:image/png;base64,...`, at most `LARGEST` pixels a side."""
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if max(picture.size) > LARGEST:
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    picture.save(written, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode("ascii")


def picture(image: np.ndarray, alt: str) -> Markup:
    """An `<img>`; its pixels are seen as such unless it was shrunk."""
    height, width = image.shape[:2]
    kind = "picture shrunk" if max(height, width) > LARGEST else "picture"
    written = '<img src="{}" alt="{}" width="{}" height="{}" class="{}">'
    return Markup(written).format(data_uri(image), alt, width, height, kind)
