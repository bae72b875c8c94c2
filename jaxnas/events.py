"""TensorBoard event files beside the journal, by tensorboardX (extra `jaxnas[tensorboard]`)."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from jaxnas.errors import InputError

UNITS = ("epoch", "segment", "test")
MARKS = ("stage", "batch", "shape_class", "epoch")
"""What says where an entry belongs, and is no figure."""


class Events:
    """Writes the figures of each journal entry as scalars, one a candidate.

    `behind` are the entries of a run that goes on. The last of them is written again: the run may have
    been killed between its journal and its events.
    """

    def __init__(self, writer: Any, behind: Sequence[Mapping[str, Any]] = ()) -> None:
        self._writer = writer
        self._steps: dict[str, int] = {}
        for entry in behind[:-1]:
            if entry["unit"] in UNITS:
                self._step(entry)
        for entry in behind[-1:]:
            self.hear(entry)

    def hear(self, entry: Mapping[str, Any]) -> None:
        """One entry of the journal: its numbers and lists of numbers are curves, at its epoch or turn."""
        if entry["unit"] not in UNITS:
            return
        name, step = self._step(entry)
        for key, found in entry.items():
            values = found if isinstance(found, list) else [found]
            for i, value in enumerate(values if key not in MARKS else ()):
                if isinstance(value, (int, float)) and math.isfinite(value):
                    label = f"{name}/{key}" + (f"/{i}" if len(values) > 1 else "")
                    self._writer.add_scalar(label, value, step)
        self._writer.flush()

    def _step(self, entry: Mapping[str, Any]) -> tuple[str, int]:
        name = "/".join(str(entry[k]) for k in MARKS if k in entry and k != "epoch")
        turn = self._steps[name] = self._steps.get(name, 0) + 1
        return name, int(entry.get("epoch", turn))

    def close(self) -> None:
        """No more entries."""
        self._writer.close()


def event_writer(
    directory: str | Path,
) -> Callable[[Sequence[Mapping[str, Any]]], Events]:
    """What writes to `tensorboard/` in a run directory, made with the first entry, given those behind.

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
    return partial(Events, _Late(package, Path(directory) / "tensorboard"))


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
