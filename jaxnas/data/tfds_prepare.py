"""Downloading and preparing a tfds data set, without TensorFlow and without hanging offline."""

from collections.abc import Iterable
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from jaxnas.data.reachable import unreachable
from jaxnas.errors import InputError

HOSTS = 3
"""Servers to try before the machine counts as offline: a data set may list some it has left."""


def prepare(tfds: Any, builder: Any, name: str) -> None:
    """Downloads the data set of `builder` and writes it to its data directory.

    Image arrays are encoded by Pillow, as PNG and so without loss; tfds itself would do that with
    TensorFlow. First the server is asked for a sign of life, for seconds only.

    Raises:
        InputError: no network, files that must be downloaded by hand, a package that this data
            set needs besides tfds, a failed download, a full or unwritable disk.
    """
    at = f"The tfds data set {name!r} is not prepared in {builder.data_path}"
    _check_network(builder, at)
    _encode_with_pillow(tfds, builder)
    try:
        # Files of Google's bucket need TensorFlow or gcsfs, so the original source it is.
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
    except ImportError as error:
        raise InputError(
            f"{at}, and preparing it needs the Python package {error.name or error}; install it, "
            "or prepare the data elsewhere as array_record and give its data directory."
        ) from None
    except AssertionError as error:  # tfds looked for files that one has to ask for
        raise InputError(
            f"{at}, and its files are not downloaded automatically: {_sentence(error)}."
        ) from None
    except (OSError, ValueError, tfds.download.DownloadError) as error:
        raise InputError(f"{at}, and preparing it failed: {_sentence(error)}.") from None


def _sentence(error: Exception) -> str:
    """The first sentence of a message, without its full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0].rstrip(".:?!")


def _check_network(builder: Any, at: str) -> None:
    try:
        urls = builder.url_infos
    except ImportError as error:
        raise InputError(
            f"{at}, and preparing it needs the Python package {error.name or error}; install it."
        ) from None
    if not urls or builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        return
    why = ""
    for host, url in islice({urlsplit(url).netloc: url for url in urls}.items(), HOSTS):
        reason = unreachable(url)
        if reason is None:
            return
        why = why or f"{host}, where it comes from, cannot be reached ({reason})"
    raise InputError(f"{at}, and {why}; give the data directory of a prepared copy, or go online.")


def _encode_with_pillow(tfds: Any, builder: Any) -> None:
    """Makes the builder generate Pillow images where it would have generated arrays."""
    features = builder.info.features
    keys = [
        key
        for key, feature in features.items()
        if isinstance(feature, tfds.features.Image)
        and feature.np_dtype == np.uint8
        and feature.encoding_format in (None, "png")
    ]
    generate = builder._generate_examples

    def generate_pillow(*args: Any, **kwargs: Any) -> Any:
        examples = generate(*args, **kwargs)
        if not isinstance(examples, Iterable):  # a Beam pipeline
            return examples
        return ((key, _as_pillow(example, keys)) for key, example in examples)

    builder._generate_examples = generate_pillow


def _as_pillow(example: Any, keys: list[str]) -> Any:
    from PIL import Image

    arrays = {k: example[k] for k in keys if isinstance(example.get(k), np.ndarray)}
    grey = {k: a[..., 0] if a.shape[-1] == 1 else a for k, a in arrays.items()}
    return {**example, **{k: Image.fromarray(a) for k, a in grey.items()}}
