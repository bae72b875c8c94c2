"""The NASWOT reference protocol in plain PyTorch, to be timed against (`torch_peer.py --help`).

One network is built per NAS-Bench-201 architecture; every `nn.ReLU` has a forward hook adding

    K += c c^T + (1 - c)(1 - c)^T        c: [images, units], 1 where the unit's input is > 0

and the score is log|det K| (Mellor et al., arXiv:2006.04647 v3). As in the authors' published code
one backward pass of ones through the logits, down to the images, is part of it (`--no-backward`
leaves it out, as NASLib does). Their hooks count in a second forward pass, after the backward one:
`--second-forward` does the same, else they count in the first. BatchNorm uses the batch's
statistics. `--relus live` counts only what lies on a path from a cell's input to its output; the
network computes the rest all the same.

A script of its own: PyTorch, NumPy and the standard library, Python 3.11 or later.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # (from, to), as they stand in the string
STAGES = ("build", "forward", "backward", "slogdet")  # what is timed; loading weights is not
Module = Any  # torch.nn.Module


class BadInputError(ValueError):
    """What was given cannot be used; one sentence."""


@dataclass(frozen=True)
class Protocol:
    """What one score is computed with; `images` is a float32 tensor [N, C, H, W]."""

    images: Any
    cells: tuple[int, ...]
    channels: int
    classes: int
    channels_last: bool
    backward: bool
    second_forward: bool
    relus: str
    seed: int
    weights: dict[str, np.ndarray] | None


def load_torch() -> Any:
    """PyTorch, imported late so that `--help` works and its absence is said in one sentence."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise BadInputError(f"{sys.executable} cannot import PyTorch ({error}).") from None
    return torch


def parse_arch(text: str) -> tuple[str, ...]:
    """The six operations of `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`, in that order."""
    ops = tuple(re.findall(r"([^|~+]*)~", text))
    form = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"
    if len(ops) != len(EDGES) or form.format(*ops) != text:
        raise BadInputError(f"Expected an architecture of the form {form}, got {text!r}.")
    if unknown := sorted(set(ops) - set(OPERATIONS)):
        raise BadInputError(f"Unknown operation {unknown[0]!r}; known: {', '.join(OPERATIONS)}.")
    return ops


def live_edges(ops: tuple[str, ...]) -> list[bool]:
    """For each edge: does it lie on a path of non-`none` edges from node 0 to node 3?"""
    used = [(a, b) for (a, b), op in zip(EDGES, ops, strict=True) if op != "none"]
    reached, needed = {0}, {3}
    for _ in EDGES:
        reached |= {b for a, b in used if a in reached}
        needed |= {a for a, b in used if b in needed}
    return [edge in used and edge[0] in reached and edge[1] in needed for edge in EDGES]


def build_operation(op: str, channels: int) -> Module:
    """One edge's layers; `none` multiplies by zero in `run_cell` and has no layer of its own."""
    nn = load_torch().nn
    if op == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    if op in ("none", "skip_connect"):
        return nn.Identity()
    size = 1 if op == "nor_conv_1x1" else 3
    layers = nn.Sequential()
    layers.add_module("relu", nn.ReLU())
    layers.add_module("conv", nn.Conv2d(channels, channels, size, padding=size // 2, bias=False))
    layers.add_module("bn", nn.BatchNorm2d(channels))
    return layers


def build_reduction(channels: int) -> Module:
    """The residual block between stages: `channels` to twice as many, half the resolution."""
    nn = load_torch().nn
    wide = 2 * channels
    layers: dict[str, Module] = {
        "relu_a": nn.ReLU(),
        "conv_a": nn.Conv2d(channels, wide, 3, stride=2, padding=1, bias=False),
        "bn_a": nn.BatchNorm2d(wide),
        "relu_b": nn.ReLU(),
        "conv_b": nn.Conv2d(wide, wide, 3, padding=1, bias=False),
        "bn_b": nn.BatchNorm2d(wide),
        "pool": nn.AvgPool2d(2, stride=2),
        "shortcut": nn.Conv2d(channels, wide, 1, bias=False),
    }
    return nn.ModuleDict(layers)


def build_network(ops: tuple[str, ...], protocol: Protocol) -> Module:
    """The official skeleton, with PyTorch's own initial weights, in train mode."""
    nn = load_torch().nn
    width = [protocol.channels * 2**s for s in range(len(protocol.cells))]
    stem, head = nn.Sequential(), nn.Sequential()
    stem.add_module("conv", nn.Conv2d(protocol.images.shape[1], width[0], 3, padding=1, bias=False))
    stem.add_module("bn", nn.BatchNorm2d(width[0]))
    head.add_module("bn", nn.BatchNorm2d(width[-1]))
    head.add_module("relu", nn.ReLU())

    def cell(channels: int) -> Module:
        edges = [nn.ModuleDict({op: build_operation(op, channels)}) for op in ops]
        return nn.ModuleDict({"edges": nn.ModuleList(edges)})

    sizes = zip(protocol.cells, width, strict=True)
    parts = {
        "stem": stem,
        "stages": nn.ModuleList(nn.ModuleList(cell(w) for _ in range(n)) for n, w in sizes),
        "reductions": nn.ModuleList(build_reduction(w) for w in width[:-1]),
        "head": head,
        "classifier": nn.Linear(width[-1], protocol.classes),
    }
    return nn.ModuleDict(parts)


def run_cell(cell: Module, x: Any) -> Any:
    """Each node is the sum of its incoming edges; `none` is a product with zero, as published."""
    nodes: list[Any] = [x, None, None, None]
    for (source, target), edge in zip(EDGES, cell["edges"], strict=True):
        ((op, layers),) = edge.items()
        term = nodes[source].mul(0.0) if op == "none" else layers(nodes[source])
        nodes[target] = term if nodes[target] is None else nodes[target] + term
    return nodes[3]


def run_reduction(block: Module, x: Any) -> Any:
    y = block["bn_a"](block["conv_a"](block["relu_a"](x)))
    y = block["bn_b"](block["conv_b"](block["relu_b"](y)))
    return block["shortcut"](block["pool"](x)) + y


def run_network(network: Module, x: Any) -> Any:
    """Images [N, C, H, W] to logits [N, classes]."""
    x = network["stem"](x)
    for s, stage in enumerate(network["stages"]):
        x = run_reduction(network["reductions"][s - 1], x) if s else x
        for cell in stage:
            x = run_cell(cell, x)
    return network["classifier"](network["head"](x).mean(dim=(2, 3)))


def add_hooks(network: Module, kernel: np.ndarray, dead: list[int]) -> None:
    """Let each ReLU, those on the edges numbered in `dead` excepted, add to `kernel` [N, N]."""
    torch = load_torch()

    def count(module: Module, inputs: tuple[Any, ...], output: Any) -> None:
        on = (inputs[0] > 0).flatten(1).float()
        off = 1.0 - on
        kernel[...] += (on @ on.t()).numpy()
        kernel[...] += (off @ off.t()).numpy()

    for name, module in network.named_modules():
        skipped = any(f".edges.{e}." in name for e in dead)
        if isinstance(module, torch.nn.ReLU) and not skipped:
            module.register_forward_hook(count)


def load_weights(network: Module, weights: dict[str, np.ndarray]) -> None:
    """Copy HWIO kernels and the [in, out] classifier in; BatchNorm keeps its default."""
    torch = load_torch()
    orders = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}  # axes of ours in PyTorch's order
    for name, parameter in network.named_parameters():
        if ".bn" in name:
            continue
        key = name.replace(".weight", ".kernel" if name.startswith("classifier.") else "")
        if key not in weights:
            raise BadInputError(f"The weights have no {key!r}.")
        value, order = weights[key], orders[parameter.ndim]
        if value.ndim != len(order) or value.transpose(order).shape != tuple(parameter.shape):
            raise BadInputError(f"{key!r} of shape {value.shape} does not fit the network.")
        parameter.data.copy_(torch.from_numpy(np.ascontiguousarray(value.transpose(order))))


def score(arch: str, protocol: Protocol) -> dict[str, Any]:
    """Score one architecture: `score`, `seconds` and the seconds of each of `STAGES`."""
    torch = load_torch()
    ops = parse_arch(arch)
    dead = [e for e, live in enumerate(live_edges(ops)) if not live]
    kernel = np.zeros((len(protocol.images),) * 2)
    torch.manual_seed(protocol.seed)
    times = [perf_counter()]
    network = build_network(ops, protocol)
    if protocol.channels_last:
        network = network.to(memory_format=torch.channels_last)
    uncounted = dead if protocol.relus == "live" else []
    if not protocol.second_forward:
        add_hooks(network, kernel, uncounted)
    times.append(perf_counter())
    if protocol.weights is not None:
        load_weights(network, protocol.weights)
    loaded = perf_counter()
    images = protocol.images.clone().requires_grad_(protocol.backward)
    with torch.set_grad_enabled(protocol.backward):
        logits = run_network(network, images)
    times.append(perf_counter())
    if protocol.backward:
        logits.backward(torch.ones_like(logits))
    if protocol.second_forward:
        add_hooks(network, kernel, uncounted)
        run_network(network, protocol.images.clone())
    times.append(perf_counter())
    value = float(np.linalg.slogdet(kernel)[1])
    times.append(perf_counter())
    seconds = dict(zip(STAGES, np.diff(times).tolist(), strict=True))
    seconds["forward"] -= loaded - times[1]
    return {"arch": arch, "score": value, "seconds": sum(seconds.values()), **seconds}


def read_npz(path: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise BadInputError(f"Cannot read {path} as an .npz file: {error}") from None


def read_images(path: str, stages: int) -> np.ndarray:
    """Array `x`, float32 NHWC or NCHW with 1 to 4 channels, as a contiguous NCHW array."""
    x = read_npz(path).get("x")
    if x is None or x.ndim != 4 or x.dtype != np.float32 or len(x) < 2 or not np.isfinite(x).all():
        raise BadInputError(f"{path} needs 'x': two or more finite float32 images, 4 dimensions.")
    last, first = 1 <= x.shape[3] <= 4, 1 <= x.shape[1] <= 4
    if last == first:
        raise BadInputError(f"Neither NHWC nor NCHW with 1 to 4 channels for certain: {x.shape}.")
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2) if last else x)
    if x.shape[2] % 2 ** (stages - 1) or x.shape[3] % 2 ** (stages - 1):
        raise BadInputError(f"Images of {x.shape[2:]} cannot be halved {stages - 1} times.")
    return x


def at_least(low: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < low:
            raise argparse.ArgumentTypeError(f"expected {low} or more, got {text}")
        return int(text)

    return number


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    flag = argparse.BooleanOptionalAction
    add = parser.add_argument
    add("--images", required=True, help=".npz whose array 'x' is the batch: float32 NHWC or NCHW")
    add("--archs", help="file with one architecture string a line")
    add("--serve", action="store_true", help='answer {"arch": ...} or {"about": 1} line by line')
    add("--cells", default="5,5,5", help="cells of each stage (default: %(default)s)")
    add("--channels", type=at_least(1), default=16, help="of stage 1 (default: %(default)s)")
    add("--classes", type=at_least(1), default=10, help="default: %(default)s")
    add("--threads", type=at_least(1), help="default: PyTorch's own choice")
    add("--repeats", type=at_least(1), default=1, help="timed passes over --archs")
    add("--warmup", type=at_least(0), default=1, help="untimed runs before, cycling over --archs")
    add("--channels-last", action=flag, default=False, help="memory layout of images and weights")
    add("--backward", action=flag, default=True, help="one backward pass from the logits")
    add("--second-forward", action=flag, default=False, help="hooks count in a second forward")
    add("--relus", choices=("all", "live"), default="all", help="which ReLUs count in K")
    add("--seed", type=int, default=0, help="of the initial weights, for each network anew")
    add("--weights", help=".npz of weights to use instead: HWIO kernels, classifier [in, out]")
    add("--json", default="-", help="file for the result, - for stdout (a score may be -Infinity)")
    return parser


def make_protocol(args: argparse.Namespace) -> Protocol:
    torch = load_torch()
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", args.cells):
        raise BadInputError(f"--cells is a list like 5,5,5, got {args.cells!r}.")
    cells = tuple(int(n) for n in args.cells.split(","))
    if args.threads:
        torch.set_num_threads(args.threads)
    images = torch.from_numpy(read_images(args.images, len(cells)))
    if args.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    weights = read_npz(args.weights) if args.weights else None
    same = ("channels", "classes", "channels_last", "backward", "second_forward", "relus", "seed")
    return Protocol(images, cells, weights=weights, **{name: getattr(args, name) for name in same})


def about(protocol: Protocol) -> dict[str, Any]:
    """Versions and settings: what a reader of the times needs to repeat them."""
    torch = load_torch()
    shown = {k: v for k, v in vars(protocol).items() if k not in ("images", "weights")}
    shown |= {"images": list(protocol.images.shape), "weights": protocol.weights is not None}
    shown |= {"torch": torch.__version__, "numpy": np.__version__}
    return shown | {"python": platform.python_version(), "threads": torch.get_num_threads()}


def serve(protocol: Protocol) -> None:
    """Answer each command line from stdin on stdout until stdin ends; bad ones with `error`."""
    for line in sys.stdin:
        try:
            command = json.loads(line)
            answer = about(protocol) if "about" in command else score(command["arch"], protocol)
        except (BadInputError, json.JSONDecodeError, KeyError, TypeError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def score_file(args: argparse.Namespace, protocol: Protocol) -> dict[str, Any]:
    """Score the architectures of `--archs` in turn, `--repeats` times; times are lists."""
    try:
        archs = Path(args.archs).read_text().split()
    except OSError as error:
        raise BadInputError(f"Cannot read {args.archs}: {error}") from None
    if not archs:
        raise BadInputError(f"{args.archs} has no architectures.")
    for i in range(args.warmup):
        score(archs[i % len(archs)], protocol)
    passes = [[score(arch, protocol) for arch in archs] for _ in range(args.repeats)]
    results = []
    for runs in zip(*passes, strict=True):
        times = {key: [run[key] for run in runs] for key in ("seconds", *STAGES)}
        results.append({"arch": runs[0]["arch"], "score": runs[0]["score"], **times})
    return about(protocol) | {"results": results}


def main(argv: list[str] | None = None) -> int:
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.serve == bool(args.archs):
        parser.error("give either --archs or --serve")
    try:
        protocol = make_protocol(args)
        if args.serve:
            serve(protocol)
            return 0
        text = json.dumps(score_file(args, protocol))
    except BadInputError as error:
        print(error, file=sys.stderr)
        return 2
    if args.json == "-":
        print(text)
    else:
        Path(args.json).write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
