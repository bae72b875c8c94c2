"""Training NAS-Bench-201 networks one by one in plain PyTorch (`torch_training_peer.py --help`).

Something to be timed against: SGD with Nesterov momentum, weight decay on kernels alone, a half cosine

    lr(t) = lr (1 + cos(pi (t + 1/2) / T)) / 2        t: steps done, T: steps in all

and the mean cross-entropy, without augmentation. Images are one tensor in memory in the layout asked
for, minibatches are rows of it, and the optimiser is PyTorch's fused one. Operations on no path from a
cell's input to its output are left out, and so are edges without an operation. The network is that of
the sibling `torch_peer`.

The data are an .npz with x `float32[n, H, W, C]`, y `int[n]` and orders `int[N, epochs, n]`, in which
each candidate sees the images; the weights an .npz with names as `torch_peer` reads them, those of
candidate 3 after `3/`.

A script of its own: PyTorch, NumPy and the standard library, Python 3.11 or later.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

if __package__:
    from . import torch_peer as base
else:  # run by path, in an environment without jaxnas
    import torch_peer as base  # pyright: ignore[reportMissingImports]


class Candidate:
    """One network, its optimiser and the order in which it sees images."""

    def __init__(self, number: int, arch: str, protocol: base.Protocol, args: Any) -> None:
        torch = base.load_torch()
        ops = base.parse_arch(arch)
        live = base.live_edges(ops)
        if not any(live):
            raise base.BadInputError(f"{arch} has no path from a cell's input to its output.")
        ops = tuple(op if on else "none" for op, on in zip(ops, live, strict=True))
        torch.manual_seed(number)
        network = base.build_network(ops, protocol)
        if protocol.channels_last:
            network = network.to(memory_format=torch.channels_last)
        if protocol.weights is not None:
            base.load_weights(network, own_weights(protocol.weights, number))
        kernels = [p for p in network.parameters() if p.ndim > 1]
        others = [p for p in network.parameters() if p.ndim <= 1]
        groups = [
            {"params": kernels, "weight_decay": args.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.network = network
        self.optimizer = torch.optim.SGD(
            groups, lr=args.learning_rate, momentum=args.momentum, nesterov=True, fused=True
        )

    def train(self, x: Any, y: Any, order: Any, rates: list[float]) -> float:
        """One step for each of `rates`; the mean loss."""
        torch = base.load_torch()
        total, size = torch.zeros(()), len(order) // len(rates)
        for number, rate in enumerate(rates):
            rows = order[number * size : (number + 1) * size]
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.zero_grad(set_to_none=True)
            logits = run_network(self.network, x[rows])
            loss = torch.nn.functional.cross_entropy(logits, y[rows])
            loss.backward()
            self.optimizer.step()
            total += loss.detach()
        return float(total) / len(rates)


class Trainer:
    """All candidates, and the data on which they are trained one by one."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch = base.load_torch()
        self.protocol = make_protocol(args)
        arrays = base.read_npz(args.data)
        archs = read_archs(args.archs)
        n = len(self.protocol.images)
        self.labels = torch.from_numpy(read_labels(arrays, n, args.classes))
        self.orders = torch.from_numpy(read_orders(arrays, len(archs), n))
        if not args.batch <= n:
            raise base.BadInputError(f"A batch of {args.batch} exceeds the {n} images.")
        self.batch, self.learning_rate = args.batch, args.learning_rate
        made = enumerate(archs)
        self.candidates = [Candidate(i, arch, self.protocol, args) for i, arch in made]

    def epoch(self, number: int) -> dict[str, Any]:
        """Train every candidate for epoch `number`, from 0: `seconds`, `steps` and mean `losses`."""
        epochs = self.orders.shape[1]
        if not (isinstance(number, int) and 0 <= number < epochs):
            raise base.BadInputError(f"There are epochs 0 to {epochs - 1}, got {number!r}.")
        steps = len(self.labels) // self.batch
        rates = cosine(self.learning_rate, number, steps, epochs)
        start = perf_counter()
        losses = []
        for candidate, orders in zip(self.candidates, self.orders, strict=True):
            order = orders[number, : steps * self.batch]
            losses.append(candidate.train(self.protocol.images, self.labels, order, rates))
        seconds = perf_counter() - start
        return {"seconds": seconds, "steps": steps * len(self.candidates), "losses": losses}


def run_network(network: Any, x: Any) -> Any:
    """`torch_peer.run_network` with nothing computed for edges without an operation."""
    x = network["stem"](x)
    for s, stage in enumerate(network["stages"]):
        x = base.run_reduction(network["reductions"][s - 1], x) if s else x
        for cell in stage:
            x = run_cell(cell, x)
    return network["classifier"](network["head"](x).mean(dim=(2, 3)))


def run_cell(cell: Any, x: Any) -> Any:
    """Each node is the sum of its incoming edges that have an operation."""
    nodes: list[Any] = [x, None, None, None]
    for (source, target), edge in zip(base.EDGES, cell["edges"], strict=True):
        ((op, layers),) = edge.items()
        if op != "none":
            term = layers(nodes[source])
            nodes[target] = term if nodes[target] is None else nodes[target] + term
    return nodes[3]


def cosine(rate: float, epoch: int, steps: int, epochs: int) -> list[float]:
    """The learning rates of an epoch's steps."""
    done = [(epoch * steps + number + 0.5) / (epochs * steps) for number in range(steps)]
    return [0.5 * rate * (1 + math.cos(math.pi * share)) for share in done]


def own_weights(weights: dict[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    """Those whose name begins with the candidate's number."""
    first = f"{number}/"
    return {k.removeprefix(first): v for k, v in weights.items() if k.startswith(first)}


def read_archs(path: str) -> list[str]:
    try:
        archs = Path(path).read_text().split()
    except OSError as error:
        raise base.BadInputError(f"Cannot read {path}: {error}") from None
    if not archs:
        raise base.BadInputError(f"{path} has no architectures.")
    return archs


def read_labels(arrays: dict[str, np.ndarray], n: int, classes: int) -> np.ndarray:
    y = arrays.get("y")
    if y is None or y.shape != (n,) or not np.issubdtype(y.dtype, np.integer):
        raise base.BadInputError(f"The data need 'y', {n} integers.")
    if y.min() < 0 or y.max() >= classes:
        raise base.BadInputError(f"'y' needs classes 0 to {classes - 1}, got {y.min()}..{y.max()}.")
    return y.astype(np.int64)


def read_orders(arrays: dict[str, np.ndarray], candidates: int, n: int) -> np.ndarray:
    orders = arrays.get("orders")
    shape = None if orders is None else orders.shape
    if orders is None or orders.ndim != 3 or shape != (candidates, orders.shape[1], n):
        raise base.BadInputError(
            f"The data need 'orders', integers of shape [{candidates}, epochs, {n}], got {shape}."
        )
    if not np.array_equal(np.sort(orders, axis=2), np.broadcast_to(np.arange(n), orders.shape)):
        raise base.BadInputError(f"Each of 'orders' needs every number from 0 to {n - 1} once.")
    return orders.astype(np.int64)


def make_protocol(args: argparse.Namespace) -> base.Protocol:
    torch = base.load_torch()
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", args.cells):
        raise base.BadInputError(f"--cells is a list like 1,1,1, got {args.cells!r}.")
    cells = tuple(int(n) for n in args.cells.split(","))
    if args.threads:
        torch.set_num_threads(args.threads)
    images = torch.from_numpy(base.read_images(args.data, len(cells)))
    if args.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    return base.Protocol(
        images=images,
        cells=cells,
        channels=args.channels,
        classes=args.classes,
        channels_last=args.channels_last,
        backward=True,
        second_forward=False,
        relus="all",
        seed=0,
        weights=base.read_npz(args.weights) if args.weights else None,
    )


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add = parser.add_argument
    add("--data", required=True, help=".npz: x float32 NHWC or NCHW, y classes, orders")
    add("--archs", required=True, help="file with one architecture string a line")
    add("--weights", help=".npz of weights to begin with, in place of PyTorch's own")
    add("--cells", default="1,1,1", help="cells of each stage (default: %(default)s)")
    add("--channels", type=base.at_least(1), default=16, help="of stage 1 (default: %(default)s)")
    add("--classes", type=base.at_least(1), default=10, help="default: %(default)s")
    add("--batch", type=base.at_least(1), default=64, help="images a step (default: %(default)s)")
    add("--learning-rate", type=float, default=0.1, help="at first (default: %(default)s)")
    add("--weight-decay", type=float, default=5e-4, help="of kernels (default: %(default)s)")
    add("--momentum", type=float, default=0.9, help="default: %(default)s")
    add("--threads", type=base.at_least(1), help="default: PyTorch's own choice")
    flag = argparse.BooleanOptionalAction
    add("--channels-last", action=flag, default=False, help="memory layout of images and weights")
    return parser


def serve(trainer: Any) -> None:
    """Answer {"epoch": number} and {"about": 1} line by line until stdin ends, or with `error`."""
    for line in sys.stdin:
        try:
            command = json.loads(line)
            if "about" in command:
                answer = base.about(trainer.protocol)
            else:
                answer = trainer.epoch(command["epoch"])
        except (base.BadInputError, json.JSONDecodeError, KeyError, TypeError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def main(argv: list[str] | None = None) -> int:
    try:
        serve(Trainer(make_parser().parse_args(argv)))
    except base.BadInputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
