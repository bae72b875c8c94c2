"""From the arrays a source gave to a checked `Dataset` with three splits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxnas.data.checks import check_images, check_labels, one_class
from jaxnas.data.dataset import Dataset, Split, channel_statistics
from jaxnas.data.splits import check_options, stratified
from jaxnas.errors import InputError


@dataclass(frozen=True)
class Options:
    """How to read and split what comes unsplit; see `jaxnas.data.load.load`."""

    split_seed: int = 0
    val_fraction: float = 0.2
    test_fraction: float = 0.2
    max_bad: int = 0

    def __post_init__(self):
        check_options(
            split_seed=self.split_seed,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
        )


@dataclass(frozen=True, eq=False)
class Part:
    """Images and labels as given, unchecked, with what to call them in messages.

    `any_channels` lifts the limit on their number, for the features of a table.
    """

    x: object
    y: object
    x_name: str
    y_name: str
    any_channels: bool = False


def assemble(
    name: str,
    train: Part,
    *,
    val: Part | None = None,
    test: Part | None = None,
    class_names: Sequence[str] | None = None,
    options: Options,
) -> Dataset:
    """Checks every part and splits what is missing off `train`, by class.

    A test set that is given is used as it is. Validation examples alone are used as the test set:
    where there is no other, that is what results are reported on, and what is reported on must
    not choose the network. What is still missing is split off train: validation and test are
    `val_fraction` and `test_fraction` of each class of the examples that train came with.

    Args:
        name: of the data set.
        train, val, test: the parts the source has.
        class_names: K names; None names the classes "0", "1", ... by the labels of train.
        options: the split's seed and fractions.

    Raises:
        InputError: see `check_images`, `check_labels` and `stratified`; one class only; parts
            whose images differ in shape or type.
    """
    if test is None:
        val, test = None, val
    given = _checked(train, None if class_names is None else len(class_names))
    if given.y.min() == given.y.max():
        raise one_class(given.y, train.y_name)
    names = tuple(class_names or map(str, range(int(given.y.max()) + 1)))
    splits = {"train": given}
    for key, part in (("val", val), ("test", test)):
        if part is not None:
            splits[key] = _checked(part, len(names))
            _check_alike(splits[key].x, part.x_name, given.x, train.x_name)
    splits |= _split_off(given, [k for k in ("val", "test") if k not in splits], names, options)
    mean, std = channel_statistics(splits["train"].x)
    train_split, val_split, test_split = (splits[key] for key in ("train", "val", "test"))
    return Dataset(name, train_split, val_split, test_split, names, mean, std)


def _checked(part: Part, classes: int | None) -> Split:
    x = check_images(part.x, part.x_name, any_channels=part.any_channels)
    return Split(x=x, y=check_labels(part.y, part.y_name, images=len(x), classes=classes))


def _check_alike(x: np.ndarray, name: str, like: np.ndarray, like_name: str) -> None:
    if x.shape[1:] != like.shape[1:]:
        raise InputError(
            f"{name} has images of shape {x.shape[1:]}, but {like_name} of {like.shape[1:]}; "
            "they must agree."
        )
    if x.dtype != like.dtype:
        raise InputError(
            f"{name} is of type {x.dtype}, but {like_name} of {like.dtype}; they must agree, since "
            "the scales of integer and floating point images differ."
        )


def _split_off(
    given: Split, missing: Sequence[str], names: Sequence[str], options: Options
) -> dict[str, Split]:
    if not missing:
        return {}
    fraction = {"val": options.val_fraction, "test": options.test_fraction}
    fractions = [fraction[key] for key in missing]
    where = stratified(given.y, fractions, seed=options.split_seed, class_names=names)
    return {
        key: Split(x=given.x[at], y=given.y[at])
        for key, at in zip(("train", *missing), where, strict=True)
    }
