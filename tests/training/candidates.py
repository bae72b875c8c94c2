"""Three small candidates and their training, which several test files share."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.network import Network
from jaxnas.training.hyper import Hyper
from jaxnas.training.layout import to_host
from jaxnas.training.population import TrainingData, init_population, train_population

ARCHS = np.array([[3, 4, 1, 2, 0, 3], [2, 1, 2, 3, 1, 4], [1, 0, 3, 4, 2, 1]], np.int32)
SEEDS = np.array([11, 12, 13, 0], np.uint32)
"""One more than architectures: the last place stays free."""

HYPER = Hyper(
    learning_rate=np.array([0.05, 0.1, 0.2]),
    weight_decay=np.array([0.0, 1e-2, 5e-4]),
    momentum=np.array([0.9, 0.0, 0.5]),
    label_smoothing=np.array([0.0, 0.1, 0.2]),
    warmup=np.array([0.0, 0.1, 0.5]),
)

CLOSE = {"rtol": 1e-3, "atol": 1e-5}
"""What a few steps make of additions in another order."""


def split(n: int, seed: int) -> tuple[jax.Array, jax.Array]:
    """Images of three classes, each bright in a channel of its own."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = rng.standard_normal((n, 8, 8, 3)) + 2 * np.eye(3)[y][:, None, None]
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)


def data(n: int = 8, n_val: int = 10) -> TrainingData:
    """`n` images to train on and `n_val` others."""
    return TrainingData(*split(n, 0), *split(n_val, 1))


def train(
    network: Network,
    hyper: Hyper = HYPER,
    *,
    archs: np.ndarray = ARCHS,
    seeds: np.ndarray = SEEDS,
    epochs: int = 3,
    images: TrainingData | None = None,
    population: Any = None,
    **settings: Any,
) -> list[tuple[Any, Any]]:
    """A copy of the state, and the metrics, after each epoch."""
    history = []
    train_population(
        network,
        archs,
        hyper,
        data() if images is None else images,
        epochs=epochs,
        population=init_population(network, seeds, archs) if population is None else population,
        on_epoch=lambda e, p, m: history.append((jax.tree.map(_copy, p), m)),
        **({"batch_size": 4} | settings),
    )
    return history


def _copy(array: jax.Array) -> np.ndarray:
    return np.array(to_host(array))


def pick(history: Sequence[Any], *rows: int) -> list[Any]:
    """States and metrics of some candidates, every epoch."""
    return [jax.tree.map(lambda a: a[list(rows)], both) for both in history]
