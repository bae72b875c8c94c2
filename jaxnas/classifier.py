"""An exported model as a function of images: `jaxnas.load(DIR)`."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.data.paths import missing
from jaxnas.errors import InputError
from jaxnas.export.intake import Intake
from jaxnas.export.model import Images, Model
from jaxnas.export.places import found_space
from jaxnas.export.weights import load_weights
from jaxnas.export.write import MODEL, WEIGHTS, sha256
from jaxnas.network import Network, Variables
from jaxnas.spaces import SearchSpace

BATCH = 128
"""Images at a time."""


class Classifier:
    """A trained network, called with images; `jaxnas.load` makes one of a directory.

    Images are a path, a `PIL.Image`, a list of these, or an array `[H, W, C]` or `[n, H, W, C]`;
    `[H, W]` and `[n, H, W]` where it was trained on one channel, `[n, F]` where on tables. uint8 arrays
    are 0..255. Floating point ones are on the scale of the training images, which is 0..1 where those
    were uint8. What is of another size, or grey where colour is expected or the reverse, is converted,
    and a warning says so once.
    """

    def __init__(
        self,
        network: Network,
        variables: Variables,
        row: np.ndarray,
        *,
        class_names: Sequence[str],
        images: Images,
        arch: str,
    ) -> None:
        self.class_names = tuple(class_names)
        self.arch, self.images = arch, images
        self.network, self.variables, self.row = network, variables, np.asarray(row)
        self._intake = Intake(images)
        # The row is an argument, not a constant: networks that are alike share the program.
        apply = partial(_probabilities, network)
        self._apply = partial(jax.jit(apply), variables, jnp.asarray(row, jnp.int32))

    def __call__(self, images: Any) -> np.ndarray:
        """Probabilities, `float32[n, K]`; `[K]` for one image.

        Raises:
            InputError: what cannot be read as images like those it was trained on.
        """
        x, single = self._intake(images)
        n = len(x)
        size = min(BATCH, 1 << max(n - 1, 0).bit_length())  # few sizes, as each is compiled
        parts = [self._padded(x[start : start + size], size) for start in range(0, n, size)]
        found = np.concatenate(parts)[:n] if parts else np.zeros((0, len(self.class_names)))
        found = found.astype(np.float32, copy=False)
        return found[0] if single else found

    def predict_proba(self, images: Any) -> np.ndarray:
        """As a call."""
        return self(images)

    def predict(self, images: Any) -> Any:
        """The name of the most probable class of each image, `str[n]`; one name for one image."""
        best = self(images).argmax(axis=-1)
        return np.asarray(self.class_names)[best]

    def decoded(self, image: Any) -> np.ndarray:
        """A path or `PIL.Image` as the uint8 array `[H, W, C]` that training images were.

        Raises:
            InputError: what is no image file, by name; or the model was trained on no image files.
        """
        return self._intake.decoded(image)

    def _padded(self, x: np.ndarray, size: int) -> np.ndarray:
        short = size - len(x)
        x = np.concatenate([x, np.zeros((short, *x.shape[1:]), x.dtype)]) if short else x
        return np.asarray(self._apply(jnp.asarray(x)))


def _probabilities(
    network: Network, variables: Variables, row: jax.Array, x: jax.Array
) -> jax.Array:
    logits = network.apply(variables, row, x, batch_norm="running").logits
    return jax.nn.softmax(logits.astype(jnp.float32))


def load(
    directory: str | os.PathLike[str], *, space: "str | SearchSpace | None" = None
) -> Classifier:
    """The classifier that was exported to a directory.

    Nothing in the directory is run: weights are arrays, the rest is JSON and YAML. So a space of one's
    own, `module:attribute`, is imported only when it is named here.

    Args:
        directory: what `jaxnas.export.export` wrote.
        space: the model's space, or its name, in place of what model.json says.

    Raises:
        InputError: there is no model, its files are damaged or do not belong together, or its space
            is code that was not named.
    """
    folder = Path(directory)
    model = _model(folder)
    _check_files(folder, model)
    found = found_space(model.space, folder, space)
    arch = found.pruned(found.from_string(model.arch)[None])
    network = found.network(
        model.size,
        classes=len(model.class_names),
        image_channels=model.images.channels,
        shape_class=int(found.shape_classes(arch)[0]),
    )
    row = found.rows(arch)[0]
    try:
        variables = load_weights(folder / WEIGHTS, network, row)
    except InputError as error:
        raise InputError(f"{folder / WEIGHTS} {error}") from error
    return Classifier(
        network,
        variables,
        row,
        class_names=model.class_names,
        images=model.images,
        arch=model.arch,
    )


def _model(folder: Path) -> Model:
    path = folder / MODEL
    if not folder.is_dir():
        raise missing(folder) if not folder.exists() else InputError(f"{folder} is no directory.")
    if not path.is_file():
        raise InputError(f"{folder} holds no exported model: there is no model.json.")
    try:
        return Model.from_json(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except InputError as error:
        raise InputError(f"{path} {error}") from error


def _check_files(folder: Path, model: Model) -> None:
    for name in {WEIGHTS} | {n for n in model.sha256 if n == "space.yaml"}:
        path = folder / name
        if not path.is_file():
            raise InputError(f"{folder} is no whole model: {name} is missing.")
        if sha256(path) != model.sha256.get(name):
            raise InputError(f"{path} is damaged, or of another model than model.json beside it.")
