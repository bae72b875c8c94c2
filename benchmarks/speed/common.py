"""What the speed scripts share: spread, machine, children of their own."""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any


def spread(seconds: Sequence[float]) -> str:
    """Median and range."""
    return (
        f"median {statistics.median(seconds):.3g} (min {min(seconds):.3g}, max {max(seconds):.3g})"
    )


def machine() -> str:
    """Processor, cores and versions, in one line."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            name = next(line.split(":")[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        pass
    versions = ", ".join(f"{p} {version(p)}" for p in ("jax", "flax", "numpy"))
    return f"{name}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}"


def child(module: str, arguments: Sequence[str], **environment: str) -> Any:
    """Run `python -m module` in a process of its own; its last line of output is JSON."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.strip().splitlines()[-1])
