"""Reading a data set from a folder of class folders."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jaxnas.data.assemble import Options, Part, assemble
from jaxnas.data.dataset import Dataset
from jaxnas.data.images import Encoded, Format, common_format, decode, readable
from jaxnas.data.paths import entries, nearest_there
from jaxnas.errors import InputError

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
)
SAID = 5
"""Files that a note names at most."""
SPLIT_NAMES = {"test": ("test",), "val": ("val", "valid", "validation")}


@dataclass(frozen=True)
class Listing:
    """The images of one split, not decoded, with their labels."""

    images: list[Encoded]
    labels: np.ndarray


def load_folder(folder: Path, options: Options) -> Dataset:
    """Loads FOLDER/CLASS/*, or FOLDER/train/CLASS/* with test/ and val/ beside it where they exist.

    The second layout is taken when FOLDER/train holds folders; other folders beside it are then
    ignored. The class folders of train, sorted by name, are the classes. Images are the files
    below a class folder, at any depth, with a suffix in `SUFFIXES`; hidden files and folders are
    skipped. All are decoded to the common size and mode of train (see `common_format`); up to
    `options.max_bad` files that cannot be are left out, and named in the data set's notes.

    Raises:
        InputError: no class folders or only one, a class without images, a class in test/ or
            val/ that train/ lacks, an image that cannot be decoded; and all that `assemble`
            refuses.
    """
    train = folder / "train"
    if "train" not in _folders(folder) or not _folders(train):
        _check_not_only_splits(folder)
        train = folder
    classes = _class_folders(train)
    listings = {"train": (train, _list(train, classes))}
    if train != folder:
        for key, place in _given_splits(folder).items():
            listings[key] = (place, _list_given(place, classes))
    listings, notes = _whole(listings, options.max_bad, classes)
    form = common_format(listings["train"][1].images)
    parts = {key: _part(place, listing, form) for key, (place, listing) in listings.items()}
    data = assemble(folder.resolve().name, **parts, class_names=classes, options=options)
    return replace(data, notes=notes)


def _whole(
    listings: dict[str, tuple[Path, Listing]], max_bad: int, classes: list[str]
) -> tuple[dict[str, tuple[Path, Listing]], tuple[str, ...]]:
    """The listings without the at most `max_bad` files of all that cannot be decoded; a note on these.

    Raises:
        InputError: a class of the training images has no other files.
    """
    images = [image for _, listing in listings.values() for image in listing.images]
    good, wrong = readable(images, max_bad)
    if not wrong:
        return listings, ()
    kept, start = {}, 0
    for key, (place, listing) in listings.items():
        own = good[start : start + len(listing.images)]
        start += len(own)
        left = [image for image, fine in zip(listing.images, own, strict=True) if fine]
        kept[key] = (place, Listing(left, listing.labels[own]))
    place, listing = kept["train"]
    for label, name in enumerate(classes):
        if label not in listing.labels:
            raise InputError(
                f"The class folder {place / name} holds no image that can be read; the first problem: "
                f"{wrong[0]}"
            )
    some = " ".join(wrong[:SAID]) + (f" And {len(wrong) - SAID} more." if len(wrong) > SAID else "")
    return kept, (f"{len(wrong)} of {len(images):,} image files were left out: {some}",)


def _folders(place: Path) -> list[str]:
    return [name for name in entries(place) if (place / name).is_dir()]


def _class_folders(place: Path) -> list[str]:
    classes = _folders(place)
    if len(classes) > 1:
        return classes
    if len(classes) == 1:
        raise InputError(
            f"{place} has one class folder only, {classes[0]!r}; at least two classes are needed."
        )
    files = entries(place)
    if not files:
        raise InputError(f"{place} is empty; expected one folder of images for each class.")
    raise InputError(
        f"{place} has no class folders ({len(files)} files, the first {files[0]!r}); expected one "
        "folder of images for each class."
    )


def _check_not_only_splits(folder: Path) -> None:
    names = _folders(folder)
    known = {"train", *SPLIT_NAMES["test"], *SPLIT_NAMES["val"]}
    if names and known.issuperset(names) and any(_folders(folder / name) for name in names):
        raise InputError(
            f"{folder} has {', '.join(f'{n}/' for n in names)} but no train/ with class folders."
        )


def _given_splits(folder: Path) -> dict[str, Path]:
    here = _folders(folder)
    given = {}
    for key, names in SPLIT_NAMES.items():
        found = [name for name in names if name in here and _folders(folder / name)]
        if len(found) > 1:
            raise InputError(f"{folder} has both {found[0]}/ and {found[1]}/; keep one of them.")
        if found:
            given[key] = folder / found[0]
    return given


def _list(place: Path, classes: list[str]) -> Listing:
    images: list[Encoded] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        files = _image_files(place / name)
        images += [Encoded(str(file), file) for file in files]
        labels += [label] * len(files)
        if not files:
            raise InputError(
                f"The class folder {place / name} holds no images; the suffixes read are "
                f"{' '.join(sorted(SUFFIXES))}."
            )
    return Listing(images, np.asarray(labels, np.int32))


def _list_given(place: Path, classes: list[str]) -> Listing:
    """Like `_list`, with the labels of train's classes, some of which may be absent here."""
    here = _folders(place)
    for name in here:
        if name not in classes:
            raise InputError(
                f"{place} has a class folder {name!r} that train/ lacks"
                f"{nearest_there(name, classes)}."
            )
    listing = _list(place, here)
    numbers = np.asarray([classes.index(name) for name in here], np.int32)
    return Listing(listing.images, numbers[listing.labels])


def _image_files(place: Path) -> list[Path]:
    files = []
    for name in entries(place):
        path = place / name
        if path.is_dir():
            files += _image_files(path)
        elif path.suffix.lower() in SUFFIXES:
            files.append(path)
    return files


def _part(place: Path, listing: Listing, form: Format) -> Part:
    images = decode(listing.images, form)
    return Part(images, listing.labels, f"The images in {place}", f"The labels of {place}")
