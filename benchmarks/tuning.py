"""Tuners on one network and one budget: random search, ASHA, BOHB, PBT and PB2 by validation accuracy.

    python -m jaxnas.benchmarks.tuning --data digits --budget 64 --seeds 0,1,2,3,4
    python -m jaxnas.benchmarks.tuning --data CIFAR.npz --resolution 8 --tuners pbt@4,pb2@4,pbt@8,pb2@8

`NAME@N` has N members, each trained for budget / N epochs if all are. All tuners search learning rate,
weight decay, label smoothing and momentum, and pay for epochs of a member. Printed are mean, deviation
and each seed's best validation accuracy; a seed that is finished is in the results file and is not done
again.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.backend import deal_out_over_cores, enable_compilation_cache
from jaxnas.benchmarks.reduced import RESIDUAL, prepared
from jaxnas.benchmarks.speed.common import machine
from jaxnas.data.load import load
from jaxnas.errors import InputError
from jaxnas.hpo import get_tuner, run
from jaxnas.hpo.training_trials import TrainingTrials
from jaxnas.search_spaces import get_space
from jaxnas.stages.tune import usual_space
from jaxnas.training.hyper import Hyper


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m jaxnas.benchmarks.tuning")
    add = parser.add_argument
    add("--data", default="digits", help="as `jaxnas.search --data`")
    add("--arch", default=RESIDUAL, help="of NAS-Bench-201; default: a residual block")
    add("--tuners", default="random@8,asha@8,bohb@8,pbt@8,pb2@8,pbt@4,pb2@4")
    add("--budget", type=int, default=64, help="epochs of all members together (default 64)")
    add("--seeds", default="0,1,2,3,4")
    add("--channels", type=int, default=8)
    add("--resolution", type=int, default=8)
    add("--batch-size", type=int, default=64)
    add("--out", default="tuning.json")
    args = parser.parse_args(argv)
    deal_out_over_cores()
    enable_compilation_cache()
    try:
        found = _results(args)
    except InputError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    print(machine())
    for name, by_seed in found.items():
        values = np.array(list(by_seed.values()))
        spread = f" +- {values.std(ddof=1):.4f}" if len(values) > 1 else ""
        each = " ".join(f"{v:.4f}" for v in values)
        print(f"{name:12} validation accuracy {values.mean():.4f}{spread}  ({each})")
    return 0


def _results(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    settings = {k: v for k, v in vars(args).items() if k not in ("out", "seeds", "tuners")}
    out = Path(args.out)
    whole: dict[str, Any] = {"settings": settings, "machine": machine(), "found": {}}
    if out.is_file():
        whole = json.loads(out.read_text())
        if whole["settings"] != settings:
            raise InputError(f"{out} holds runs with other settings; name another --out.")
    found = whole["found"]
    asked = args.tuners.split(",")
    for name in asked:
        done = found.setdefault(name, {})
        trials = None
        for seed in args.seeds.split(","):
            if seed not in done:
                trials = trials or _trials(args, name)
                done[seed] = _one(args, name, int(seed), trials)
                print(f"{name} seed {seed}: {done[seed]:.4f}", flush=True)
                out.write_text(json.dumps(whole, indent=1) + "\n")
    return {name: found[name] for name in asked}


def _members(name: str) -> tuple[str, int]:
    tuner, at, n = name.rpartition("@")
    if not at or not n.isdigit() or int(n) < 1:
        raise InputError(f"{name!r} is no tuner with its members; expected NAME@N, as in pbt@8.")
    return tuner, int(n)


def _trials(args: argparse.Namespace, name: str) -> TrainingTrials:
    _, n = _members(name)
    space, data = get_space("nasbench201"), load(args.data)
    row = space.rows(space.pruned(space.from_string(args.arch)[None]))
    size = replace(space.train_size, channels=args.channels, resolution=args.resolution)
    network = space.network(size, classes=data.classes, image_channels=data.channels)
    return TrainingTrials(
        network,
        np.repeat(row, n, axis=0),
        prepared(data, args.resolution),
        Hyper.constant(n, flip=0.0 if args.data == "digits" else 0.5),
        max(1, args.budget // n),
        args.batch_size,
    )


def _one(args: argparse.Namespace, name: str, seed: int, trials: TrainingTrials) -> float:
    tuner, n = _members(name)
    result = run(
        get_tuner(tuner),
        trials,
        usual_space("sgd"),
        n=n,
        units=trials.epochs,
        budget=args.budget,
        seed=seed,
    )
    return result.fitness


if __name__ == "__main__":
    sys.exit(main())
