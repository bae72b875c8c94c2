"""What benchmarks that train at a reduced size share: flags, a table's space, its network and images."""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from jaxnas.benchmarks.speed.common import machine
from jaxnas.benchmarks.tables import Table, load_table
from jaxnas.data.dataset import Dataset
from jaxnas.data.load import load
from jaxnas.errors import InputError
from jaxnas.network import Network
from jaxnas.spaces import SearchSpace, Size
from jaxnas.training.population import TrainingData

RESIDUAL = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"
"""A residual block of two convolutions as a cell of NAS-Bench-201."""


@dataclass(frozen=True)
class Task:
    """A table, its space, a network of that space, and prepared images."""

    table: Table
    space: SearchSpace
    network: Network
    data: TrainingData


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that `read_task` reads."""
    add = parser.add_argument
    add("--data", required=True, help="as `jaxnas.search --data`")
    add("--table", required=True, help="a table that `tables import` wrote")
    add("--target", required=True, help="the column to rank by, higher is better")
    add("--channels", type=int, default=8)
    add("--cells", default="1,1,1", help="of each stage (default 1,1,1)")
    add("--resolution", type=int, default=16)
    add("--batch-size", type=int, default=64)


def read_task(args: argparse.Namespace, *, val_fraction: float = 0.2) -> Task:
    """What the flags name.

    Args:
        args: parsed flags of `add_arguments`.
        val_fraction: as of `jaxnas.data.load.load`.

    Raises:
        InputError: a table of no space that jaxnas has, or of several networks; unreadable files.
    """
    table = load_table(args.table)
    space = table.space
    if space is None or space.programs > 1:
        raise InputError(f"{args.table} is of no space of one shape class that jaxnas has.")
    data = load(args.data, val_fraction=val_fraction)
    cells = tuple(int(n) for n in args.cells.split(","))
    size = Size(args.channels, cells, args.resolution)
    network = space.network(size, classes=data.classes, image_channels=data.channels)
    return Task(table, space, network, prepared(data, args.resolution))


def prepared(data: Dataset, resolution: int) -> TrainingData:
    """Training and validation images as network inputs, on the device."""
    arrays = (
        array
        for split in (data.train, data.val)
        for array in (data.prepare(split.x, resolution), split.y)
    )
    return TrainingData(*map(jnp.asarray, arrays))


def write_report(out: str | Path, module: str, argv: Sequence[str] | None, **contents: Any) -> None:
    """Write the command, the machine and `contents` as JSON, whole or not at all."""
    path = Path(out)
    command = shlex.join(["python", "-m", f"jaxnas.benchmarks.{module}", *(argv or sys.argv[1:])])
    report = {"command": command, "machine": machine(), **contents}
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(json.dumps(report, indent=1) + "\n")
    beside.replace(path)
