"""Loading a data set from what the user names: digits, an .npz, a table, a folder, or tfds."""

import os
from pathlib import Path

import numpy as np

from jaxnas.data.assemble import Options, Part, assemble
from jaxnas.data.dataset import Dataset
from jaxnas.data.folder import load_folder
from jaxnas.data.npz import load_npz
from jaxnas.data.paths import unreadable
from jaxnas.data.table import load_table
from jaxnas.data.table_file import SUFFIXES, table_suffix
from jaxnas.data.tfds import load_tfds
from jaxnas.errors import InputError


def load(
    source: str | os.PathLike[str],
    *,
    data_dir: str | None = None,
    target: str | None = None,
    split_seed: int = 0,
    val_fraction: float = 0.2,
    test_fraction: float = 0.2,
    max_bad: int = 0,
) -> Dataset:
    """Loads, checks and splits a data set.

    Validation and test examples are never train examples. A test set that the source has is used
    as it is; a validation set where there is no test set is used as the test set; what is missing
    then is split off train by class, as `split_seed` decides and nothing else.

    Args:
        source: one of
            - `"digits"`: scikit-learn's 1,797 grey 8x8 digits, float32 in 0..1;
            - a file, .npz with `x_train, y_train` (see `jaxnas.data.npz`);
            - a table, .csv, .csv.gz, .tsv, .tsv.gz or .parquet (see `jaxnas.data.table`);
            - a folder of class folders of images (see `jaxnas.data.folder`);
            - the name of a tfds image data set (see `jaxnas.data.tfds`).
            A file or folder that exists goes before a tfds name; write ./digits for a folder of
            that name.
        data_dir: where tfds data lies; used for tfds names only.
        target: the column of a table that holds the class; None finds it, see `load_table`.
        split_seed: 0..2**32-1.
        val_fraction: share of each class, of the examples that train came with, to validate on.
        test_fraction: the same to test on, where the source has no test set.
        max_bad: how many files of a folder may be left out since they cannot be decoded.

    Raises:
        InputError: one sentence on what was got and expected; see each source.
    """
    options = Options(split_seed, val_fraction, test_fraction, max_bad)
    name = os.fspath(source)
    if not name:
        raise InputError("The data source is empty; expected digits, a file, a folder or a name.")
    path = Path(name).expanduser()
    # os.path: pathlib raises for a name that the system refuses, of which more below.
    table = name != "digits" and table_suffix(path) is not None and not os.path.isdir(path)
    if target is not None and not table:
        raise InputError(
            f"The target is column {target!r}, but {name} is no table; a target is for "
            f"{', '.join(SUFFIXES)} only."
        )
    if name == "digits":
        return _digits(options)
    try:
        if path.is_dir():
            return load_folder(path, options)
        if path.exists() or _means_a_file(name, path):
            return load_table(path, options, target=target) if table else load_npz(path, options)
    except OSError as error:  # a name too long, a folder that may not be entered
        raise unreadable(Path(error.filename or path), error) from None
    files = (p for p in sorted(Path().glob("*.*")) if p.suffix == ".npz" or table_suffix(p))
    near = ["digits", *(p.name for p in files)]
    return load_tfds(name, options, data_dir=data_dir, also=near)


def from_arrays(
    x: object,
    y: object,
    x_test: object = None,
    y_test: object = None,
    *,
    name: str = "arrays",
    split_seed: int = 0,
    val_fraction: float = 0.2,
    test_fraction: float = 0.2,
) -> Dataset:
    """Checks and splits arrays.

    Args:
        x: images `[n, H, W, C]` or `[n, H, W]` with 1 to 4 channels: uint8, other integers within
            0..255 (converted to uint8), or floating point (converted to float32).
        y: integer labels `[n]` or `[n, 1]`, 0..K-1 without gaps.
        x_test, y_test: a test set, both or neither; used as it is.
        name: of the data set.
        split_seed, val_fraction, test_fraction: see `load`.

    Raises:
        InputError: one sentence on what was got and expected.
    """
    options = Options(split_seed, val_fraction, test_fraction)
    if (x_test is None) != (y_test is None):
        raise InputError("x_test and y_test belong together; got only one of them.")
    test = None if x_test is None else Part(x_test, y_test, "x_test", "y_test")
    return assemble(name, Part(x, y, "x", "y"), test=test, options=options)


def _means_a_file(name: str, path: Path) -> bool:
    """Whether a path that does not exist was meant as one, and not as a name of tfds."""
    if name.startswith((".", "~", os.sep)):
        return True
    inside_a_folder = len(path.parts) > 1 and Path(path.parts[0]).is_dir()
    return inside_a_folder or (path.suffix != "" and ":" not in name)


def _digits(options: Options) -> Dataset:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.asarray(pixels, np.float32).reshape(-1, 8, 8) / 16  # 17 grey levels, exact
    return assemble(
        "digits",
        Part(images, labels, "The digits", "The labels of digits"),
        options=options,
    )
