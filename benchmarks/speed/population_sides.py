"""A population of ours and its PyTorch twin, epoch by epoch: both begin alike and see the same images."""

import argparse
import json
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.benchmarks.speed.peer_exchange import peer_weights
from jaxnas.data.load import load
from jaxnas.network import Variables
from jaxnas.search_spaces import get_space
from jaxnas.spaces import Size
from jaxnas.training.hyper import Hyper
from jaxnas.training.layout import Layout
from jaxnas.training.population import Options, Population, init_population, train_epoch

PEER = Path(__file__).with_name("torch_training_peer.py")


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
        devices = tuple(jax.local_devices()[: args.devices])
        self.layout = Layout(Layout.default().chunk, devices)
        self.population: Population | None = None

    def start(self) -> Population:
        """Fresh candidates."""
        fresh = init_population(self.network, self.seeds, self.archs)
        self.population = self.layout.dealt(fresh)
        return jax.block_until_ready(self.population)

    def epoch(self, number: int, *, train: bool = True) -> Epoch:
        """Train epoch `number`, from 0; without `train` nobody is trained, but all is compiled."""
        before = self.population or self.start()
        start = time.perf_counter()
        self.population, losses = train_epoch(
            self.network,
            Options.of(self.hyper, self.batch),
            self.layout,
            before,
            jnp.asarray(self.archs),
            jax.tree.map(jnp.asarray, self.hyper),
            (self.x, self.y),
            jnp.full(len(self.archs), train),
            tuple(jnp.full(len(self.archs), e, jnp.int32) for e in (number, self.epochs)),
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
        population = self.population or self.start()
        found = {}
        for i in range(len(self.archs)):
            own = Variables(*jax.tree.map(lambda a, i=i: a[i], population.variables))
            found |= {f"{i}/{k}": v for k, v in peer_weights(own, self.size).items()}
        return found


class Peer:
    """`torch_training_peer.py` as a server, which begins where `ours` does."""

    def __init__(
        self, python: str, folder: Path, ours: Ours, args: argparse.Namespace, *options: str
    ):
        self._process = subprocess.Popen(
            [
                *(python, str(PEER), *options, "--cells", "1,1,1", "--classes", str(ours.classes)),
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
        return f"torch {answer['torch']}, Python {answer['python']}"

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


def _archs(args: argparse.Namespace, space: Any) -> np.ndarray:
    """`--archs`, else connected ones at random."""
    if args.archs:
        names = args.archs.split(",")
        rows = space.pruned(np.stack([space.from_string(name) for name in names]))
        for name, connected in zip(names, space.connected(rows), strict=True):
            if not connected:
                raise SystemExit(f"{name} has no path from its input to its output.")
        return rows
    rows = space.pruned(space.all()[np.random.default_rng(args.seed).permutation(space.size)])
    return rows[space.connected(rows)][: args.candidates]
