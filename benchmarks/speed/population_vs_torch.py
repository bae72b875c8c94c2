"""Training a population in one program against PyTorch training the same candidates one by one.

    python -m jaxnas.benchmarks.speed.population_vs_torch --peer-python PYTHON [--data FILE.npz]
    python -m jaxnas.benchmarks.speed.population_vs_torch --memory 4,8,16,32 [--data FILE.npz]

PYTHON is an interpreter with torch (another environment: the peer imports only torch and numpy).
NAS-Bench-201 networks of one cell a stage, SGD with Nesterov momentum, a half cosine. Both sides begin
with the same weights and see the same images in the same order, so that their losses can be compared.

* Time: epochs are trained in turn by jaxnas, by PyTorch contiguous and by PyTorch channels-last, all
  candidates each; the first, in which programs are compiled and memory is found, does not count. What is
  printed is candidate-steps a second. Compilation is timed in processes of their own, first with an
  empty compilation cache and then with the one that the first left, without training anything.
* `--memory`: the peak of a process's memory against the number of candidates (Linux), programs coming
  from the compilation cache, and a straight line through it.

Without `--data` the digits are used, 8x8 at 8 channels, 16 candidates; with it images are 32x32, at 16
channels, 8 candidates.
"""

import argparse
import json
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.backend import enable_compilation_cache
from jaxnas.benchmarks.speed.common import child, machine, spread
from jaxnas.benchmarks.speed.peer_exchange import peer_weights
from jaxnas.data.load import load
from jaxnas.network import Variables
from jaxnas.search_spaces import get_space
from jaxnas.spaces import Size
from jaxnas.training.evaluation import evaluate_population
from jaxnas.training.hyper import Hyper
from jaxnas.training.layout import Layout
from jaxnas.training.population import Options, init_population, train_epoch

MODULE = "jaxnas.benchmarks.speed.population_vs_torch"
PEER = Path(__file__).with_name("torch_training_peer.py")
LAYOUTS = {"torch contiguous": "--no-channels-last", "torch channels-last": "--channels-last"}


class Epoch(NamedTuple):
    """One epoch of all candidates: wall seconds, steps of all together, each one's mean loss."""

    seconds: float
    steps: int
    losses: np.ndarray


class Ours:
    """The population, its data and its program; epochs follow each other."""

    def __init__(self, args: argparse.Namespace) -> None:
        data = load(args.data or "digits")
        space = get_space("nasbench201")
        self.size = Size(channels=args.channels, cells=(1, 1, 1), resolution=args.resolution)
        self.network = space.network(
            self.size, classes=data.classes, image_channels=data.train.x.shape[3]
        )
        self.archs = _archs(args, space)
        self.names = [space.to_string(arch) for arch in self.archs]
        n = min(args.images, len(data.train))
        self.x = jnp.asarray(data.prepare(data.train.x[:n], args.resolution))
        self.y = jnp.asarray(data.train.y[:n])
        self.classes, self.batch, self.epochs = data.classes, args.batch, args.runs + 1
        self.seeds = np.arange(len(self.archs), dtype=np.uint32)
        self.hyper = Hyper.constant(
            len(self.archs),
            learning_rate=args.learning_rate,
            weight_decay=args.weight_decay,
            momentum=args.momentum,
            warmup=0.0,
        )
        self.population = init_population(self.network, self.seeds, self.archs)

    def epoch(self, number: int, *, train: bool = True) -> Epoch:
        """Train epoch `number`, from 0; without `train` nobody is trained, but all is compiled."""
        start = time.perf_counter()
        self.population, losses = train_epoch(
            self.network,
            Options.of(self.hyper, self.batch),
            Layout(Layout.default().chunk, tuple(jax.local_devices()[:1])),
            self.population,
            jnp.asarray(self.archs),
            jax.tree.map(jnp.asarray, self.hyper),
            (self.x, self.y),
            jnp.full(len(self.archs), train),
            (jnp.int32(number), jnp.int32(self.epochs)),
        )
        found = np.asarray(jax.block_until_ready(losses))
        steps = len(self.archs) * (len(self.x) // self.batch) if train else 0
        return Epoch(time.perf_counter() - start, steps, found)

    def orders(self) -> np.ndarray:
        """In which each candidate sees the images, `int32[N, epochs, n]`, as the program draws them."""

        def order(seed: jax.Array, epoch: jax.Array) -> jax.Array:
            key = jax.random.fold_in(jax.random.key(seed), epoch)
            return jax.random.permutation(key, len(self.x))

        every = jax.vmap(jax.vmap(order, (None, 0)), (0, None))
        return np.asarray(every(jnp.asarray(self.seeds), jnp.arange(self.epochs)))

    def weights(self) -> dict[str, np.ndarray]:
        """Each candidate's, by the peer's names after its number."""
        found = {}
        for i in range(len(self.archs)):
            own = Variables(*jax.tree.map(lambda a, i=i: a[i], self.population.variables))
            found |= {f"{i}/{k}": v for k, v in peer_weights(own, self.size).items()}
        return found


class Peer:
    """`torch_training_peer.py` as a server, which begins where `ours` does."""

    def __init__(self, python: str, folder: Path, ours: Ours, args: argparse.Namespace, flag: str):
        self._process = subprocess.Popen(
            [
                *(python, str(PEER), flag, "--cells", "1,1,1", "--classes", str(ours.classes)),
                *("--channels", str(args.channels), "--batch", str(args.batch)),
                *("--learning-rate", str(args.learning_rate), "--momentum", str(args.momentum)),
                *("--weight-decay", str(args.weight_decay), "--data", str(folder / "data.npz")),
                *("--archs", str(folder / "archs"), "--weights", str(folder / "weights.npz")),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @staticmethod
    def write(folder: Path, ours: Ours) -> None:
        """What all peers read."""
        np.savez(folder / "data.npz", x=ours.x, y=ours.y, orders=ours.orders())
        np.savez(folder / "weights.npz", **ours.weights())  # pyright: ignore[reportArgumentType]
        (folder / "archs").write_text("\n".join(ours.names) + "\n")

    def epoch(self, number: int) -> Epoch:
        answer = self._ask({"epoch": number})
        return Epoch(answer["seconds"], answer["steps"], np.array(answer["losses"]))

    def about(self) -> str:
        answer = self._ask({"about": 1})
        return f"torch {answer['torch']}, {answer['threads']} threads"

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"The peer ended with code {self._process.wait()}; see its message.")
        answer = json.loads(line)
        if "error" in answer:
            raise SystemExit(f"The peer refused {request}: {answer['error']}")
        return answer

    def close(self) -> None:
        self._process.communicate()


def main() -> None:
    """The command line."""
    args = _args()
    if args.one:
        enable_compilation_cache()
        print(json.dumps({"compile": compiled, "memory": peak}[args.one](args)))
        return
    print(machine())
    shown = ("images", "resolution", "channels", "batch", "candidates", "runs")
    print(", ".join(f"{name} {getattr(args, name)}" for name in shown))
    if args.memory:
        memory(args)
        return
    compilation(args)
    timed(args)


def timed(args: argparse.Namespace) -> dict[str, list[Epoch]]:
    """Epochs of every side in turn, the first of which is not among those given back."""
    ours = Ours(args)
    with tempfile.TemporaryDirectory() as name:
        Peer.write(Path(name), ours)
        peers = {}
        if args.peer_python:
            made = LAYOUTS.items()
            peers = {k: Peer(args.peer_python, Path(name), ours, args, f) for k, f in made}
        sides = {"jaxnas": ours, **peers}
        found = {k: [side.epoch(0)] for k, side in sides.items()}
        for number in range(1, ours.epochs):
            for k, side in sides.items():
                found[k].append(side.epoch(number))
        for peer in peers.values():
            print(peer.about())
            peer.close()
    counted = {k: epochs[1:] for k, epochs in found.items()}
    rates = {k: [e.steps / e.seconds for e in epochs] for k, epochs in counted.items()}
    for k, epochs in found.items():
        losses = [f"{e.losses.mean():.4f}" for e in (epochs[0], epochs[-1])]
        print(f"  {k:<20} candidate-steps/s {spread(rates[k])}; mean loss {' -> '.join(losses)}")
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
    start = time.perf_counter()
    ours = Ours(args)
    jax.block_until_ready(ours.population)
    seconds = {"init": time.perf_counter() - start, "epoch": ours.epoch(0, train=False).seconds}
    start = time.perf_counter()
    variables = ours.population.variables
    evaluate_population(ours.network, variables, ours.archs, ours.x[:128], ours.y[:128])
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


def _archs(args: argparse.Namespace, space: Any) -> np.ndarray:
    """`--archs`, else connected ones at random."""
    if args.archs:
        rows = np.stack([space.from_string(text) for text in args.archs.split(",")])
    else:
        rows = space.all()[np.random.default_rng(args.seed).permutation(space.size)]
    rows = space.pruned(rows)
    return rows[space.connected(rows)][: args.candidates]


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
