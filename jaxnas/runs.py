"""A run: one directory that holds everything a search found, and survives being killed at any moment.

`config.yaml` (resolved), `journal.jsonl` (append-only, one line a finished unit of work, flushed and
fsynced), `ranking.parquet`, `checkpoints/` (Orbax), `result.json` and `report.html`. Files other than the
journal are written beside and renamed, so that each is whole or absent.
"""

import contextlib
import errno
import fcntl
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator
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
    except ValueError as error:
        # What TensorStore, below Orbax, makes of an error of the system.
        if code := re.search(r"os_error_code='(\d+)'", str(error)):
            raise InputError(f"Cannot write {path}: {os.strerror(int(code[1]))}.") from error
        raise


class Run:
    """An open run directory; only one process may hold it."""

    def __init__(self, directory: Path, lock: int) -> None:
        self.directory = directory
        self._lock = lock
        self._journal = directory / "journal.jsonl"
        self.entries: list[dict[str, Any]] = self._read_journal()
        self.listeners: list[Callable[[dict[str, Any]], None]] = []
        """Who hears of each entry once it is on disk."""

    @classmethod
    def create(cls, directory: str | Path, config: dict[str, Any]) -> "Run":
        """A new run in a directory that does not exist or is empty."""
        import yaml

        path = Path(directory)
        check_free(path)
        made = not path.exists()
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        run = cls(path, _hold(path))
        try:
            check_free(path)  # another process may have been quicker
            run.write_text("config.yaml", yaml.safe_dump(config, sort_keys=False))
        except InputError:
            if made:
                with contextlib.suppress(OSError):
                    (path / ".lock").unlink()
                    path.rmdir()
            run.close()
            raise
        return run

    @classmethod
    def open(cls, directory: str | Path) -> "Run":
        """The run that is in a directory, to be continued."""
        path = Path(directory)
        if not (path / "config.yaml").is_file():
            raise InputError(f"--resume: there is no run in {path} (no config.yaml).")
        lock = _hold(path)
        try:
            run = cls(path, lock)
            run._cut_torn_line()
        except InputError:
            os.close(lock)
            raise
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
        for hear in self.listeners:
            hear(self.entries[-1])

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
        import jax
        import orbax.checkpoint as ocp

        folder = self._states(stage)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _check_room(folder, sum(a.nbytes for a in jax.tree.leaves(state)))
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save(folder / str(epoch), state, force=True)

    def restore_state(self, stage: str, epoch: int, like: Any) -> Any:
        """The state of `stage` after `epoch`; `like` has its structure and shapes."""
        import orbax.checkpoint as ocp

        folder = self._states(stage) / str(epoch)
        if not folder.is_dir():
            raise InputError(f"--resume: the checkpoint {folder} is missing.")
        try:
            with ocp.StandardCheckpointer() as checkpointer:
                return checkpointer.restore(folder, like)
        except (OSError, ValueError) as error:
            raise InputError(
                f"--resume: the checkpoint {folder} is damaged or not of this run."
            ) from error

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
                entry = json.loads(line)
            except ValueError as error:
                raise InputError(f"Line {number} of {self._journal} is not JSON.") from error
            if not isinstance(entry, dict) or not {"stage", "unit"} <= entry.keys():
                raise InputError(f"Line {number} of {self._journal} is no unit of work.")
            entries.append(entry)
        return entries

    def _cut_torn_line(self) -> None:
        # A process killed while it wrote leaves a last line without its end: that unit is not done.
        if not self._journal.exists():
            return
        written = self._journal.read_bytes()
        whole = written.rfind(b"\n") + 1
        if whole < len(written):
            with writing(self._journal):
                os.truncate(self._journal, whole)


def check_free(path: Path, flag: str = "--out") -> None:
    """`InputError` where what `flag` names is a file, or a directory that is in use."""
    with writing(path):
        if path.exists() and not path.is_dir():
            raise InputError(f"{flag} {path} is a file, expected a directory.")
        # What a process killed before its first file was whole leaves behind is no run.
        names = sorted(p.name for p in path.iterdir()) if path.exists() else []
        taken = [name for name in names if name not in (".lock", ".config.yaml.part")]
    if taken:
        what = "another run" if "config.yaml" in taken else f"{taken[0]!r} and more"
        raise InputError(
            f"{flag} {path} holds {what}; name another directory"
            + (", or continue with --resume." if flag == "--out" else ".")
        )


def _hold(path: Path) -> int:
    with writing(path):
        lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise InputError(f"Another process is working in {path}.") from error
    return lock


def _check_room(folder: Path, size: int) -> None:
    """The system's own error if the disk has no room for a state of `size` bytes.

    On a full disk Orbax prints pages from its threads, so it is not asked to try.
    """
    size = 2 * size + 2**20  # it writes twice, and files that describe the state
    if not hasattr(os, "posix_fallocate"):
        if shutil.disk_usage(folder).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return
    with (folder / ".room").open("wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        finally:
            os.unlink(file.name)


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
