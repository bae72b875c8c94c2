"""Training-free proxies of NAS-Bench-201 networks in plain PyTorch (`torch_proxies_peer.py --help`).

Something to compare values with, weights and images exchanged as .npz, and to be timed against. The
formulas are in the siblings `torch_gradient_formulas` and `torch_forward_formulas`, the network in
`torch_peer`. Each score is computed on a network built anew: `build` are the seconds of building it
and `seconds` those of the proxy alone.
With `--reachable` (the default) operations on no path from a cell's input to its output are left out.

Scripts of their own: PyTorch, NumPy and the standard library, Python 3.11 or later.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from time import perf_counter
from typing import Any

import numpy as np

if __package__:
    from . import torch_forward_formulas, torch_gradient_formulas
    from . import torch_peer as base
else:  # run by path, in an environment without jaxnas
    import torch_forward_formulas  # pyright: ignore[reportMissingImports]
    import torch_gradient_formulas  # pyright: ignore[reportMissingImports]
    import torch_peer as base  # pyright: ignore[reportMissingImports]

FORMULAS = torch_gradient_formulas.FORMULAS | torch_forward_formulas.FORMULAS
NEEDS_LABELS = torch_gradient_formulas.NEEDS_LABELS


class Peer:
    """What scores are computed with: the protocol of `torch_peer`, labels and random numbers."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch = base.load_torch()
        if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", args.cells):
            raise base.BadInputError(f"--cells is a list like 5,5,5, got {args.cells!r}.")
        cells = tuple(int(n) for n in args.cells.split(","))
        if args.threads:
            torch.set_num_threads(args.threads)
        images = torch.from_numpy(base.read_images(args.images, len(cells)))
        if args.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        self.arrays = base.read_npz(args.images)
        self.labels = read_labels(self.arrays, len(images), args.classes)
        self.reachable = args.reachable
        self.protocol = base.Protocol(
            images=images,
            cells=cells,
            channels=args.channels,
            classes=args.classes,
            channels_last=args.channels_last,
            backward=True,
            second_forward=False,
            relus="all",
            seed=args.seed,
            weights=base.read_npz(args.weights) if args.weights else None,
        )

    def score(self, arch: str, proxy: str) -> dict[str, Any]:
        """`score`, `seconds` of the proxy and `build` of one architecture."""
        torch = base.load_torch()
        check_proxy(proxy, self.labels is not None)
        ops = base.parse_arch(arch)
        if self.reachable:
            live = base.live_edges(ops)
            ops = tuple(op if on else "none" for op, on in zip(ops, live, strict=True))
        torch.manual_seed(self.protocol.seed)
        start = perf_counter()
        network = base.build_network(ops, self.protocol)
        if self.protocol.channels_last:
            network = network.to(memory_format=torch.channels_last)
        built = perf_counter()
        if (weights := self.protocol.weights) is not None:
            base.load_weights(network, weights)
        labels = None if self.labels is None else torch.from_numpy(self.labels)
        case = torch_gradient_formulas.Case(
            network, self.protocol.images, labels, self.arrays, weights is not None
        )
        begun = perf_counter()
        value = FORMULAS[proxy](case)
        seconds = perf_counter() - begun
        timed = {"seconds": seconds, "build": built - start}
        return {"arch": arch, "proxy": proxy, "score": value} | timed


def check_proxy(proxy: str, labels: bool) -> None:
    if proxy not in FORMULAS:
        known = ", ".join(FORMULAS)
        raise base.BadInputError(f"Unknown proxy {proxy!r}; known: {known}.")
    if proxy in NEEDS_LABELS and not labels:
        raise base.BadInputError(f"{proxy} needs labels: the images' file has no array 'y'.")


def read_labels(arrays: dict[str, np.ndarray], count: int, classes: int) -> np.ndarray | None:
    """Array `y`, one class for each image, as int64; None where there is none."""
    if (y := arrays.get("y")) is None:
        return None
    if y.shape != (count,) or not np.issubdtype(y.dtype, np.integer):
        raise base.BadInputError(f"'y' needs {count} integers, got {y.dtype} of shape {y.shape}.")
    if y.min() < 0 or y.max() >= classes:
        raise base.BadInputError(f"'y' needs classes 0 to {classes - 1}, got {y.min()}..{y.max()}.")
    return y.astype(np.int64)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    flag = argparse.BooleanOptionalAction
    add = parser.add_argument
    add("--images", required=True, help=".npz: x float32 NHWC or NCHW, y classes, random numbers")
    add("--proxies", help=f"with --arch; any of {', '.join(FORMULAS)}")
    add("--arch", help="an architecture string")
    add("--serve", action="store_true", help='answer {"arch": ..., "proxy": ...} or {"about": 1}')
    add("--weights", help=".npz of weights to use: HWIO kernels, classifier [in, out]")
    add("--cells", default="5,5,5", help="cells of each stage (default: %(default)s)")
    add("--channels", type=base.at_least(1), default=16, help="of stage 1 (default: %(default)s)")
    add("--classes", type=base.at_least(1), default=10, help="default: %(default)s")
    add("--threads", type=base.at_least(1), help="default: PyTorch's own choice")
    add("--channels-last", action=flag, default=False, help="memory layout of images and weights")
    add("--reachable", action=flag, default=True, help="leave out operations on no path")
    add("--seed", type=int, default=0, help="of the initial weights, for each network anew")
    return parser


def serve(peer: Peer) -> None:
    """Answer each command line from stdin on stdout until stdin ends; bad ones with `error`."""
    for line in sys.stdin:
        try:
            command = json.loads(line)
            if "about" in command:
                answer = base.about(peer.protocol) | {"proxies": sorted(FORMULAS)}
            else:
                answer = peer.score(command["arch"], command["proxy"])
        except (base.BadInputError, json.JSONDecodeError, KeyError, TypeError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.serve == bool(args.arch) or bool(args.arch) != bool(args.proxies):
        parser.error("give either --serve, or --arch and --proxies")
    try:
        peer = Peer(args)
        if args.serve:
            serve(peer)
            return 0
        results = [peer.score(args.arch, proxy) for proxy in args.proxies.split(",")]
    except base.BadInputError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(base.about(peer.protocol) | {"results": results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
