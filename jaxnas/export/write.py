"""Writing an export directory: whole, and checked, or not at all."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from jaxnas import __version__
from jaxnas.data.dataset import Dataset
from jaxnas.data.resize import resize
from jaxnas.errors import InputError, unknown
from jaxnas.export.fold import Folded
from jaxnas.export.model import Images, Model
from jaxnas.export.onnx_file import run_onnx, write_onnx
from jaxnas.export.places import DESCRIPTION, place_of
from jaxnas.export.program import Standardise, inference
from jaxnas.export.stablehlo import run_stablehlo, write_stablehlo
from jaxnas.export.weights import load_weights, save_weights
from jaxnas.network import Network, Variables
from jaxnas.spaces import SearchSpace, Size

WEIGHTS = "weights.safetensors"
MODEL = "model.json"
PART = ".part"
"""What folders end with that are not written yet."""
CHECKED = 100
"""Test images that every format is compared on."""
TOLERANCE = 1e-4
"""Of probabilities; of logits too, times the largest of them where that is above 1."""

type Write = Callable[[Path, Folded, jax.ShapeDtypeStruct], None]
type Run = Callable[[Path, np.ndarray], tuple[np.ndarray, ...]]
PROGRAMS: dict[str, tuple[str, Write, Run]] = {
    "onnx": ("model.onnx", write_onnx, run_onnx),
    "stablehlo": ("model.stablehlo", write_stablehlo, run_stablehlo),
}
"""Formats that hold a program: their file, what writes it and what runs it again."""
FORMATS = ("safetensors", *PROGRAMS)


def export(
    directory: str | os.PathLike[str],
    network: Network,
    variables: Variables,
    arch: np.ndarray,
    *,
    space: SearchSpace,
    size: Size,
    data: Dataset,
    place: str | None = None,
    accuracies: Mapping[str, float | None] | None = None,
    formats: Sequence[str] = FORMATS,
    written: Callable[[str], None] = lambda sha256: None,
) -> Path:
    """Write a trained architecture as files that others can use; `jaxnas.load` reads them.

    `weights.safetensors` and `model.json` are always written, the others of `FORMATS` if asked
    for. Each is read back and its answers to up to `CHECKED` test images compared with the network's.

    Args:
        directory: where; must not exist or be empty.
        network: that of `space` at `size`, of the architecture's shape class.
        variables: the trained ones, of this one architecture.
        arch: `int32[D]`, a row of the space.
        space: the space.
        size: how large the network is built.
        data: what it was trained on: names of classes, standardisation, images to check with.
        place: what `get_space` made the space of: a name, FILE.yaml or module:attribute; None: found.
        accuracies: what to say of it in model.json.
        formats: of `FORMATS`.
        written: hears the SHA-256 of model.json, which has those of the other files, when all is written
            but `directory` is not there yet.

    Returns:
        The directory.

    Raises:
        InputError: the directory is in use, a format is unknown or its package not installed, or a
            file answers otherwise than the network does, by more than `TOLERANCE`.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown("export format", name, FORMATS)
    row = space.rows(space.pruned(np.asarray(arch, np.int32)[None]))[0]
    images = Images.of(data, network.resolution)
    exporting = _Exporting(network, variables, row, images, _shown(data, network.resolution))
    place, description = place_of(space, place)
    with _beside(Path(directory)) as folder:
        if description is not None:
            (folder / DESCRIPTION).write_bytes(description)
        exporting.weights(folder / WEIGHTS)
        for name, (file, write, run) in PROGRAMS.items():
            if name in formats:
                exporting.program(folder / file, write, run)
        model = Model(
            space=place,
            arch=space.to_string(np.asarray(arch)),
            size=size,
            class_names=data.class_names,
            images=images,
            accuracies=_numbers(accuracies or {}),
            sha256={path.name: sha256(path) for path in sorted(folder.iterdir())},
            jaxnas=__version__,
        )
        (folder / MODEL).write_text(model.to_json(), encoding="utf-8")
        written(sha256(folder / MODEL))
    return Path(directory)


@dataclass(frozen=True, eq=False)
class _Exporting:
    """A network whose files are compared with what it says of the images `shown`, `[n, R, R, C]`."""

    network: Network
    variables: Variables
    row: np.ndarray
    images: Images
    shown: np.ndarray

    def weights(self, path: Path) -> None:
        """Write the weights and read them back."""
        save_weights(path, self.network, self.variables, self.row)
        again = load_weights(path, self.network, self.row)
        _compare(path.name, self._answers(again), self._expected)

    def program(self, path: Path, write: Write, run: Run) -> None:
        """Write a program and run it, on all images and on one."""
        (batch,) = jax_export.symbolic_shape("batch")
        like = jax.ShapeDtypeStruct((batch, *self.shown.shape[1:]), self.shown.dtype)
        standardise = standardise_of(self.images)
        write(path, inference(self.network, self.variables, self.row, standardise, like), like)
        _compare(path.name, run(path, self.shown), self._expected)
        first = tuple(part[:1] for part in self._expected)
        _compare(f"{path.name} for one image", run(path, self.shown[:1]), first)

    @cached_property
    def _expected(self) -> tuple[np.ndarray, ...]:
        return self._answers(self.variables)

    @cached_property
    def _answer(self) -> Any:
        """As networks are trained and evaluated: one program for all architectures."""

        @jax.jit
        def answer(variables: Variables, row: jax.Array, x: jax.Array) -> Any:
            inputs = standardise_of(self.images)(x)
            logits = self.network.apply(variables, row, inputs, batch_norm="running").logits
            return logits, jax.nn.softmax(logits)

        return answer

    def _answers(self, variables: Variables) -> tuple[np.ndarray, ...]:
        found = self._answer(variables, jnp.asarray(self.row), jnp.asarray(self.shown))
        return tuple(np.asarray(part) for part in found)


def standardise_of(images: Images) -> Standardise:
    """The standardisation that `model.json` describes."""
    mean, std = (np.asarray(v, np.float32) for v in (images.mean, images.std))
    return Standardise(images.scale, mean, std)


def _shown(data: Dataset, resolution: int) -> np.ndarray:
    """Up to `CHECKED` test images as programs take them, `[n, R, R, C]` of the stored type."""
    n = len(data.test)
    # Spread out, as a test set that is given is often in the order of its classes.
    x = data.test.x[np.linspace(0, n - 1, min(n, CHECKED)).astype(int)]
    if x.shape[1:3] == (resolution, resolution):
        return x
    resized = resize(x.astype(np.float32), resolution, resolution)
    return np.rint(resized).astype(x.dtype) if x.dtype == np.uint8 else resized


def _compare(file: str, found: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> None:
    """`InputError` unless logits and probabilities are the same up to `TOLERANCE`."""
    for what, got, want in zip(("logits", "probabilities"), found, expected, strict=True):
        limit = TOLERANCE * max(1.0, float(np.abs(want).max()))
        off = float(np.abs(got - want).max()) if got.shape == want.shape else np.inf
        if not off <= limit:  # NaN is no agreement
            raise InputError(
                f"Nothing was exported: the {what} of {file} differ from the network's by {off:.3g} on "
                f"{len(want)} test images, and {limit:.1g} is allowed."
            )


def drop_unfinished(directory: Path) -> None:
    """Remove what exports to `directory` that were killed left beside it; none may be under way."""
    for left in directory.parent.glob(f"{_prefix(directory)}*{PART}"):
        shutil.rmtree(left, ignore_errors=True)


def _prefix(directory: Path) -> str:
    return f".{directory.name}."


@contextlib.contextmanager
def _beside(directory: Path) -> Iterator[Path]:
    """A folder beside `directory` that takes its place when all has gone well."""
    in_use = InputError(
        f"The export directory {directory} is in use; name one that does not exist or is empty."
    )
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise in_use
        directory.parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.mkdtemp(prefix=_prefix(directory), suffix=PART, dir=directory.parent)
        folder = Path(made)
        try:
            folder.chmod(0o755)
            yield folder
            if directory.exists():
                directory.rmdir()  # empty, unless another process has been quicker
            folder.rename(directory)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise InputError(f"Cannot write {directory}: {error.strerror or error}.") from error


def _numbers(accuracies: Mapping[str, float | None]) -> dict[str, float | None]:
    """As JSON has them: what is no finite number is null."""
    return {
        name: float(value) if value is not None and np.isfinite(value) else None
        for name, value in accuracies.items()
    }


def sha256(path: Path) -> str:
    """The SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
