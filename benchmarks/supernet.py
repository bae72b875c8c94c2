"""How well accuracy by inherited weights ranks a table: super-nets trained for some minutes each.

    python -m jaxnas.benchmarks.supernet --data FILE.npz --table T.parquet --target c10_test \\
        --trainers spos,fairnas --minutes 20 --sample 1000 --channels 8 --resolution 16

Each trainer trains a super-net of the table's space, then evaluates a sample of cells (drawn by a fixed
seed, distinct and connected) on the validation images, and Kendall's tau-b and Spearman's rho of these
accuracies with the table's column are printed with a bootstrap interval over cells, beside the sizes'.
Published super-nets of NAS-Bench-201, of full size and trained for hours, reach a Kendall of about .5.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxnas.backend import enable_compilation_cache
from jaxnas.benchmarks.evaluation.correlation import interval, kendall_of, spearman_of
from jaxnas.benchmarks.reduced import Task, add_arguments, read_task, write_report
from jaxnas.errors import InputError
from jaxnas.supernet.inherited import Inherited, calibration_batches, evaluate_inherited
from jaxnas.supernet.shared import SuperNet
from jaxnas.supernet.source import Source
from jaxnas.supernet.train import SuperNetMetrics, get_trainer, init_supernet, train_supernet
from jaxnas.training.hyper import Hyper

LITERATURE = "published super-nets of NAS-Bench-201: Kendall about .5"
RESAMPLES = 1000


@dataclass(frozen=True)
class Job:
    """What is the same for all trainers."""

    task: Task
    archs: np.ndarray
    target: np.ndarray
    batch_size: int
    validation: int
    seed: int


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 2 for bad input."""
    args = _parser().parse_args(argv)
    enable_compilation_cache()
    try:
        results = [_one(_job(args), name, args) for name in args.trainers.split(",")]
    except InputError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    if args.out:
        write_report(args.out, "supernet", argv, literature=LITERATURE, results=results)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m jaxnas.benchmarks.supernet")
    add_arguments(parser)
    add = parser.add_argument
    add("--trainers", default="spos,fairnas", help="super-net trainers, separated by commas")
    add("--minutes", type=float, default=20, help="of training for each, compilation aside")
    add("--sample", type=int, default=1000, help="cells evaluated (default 1000)")
    add("--learning-rate", type=float, help="default .05, for fairnas .01: it sums gradients")
    add("--weight-decay", type=float, default=5e-4)
    add("--flip", type=float, default=0.5, help="probability of a flip (default .5)")
    add("--shift", type=float, default=2, help="pixels at most (default 2)")
    add("--validation", type=int, default=1000, help="validation images (default 1000)")
    add("--calibration", type=int, default=256, help="training images for batch norm (default 256)")
    add("--seed", type=int, default=0)
    add("--out", default="supernet.json", help="where the results go (default supernet.json)")
    return parser


def _job(args: argparse.Namespace) -> Job:
    task = read_task(args)
    archs = Source(task.space).distinct(jax.random.key(0), args.sample)
    target = task.table.query(archs, args.target)
    return Job(task, archs, target, args.batch_size, args.validation, args.seed)


def _one(job: Job, name: str, args: argparse.Namespace) -> dict[str, Any]:
    rate = args.learning_rate or (0.01 if name == "fairnas" else 0.05)
    hyper = Hyper.constant(
        1,
        learning_rate=rate,
        weight_decay=args.weight_decay,
        flip=args.flip,
        shift=args.shift,
    )
    state, training = _train(job, name, hyper, 60 * args.minutes)
    start = time.perf_counter()
    calibration = calibration_batches(
        job.task.data.x, images=args.calibration, batch_size=min(args.calibration, 256)
    )

    def on_chunk(done: int, of: int, found: Inherited) -> None:
        print(f"\r{name}: {done} of {of} evaluated", end="", file=sys.stderr, flush=True)

    found = evaluate_inherited(
        job.task.network,
        state.variables,
        job.task.space.rows(job.archs),
        job.task.data.x_val[: job.validation],
        job.task.data.y_val[: job.validation],
        calibration=calibration,
        on_chunk=on_chunk,
    )
    print(file=sys.stderr)
    seconds = time.perf_counter() - start
    best = int(np.lexsort((found.loss, -found.accuracy))[0])
    counts = job.task.network.count(job.task.space.rows(job.archs))
    scores = {"accuracy": found.accuracy, "loss": -found.loss, "params": counts.params}
    result = {
        "trainer": name,
        "target": args.target,
        "cells": len(job.archs),
        **training,
        "evaluation_seconds": round(seconds, 1),
        "mean_accuracy": float(found.accuracy.mean()),
        "best": {
            "arch": job.task.space.to_string(job.archs[best]),
            "target": float(job.target[best]),
        },
        "ranking": {k: _correlations(v, job.target) for k, v in scores.items()},
        "settings": vars(args)
        | {"hyper": {k: float(v[0]) for k, v in hyper._asdict().items() if v is not None}},
    }
    print(_text(result), flush=True)
    return result


def _train(job: Job, name: str, hyper: Hyper, budget: float) -> tuple[SuperNet, dict[str, float]]:
    """As many epochs as fit the budget, by the second epoch of a state that is thrown away."""
    laps = [time.perf_counter()]

    def timed(epoch: int, state: SuperNet, metrics: SuperNetMetrics) -> None:
        laps.append(time.perf_counter())

    def run(epochs: int, on_epoch: Any, state: SuperNet | None = None) -> SuperNet:
        return train_supernet(
            name,
            job.task.space,
            job.task.network,
            job.task.data,
            hyper,
            epochs=epochs,
            batch_size=job.batch_size,
            seed=job.seed,
            state=state,
            on_epoch=on_epoch,
        )

    run(2, timed)
    epochs = max(1, int(budget / (laps[2] - laps[1])))
    compiling = laps[1] - laps[0] - (laps[2] - laps[1])
    print(f"{name}: {epochs} epochs of {laps[2] - laps[1]:.1f} s", file=sys.stderr)
    losses: list[float] = []

    def noted(epoch: int, state: SuperNet, metrics: SuperNetMetrics) -> None:
        losses.append(metrics.train_loss)
        line = f"\r{name}: epoch {epoch} of {epochs}, loss {metrics.train_loss:.3f}"
        print(line, end="", file=sys.stderr, flush=True)

    start = time.perf_counter()
    fresh = init_supernet(get_trainer(name), job.task.space, job.task.network, seed=job.seed)
    state = run(epochs, noted, fresh)
    print(file=sys.stderr)
    seconds = time.perf_counter() - start
    figures = {"epochs": epochs, "training_seconds": round(seconds, 1), "train_loss": losses[-1]}
    return state, {**figures, "compile_seconds": round(compiling, 1)}


def _correlations(scores: np.ndarray, target: np.ndarray) -> dict[str, list[float]]:
    """Each correlation and its 95 % interval."""
    found = {}
    for name, of in (("kendall", kendall_of), ("spearman", spearman_of)):
        correlation = of(np.asarray(scores, np.float64), target)
        whole = float(correlation(np.ones((len(target), 1)))[0])
        low, high = interval([correlation], len(target), RESAMPLES)
        found[name] = [round(v, 4) for v in (whole, low, high)]
    return found


def _text(result: dict[str, Any]) -> str:
    head = (
        f"{result['trainer']}: {result['epochs']} epochs in {result['training_seconds']} s, "
        f"{result['cells']} cells in {result['evaluation_seconds']} s, mean accuracy "
        f"{result['mean_accuracy']:.3f}; best {result['best']['arch']}: {result['target']} "
        f"{result['best']['target']:.2f}"
    )
    lines = [
        f"  {score:9s} "
        + "   ".join(
            f"{name} {v:+.3f} [{low:+.3f}, {high:+.3f}]" for name, (v, low, high) in c.items()
        )
        for score, c in result["ranking"].items()
    ]
    return "\n".join([head, *lines, f"  ({LITERATURE})"])


if __name__ == "__main__":
    sys.exit(main())
