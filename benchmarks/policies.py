"""What augmentation is worth: one architecture trained with several policies, several seeds each.

    python -m jaxnas.benchmarks.policies --data CIFAR.npz --arch '|...|' --seeds 0,1,2 --epochs 30

All copies, a policy and a seed each, are one population; a searched policy (`--search pba`) is found
first, for each seed, with the same number of epochs. Printed are mean and deviation of the test accuracy
over seeds.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnas.augment import PolicyAugment, get_policy, stack
from jaxnas.augment.search import SEARCHES, Found, Setting
from jaxnas.backend import deal_out_over_cores, enable_compilation_cache
from jaxnas.benchmarks.reduced import prepared
from jaxnas.benchmarks.speed.common import machine
from jaxnas.data.load import load
from jaxnas.errors import InputError, unknown
from jaxnas.search_spaces import get_space
from jaxnas.training.evaluation import evaluate_population
from jaxnas.training.hyper import Hyper
from jaxnas.training.layout import Layout
from jaxnas.training.population import Recipe, TrainingData, init_population, train_population


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m jaxnas.benchmarks.policies")
    add = parser.add_argument
    add("--data", required=True, help="as `jaxnas.search --data`")
    add("--space", default="nasbench201")
    add("--arch", required=True, help="in the space's notation")
    add("--policies", default="none,flip_crop,randaugment", help="separated by commas")
    add("--search", default="pba", help="searched policies; empty: none")
    add("--seeds", default="0,1,2")
    add("--epochs", type=int, default=30)
    add("--members", type=int, default=8, help="of a search's population")
    add("--channels", type=int, default=16)
    add("--resolution", type=int, default=32)
    add("--batch-size", type=int, default=64)
    add("--learning-rate", type=float, default=0.1)
    add("--weight-decay", type=float, default=5e-4)
    add("--out", default="policies.json")
    args = parser.parse_args(argv)
    deal_out_over_cores()
    enable_compilation_cache()
    try:
        found = _compared(args)
    except InputError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    print(machine())
    for name, accuracies in found.items():
        each = " ".join(f"{a:.4f}" for a in accuracies)
        spread = f" +- {np.std(accuracies, ddof=1):.4f}" if len(accuracies) > 1 else ""
        print(f"{name:16} test accuracy {np.mean(accuracies):.4f}{spread}  ({each})")
    whole = {"settings": vars(args), "machine": machine(), "test_accuracy": found}
    Path(args.out).write_text(json.dumps(whole, indent=1) + "\n")
    return 0


def _compared(args: argparse.Namespace) -> dict[str, list[float]]:
    space, data = get_space(args.space), load(args.data)
    arch = space.pruned(space.from_string(args.arch)[None])
    size = replace(space.train_size, channels=args.channels, resolution=args.resolution)
    network = space.network(size, classes=data.classes, image_channels=data.channels)
    images = prepared(data, args.resolution)
    recipe = Recipe(augmenter=PolicyAugment.of(data))
    seeds = [int(s) for s in args.seeds.split(",")]
    rates = {"learning_rate": args.learning_rate, "weight_decay": args.weight_decay}
    ways: list[tuple[str, int, Found]] = []
    for name in args.policies.split(","):
        ways += [(name, seed, Found(get_policy(name))) for seed in seeds]
    for name in filter(None, args.search.split(",")):
        if name not in SEARCHES:
            raise unknown("search of policies", name, SEARCHES)
        for seed in seeds:
            setting = Setting(
                network=network,
                row=space.rows(arch)[0],
                data=images,
                hyper=Hyper.constant(args.members, policy=get_policy("none"), **rates),
                recipe=recipe,
                members=args.members,
                epochs=args.epochs,
                batch_size=args.batch_size,
                metric="accuracy",
                seed=seed,
                advance=lambda n, said: print(f"  {said}", flush=True),
            )
            ways.append((name, seed, SEARCHES[name](setting)))
    return _trained(args, network, space.rows(arch)[0], images, data, recipe, ways, rates)


def _trained(
    args: argparse.Namespace,
    network: Any,
    row: np.ndarray,
    images: TrainingData,
    data: Any,
    recipe: Recipe,
    ways: list[tuple[str, int, Found]],
    rates: dict[str, float],
) -> dict[str, list[float]]:
    n = len(ways)

    def hyper_at(epoch: int, hyper: Hyper) -> Hyper:
        now = [found.at(epoch, args.epochs) for _, _, found in ways]
        return hyper._replace(policy=stack(now))

    rows = np.repeat(row[None], n, axis=0)
    capacity = Layout.default().places(n)
    seeds = np.resize(np.array([seed for _, seed, _ in ways], np.uint32), capacity)

    def said(epoch: int, population: Any, metrics: Any) -> None:
        shown = " ".join(f"{a:.3f}" for a in metrics.val_accuracy)
        print(f"  epoch {epoch}: validation {shown}", flush=True)

    population = train_population(
        network,
        rows,
        Hyper.constant(n, policy=get_policy("none"), **rates),
        images,
        epochs=args.epochs,
        batch_size=args.batch_size,
        population=init_population(network, seeds, rows),
        recipe=recipe,
        hyper_at=hyper_at,
        on_epoch=said,
    )
    x, y = jnp.asarray(data.prepare(data.test.x, args.resolution)), jnp.asarray(data.test.y)
    accuracy = evaluate_population(network, population.variables, rows, x, y)[1]
    found: dict[str, list[float]] = {}
    for (name, _, _), value in zip(ways, accuracy.tolist(), strict=True):
        found.setdefault(name, []).append(value)
    return found


if __name__ == "__main__":
    sys.exit(main())
