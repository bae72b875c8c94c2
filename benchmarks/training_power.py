"""How well short trainings rank a table where training-free scores hardly do, as a curve in seconds.

    python -m jaxnas.benchmarks.training_power --data FILE.npz --table T.parquet --target c10_test \\
        --from top,random --draws 3 --archs 64 --epochs 10 --channels 16 --resolution 16

Architectures are drawn from the best tenth of the label-free ranking, or from the whole space, and
trained as one population. After each epoch Kendall's tau-b of validation accuracy, validation loss and
training losses (SoTL, SoTL-E) with the table's column is printed, beside that of the label-free ranking,
of each of its proxies and of the ranking by both together (the sum of the two ranks). A draw that is
finished is in the results file and is not done again.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxnas.backend import deal_out_over_cores, enable_compilation_cache
from jaxnas.benchmarks.evaluation.correlation import interval, kendall, kendall_of
from jaxnas.benchmarks.speed.common import machine
from jaxnas.benchmarks.tables import Table, load_table
from jaxnas.data.dataset import Dataset
from jaxnas.data.load import load
from jaxnas.errors import InputError, unknown
from jaxnas.proxies import get_proxies
from jaxnas.proxies.presets import resolve
from jaxnas.ranking import oriented, rank
from jaxnas.scoring.combine import ranks
from jaxnas.spaces import SearchSpace, Size
from jaxnas.training.fidelity import MEASURES
from jaxnas.training.hyper import Hyper
from jaxnas.training.population import (
    EpochMetrics,
    Population,
    TrainingData,
    init_population,
    train_population,
)

POOLS = ("top", "random")
TOP = 0.1
"""The share of the label-free ranking that `top` draws from."""
RESAMPLES = 1000


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 2 for bad input."""
    args = _parser().parse_args(argv)
    deal_out_over_cores()
    enable_compilation_cache()
    try:
        results = _results(args, argv)
    except InputError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    _summary(results)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m jaxnas.benchmarks.training_power")
    add = parser.add_argument
    add("--data", required=True, help="as `jaxnas.search --data`")
    add("--table", required=True, help="a table that `tables import` wrote")
    add("--target", required=True, help="the column to rank by, higher is better")
    add("--from", dest="pools", default="top,random", help="top, random or both (default)")
    add("--draws", type=int, default=3, help="of each, seeds 0, 1, ... (default 3)")
    add("--archs", type=int, default=64, help="architectures a draw (default 64)")
    add("--proxies", default="default", help="the label-free ranking (default: default)")
    add("--epochs", type=int, default=10)
    add("--channels", type=int, default=16)
    add("--cells", default="1,1,1", help="of each stage (default 1,1,1)")
    add("--resolution", type=int, default=16)
    add("--batch-size", type=int, default=64)
    add("--learning-rate", type=float, default=0.1)
    add("--weight-decay", type=float, default=5e-4)
    add("--flip", type=float, default=0.5, help="probability of a flip (default .5)")
    add("--shift", type=float, default=2, help="pixels at most (default 2)")
    add("--out", default="training_power.json", help="results (default training_power.json)")
    return parser


def _results(args: argparse.Namespace, argv: Sequence[str] | None) -> list[dict[str, Any]]:
    pools = args.pools.split(",")
    for pool in pools:
        if pool not in POOLS:
            raise unknown("pool", pool, POOLS)
    settings = {k: v for k, v in vars(args).items() if k not in ("out", "draws", "pools")}
    out = Path(args.out)
    before = json.loads(out.read_text()) if out.is_file() else {"settings": settings, "draws": []}
    if before["settings"] != settings:
        raise InputError(f"{out} holds draws with other settings; name another --out.")
    done = {(d["pool"], d["seed"]): d for d in before["draws"]}
    table, data = load_table(args.table), load(args.data)
    space = table.space
    if space is None or space.programs > 1:
        raise InputError(f"{args.table} is of no space of one shape class that jaxnas has.")
    for pool in pools:
        for seed in range(args.draws):
            if (pool, seed) not in done:
                done[pool, seed] = _draw(space, table, data, args, pool, seed)
                whole = {
                    "command": shlex.join(
                        [
                            "python",
                            "-m",
                            "jaxnas.benchmarks.training_power",
                            *(argv or sys.argv[1:]),
                        ]
                    ),
                    "machine": machine(),
                    "settings": settings,
                    "draws": list(done.values()),
                }
                beside = out.with_name(f".{out.name}.part")
                beside.write_text(json.dumps(whole, indent=1) + "\n")
                beside.replace(out)
    return [done[pool, seed] for pool in pools for seed in range(args.draws)]


def _draw(
    space: SearchSpace,
    table: Table,
    data: Dataset,
    args: argparse.Namespace,
    pool: str,
    seed: int,
) -> dict[str, Any]:
    """One draw: ranked without labels, trained, and compared with the table epoch by epoch."""
    ranking = rank(space, data.train.x, data.train.y, proxies=args.proxies, seed=seed)
    chosen = _chosen(space, ranking, args.archs, pool, seed)
    archs = np.stack([space.from_string(arch) for arch in chosen["arch"]])
    target = table.query(archs, args.target)
    free = chosen["score"].to_numpy()
    proxies = get_proxies(resolve(args.proxies.split(",")).proxies)
    fixed = {p.name: oriented(p, chosen[p.name].to_numpy(float)) for p in proxies}
    fixed["ranking"] = free
    print(f"{pool}, seed {seed}: {len(archs)} architectures", flush=True)
    for name, values in fixed.items():
        print(f"  {name:16} Kendall {kendall(values, target):+.3f}")
    curve, last = _trained(space, archs, data, args, seed, free, target)
    labels = {"trained": last, "ranking": free, "together": ranks(last) + ranks(free)}
    return {
        "pool": pool,
        "seed": seed,
        "without_labels": {name: kendall(v, target) for name, v in fixed.items()},
        "curve": curve,
        "intervals": {
            name: interval([kendall_of(v, target)], len(target), RESAMPLES)
            for name, v in labels.items()
        },
    }


def _chosen(
    space: SearchSpace, ranking: pd.DataFrame, n: int, pool: str, seed: int
) -> pd.DataFrame:
    """`n` rows of the ranking's best tenth, or of all that are connected, drawn by the seed."""
    rows = np.stack([space.from_string(arch) for arch in ranking["arch"]])
    connected = ranking[space.connected(rows)]
    if pool == "top":
        connected = connected.iloc[: round(TOP * len(ranking))]
    if len(connected) < n:
        raise InputError(f"--archs is {n}, but the pool {pool} has only {len(connected)}.")
    return pd.DataFrame(connected.sample(n, random_state=seed))


def _trained(
    space: SearchSpace,
    archs: np.ndarray,
    data: Dataset,
    args: argparse.Namespace,
    seed: int,
    free: np.ndarray,
    target: np.ndarray,
) -> tuple[list[dict[str, float]], np.ndarray]:
    """What each epoch's measures rank like, and the last validation accuracies."""
    size = Size(args.channels, tuple(int(n) for n in args.cells.split(",")), args.resolution)
    network = space.network(size, classes=data.classes, image_channels=data.channels)
    splits = (
        array
        for split in (data.train, data.val)
        for array in (data.prepare(split.x, args.resolution), split.y)
    )
    images = TrainingData(*map(jnp.asarray, splits))
    rows = space.rows(archs)
    hyper = Hyper.constant(
        len(rows),
        learning_rate=args.learning_rate,
        weight_decay=args.weight_decay,
        flip=args.flip,
        shift=args.shift,
    )
    curve: list[dict[str, float]] = []
    epochs: list[EpochMetrics] = []
    start = time.perf_counter()

    def on_epoch(epoch: int, population: Population, metrics: EpochMetrics) -> None:
        epochs.append(metrics)
        found = {name: measure(epochs) for name, measure in MEASURES.items()}
        found["val_loss"] = -metrics.val_loss
        found["together"] = ranks(found["last_seen"]) + ranks(free)
        entry = {name: kendall(values, target) for name, values in found.items()}
        curve.append({"epoch": epoch, "seconds": time.perf_counter() - start, **entry})
        said = ", ".join(f"{name} {value:+.3f}" for name, value in entry.items())
        print(f"  epoch {epoch}, {curve[-1]['seconds']:.0f} s: {said}", flush=True)

    population = init_population(network, np.arange(len(rows), dtype=np.uint32) + seed, rows)
    train_population(
        network,
        rows,
        hyper,
        images,
        epochs=args.epochs,
        batch_size=args.batch_size,
        population=jax.block_until_ready(population),
        on_epoch=on_epoch,
    )
    return curve, epochs[-1].val_accuracy


def _summary(results: Sequence[dict[str, Any]]) -> None:
    for pool in dict.fromkeys(r["pool"] for r in results):
        draws = [r for r in results if r["pool"] == pool]
        ends = pd.DataFrame([r["without_labels"] | r["curve"][-1] for r in draws])
        print(f"\n{pool}, {len(draws)} draws: Kendall at the end, mean (least to most)")
        for name in ends.columns.drop(["epoch"]):
            values = ends[name]
            print(f"  {name:16} {values.mean():+.3f} ({values.min():+.3f} to {values.max():+.3f})")


if __name__ == "__main__":
    sys.exit(main())
