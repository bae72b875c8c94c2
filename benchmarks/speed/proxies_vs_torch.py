"""Proxies against a plain PyTorch implementation of their authors' protocol: time, or values.

    python -m jaxnas.benchmarks.speed.proxies_vs_torch --data CIFAR.npz --peer-python PYTHON
    python -m jaxnas.benchmarks.speed.proxies_vs_torch --data CIFAR.npz --peer-python PYTHON --check

PYTHON is an interpreter with torch (another environment: the peer imports only torch and numpy).

* By default, time: the official network (15 cells, 32x32, batch 64), architectures timed in turn,
  `--group` of them first by ours and then by the peer, in either memory layout. The peer's time is the
  proxy's alone: building its networks is stated apart, and so is our compilation.
* `--check`: the same weights, images and random numbers, exchanged as .npz, on a small network (a cell
  a stage, 8 channels, 16x16) and on the official one, batch 16; printed is the relative difference
  |ours - theirs| / max(|ours|, |theirs|), median and greatest over architectures. Proxies of which one
  side lacks the formula are named.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxnas.benchmarks.speed.common import machine, spread
from jaxnas.benchmarks.speed.peer_exchange import ProxyPeer, inputs_of, peer_weights
from jaxnas.data.dataset import channel_statistics
from jaxnas.data.resize import resize
from jaxnas.proxies import PROXIES, get_proxies
from jaxnas.proxies.expressivity import gaussian_weights
from jaxnas.ranking import make_batch
from jaxnas.scoring.per_architecture import score_per_architecture
from jaxnas.search_spaces import get_space
from jaxnas.spaces import Size

TIMED = ("synflow", "grad_norm", "snip", "jacov", "fisher", "grasp")
SMALL = Size(channels=8, cells=(1, 1, 1), resolution=16)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    add = parser.add_argument
    add("--data", required=True, help="an .npz with x_train and y_train")
    add("--peer-python", required=True, help="an interpreter that imports torch")
    add("--check", action="store_true", help="compare values instead of time")
    add("--proxies", help=f"default: {','.join(TIMED)}; with --check all that both sides have")
    add("--archs", type=int, help="random architectures; default: 16, with --check 6")
    add("--official-archs", type=int, default=2, help="of --check, on the official network")
    add("--group", type=int, default=8, help="of them timed in turn")
    add("--seed", type=int, default=0)
    args = parser.parse_args()
    print(machine())
    with np.load(args.data) as data:
        images, labels = data["x_train"], data["y_train"]
    rng = np.random.default_rng(args.seed)
    space = get_space("nasbench201")
    rows = space.pruned(space.all()[rng.choice(space.size, space.size, replace=False)])
    rows = rows[space.connected(rows)][: args.archs or (6 if args.check else 16)]
    if args.check:
        check(args, space, SMALL, rows, _inputs(images, labels, rng, 16, 16))
        if few := args.official_archs:
            inputs = _inputs(images, labels, rng, 16, 32)
            check(args, space, space.official_size, rows[:few], inputs)
    else:
        timed(args, space, rows, _inputs(images, labels, rng, 64, 32))


def check(
    args: argparse.Namespace,
    space: Any,
    size: Size,
    rows: np.ndarray,
    arrays: dict[str, np.ndarray],
) -> None:
    """Print the relative differences of every proxy on one network."""
    network = space.network(size, classes=10)
    variables = network.init(jax.random.key(args.seed))
    batch = make_batch(arrays["x"], arrays["y"])
    arrays = arrays | inputs_of(batch, size)
    gaussian = variables._replace(params=gaussian_weights(variables.params, batch))
    peer, gaussian_peer = (
        ProxyPeer(args.peer_python, arrays, size, "--threads", "1", weights=peer_weights(v, size))
        for v in (variables, gaussian)
    )
    known = set(peer.about()["proxies"])
    names = _names(args, [name for name in PROXIES if name in known])
    print(f"\ncells {size.cells}, {size.channels} channels, {size.resolution}x{size.resolution}: ")
    print(f"  {'proxy':<18} {'median':>8} {'greatest':>9}  ours and the peer's there, and where")
    for name in names:
        ours = score_per_architecture(network, variables, rows, batch, get_proxies([name]))[name]
        archs = [space.to_string(row) for row in rows]
        asked = gaussian_peer if name == "zen" else peer
        theirs = np.array([asked.ask(arch, name)["score"] for arch in archs])
        differences = relative_difference(ours.astype(np.float64), theirs)
        worst = int(np.argmax(np.nan_to_num(differences, nan=np.inf)))
        print(
            f"  {name:<18} {np.median(differences):8.1e} {differences[worst]:9.1e}"
            f"  {ours[worst]:.7g} {theirs[worst]:.7g}  {archs[worst]}",
            flush=True,
        )
    if not args.proxies:
        print(f"  only ours: {', '.join(sorted(set(PROXIES) - known)) or 'none'}")
        print(f"  only the peer's: {', '.join(sorted(known - set(PROXIES))) or 'none'}")
    peer.close()
    gaussian_peer.close()


def relative_difference(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """|a - b| / max(|a|, |b|); 0 where both are the same, also infinite or NaN."""
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.abs(ours - theirs) / np.maximum(np.abs(ours), np.abs(theirs))
    return np.where(same, 0.0, found)


def timed(
    args: argparse.Namespace, space: Any, rows: np.ndarray, arrays: dict[str, np.ndarray]
) -> None:
    """Print the time of each proxy and of all of them together, beside the peer's."""
    size = space.official_size
    network = space.network(size, classes=10)
    variables = network.init(jax.random.key(args.seed))
    batch = make_batch(arrays["x"], arrays["y"])
    n = min(args.group, len(rows))
    groups = [rows[i : i + n] for i in range(0, len(rows) - n + 1, n)]  # another size would compile
    layouts = {"contiguous": "--no-channels-last", "channels-last": "--channels-last"}
    peers = {name: ProxyPeer(args.peer_python, arrays, size, o) for name, o in layouts.items()}

    def ours(asked: Sequence[str], group: np.ndarray) -> float:
        start = time.perf_counter()
        score_per_architecture(network, variables, group, batch, get_proxies(asked))
        return (time.perf_counter() - start) / len(group)

    names = _names(args, [name for name in TIMED if name in PROXIES])
    print(f"\nofficial network, 15 cells, 32x32, batch 64, {n * len(groups)} architectures; s each")
    for name in names:
        print(f"{name}: first call, with compilation, {n * ours([name], groups[0]):.1f} s")
        times, building = _in_turn(name, ours, peers, groups, space.to_string)
        _report(times, building)
    if len(names) > 1:
        ours(names, groups[0])
        print(f"all {len(names)} together: jaxnas {spread([ours(names, g) for g in groups])}")
    for peer in peers.values():
        peer.close()


def _in_turn(
    name: str,
    ours: Callable[[Sequence[str], np.ndarray], float],
    peers: dict[str, ProxyPeer],
    groups: Sequence[np.ndarray],
    to_string: Callable[[np.ndarray], str],
) -> tuple[dict[str, list[float]], list[float]]:
    """Seconds for each architecture, by ours and each peer, and of building the peers' networks."""
    for peer in peers.values():
        peer.ask(to_string(groups[0][0]), name)
    times: dict[str, list[float]] = {"jaxnas": [], **{layout: [] for layout in peers}}
    building: list[float] = []
    for group in groups:
        times["jaxnas"] += [ours([name], group)] * len(group)
        for layout, peer in peers.items():
            answers = [peer.ask(to_string(row), name) for row in group]
            times[layout] += [answer["seconds"] for answer in answers]
            building += [answer["build"] for answer in answers]
    return times, building


def _report(times: dict[str, list[float]], building: list[float]) -> None:
    base = times["jaxnas"]
    print(f"  jaxnas               {spread(base)}")
    for layout in [name for name in times if name != "jaxnas"]:
        by_median = statistics.median(times[layout]) / statistics.median(base)
        by_sum = sum(times[layout]) / sum(base)
        print(
            f"  torch {layout:<14} {spread(times[layout])}: {by_median:.1f} times as long by medians, "
            f"{by_sum:.1f} by sums"
        )
    print(f"  torch, building the network besides: {spread(building)}")


def _names(args: argparse.Namespace, default: Sequence[str]) -> list[str]:
    names = args.proxies.split(",") if args.proxies else list(default)
    get_proxies(names)
    return names


def _inputs(
    images: np.ndarray, labels: np.ndarray, rng: np.random.Generator, n: int, side: int
) -> dict[str, np.ndarray]:
    """`x: float32[n, side, side, C]`, standardised, and `y: int64[n]`."""
    mean, std = channel_statistics(images)
    picked = rng.choice(len(images), n, replace=False)
    x = resize(images[picked].astype(np.float32), side, side) / 255
    return {"x": ((x - mean) / std).astype(np.float32), "y": labels[picked].astype(np.int64)}


if __name__ == "__main__":
    main()
