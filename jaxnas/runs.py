"""A run: one directory that holds everything a search found, and survives being killed at any moment.

`config.yaml` (resolved), `journal.jsonl` (append-only, one line a finished unit of work, flushed and
fsynced), `ranking.parquet`, `checkpoints/` (Orbax), `result.json` and `report.html`. Files other than the
journal are written beside and renamed, so that each is whole or absent.
"""

import contextlib
import fcntl
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.errors import InputError

FILES = ("config.yaml", "journal.jsonl", "ranking.parquet", "result.json", "report.html")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system says of a failed write into one sentence."""
    try:
        yield
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror or error}.") from error


class Run:
    """An open run directory; only one process may hold it."""

    def __init__(self, directory: Path, lock: int) -> None:
        self.directory = directory
        self._lock = lock
        self._journal = directory / "journal.jsonl"
        self.entries: list[dict[str, Any]] = self._read_journal()

    @classmethod
    def create(cls, directory: str | Path, config: dict[str, Any]) -> "Run":
        """A new run in a directory that does not exist or is empty."""
        import yaml

        path = Path(directory)
        with writing(path):
            if path.exists() and not path.is_dir():
                raise InputError(f"--out {path} is a file, expected a directory.")
            path.mkdir(parents=True, exist_ok=True)
            taken = sorted(p.name for p in path.iterdir() if p.name != ".lock")
        if taken:
            what = "another run" if "config.yaml" in taken else f"{taken[0]!r} and more"
            raise InputError(
                f"--out {path} holds {what}; name another directory, or continue with --resume."
            )
        lock = _hold(path)
        run = cls(path, lock)
        run.write_text("config.yaml", yaml.safe_dump(config, sort_keys=False))
        return run

    @classmethod
    def open(cls, directory: str | Path) -> "Run":
        """The run that is in a directory, to be continued."""
        path = Path(directory)
        if not (path / "config.yaml").is_file():
            raise InputError(f"--resume: there is no run in {path} (no config.yaml).")
        run = cls(path, _hold(path))
        run._cut_torn_line()
        return run

    def close(self) -> None:
        """Let others have the directory."""
        os.close(self._lock)

    def record(self, **entry: Any) -> None:
        """Append one finished unit of work to the journal; it is on disk when this returns."""
        line = json.dumps(_strict(entry), allow_nan=False) + "\n"
        with writing(self._journal):
            before = self._journal.stat().st_size if self._journal.exists() else 0
            try:
                with self._journal.open("a", encoding="utf-8") as file:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                os.truncate(self._journal, before)
                raise
        self.entries.append(json.loads(line))

    def of_stage(self, stage: str, unit: str) -> list[dict[str, Any]]:
        """The journal's entries of one stage and kind of unit, in order."""
        return [e for e in self.entries if e["stage"] == stage and e["unit"] == unit]

    def seconds(self) -> dict[str, dict[str, float]]:
        """Seconds by stage, `{"run": ..., "compile": ...}`, over all interruptions."""
        totals: dict[str, dict[str, float]] = {}
        for entry in self.entries:
            if "seconds" in entry:
                total = totals.setdefault(entry["stage"], {"run": 0.0, "compile": 0.0})
                for kind in total:
                    total[kind] += entry["seconds"][kind]
        return totals

    def write_text(self, name: str, text: str) -> None:
        """Write a file whole or not at all."""
        self.write(name, lambda path: path.write_text(text, encoding="utf-8"))

    def write(self, name: str, write: Any) -> None:
        """Let `write(path)` make a file beside, then put it in its place."""
        final = self.directory / name
        beside = self.directory / f".{name}.part"
        with writing(final):
            try:
                write(beside)
                os.replace(beside, final)
            finally:
                beside.unlink(missing_ok=True)

    def save_state(self, stage: str, epoch: int, state: Any) -> None:
        """Keep a pytree of arrays as the state of `stage` after `epoch`, beside the one before it."""
        import orbax.checkpoint as ocp

        folder = self._states(stage)
        with writing(folder), ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder / str(epoch), state, force=True)

    def restore_state(self, stage: str, epoch: int, like: Any) -> Any:
        """The state of `stage` after `epoch`; `like` has its structure and shapes."""
        import orbax.checkpoint as ocp

        folder = self._states(stage) / str(epoch)
        if not folder.is_dir():
            raise InputError(f"--resume: the checkpoint {folder} is missing.")
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(folder, like)

    def drop_states(self, stage: str, keep: int) -> None:
        """Remove all states of a stage but that of epoch `keep`."""
        folder = self._states(stage)
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name != str(keep):
                shutil.rmtree(path, ignore_errors=True)

    def _states(self, stage: str) -> Path:
        return self.directory.absolute() / "checkpoints" / stage

    def _read_journal(self) -> list[dict[str, Any]]:
        entries = []
        lines = self._journal.read_bytes().split(b"\n") if self._journal.exists() else []
        for number, line in enumerate(lines[:-1], 1):
            try:
                entries.append(json.loads(line))
            except ValueError as error:
                raise InputError(f"Line {number} of {self._journal} is not JSON.") from error
        return entries

    def _cut_torn_line(self) -> None:
        # A process killed while it wrote leaves a last line without its end: that unit is not done.
        if not self._journal.exists():
            return
        whole = self._journal.read_bytes().rfind(b"\n") + 1
        with writing(self._journal):
            os.truncate(self._journal, whole)


def _hold(path: Path) -> int:
    with writing(path):
        lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise InputError(f"Another process is working in {path}.") from error
    return lock


def _strict(value: Any) -> Any:
    """JSON without NaN and infinities: they become the strings that `numbers` reads back."""
    if isinstance(value, dict):
        return {k: _strict(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_strict(v) for v in value]
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return number if math.isfinite(number) else str(number)
    return value.item() if isinstance(value, np.generic) else value


def numbers(values: list[Any]) -> np.ndarray:
    """A journal's list of numbers, `"nan"` and `"-inf"` among them, as `float64`."""
    return np.array([float(v) for v in values], np.float64)
