"""The whole pipeline beside fixed networks, random search, and itself without a stage.

    python -m jaxnas.benchmarks.pipelines --data digits --seeds 0,1,2 --out runs/pipelines
    python -m jaxnas.benchmarks.pipelines --data CIFAR.npz --variants full,resnet20,random_cell epochs=20

Each variant is a search of its own (`jaxnas.search`) with the same stages, sizes and epochs, in a
directory OUT/VARIANT-SEED that an interrupted benchmark goes on from. `resnet20` and `random_cell`, which
search no architecture, are finished for as many epochs as make up the multiply-adds of `full` with the
same seed, and for no fewer than `full` (`--plain`: for as many). `no_tune`, `no_augment` and `neither`
take what the search of `full` with the same seed found, where that is there, which they would find again.
Further words KEY=VALUE are keys of the configuration for all of them. On digits a support vector machine
and 3 nearest neighbours are printed beside.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import pandas as pd

from jaxnas import config
from jaxnas.backend import deal_out_over_cores
from jaxnas.benchmarks.reduced import RESIDUAL
from jaxnas.benchmarks.speed.common import machine
from jaxnas.config import build, flatten
from jaxnas.console import Screen
from jaxnas.cost import planned
from jaxnas.data.dataset import Dataset
from jaxnas.data.load import load
from jaxnas.errors import InputError, unknown
from jaxnas.pipeline import dataset, run_search
from jaxnas.search_spaces import get_space
from jaxnas.stages.job import Job

FIXED = ("random_cell", "resnet20")
STAGES = config.STAGES[:-1]
"""All but the export."""
LEFT_OUT = {
    "full": (),
    "no_tune": ("tune",),
    "no_augment": ("augment",),
    "neither": ("tune", "augment"),
}
"""The stages that variants of the pipeline leave out."""


def variant(name: str, seed: int, full: Path) -> dict[str, Any]:
    """The keys of the configuration that a variant differs by, `full` being the run of that variant."""
    if name == "random_cell":
        space = get_space("nasbench201")
        drawn = space.sample(jax.random.key(seed), 100)
        arch = space.to_string(drawn[space.connected(drawn)][0])
        return {"arch": arch, "pipeline": STAGES[2:]}
    if name == "resnet20":
        # A reduction of the space is a residual block too: 9 blocks of 2 convolutions, as published.
        return {"arch": RESIDUAL, "pipeline": STAGES[2:], "channels": 16, "cells": [3, 2, 2]}
    if name == "random_search":
        return {"pipeline": STAGES, "proxies": "params", "train.strategy": "random"}
    if name not in LEFT_OUT:
        raise unknown("variant", name, [*LEFT_OUT, *FIXED, "random_search"])
    stages = [s for s in STAGES if s not in LEFT_OUT[name]]
    if name == "full" or not (full / "result.json").is_file():
        return {"pipeline": stages}
    return {"pipeline": stages[2:], "arch": _result(full)["arch"]}


def _result(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "result.json").read_text())


def paid_alike(asked: dict[str, Any], full: Path) -> dict[str, Any]:
    """Keys that bring a fixed network to the multiply-adds of `full` by the epochs of its last training.

    It is tuned, augmented and finished for at least as long as `full` is, even if that costs more.

    Raises:
        InputError: the run directory `full` is not there or not finished.
    """
    if not (full / "result.json").is_file():
        raise InputError(
            f"{full}/result.json is not there, whose multiply-adds fixed networks get; let full be the "
            "first of --variants, or say --plain."
        )
    budget = sum(_result(full)["multiply_adds"].values())
    alike = build(flatten(asked))
    keys = {
        "tune.confirm": alike.stage("tune").confirm,
        "augment.epochs": alike.stage("augment").epochs,
        "finish.epochs": 1,
    }
    fixed = build(flatten(asked | keys))
    space, unused = get_space(fixed.space), cast(Any, None)
    job = Job(fixed, space, dataset(None, fixed), unused, Screen(quiet=True), unused)
    assert fixed.arch is not None
    job.archs = space.pruned(space.from_string(fixed.arch)[None])
    before = sum(planned(job, stage)[0] for stage in ("tune", "augment"))
    paid = int((budget - before) // planned(job, "finish")[0])
    return keys | {"finish.epochs": max(alike.finish.epochs, paid)}


def classical(data: Dataset) -> dict[str, float]:
    """Test accuracy of scikit-learn's support vector machine and 3 nearest neighbours."""
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    splits = {"train": data.train, "test": data.test}
    flat = {name: split.x.reshape(len(split), -1) for name, split in splits.items()}
    found = {}
    for name, model in (("SVC", SVC(C=10)), ("3 nearest neighbours", KNeighborsClassifier(3))):
        model.fit(flat["train"], data.train.y)
        found[name] = float(model.score(flat["test"], data.test.y))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m jaxnas.benchmarks.pipelines")
    parser.add_argument("--data", default="digits", help="as `jaxnas.search --data`")
    parser.add_argument("--variants", default="full", help="separated by commas")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", default="runs/pipelines", help="directory of the runs")
    parser.add_argument(
        "--plain", action="store_true", help="fixed networks as briefly as found ones"
    )
    parser.add_argument("keys", nargs="*", metavar="KEY=VALUE", help="of the configuration")
    args = parser.parse_args(argv)
    deal_out_over_cores()  # before a fixed network is sampled and counted, which is on one device
    try:
        rows = _rows(args)
    except InputError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    _print(rows, args)
    return 0


def _rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    common = dict(word.split("=", 1) for word in args.keys)
    rows = []
    for name in args.variants.split(","):
        for seed in map(int, args.seeds.split(",")):
            out = Path(args.out, f"{name}-{seed}")
            resume = (out / "config.yaml").is_file()
            full = Path(args.out, f"full-{seed}")
            asked = {"data": args.data, "seed": seed, **common} | variant(name, seed, full)
            if name in FIXED and not args.plain:
                asked |= paid_alike(asked, full)
            asked |= {"out": str(out), "resume": resume}
            result = run_search(flatten(asked)).values
            seconds = {k: v["run"] + v["compile"] for k, v in result["seconds"].items()}
            rows.append(
                {
                    "variant": name,
                    "seed": seed,
                    "arch": result["arch"],
                    "params": result["params"],
                    "val_accuracy": result["val_accuracy"],
                    "test_accuracy": result["test_accuracy"],
                    "T multiply-adds": sum(result["multiply_adds"].values()) / 1e12,
                    "seconds": sum(seconds.values()),
                    **seconds,
                }
            )
    return rows


def _print(rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    frame = pd.DataFrame(rows)
    print(machine())
    print(frame.round(4).to_string(index=False))
    for name, group in frame.groupby("variant", sort=False):
        tests = group["test_accuracy"].to_numpy(float)
        spread = f" +- {np.std(tests, ddof=1):.4f}" if len(tests) > 1 else ""
        took = f"{group['seconds'].mean():.0f} s"
        print(f"{name:14} test {tests.mean():.4f}{spread} ({took} each, {len(tests)} seeds)")
    if args.data == "digits":
        for name, accuracy in classical(load("digits")).items():
            print(f"{name:14} test {accuracy:.4f}")
    Path(args.out, "results.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
