"""NASWOT per architecture against a plain PyTorch implementation of the reference protocol.

    python -m jaxnas.benchmarks.speed.naswot_vs_torch --data CIFAR.npz --peer-python PYTHON

PYTHON is an interpreter with torch (another environment: the peer imports only torch and numpy).
Architectures are timed in turn, each first by one and then by the other:

* the official network (15 cells, 32x32, batch 64): ours is the per-architecture executor, `--group`
  architectures a call;
* the reduced protocol (1 cell, 16x16, batch 32): ours is the whole-space ranking by the shared-prefix
  executor, divided by the 15,625 architectures.

The peer runs three ways: one forward and one backward pass in either memory layout, and as the authors
order it, where the hooks count in a second forward pass. Compilation is stated apart.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnas.benchmarks.speed.common import machine, spread
from jaxnas.data.dataset import channel_statistics
from jaxnas.data.resize import resize
from jaxnas.proxies import get_proxies
from jaxnas.ranking import Scoring, make_batch
from jaxnas.scoring.per_architecture import score_per_architecture
from jaxnas.scoring.shared_prefix import score_shared_prefix
from jaxnas.search_spaces import get_space
from jaxnas.spaces import Size

PEER = Path(__file__).with_name("torch_peer.py")


class Peer:
    """The PyTorch script as a server: one architecture in, seconds and score out."""

    def __init__(self, python: str, images: np.ndarray, size: Size, *options: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        file = Path(self._folder.name) / "images.npz"
        np.savez(file, x=images)
        cells = ",".join(map(str, size.cells))
        self._process = subprocess.Popen(
            [
                *(python, str(PEER), "--serve", *options, "--images", str(file), "--cells", cells),
                *("--channels", str(size.channels), "--classes", "10"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def seconds(self, arch: str) -> float:
        return self._ask({"arch": arch})["seconds"]

    def _ask(self, request: dict) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()
        self._folder.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", required=True, help="an .npz with x_train")
    parser.add_argument("--peer-python", required=True, help="an interpreter that imports torch")
    parser.add_argument("--archs", type=int, default=32, help="random architectures")
    parser.add_argument("--group", type=int, default=8, help="of them timed in turn")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(machine())
    images = np.load(args.data)["x_train"]
    rng = np.random.default_rng(args.seed)
    space = get_space("nasbench201")
    archs = space.all()[rng.choice(space.size, args.archs, replace=False)]
    official(args, space, archs, _inputs(images, rng, 64, 32))
    reduced(args, space, archs, _inputs(images, rng, 32, 16))


def official(args: argparse.Namespace, space: Any, archs: np.ndarray, images: np.ndarray) -> None:
    network = space.network(space.official_size, classes=10)
    variables = network.init(jax.random.key(0))
    batch, proxies = make_batch(images, None), get_proxies(["naswot"])

    def ours(rows: np.ndarray) -> float:
        start = time.perf_counter()
        score_per_architecture(network, variables, space.pruned(rows), batch, proxies)
        return (time.perf_counter() - start) / len(rows)

    compiling = ours(archs[: args.group])
    print(f"\nofficial network, 15 cells, 32x32, batch 64; first call {compiling:.1f} s a row")
    _in_turn(args, space, archs, images, space.official_size, ours)


def reduced(args: argparse.Namespace, space: Any, archs: np.ndarray, images: np.ndarray) -> None:
    network = space.network(space.proxy_size, classes=10)
    batch, proxies = make_batch(images, None), get_proxies(["naswot"])
    everything = Scoring.of(space, space.all()).rows

    def whole() -> float:
        start = time.perf_counter()
        variables = network.init(jax.random.key(0))
        score_shared_prefix(network, variables, everything, batch, proxies)
        return time.perf_counter() - start

    print(f"\nreduced protocol, 1 cell, 16x16, batch 32; whole space {whole():.1f} s at first")
    _in_turn(args, space, archs, images, space.proxy_size, lambda _: whole() / space.size)


def _in_turn(
    args: argparse.Namespace,
    space: Any,
    archs: np.ndarray,
    images: np.ndarray,
    size: Size,
    ours: Callable[[np.ndarray], float],
) -> None:
    options = {
        "torch contiguous": ["--no-channels-last"],
        "torch channels-last": ["--channels-last"],
        "torch, authors' order": ["--no-channels-last", "--second-forward"],
    }
    peers = {name: Peer(args.peer_python, images, size, *o) for name, o in options.items()}
    times: dict[str, list[float]] = {"jaxnas": [], **{name: [] for name in peers}}
    for peer in peers.values():
        peer.seconds(space.to_string(archs[0]))
    for start in range(0, len(archs), args.group):
        rows = archs[start : start + args.group]
        times["jaxnas"] += [ours(rows)] * len(rows)
        for name, peer in peers.items():
            times[name] += [peer.seconds(space.to_string(arch)) for arch in rows]
    for name, values in times.items():
        print(f"  {name:<21} ms per architecture: {spread([1e3 * v for v in values])}")
    base = statistics.median(times["jaxnas"])
    for name in peers:
        by_sums = sum(times[name]) / sum(times["jaxnas"])
        ratio = statistics.median(times[name]) / base
        print(f"  {name}: {ratio:.1f} times as long by medians, {by_sums:.1f} by sums")
    for peer in peers.values():
        peer.close()


def _inputs(images: np.ndarray, rng: np.random.Generator, n: int, side: int) -> np.ndarray:
    mean, std = channel_statistics(images)
    picked = images[rng.choice(len(images), n, replace=False)].astype(np.float32)
    return ((resize(picked, side, side) / 255 - mean) / std).astype(np.float32)


if __name__ == "__main__":
    main()
