"""Reading an image data set of TensorFlow Datasets by its name, without TensorFlow.

Prepared data is read from its `array_record` files through tfds' random access sources. What is
not prepared yet is downloaded and prepared first, see `jaxnas.data.tfds_prepare`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.data.assemble import Options, Part, assemble
from jaxnas.data.dataset import Dataset
from jaxnas.data.images import Encoded, Format, common_format, decode
from jaxnas.data.tfds_prepare import prepare
from jaxnas.errors import InputError, nearest, unknown

SPLITS = {"train": "train", "val": "validation", "test": "test"}
UNLABELLED = -1
"""The label tfds gives to examples whose label was never published."""


def load_tfds(
    name: str, options: Options, *, data_dir: str | None = None, also: Iterable[str] = ()
) -> Dataset:
    """Loads `name`, `name/config` or `name:version` of tfds.

    The splits "train", "test" and "validation" are used, others ignored; "validation" without
    "test" becomes the test set (see `assemble`), and a "test" or "validation" whose labels are
    all -1 (never published) counts as absent. Images are decoded to the common size and mode of
    train (see `common_format`).

    Args:
        name: a data set with one image of 8 bits a channel and one class label an example.
        options: the split's seed and fractions.
        data_dir: where prepared data lies or is put; None is tfds' own default,
            `$TFDS_DATA_DIR` or `~/tensorflow_datasets`.
        also: other names the user may have meant, for the message.

    Raises:
        InputError: tfds is missing or does not know the name; the data is not for image
            classification, prepared in another format, damaged, or not prepared and not to be
            had; and all that `assemble` refuses.
    """
    tfds = _import_tfds(name, also)
    with _quiet():
        builder = _builder(tfds, name, data_dir, also)
        image_key, label_key = _keys(tfds, name, builder)
        if not builder.is_prepared():
            prepare(tfds, builder, name)
        if "train" not in builder.info.splits:
            found = ", ".join(builder.info.splits) or "none"
            raise InputError(f"The tfds data set {name!r} has no train split; its splits: {found}.")
        present = {key: s for key, s in SPLITS.items() if s in builder.info.splits}
        records = {
            key: _records(tfds, builder, split, image_key, label_key)
            for key, split in present.items()
        }
    form = common_format(records["train"][0])
    parts = {
        key: _part(f"{name}, {present[key]}", images, labels, form)
        for key, (images, labels) in records.items()
        if key == "train" or (labels != UNLABELLED).any()
    }
    names = builder.info.features[label_key].names
    return assemble(name, **parts, class_names=names, options=options)


def _import_tfds(name: str, also: Iterable[str]) -> Any:
    try:
        return import_module("tensorflow_datasets")
    except ImportError as error:
        close = nearest(name, also)
        raise InputError(
            f"Unknown data set {name!r}: there is no such file or folder, and tensorflow-datasets, "
            f"which may know the name, cannot be imported ({error}; install 'jaxnas[tfds]')"
            f"{f'; the nearest known: {", ".join(close)}' if close else ''}."
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps tfds' own warnings off the terminal; what matters of them is raised."""
    from absl import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _builder(tfds: Any, name: str, data_dir: str | None, also: Iterable[str]) -> Any:
    """The builder of prepared data in `array_record` format, or one that will prepare it so."""
    from google.protobuf.json_format import ParseError

    opening = (ValueError, AssertionError, RuntimeError, OSError, ImportError, ParseError)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        if not builder.is_prepared():
            return tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except tfds.core.DatasetNotFoundError:
        raise _unknown(tfds, name, data_dir, also) from None
    except opening as error:
        base, _, config = name.split(":")[0].partition("/")
        configs = _configs(tfds, base)
        if config and config not in configs:
            raise unknown(
                f"configuration of the tfds data set {base!r}:", config, configs
            ) from None
        raise InputError(f"The tfds data set {name!r} cannot be opened: {_brief(error)}") from None
    formats = sorted(f.value for f in builder.info.available_file_formats())
    if "array_record" not in formats:
        raise InputError(
            f"The tfds data set {name!r} is prepared in {builder.data_path} as "
            f"{', '.join(formats)}, not array_record, the format read here; prepare it again "
            "with `tfds build --file_format=array_record`, or into another data directory."
        )
    return builder


def _configs(tfds: Any, base: str) -> list[str]:
    try:
        return list(tfds.builder_cls(base).builder_configs)
    except ValueError:  # not a name at all, or known by its files only
        return []


def _brief(error: Exception) -> str:
    """The first line of a message, without the arguments tfds puts in front of it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rpartition('}": ')[2].rstrip(".:") + "."


def _unknown(tfds: Any, name: str, data_dir: str | None, also: Iterable[str]) -> InputError:
    known = [*also, *tfds.list_builders(with_community_datasets=False)]
    if data_dir is not None and Path(data_dir).is_dir():
        known += [path.name for path in Path(data_dir).iterdir() if path.is_dir()]
    close = nearest(name, known)
    hint = f"; did you mean {' or '.join(close)}?" if close else "."
    return InputError(
        f"Unknown data set {name!r}: there is no such file or folder, and no data set of "
        f"tensorflow-datasets has that name{hint}"
    )


def _keys(tfds: Any, name: str, builder: Any) -> tuple[str, str]:
    """Names of the image feature and of the label feature."""
    features = dict(builder.info.features or {})
    images = [k for k, f in features.items() if isinstance(f, tfds.features.Image)]
    labels = [k for k, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
    keys = builder.info.supervised_keys or ()
    if not (len(keys) == 2 and keys[0] in images and keys[1] in labels):
        keys = (*images, *labels) if len(images) == len(labels) == 1 else ()
    if not keys:
        raise InputError(
            f"The tfds data set {name!r} is not for image classification: expected one image and "
            f"one class label, its features are {', '.join(sorted(features)) or 'none'}."
        )
    image, label = keys
    if features[image].np_dtype != np.uint8:
        raise InputError(
            f"The images of the tfds data set {name!r} are {features[image].np_dtype}; only 8 bits "
            "a channel are read."
        )
    return image, label


def _records(
    tfds: Any, builder: Any, split: str, image_key: str, label_key: str
) -> tuple[list[Encoded], np.ndarray]:
    images: list[Encoded] = []
    labels: list[int] = []
    damaged = f"The {split} split in {builder.data_path} is damaged"
    try:
        source = builder.as_data_source(
            split=split,
            decoders={image_key: tfds.decode.SkipDecoding()},
            file_format="array_record",
        )
        for i in range(len(source)):
            record = source[i]
            if record[label_key] is None or not isinstance(record[image_key], bytes):
                raise InputError(f"{damaged}: record {i} cannot be read.")
            images.append(
                Encoded(f"Image {i} of {split} in {builder.data_path}", record[image_key])
            )
            labels.append(record[label_key])
    except (RuntimeError, OSError) as error:  # what array_record raises for short or missing files
        raise InputError(f"{damaged}: {_brief(error)}") from None
    if not images:
        raise InputError(f"The {split} split in {builder.data_path} is empty.")
    return images, np.asarray(labels, np.int64)


def _part(what: str, images: list[Encoded], labels: np.ndarray, form: Format) -> Part:
    return Part(decode(images, form), labels, f"The images of {what}", f"The labels of {what}")
