"""Finished units of a benchmark, in its directory, so that an interrupted one goes on."""

import hashlib
import io
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.benchmarks.evaluation.protocol import difference
from jaxnas.errors import InputError
from jaxnas.runs import Run, numbers

Scores = dict[str, np.ndarray]
KEEP_SECONDS = 20.0
"""A unit that takes longer has its rows journalled in between."""


class Store:
    """Keeps scores and timings; without a directory, in memory alone.

    A unit's scores are a file of their own, which is on disk before the journal says so; its SHA-256 is
    in the journal, and a file that is not what was journalled is computed again. A long unit's rows are
    journalled as they come.
    """

    def __init__(self, run: Run | None) -> None:
        self.run = run
        self._spent: list[dict[str, float]] = []
        self._waiting: list[Scores] = []
        self._kept = time.monotonic()

    @classmethod
    def open(cls, directory: str | Path | None, manifest: dict[str, Any]) -> "Store":
        """The store of a benchmark in a directory, new or begun with the same manifest.

        Raises:
            InputError: the directory holds something else, or a benchmark with another manifest (the
                first difference), or another process works in it.
        """
        if directory is None:
            return cls(None)
        path = Path(directory)
        if not (path / "config.yaml").is_file():
            _check_free(path)
            return cls(Run.create(path, manifest))
        run = Run.open(path)
        try:
            _check_same(run, manifest)
        except InputError:
            run.close()
            raise
        return cls(run)

    def close(self) -> None:
        """Let others have the directory."""
        if self.run is not None:
            self.run.close()

    def scores(self, unit: str) -> Scores | None:
        """The scores of a finished unit; None where it is not finished."""
        for entry in self._entries("score", unit):
            path = self._path(unit)
            data = path.read_bytes() if path.is_file() else b""
            if hashlib.sha256(data).hexdigest() == entry["sha256"]:
                with np.load(io.BytesIO(data)) as arrays:
                    return dict(arrays)
        return None

    def keep_scores(self, unit: str, scores: Scores, seconds: dict[str, float]) -> None:
        """Put a finished unit on disk, then into the journal."""
        self._spent.append(seconds)
        if self.run is None:
            return
        buffer = io.BytesIO()
        np.savez(buffer, **scores)  # pyright: ignore
        data = buffer.getvalue()
        self.run.write(self._path(unit).name, lambda path: _write_through(path, data))
        digest = hashlib.sha256(data).hexdigest()
        self.run.record(stage="score", unit=unit, sha256=digest, seconds=seconds)

    def rows(self, unit: str) -> Scores:
        """What an unfinished unit had scored: its first rows, in the order in which they are scored."""
        parts = [entry["scores"] for entry in self._entries("rows", unit)]
        if not parts:
            return {}
        return {name: np.concatenate([numbers(part[name]) for part in parts]) for name in parts[0]}

    def keep_rows(self, unit: str, scores: Scores) -> None:
        """Put the next rows of a unit under way into the journal, with others, after a while."""
        if self.run is None:
            return
        self._waiting.append(scores)
        if time.monotonic() - self._kept >= KEEP_SECONDS:
            joined = {n: np.concatenate([each[n] for each in self._waiting]) for n in scores}
            self.run.record(stage="rows", unit=unit, scores=joined)
            self.begin()

    def begin(self) -> None:
        """A unit begins: nothing waits for the journal."""
        self._waiting, self._kept = [], time.monotonic()

    def scoring_seconds(self) -> dict[str, float]:
        """Seconds of all units, `{"run": ..., "compile": ...}`, over all interruptions."""
        if self.run is not None:
            return self.run.seconds().get("score", {"run": 0.0, "compile": 0.0})
        return {kind: sum(each[kind] for each in self._spent) for kind in ("run", "compile")}

    def seconds(self, unit: str) -> dict[str, float] | None:
        """The timing of a finished unit."""
        found = self._entries("cost", unit)
        return found[-1]["timing"] if found else None

    def keep_seconds(self, unit: str, timing: dict[str, float]) -> None:
        """Put a timing into the journal."""
        if self.run is not None:
            self.run.record(stage="cost", unit=unit, timing=timing)

    def _entries(self, stage: str, unit: str) -> list[dict[str, Any]]:
        return [] if self.run is None else self.run.of_stage(stage, unit)

    def _path(self, unit: str) -> Path:
        assert self.run is not None
        return self.run.directory / f"scores-{unit}.npz"


def _check_same(run: Run, manifest: dict[str, Any]) -> None:
    """`InputError` unless the directory's manifest is this one, or nothing was done under it yet."""
    import yaml

    path = run.directory
    kept = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
    if not isinstance(kept, dict) or kept.get("benchmark") != manifest["benchmark"]:
        raise InputError(f"{path} holds another kind of run; name another directory.")
    if not (differs := difference(kept, manifest)):
        return
    if run.entries:
        raise InputError(
            f"{path} holds a benchmark with another manifest, {differs}; name another directory."
        )
    run.write_text("config.yaml", yaml.safe_dump(manifest, sort_keys=False))


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _check_free(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(f"--out {path} is a file, expected a directory.")
    names = sorted(p.name for p in path.iterdir()) if path.exists() else []
    taken = [name for name in names if name not in (".lock", ".config.yaml.part")]
    if taken:
        raise InputError(
            f"--out {path} holds {taken[0]!r} and no benchmark; name another directory."
        )
