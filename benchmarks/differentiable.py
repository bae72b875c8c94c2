"""The cells that differentiable strategies find, looked up in a table: several seeds of each.

    python -m jaxnas.benchmarks.differentiable --data FILE.npz --table T.parquet --target c10_test \\
        --strategies darts,gdas,drnas --seeds 3 --epochs 25 --channels 8 --cells 1,1,1 --resolution 16

Half of the training images train weights, half architecture parameters, as the authors do on CIFAR-10.
Printed are the mean and the range over seeds of the table's column for the cell found, and its share of
skip connections, beside published figures, the mean of all connected cells (what a random one gives) and
the cell of the most parameters. A run that is finished is in the results file and is not done again.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.backend import enable_compilation_cache
from jaxnas.benchmarks.reduced import Task, add_arguments, read_task, write_report
from jaxnas.errors import InputError
from jaxnas.supernet.differentiable import STRATEGIES, SearchEpoch, get_strategy, search
from jaxnas.supernet.differentiable.choices import Choices
from jaxnas.training.hyper import Hyper

PUBLISHED = {
    "darts": (54.30, "arXiv:2006.10355"),
    "pcdarts": (93.41, "arXiv:2006.10355"),
    "snas": (92.77, "arXiv:2006.10355"),
    "gdas": (93.51, "arXiv:2001.00326"),
    "betadarts": (94.36, "arXiv:2304.10970"),
    "drnas": (94.36, "arXiv:2006.10355"),
}
"""CIFAR-10 test accuracy in NAS-Bench-201 (the best cell: 94.37) and where it is reported; searches of 16
channels, 15 cells and 50 to 250 epochs on 50,000 images of 32x32 pixels."""
SAMPLE = 10_000
"""Connected architectures whose mean stands for that of a random one, where a space has more."""
NOT_SETTINGS = ("out", "seeds", "strategies")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 2 for bad input."""
    args = _parser().parse_args(argv)
    enable_compilation_cache()
    try:
        runs, references = _results(args, argv)
    except InputError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    print(_text(runs, references, args.target))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m jaxnas.benchmarks.differentiable")
    add_arguments(parser)
    add = parser.add_argument
    add("--strategies", default=",".join(STRATEGIES), help="separated by commas (default: all)")
    add("--seeds", type=int, default=3, help="runs of each, seeds 0, 1, ... (default 3)")
    add("--epochs", type=int, default=25)
    add("--learning-rate", type=float, default=0.025, help="of weights (default .025)")
    add("--weight-decay", type=float, default=5e-4)
    add(
        "--pace",
        type=float,
        default=1.0,
        help="factor of the architecture parameters' published learning rates: a search of fewer "
        "steps goes as far with a larger one (default 1)",
    )
    add("--out", default="differentiable.json", help="results (default differentiable.json)")
    return parser


def _results(
    args: argparse.Namespace, argv: Sequence[str] | None
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Every run that is asked for, in order, and what they are compared with."""
    names = args.strategies.split(",")
    for name in names:
        get_strategy(name)
    settings = {k: v for k, v in vars(args).items() if k not in NOT_SETTINGS}
    out = Path(args.out)
    before = json.loads(out.read_text()) if out.is_file() else {"settings": settings, "runs": []}
    if before["settings"] != settings:
        raise InputError(f"{out} holds runs with other settings; name another --out.")
    done = {(run["strategy"], run["seed"]): run for run in before["runs"]}
    task = read_task(args, val_fraction=0.5)
    references = before.get("references") or _references(task, args.target)
    for name in names:
        for seed in range(args.seeds):
            if (name, seed) in done:
                continue
            done[name, seed] = _run(task, args, name, seed)
            write_report(
                out,
                "differentiable",
                argv,
                settings=settings,
                published=PUBLISHED,
                references=references,
                runs=list(done.values()),
            )
    return [done[name, seed] for name in names for seed in range(args.seeds)], references


def _references(task: Task, target: str) -> dict[str, float]:
    """What is reached without a search: the mean of connected cells, the most parameters, the best."""
    rows = task.table.rows
    rows = rows[task.space.connected(rows)]
    chosen = np.random.default_rng(0).permutation(len(rows))[:SAMPLE]
    values = task.table.query(rows[chosen], target)
    params = task.network.count(task.space.rows(rows)).params
    largest = rows[int(np.argmax(params))]
    return {
        "random": float(values.mean()),
        "random_std": float(values.std(ddof=1)),
        "largest": float(task.table.query(largest[None], target)[0]),
        "best": float(np.nanmax(task.table.values(task.table.column(target).name))),
    }


def _run(task: Task, args: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """One search, and what the table says of each epoch's cell."""
    strategy = get_strategy(name)
    strategy = replace(strategy, learning_rate=args.pace * strategy.learning_rate)
    hyper = Hyper.constant(
        1, learning_rate=args.learning_rate, weight_decay=args.weight_decay, warmup=0.0
    )
    laps = [time.perf_counter()]
    arch, history = search(
        strategy,
        task.space,
        task.network,
        task.data,
        hyper,
        epochs=args.epochs,
        batch_size=args.batch_size,
        seed=seed,
        on_epoch=lambda state, record: laps.append(time.perf_counter()),
    )
    choices = Choices.of(task.network)
    found = task.table.query(np.stack([arch, *(e.arch for e in history)]), args.target)
    result = {
        "strategy": name,
        "seed": seed,
        "target": float(found[0]),
        "arch": task.space.to_string(arch),
        "share_of_skips": choices.share_of_skips(task.space.rows(arch[None])[0]),
        "seconds": round(laps[-1] - laps[0], 1),
        "first_epoch_seconds": round(laps[1] - laps[0], 1),
        "epochs": [_epoch(e, value) for e, value in zip(history, found[1:], strict=True)],
        "probabilities": np.round(history[-1].probabilities.astype(float), 4).tolist(),
    }
    print(
        f"{name}, seed {seed}: {result['target']:.2f}, {result['share_of_skips']:.0%} skip connections, "
        f"entropy {history[-1].entropy:.2f}, {result['seconds']} s: {result['arch']}",
        flush=True,
    )
    return result


def _epoch(record: SearchEpoch, target: float) -> dict[str, float]:
    figures = {
        "train_loss": record.train_loss,
        "val_loss": record.val_loss,
        "entropy": record.entropy,
        "share_of_skips": record.share_of_skips,
        "target": float(target),
    }
    return {k: round(v, 4) for k, v in figures.items()}


def _text(runs: Sequence[dict[str, Any]], references: dict[str, float], target: str) -> str:
    """A table, one row a strategy, and what it is to be compared with."""
    lines = [
        "",
        f"{'strategy':10} {target}: mean (least to most)   skips  entropy  seconds  published",
    ]
    for name in dict.fromkeys(run["strategy"] for run in runs):
        own = [run for run in runs if run["strategy"] == name]
        values = np.array([run["target"] for run in own])
        skips, seconds = (np.mean([run[k] for run in own]) for k in ("share_of_skips", "seconds"))
        entropy = np.mean([run["epochs"][-1]["entropy"] for run in own])
        published, source = PUBLISHED.get(name, (None, ""))
        said = f"{published:.2f} ({source})" if published else "-"
        lines.append(
            f"{name:10} {values.mean():6.2f} ({values.min():.2f} to {values.max():.2f})   {skips:.0%}   "
            f"{entropy:.2f}   {seconds:.0f}   {said}"
        )
    lines.append(
        f"a random connected cell {references['random']:.2f} (deviation {references['random_std']:.2f}), "
        f"the cell of the most parameters {references['largest']:.2f}, the best {references['best']:.2f}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
