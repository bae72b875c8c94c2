"""A small trained-looking network, and the directory it was exported to."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.data.dataset import Dataset
from jaxnas.data.load import from_arrays
from jaxnas.export import export
from jaxnas.network import Network, Variables
from jaxnas.search_spaces import get_space
from jaxnas.spaces import SearchSpace, Size


class Trained(NamedTuple):
    """What `export` takes."""

    space: SearchSpace
    size: Size
    data: Dataset
    arch: np.ndarray
    network: Network
    variables: Variables

    def write(self, directory: Path, **options: Any) -> Path:
        given = {"space": self.space, "size": self.size, "data": self.data} | options
        return export(directory, self.network, self.variables, self.arch, **given)

    def answers(self, x: np.ndarray) -> np.ndarray:
        """Probabilities for stored images, by data.prepare and the traced architecture."""
        inputs = self.data.prepare(x, self.network.resolution)
        row = jnp.asarray(self.space.rows(self.arch[None])[0])
        apply = jax.jit(lambda *a: self.network.apply(*a, batch_norm="running").logits)
        logits = np.asarray(apply(self.variables, row, jnp.asarray(inputs)), np.float64)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


def noisy_images(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def trained(
    name: str | SearchSpace,
    x: np.ndarray,
    *,
    arch: str | None = None,
    seed: int = 1,
    resolution: int | None = None,
    size: Size | None = None,
) -> Trained:
    """A network whose batch norms have seen `x`, and whose weights have been moved from zero."""
    space = get_space(name) if isinstance(name, str) else name
    data = from_arrays(x, np.arange(len(x)) % 3)
    key = jax.random.key(seed)
    row = space.from_string(arch) if arch else space.sample(key, 1)[0]
    row = space.pruned(row[None])[0]
    size = size or replace(space.train_size, resolution=resolution or x.shape[1])
    kind = int(space.shape_classes(row[None])[0])
    network = space.network(size, classes=3, image_channels=x.shape[3], shape_class=kind)
    picks = space.rows(row[None])[0]
    variables = network.specialise(network.init(key), picks)
    variables = variables._replace(params=jax.tree.map(_moved(key), variables.params))
    seen = jnp.asarray(data.prepare(x[:16], network.resolution))

    @jax.jit
    def update(variables: Variables, arch: jax.Array) -> Variables:
        out = network.apply(variables, arch, seen, batch_norm="update")
        return variables._replace(statistics=out.statistics)

    for _ in range(5):
        variables = update(variables, jnp.asarray(picks))
    return Trained(space, size, data, row, network, variables)


def _moved(key: jax.Array) -> Any:
    def moved(leaf: jax.Array) -> jax.Array:
        noise = np.random.default_rng(leaf.size).normal(size=leaf.shape)
        return leaf + 0.02 * jnp.asarray(noise, leaf.dtype)

    return moved


CELL = "|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"


@pytest.fixture(scope="session")
def cell() -> Trained:
    """A cell with every operation, on 12x12 images of 8x8 networks."""
    size = Size(channels=4, cells=(1, 1), resolution=8)
    return trained("nasbench201", noisy_images(90, 12, 12, 3), arch=CELL, size=size)


@pytest.fixture(scope="session")
def exported(cell: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("export") / "model"
    return cell.write(directory, accuracies={"test_accuracy": 0.5}, formats=("safetensors",))
