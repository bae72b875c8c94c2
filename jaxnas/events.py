"""TensorBoard event files beside the journal, by tensorboardX (extra `jaxnas[tensorboard]`)."""

import math
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from jaxnas.errors import InputError


class Events:
    """Writes the figures of each journal entry as scalars, one a candidate."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._steps: dict[str, int] = {}

    def hear(self, entry: Mapping[str, Any]) -> None:
        """One entry of the journal: its lists of numbers are curves, at its epoch or its turn."""
        if entry["unit"] not in ("epoch", "segment", "test"):
            return
        name = "/".join(str(entry[k]) for k in ("stage", "batch", "shape_class") if k in entry)
        turn = self._steps[name] = self._steps.get(name, 0) + 1
        step = int(entry.get("epoch", turn))
        for key, values in entry.items():
            if not isinstance(values, list):
                continue
            for i, value in enumerate(values):
                if isinstance(value, (int, float)) and math.isfinite(value):
                    label = f"{name}/{key}" + (f"/{i}" if len(values) > 1 else "")
                    self._writer.add_scalar(label, value, step)
        self._writer.flush()

    def close(self) -> None:
        """No more entries."""
        self._writer.close()


def event_writer(directory: str | Path) -> Events:
    """A writer to `tensorboard/` in a run directory, which it makes with the first entry.

    Raises:
        InputError: tensorboardX is not installed.
    """
    try:
        package = import_module("tensorboardX")
    except ImportError as error:
        raise InputError(
            f"Event files need the package tensorboardX, which cannot be imported ({error}); install it "
            "with `pip install 'jaxnas[tensorboard]'`."
        ) from None
    return Events(_Late(package, Path(directory) / "tensorboard"))


class _Late:
    """A SummaryWriter that is made when it is first used: a run directory must be empty before."""

    def __init__(self, package: Any, directory: Path) -> None:
        self._package, self._directory, self._made = package, directory, None

    def add_scalar(self, *args: Any) -> None:
        if self._made is None:
            self._made = self._package.SummaryWriter(str(self._directory))
        self._made.add_scalar(*args)

    def flush(self) -> None:
        if self._made is not None:
            self._made.flush()

    def close(self) -> None:
        if self._made is not None:
            self._made.close()
