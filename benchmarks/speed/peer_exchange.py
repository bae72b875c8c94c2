"""A network of ours and its PyTorch twin: weights under the peer's names, and the peer as a server."""

import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.network import Variables
from jaxnas.proxies.az_nas import rademacher
from jaxnas.proxies.expressivity import PERTURBATION, perturbed_noise
from jaxnas.proxies.regions import patches
from jaxnas.proxy import Batch
from jaxnas.spaces import Size

PEER = Path(__file__).with_name("torch_proxies_peer.py")
CONVOLUTIONS = {2: "nor_conv_1x1", 3: "nor_conv_3x3"}  # branches of an edge


def peer_weights(variables: Variables, size: Size) -> dict[str, np.ndarray]:
    """NAS-Bench-201's kernels and classifier by the names that `torch_peer.load_weights` reads."""
    ours = _by_name(variables.params)
    found = {"stem.conv": ours["stem.modules.0.kernel"]}
    found |= {f"classifier.{k}": ours[f"classifier.{k}"] for k in ("kernel", "bias")}
    block = 0
    for stage, cells in enumerate(size.cells):
        if stage:
            for part in ("conv_a", "conv_b", "shortcut"):
                found[f"reductions.{stage - 1}.{part}"] = ours[
                    f"blocks.{block}.{part}.modules.1.kernel"
                ]
            block += 1
        for cell in range(cells):
            for edge in range(6):
                for branch, op in CONVOLUTIONS.items():
                    name = f"blocks.{block}.edges.{edge}.branches.{branch}.modules.1.kernel"
                    found[f"stages.{stage}.{cell}.edges.{edge}.{op}.conv"] = ours[name]
            block += 1
    return found


def inputs_of(batch: Batch, size: Size) -> dict[str, np.ndarray]:
    """What proxies make of a batch and draw from its key, by the peer's names."""
    shapes = []
    for stage, cells in enumerate(size.cells):
        side, channels = size.resolution // 2**stage, size.channels * 2**stage
        shapes += [(len(batch.images), side, side, channels)] * (cells + (stage > 0))
    noise = perturbed_noise(batch)
    x, perturbed = jnp.split(noise, 2)
    found = {"patches": patches(batch), "noise": x, "perturbation": (perturbed - x) / PERTURBATION}
    signs = rademacher(batch.random_key, shapes)
    found |= {f"signs_{i}": vector for i, vector in enumerate(signs, start=1)}
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def _by_name(tree: Any) -> dict[str, np.ndarray]:
    """Leaves by path, as in `blocks.0.edges.3.branches.2.modules.1.kernel`."""
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        parts = [str(getattr(k, "key", getattr(k, "idx", ""))) for k in path]
        found[".".join(part for part in parts if part)] = np.asarray(leaf)
    return found


class ProxyPeer:
    """`torch_proxies_peer.py` as a server; `arrays` are its images, labels and random numbers.

    `weights`, by the peer's names, replace PyTorch's own initial ones.
    """

    def __init__(
        self,
        python: str,
        arrays: Mapping[str, np.ndarray],
        size: Size,
        *options: str,
        weights: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        np.savez(folder / "images.npz", **arrays)  # pyright: ignore[reportArgumentType]
        command = [python, str(PEER), "--serve", *options, "--images", str(folder / "images.npz")]
        if weights is not None:
            np.savez(folder / "weights.npz", **weights)  # pyright: ignore[reportArgumentType]
            command += ["--weights", str(folder / "weights.npz")]
        command += ["--cells", ",".join(map(str, size.cells)), "--channels", str(size.channels)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def about(self) -> dict[str, Any]:
        """Versions, settings and the `proxies` that it knows."""
        return self._ask({"about": 1})

    def ask(self, arch: str, proxy: str) -> dict[str, Any]:
        """`score`, `seconds` and `build` of one architecture."""
        return self._ask({"arch": arch, "proxy": proxy})

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
        self._folder.cleanup()
