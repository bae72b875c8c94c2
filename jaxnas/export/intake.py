"""From whatever a user calls an image to a network's inputs."""

import os
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnas.data.images import COLOUR, GREY, Encoded, Format, decode, upright_size
from jaxnas.data.paths import missing
from jaxnas.data.resize import resize
from jaxnas.errors import InputError
from jaxnas.export.model import Images
from jaxnas.export.write import standardise_of

if TYPE_CHECKING:
    from PIL import Image

LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue in grey, as Pillow has it (ITU-R 601-2)."""


class Intake:
    """Takes images like those that a network was trained on, and converts others, saying so once."""

    def __init__(self, images: Images) -> None:
        self.images = images
        self._said: set[str] = set()

    def __call__(self, images: Any) -> tuple[np.ndarray, bool]:
        """Inputs of the network, `float32[n, R, R, C]`, and whether one image was meant."""
        form = self.images
        x, single = self._array(images)
        x = self._channels(self._scaled(x))
        side = form.resolution
        if x.shape[1:3] not in ((side, side), (form.height, form.width)):
            self._say(f"Images of {x.shape[1]}x{x.shape[2]} pixels were resized to {side}x{side}.")
        standardise = standardise_of(form)
        x = resize(x, side, side) * np.float32(form.scale)
        return (x - standardise.mean) / standardise.std, single

    def _array(self, images: Any) -> tuple[np.ndarray, bool]:
        if isinstance(images, str | os.PathLike) or hasattr(images, "getbands"):
            return self._decoded([images]), True
        listed = isinstance(images, list | tuple) and len(images) > 0
        if listed and all(
            isinstance(i, str | os.PathLike) or hasattr(i, "getbands") for i in images
        ):
            return self._decoded(images), False
        try:
            x = np.asarray(images)
        except ValueError:
            raise InputError("Images given as a list of arrays must be of one shape.") from None
        return self._four_axes(x)

    def _four_axes(self, x: np.ndarray) -> tuple[np.ndarray, bool]:
        shape, channels = x.shape, self.images.channels
        if x.ndim == 4:
            return x, False
        if self.images.table and x.ndim == 2:
            return x[:, None, None, :], False
        if x.ndim == 3 and (shape[2] == channels or shape[2] in (1, 3, 4)):
            return x[None], True
        if x.ndim == 3 and channels == 1:
            return x[..., None], False
        if x.ndim == 2 and not self.images.table:
            return x[None, ..., None], True
        rows = " or [n, F]" if self.images.table else ""
        raise InputError(
            f"Images have shape {shape}; expected [n, H, W, {channels}], [H, W, {channels}]{rows}."
        )

    def decoded(self, image: Any) -> np.ndarray:
        """A path or `PIL.Image` as the uint8 array `[H, W, C]` that training images were.

        Raises:
            InputError: what is no image file, by name; or the model was trained on no image files.
        """
        return self._decoded([image])[0]

    def _decoded(self, images: Sequence[Any]) -> np.ndarray:
        form = self.images
        if form.table:
            raise InputError("The model was trained on rows of a table, which are no image files.")
        if form.channels not in (1, 3):
            raise InputError(
                f"The model was trained on images of {form.channels} channels, which image files "
                "are not decoded to; give arrays."
            )
        stored = Format(form.height, form.width, "L" if form.channels == 1 else "RGB")
        return np.concatenate([self._opened(image, stored) for image in images])

    def _opened(self, image: Any, stored: Format) -> np.ndarray:
        from PIL import Image

        if not hasattr(image, "getbands"):
            path = Path(image)
            if not path.is_file():
                raise missing(path) if not path.exists() else InputError(f"{path} is no file.")
            x = decode([Encoded(str(path), path)], stored)
            with Image.open(path) as opened:
                self._note_form(opened, stored)
            return x
        self._note_form(image, stored)
        return decode([Encoded("The image", _png(image))], stored)

    def _note_form(self, image: "Image.Image", stored: Format) -> None:
        height, width = upright_size(image)
        if (height, width) != (stored.height, stored.width):
            self._say(
                f"Images of another size than {stored.height}x{stored.width}, such as "
                f"{height}x{width}, were resized."
            )
        if image.mode != stored.mode:
            self._say(f"Images of mode {image.mode} were converted to {stored.mode}.")

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        """float32 on the scale of the stored images."""
        form = self.images
        kinds = "buif" if form.table else "uif"
        if x.dtype.kind not in kinds or 0 in x.shape[1:]:
            raise InputError(
                f"Images are {x.dtype}{list(x.shape)}; expected uint8 or floating point."
            )
        low, high = (float(x.min()), float(x.max())) if x.size else (0.0, 0.0)
        if not np.isfinite([low, high]).all():
            raise InputError("Images hold values that are NaN or infinite.")
        whole = x.dtype.kind in "bui"
        if whole and not form.table and not 0 <= low <= high <= 255:
            raise InputError(f"Whole-numbered images have values from {low} to {high}, not 0..255.")
        values = x.astype(np.float32)
        if form.dtype == "uint8":
            return values if whole else self._from_floats(values, low, high)
        if form.table:
            return values
        if not whole:
            return self._like_trained(values, low, high)
        if not 0 <= form.low <= form.high <= 1:
            raise InputError(
                f"The model was trained on floating point images from {form.low:g} to {form.high:g}; "
                f"got {x.dtype}, whose scale is another."
            )
        self._say("Images of 0..255 were divided by 255, as the model was trained on 0..1.")
        return values / np.float32(255)

    def _like_trained(self, values: np.ndarray, low: float, high: float) -> np.ndarray:
        """As they are, unless further from the training images' values than those are from each other."""
        least, most = self.images.low, self.images.high
        if low < 2 * least - most or high > 2 * most - least:
            raise InputError(
                f"Images have values from {low:g} to {high:g}; the model was trained on {least:g} to "
                f"{most:g}."
            )
        return values

    def _from_floats(self, values: np.ndarray, low: float, high: float) -> np.ndarray:
        if not 0 <= low <= high <= 1:
            raise InputError(
                f"Floating point images have values from {low:g} to {high:g}; expected 0..1, or uint8 "
                "for 0..255, as the model was trained on uint8."
            )
        return values * np.float32(255)

    def _channels(self, x: np.ndarray) -> np.ndarray:
        have, want = x.shape[3], self.images.channels
        if have == want:
            return x
        if self.images.table or want not in (1, 3) or have not in (1, 3, 4):
            raise InputError(f"Images have {have} channels; the model was trained on {want}.")
        self._say(f"Images of {have} channels were converted to {want}.")
        x = x[..., :3]  # an alpha channel is dropped
        if x.shape[3] == want:
            return x
        if want == 3:
            return np.repeat(x, 3, axis=3)
        return (x @ np.asarray(LUMA, np.float32))[..., None]

    def _say(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            warnings.warn(sentence, UserWarning, stacklevel=2)


def _png(image: "Image.Image") -> bytes:
    """Losslessly, so that an image in memory is decoded as a file is."""
    from PIL import ImageOps

    if image.mode not in (*GREY, *COLOUR):
        raise InputError(
            f"The image has pixels of mode {image.mode}, more than 8 bits a channel; convert it to "
            "8-bit grey or RGB."
        )
    upright = ImageOps.exif_transpose(image)
    kept = upright.mode in ("1", "L", "LA", "P", "RGB", "RGBA")
    out = BytesIO()
    (upright if kept else upright.convert("RGB")).save(out, "PNG")
    return out.getvalue()
