"""Searches so small that a test can afford them, in this process and as programs of their own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from jaxnas.runs import Run
from jaxnas.search_spaces.nasbench201 import NASBench201

TINY = {
    "channels": 4,
    "cells": 1,
    "resolution": 8,
    "epochs": 2,
    "top": 2,
    "train": {"baselines": 1},
}
FLAGS = [
    *("--channels", "4", "--cells", "1", "--resolution", "8", "--epochs", "2", "--top", "2"),
    *("--train.baselines", "1"),
]
"""The same as flags; the largest and one random architecture are trained beside the best two."""


class Killed(BaseException):
    """What stands for the death of a process: nothing in the library may catch it."""


def program(*args: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """`python -m jaxnas.search ARGS` in a folder of its own."""
    command = [sys.executable, "-m", "jaxnas.search", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, **options)


def fewer(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Make NAS-Bench-201 the space of its first `rows` architectures."""
    every = NASBench201.all
    monkeypatch.setattr(NASBench201, "all", lambda self: every(self)[:rows])


def images(n: int, *shape: int, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images whose brightness tells their class, and the labels."""
    y = np.arange(n) % classes
    noise = np.random.default_rng(seed).integers(0, 60, (n, *shape))
    return (noise + 60 * y.reshape(-1, *[1] * len(shape))).astype(np.uint8), y


def refuse_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")


def result_of(directory: Path) -> dict[str, Any]:
    """result.json but for its seconds and devices, read as strict JSON.

    A program of its own has a CPU device for each core, a process that JAX runs in already has one.
    """
    text = (directory / "result.json").read_text(encoding="utf-8")
    result = json.loads(text, parse_constant=refuse_constant)
    del result["seconds"], result["device"]
    return result


def journal_of(directory: Path) -> list[dict[str, Any]]:
    lines = (directory / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line, parse_constant=refuse_constant) for line in lines]


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """When every file and folder below was changed last, and the files' contents."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in folder.rglob("*")
    }


def kill_at(
    patch: pytest.MonkeyPatch, method: str, what: str, nth: int = 1, *, after: bool
) -> None:
    """Die at the n-th call of a method of `Run` for `what`, before it does its work or after.

    `what` is the stage and unit of an entry, the name of a file, or the stage and epoch of a state.
    """
    original, calls = getattr(Run, method), [0]

    def dying(self: Run, *args: Any, **kwargs: Any) -> Any:
        own = args[:1] if method == "write" else (*args, *kwargs.values())[:2]
        calls[0] += " ".join(map(str, own)) == what
        if calls[0] == nth and not after:
            raise Killed
        result = original(self, *args, **kwargs)
        if calls[0] == nth:
            raise Killed
        return result

    patch.setattr(Run, method, dying)


_finished: list[Path] = []


def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a whole search by the command line, the same for all who ask; only to read."""
    if not _finished:
        folder = tmp_path_factory.mktemp("elsewhere")
        done = program(*FLAGS, "--out", "run", cwd=folder)
        assert done.returncode == 0, done.stderr
        (folder / "stdout").write_text(done.stdout)
        (folder / "stderr").write_text(done.stderr)
        _finished.append(folder / "run")
    return _finished[0]
