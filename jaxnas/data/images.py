"""Decoding image files to one size and one mode, with Pillow."""

import os
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxnas.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

GREY = ("1", "L", "LA", "La")
COLOUR = ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")
SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap height and width."""


@dataclass(frozen=True)
class Encoded:
    """One image, not decoded: its file or its bytes, and what to call it in messages."""

    name: str
    data: Path | bytes


@dataclass(frozen=True)
class Format:
    """What all images of a data set are decoded to; `mode` is "L" (grey) or "RGB"."""

    height: int
    width: int
    mode: str


def common_format(images: Sequence[Encoded]) -> Format:
    """The size and mode to decode `images` to, from their headers (no pixels are decoded).

    The size that more than half of them share; where there is none, the median height and the
    median width. The more common of grey ("L", also for black and white) and colour ("RGB", also
    for palettes, alpha and CMYK); RGB where both are as common.

    Raises:
        InputError: names a file that is not an image, or one of more than 8 bits a channel.
    """
    headers = [_header(image) for image in images]
    sizes = Counter(header[:2] for header in headers)
    size, count = sizes.most_common(1)[0]
    if 2 * count <= len(headers):
        height, width = np.median([header[:2] for header in headers], axis=0)
        size = max(1, round(height)), max(1, round(width))
    grey = sum(header[2] == "L" for header in headers)
    return Format(*size, mode="L" if 2 * grey > len(headers) else "RGB")


def readable(images: Sequence[Encoded], max_bad: int) -> tuple[np.ndarray, list[str]]:
    """Which images can be decoded, `bool[n]`, and what is wrong with the others, a sentence each.

    With `max_bad` 0 nothing is looked at: `decode` names the first that cannot be.

    Raises:
        InputError: more than `max_bad` cannot be decoded; it says what is wrong with the first.
    """
    good, wrong = np.ones(len(images), bool), []
    for i, image in enumerate(images if max_bad else ()):
        try:
            with _opened(image) as opened:
                _grey_or_colour(image, opened)
                opened.load()
        except InputError as error:
            good[i] = False
            wrong.append(str(error))
    if len(wrong) > max_bad:
        raise InputError(
            f"{len(wrong)} image files cannot be read, more than data.max_bad {max_bad}; the first: "
            f"{wrong[0]}"
        )
    return good, wrong


def decode(images: Sequence[Encoded], form: Format) -> np.ndarray:
    """Decodes to uint8 `[n, height, width, C]`, C 1 for mode "L" and 3 for "RGB".

    EXIF orientation is applied; an alpha channel is dropped; of an animation the first frame
    counts. An image of another size is resized by Pillow's antialiased bilinear filter, its
    aspect ratio not kept.

    Raises:
        InputError: names the file that cannot be decoded; or the machine has too little memory.
    """
    channels = 1 if form.mode == "L" else 3
    _check_memory(len(images) * form.height * form.width * channels, form)
    out = np.empty((len(images), form.height, form.width, channels), np.uint8)
    for i, image in enumerate(images):
        out[i] = _pixels(image, form).reshape(out.shape[1:])
    return out


def _check_memory(size: int, form: Format) -> None:
    """Refuses what would be killed by the operating system without a word."""
    if 2 * size > physical_memory():  # the images, and the copy that splitting makes
        raise InputError(
            f"The images need {2 * size / 2**30:.1f} GB of memory at {form.height}x{form.width}; "
            f"this machine has {physical_memory() / 2**30:.1f} GB, so make them smaller first."
        )


def physical_memory() -> float:
    """Bytes of memory of this machine; infinite where the system does not tell."""
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names or "SC_PAGE_SIZE" not in names:
        return float("inf")
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _pixels(encoded: Encoded, form: Format) -> np.ndarray:
    from PIL import Image, ImageOps

    with _opened(encoded) as image:
        _grey_or_colour(encoded, image)
        upright = ImageOps.exif_transpose(image)
        if upright.mode == "P" and "transparency" in upright.info:
            upright = upright.convert("RGBA")  # Pillow warns when it has to guess this step
        upright = upright.convert(form.mode)
        if upright.size != (form.width, form.height):
            upright = upright.resize((form.width, form.height), Image.Resampling.BILINEAR)
        return np.asarray(upright)


def _header(encoded: Encoded) -> tuple[int, int, str]:
    """Height, width (upright) and "L" or "RGB"."""
    with _opened(encoded) as image:
        return *upright_size(image), _grey_or_colour(encoded, image)


def upright_size(image: "Image.Image") -> tuple[int, int]:
    """Height and width once EXIF orientation is applied."""
    from PIL import ExifTags

    width, height = image.size
    sideways = image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS
    return (width, height) if sideways else (height, width)


def _grey_or_colour(encoded: Encoded, image: "Image.Image") -> str:
    if image.mode in GREY:
        return "L"
    if image.mode in COLOUR:
        return "RGB"
    raise InputError(
        f"{encoded.name} has pixels of mode {image.mode}, more than 8 bits a channel; convert it "
        "to 8-bit grey or RGB, or give the data as a floating point .npz."
    )


@contextmanager
def _opened(encoded: Encoded) -> Iterator["Image.Image"]:
    """The image, opened; whatever goes wrong with it inside the block names it."""
    from PIL import Image

    source = BytesIO(encoded.data) if isinstance(encoded.data, bytes) else encoded.data
    try:
        with Image.open(source) as image:
            yield image
    except InputError:
        raise
    except Image.UnidentifiedImageError:
        raise InputError(f"{encoded.name} is not an image that Pillow can read.") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"{encoded.name} cannot be decoded: {why}.") from None
    except Image.DecompressionBombError as error:
        raise InputError(f"{encoded.name} is too large an image: {error}") from None
