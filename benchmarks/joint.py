"""One joint run beside the stages one after another, at equal cost.

    python -m jaxnas.benchmarks.joint --data FILE.npz --seeds 0,1,2 --out joint.json

For each seed the pipeline rank, train, tune, augment, finish is run first and its multiply-adds are
added up; then DiffAutoML (`jaxnas.joint`) gets as many epochs as cost no more, on the same split, with
networks of the same size. Cost is counted, not timed, so that it does not depend on what else the machine
does: 3 forward passes' worth for each image of a training step, 10 for each image of a joint step, which
has two training passes (training and validation images) and the product with second derivatives between
them (`joint_cost.py`). What neither is charged for are the ranking, operations on images and
evaluations; the seconds beside include them, and compilation. What is finished is in the results
file and is not done again; a pipeline that was interrupted goes on.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.augment import PolicyAugment, get_policy
from jaxnas.backend import deal_out_over_cores, enable_compilation_cache
from jaxnas.benchmarks.joint_cost import Task, affordable, spent
from jaxnas.benchmarks.reduced import prepared, write_report
from jaxnas.config import STAGES
from jaxnas.data.load import load
from jaxnas.errors import InputError
from jaxnas.joint import JointEpoch, JointState, Settings
from jaxnas.joint import search as joint_search
from jaxnas.search import search as staged_search
from jaxnas.search_spaces import get_space
from jaxnas.spaces import Size
from jaxnas.training.evaluation import evaluate_population

METHODS = ("stages", "diffautoml")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 2 for bad input."""
    args = _parser().parse_args(argv)
    deal_out_over_cores()
    enable_compilation_cache()
    try:
        _summary(_results(args, argv))
    except InputError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m jaxnas.benchmarks.joint")
    add = parser.add_argument
    add("--data", required=True, help="as `jaxnas.search --data`")
    add("--space", default="nasbench201")
    add("--seeds", default="0,1,2", help="separated by commas (default 0,1,2)")
    add("--cells", default="1,1,1", help="of each stage (default 1,1,1)")
    add("--resolution", type=int, default=None, help="default the data's")
    for name, value, said in (
        ("--channels", 16, "of the networks of both"),
        ("--batch-size", 64, "images a step"),
        ("--budget", 16, "trainings of stage train"),
        ("--train-epochs", 3, "of each of them"),
        ("--tune-epochs", 6, "of each of 8 members"),
        ("--augment-epochs", 20, "of each of 4 policies"),
        ("--finish-epochs", 20, "of the winner"),
    ):
        add(name, type=int, default=value, help=f"{said} (default {value})")
    add("--proxies", default=None, help="of stage rank; default the space's")
    add("--sample", type=int, default=None, help="of architectures ranked; default the space's")
    add("--beside", default="flip_crop", help="policy beside the one learned (default flip_crop)")
    add("--fixed-after", type=float, default=Settings.fixed_after)
    add("--settled-after", type=float, default=Settings.settled_after)
    add("--out", default="joint.json", help="results; runs of stages go to a folder beside it")
    return parser


def _results(args: argparse.Namespace, argv: Sequence[str] | None) -> list[dict[str, Any]]:
    settings = {k: v for k, v in vars(args).items() if k not in ("out", "seeds")}
    out, seeds = Path(args.out), _seeds(args.seeds)
    before = json.loads(out.read_text()) if out.is_file() else {"settings": settings, "runs": []}
    if before["settings"] != settings:
        raise InputError(f"{out} holds runs with other settings; name another --out.")
    done = {(r["seed"], r["method"]): r for r in before["runs"]}
    task = _task(args)
    for seed in seeds:
        for method, run in zip(METHODS, (_staged, _joint), strict=True):
            if (seed, method) in done:
                continue
            found = run(task, seed, done.get((seed, "stages"), {}))
            done[seed, method] = {"seed": seed, "method": method, **found}
            write_report(out, "joint", argv, settings=settings, runs=list(done.values()))
            print(_line(done[seed, method]), flush=True)
    return [done[seed, method] for seed in seeds for method in METHODS]


def _seeds(text: str) -> list[int]:
    try:
        return list(dict.fromkeys(int(seed) for seed in text.split(",")))
    except ValueError:
        raise InputError(f"--seeds is {text!r}, expected whole numbers, as in 0,1,2.") from None


def _task(args: argparse.Namespace) -> Task:
    data, space = load(args.data), get_space(args.space)
    side = args.resolution or min(space.train_size.resolution, *data.resolution)
    size = Size(args.channels, tuple(int(n) for n in args.cells.split(",")), side)
    network = space.network(size, classes=data.classes, image_channels=data.channels)
    return Task(args, space, network, data, prepared(data, side))


def _staged(task: Task, seed: int, _: dict[str, Any]) -> dict[str, Any]:
    """The pipeline; its multiply-adds are those of all networks that it trained."""
    args = task.args
    directory = Path(args.out).with_suffix("") / f"seed-{seed}"
    size = {"channels": args.channels, "cells": args.cells, "resolution": task.network.resolution}
    given = {"proxies": args.proxies, "sample": args.sample}
    start = time.perf_counter()
    result = staged_search(
        args.space,
        args.data,
        out=directory,
        resume=(directory / "config.yaml").is_file(),
        quiet=True,
        seed=seed,
        pipeline=",".join(STAGES[:-1]),
        batch_size=args.batch_size,
        budget=args.budget,
        train={"epochs": args.train_epochs, "baselines": 0},
        tune={"epochs": args.tune_epochs},
        augment={"epochs": args.augment_epochs},
        finish={"epochs": args.finish_epochs},
        **size,
        **{k: v for k, v in given.items() if v is not None},
    )
    seconds = time.perf_counter() - start
    return {
        "arch": result.arch,
        "test_accuracy": result.test_accuracy,
        "val_accuracy": result.val_accuracy,
        "macs": result.values["macs"],
        "multiply_adds": sum(result.values["multiply_adds"].values()),
        "seconds": seconds,
    }


def _joint(task: Task, seed: int, staged: dict[str, Any]) -> dict[str, Any]:
    """DiffAutoML for as many epochs as the stages' multiply-adds pay for."""
    args, data = task.args, task.data
    settings = Settings(
        fixed_after=args.fixed_after,
        settled_after=args.settled_after,
        beside=get_policy(args.beside),
    )
    epochs = affordable(task, settings, staged)
    spent_on: list[float] = []

    def on_epoch(state: JointState, record: JointEpoch) -> None:
        spent_on.append(spent(task, record, seed))

    start = time.perf_counter()
    found = joint_search(
        task.space,
        task.network,
        task.images,
        epochs=epochs,
        batch_size=min(args.batch_size, len(task.images.x_val)),
        seed=seed,
        augmenter=PolicyAugment.of(data),
        settings=settings,
        on_epoch=on_epoch,
    )
    x = jnp.asarray(data.prepare(data.test.x, task.network.resolution))
    one = jax.tree.map(lambda a: a[None], found.variables)
    tested = evaluate_population(task.network, one, found.row[None], x, jnp.asarray(data.test.y))
    last = found.history[-1]
    return {
        "arch": task.space.to_string(found.arch),
        "test_accuracy": float(tested[1][0]),
        "val_accuracy": last.val_accuracy,
        "macs": int(task.network.count(found.row[None]).macs[0]),
        "multiply_adds": sum(spent_on),
        "seconds": time.perf_counter() - start,
        "epochs": epochs,
        "learning_rate": last.learning_rate,
        "weight_decay": last.weight_decay,
        "label_smoothing": last.label_smoothing,
    }


def _line(run: dict[str, Any]) -> str:
    return (
        f"seed {run['seed']}, {run['method']}: test accuracy {run['test_accuracy']:.4f}, "
        f"{run['multiply_adds'] / 1e9:,.0f} G multiply-adds, {run['seconds']:.0f} s, {run['arch']}"
    )


def _summary(runs: Sequence[dict[str, Any]]) -> None:
    print("\nTest accuracy, mean (least to most); multiply-adds and seconds, means")
    for method in METHODS:
        own = [r for r in runs if r["method"] == method]
        test = np.array([r["test_accuracy"] for r in own])
        cost, seconds = (np.mean([r[k] for r in own]) for k in ("multiply_adds", "seconds"))
        print(
            f"  {method:10} {test.mean():.4f} ({test.min():.4f} to {test.max():.4f}), {len(own)} seeds; "
            f"{cost / 1e9:,.0f} G, {seconds:.0f} s"
        )


if __name__ == "__main__":
    sys.exit(main())
