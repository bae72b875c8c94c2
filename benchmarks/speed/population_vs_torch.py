"""Training a population in one program against PyTorch training the same candidates one by one.

    python -m jaxnas.benchmarks.speed.population_vs_torch --peer-python PYTHON [--data FILE.npz]
    python -m jaxnas.benchmarks.speed.population_vs_torch --memory 4,8,16,32 [--data FILE.npz]

PYTHON is an interpreter with torch (another environment: the peer imports only torch and numpy).
NAS-Bench-201 networks of one cell a stage, SGD with Nesterov momentum, a half cosine. Both sides begin
with the same weights and see the same images in the same order, so that their losses can be compared.

* Time: epochs are trained in turn by jaxnas and by PyTorch, in either memory layout and with one thread
  or all, all candidates each; the first, in which programs are compiled and memory is found, does not
  count. What is printed is candidate-steps a second. Compilation is timed in processes of their own,
  first with an empty compilation cache and then with the one that the first left, nothing being trained.
* `--memory`: the peak of a process's memory against the number of candidates (Linux), programs coming
  from the compilation cache, and a straight line through it.

Without `--data` the digits are used, 8x8 at 8 channels, 16 candidates; with it images are 32x32, at 16
channels, 8 candidates.
"""

import argparse
import json
import os
import re
import statistics
import tempfile
import time
from itertools import product
from pathlib import Path

import jax
import numpy as np

from jaxnas.backend import enable_compilation_cache
from jaxnas.benchmarks.speed.common import child, machine, spread
from jaxnas.benchmarks.speed.population_sides import Epoch, Ours, Peer
from jaxnas.training.evaluation import evaluate_population

MODULE = "jaxnas.benchmarks.speed.population_vs_torch"
LAYOUTS = {"contiguous": "--no-channels-last", "channels-last": "--channels-last"}


def main() -> None:
    """The command line."""
    args = _args()
    if args.devices > 1:
        jax.config.update("jax_num_cpu_devices", args.devices)
    if args.one:
        enable_compilation_cache()
        print(json.dumps({"compile": compiled, "memory": peak}[args.one](args)))
        return
    print(machine())
    shown = ("images", "resolution", "channels", "batch", "candidates", "runs", "devices")
    print(", ".join(f"{name} {getattr(args, name)}" for name in shown))
    if args.memory:
        memory(args)
        return
    if not args.skip_compilation:
        compilation(args)
    timed(args)


def timed(args: argparse.Namespace) -> dict[str, list[Epoch]]:
    """Epochs of every side in turn, the first of which is not among those given back."""
    ours = Ours(args)
    with tempfile.TemporaryDirectory() as name:
        Peer.write(Path(name), ours)
        peers = {}
        if args.peer_python:
            for layout, threads in product(LAYOUTS, str(args.threads).split(",")):
                peer = Peer(
                    args.peer_python, Path(name), ours, args, LAYOUTS[layout], "--threads", threads
                )
                peers[f"torch {layout}, {threads} threads"] = peer
        if peers:
            print(next(iter(peers.values())).about())
        sides = {"jaxnas": ours, **peers}
        found = {k: [side.epoch(0)] for k, side in sides.items()}
        for number in range(1, ours.epochs):
            for k, side in sides.items():
                found[k].append(side.epoch(number))
        for peer in peers.values():
            peer.close()
    counted = {k: epochs[1:] for k, epochs in found.items()}
    rates = {k: [e.steps / e.seconds for e in epochs] for k, epochs in counted.items()}
    for k, epochs in found.items():
        losses = [f"{e.losses.mean():.4f}" for e in (epochs[0], epochs[-1])]
        print(f"  {k:<30} candidate-steps/s {spread(rates[k])}; mean loss {' -> '.join(losses)}")
    medians = {k: statistics.median(v) for k, v in rates.items()}
    if peers:
        best = max(peers, key=lambda k: medians[k])
        apart = np.abs(found["jaxnas"][-1].losses - found[best][-1].losses).max()
        print(f"  jaxnas / {best}: {medians['jaxnas'] / medians[best]:.2f} times by medians")
        print(f"  a candidate's last losses differ by {apart:.4f} at most")
    return counted


def compilation(args: argparse.Namespace) -> None:
    """Seconds until each program is there, nothing being trained, with the cache empty and not."""
    with tempfile.TemporaryDirectory() as cache:
        for state in ("cold", "warm"):
            found = _child(args, "compile", cache)
            parts = ", ".join(f"{k} {v:.1f}" for k, v in found.items())
            print(
                f"  compilation, {state} cache: {sum(found.values()):.1f} s ({parts})", flush=True
            )


def compiled(args: argparse.Namespace) -> dict[str, float]:
    """Seconds of the first call of each of training's programs."""
    ours = Ours(args)
    start = time.perf_counter()
    ours.start()
    seconds = {"init": time.perf_counter() - start, "epoch": ours.epoch(0, train=False).seconds}
    start = time.perf_counter()
    assert ours.population is not None
    variables = ours.population.variables
    evaluate_population(
        ours.network, variables, ours.archs, ours.x[:128], ours.y[:128], layout=ours.layout
    )
    return seconds | {"evaluation": time.perf_counter() - start}


def memory(args: argparse.Namespace) -> None:
    """Print each size's peak and the line through them."""
    sizes = [int(n) for n in args.memory.split(",")]
    peaks = []
    with tempfile.TemporaryDirectory() as cache:
        for n in sizes:
            args.candidates = n
            _child(
                args, "compile", cache
            )  # Compiling takes memory too, which is not the population's.
            peaks.append(_child(args, "memory", cache)["mb"])
            print(f"  {n} candidates: peak {peaks[-1]:.0f} MB", flush=True)
    if len(sizes) > 1:
        slope, base = np.polyfit(sizes, peaks, 1)
        rest = np.abs(np.polyval([slope, base], sizes) - peaks).max()
        print(
            f"  {base:.0f} MB + {slope:.2f} MB a candidate; off the line by {rest:.1f} MB at most"
        )


def peak(args: argparse.Namespace) -> dict[str, float]:
    """The most memory that this process has had, in MB, after an epoch of training."""
    Ours(args).epoch(0)
    # Not `ru_maxrss`, which a child inherits from the process that starts it.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise SystemExit("/proc/self/status has no VmHWM; expected Linux.")
    return {"mb": int(found[1]) / 1024}


def _child(args: argparse.Namespace, what: str, cache: str) -> dict[str, float]:
    given = {k: v for k, v in vars(args).items() if k in _PASSED and v is not None}
    options = [part for k, v in given.items() for part in (f"--{k.replace('_', '-')}", str(v))]
    return child(MODULE, ["--one", what, *options], JAX_COMPILATION_CACHE_DIR=cache)


_PASSED = (
    "data",
    "archs",
    "candidates",
    "images",
    "resolution",
    "channels",
    "batch",
    "runs",
    "seed",
)


def _args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    add = parser.add_argument
    add("--peer-python", help="an interpreter that imports torch; without it only ours is timed")
    add("--data", help="an .npz with x_train and y_train; default: digits")
    add("--archs", help="architecture strings, by commas; default: connected ones at random")
    add("--candidates", type=int, help="default: 16 on digits, else 8")
    add("--images", type=int, help="of an epoch; default: 1280 on digits, else 1024")
    add("--resolution", type=int, help="default: 8 on digits, else 32")
    add("--channels", type=int, help="of stage 1; default: 8 on digits, else 16")
    add("--batch", type=int, default=64, help="images a step (default: %(default)s)")
    add("--runs", type=int, default=5, help="epochs that count (default: %(default)s)")
    add("--learning-rate", type=float, default=0.05)
    add("--weight-decay", type=float, default=5e-4)
    add("--momentum", type=float, default=0.9)
    add("--threads", default=f"1,{os.cpu_count()}", help="of PyTorch (default: %(default)s)")
    add(
        "--devices", type=int, default=1, help="parts of the CPU that candidates are dealt out over"
    )
    add("--skip-compilation", action="store_true", help="time training alone")
    add("--seed", type=int, default=0, help="of the architectures")
    add("--memory", help="numbers of candidates, by commas: measure memory in place of time")
    add("--one", choices=("compile", "memory"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    large = {"candidates": 8, "images": 1024, "resolution": 32, "channels": 16}
    small = {"candidates": 16, "images": 1280, "resolution": 8, "channels": 8}
    for name, value in (large if args.data else small).items():
        setattr(args, name, getattr(args, name) or value)
    return args


if __name__ == "__main__":
    main()
