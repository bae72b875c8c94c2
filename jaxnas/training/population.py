"""Training many candidates in one compiled program.

A candidate is data: its architecture, seed and hyper-parameters are rows of arrays, and so are its
weights. One program trains whichever rows are named for one epoch; nothing is compiled anew for another
architecture, seed, learning rate or number of candidates up to the capacity.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.network import Network, Variables
from jaxnas.training.epoch import Options, Population, train_epoch
from jaxnas.training.evaluation import evaluate_population
from jaxnas.training.hyper import Hyper
from jaxnas.training.layout import Layout, padded, to_host
from jaxnas.training.stream import StreamedData, evaluate_streamed, stream_epoch


class EpochMetrics(NamedTuple):
    """One epoch of one population, `[N]` each; NaN marks candidates that were not trained any more."""

    train_loss: np.ndarray
    val_loss: np.ndarray
    val_accuracy: np.ndarray


@dataclass(frozen=True)
class TrainingData:
    """Prepared images `float32[n, H, W, C]` and labels `int32[n]` of two splits."""

    x: jax.Array
    y: jax.Array
    x_val: jax.Array
    y_val: jax.Array


def init_population(network: Network, seeds: np.ndarray, archs: np.ndarray) -> Population:
    """Fresh candidates, one a seed; equal seeds give equal weights.

    There may be more seeds than `archs: int32[N, P]`: places that are kept free.
    """
    return _init(network, jnp.asarray(seeds, jnp.uint32), padded(archs, len(seeds)))


def population_of(members: Sequence[Variables], seeds: np.ndarray) -> Population:
    """Candidates that begin with given variables, as those of `jaxnas.morphisms.morph`."""
    variables = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    momentum = jax.tree.map(jnp.zeros_like, variables.params)
    return Population(variables, momentum, jnp.asarray(seeds, jnp.uint32))


@partial(jax.jit, static_argnames="network")
def _init(network: Network, seeds: jax.Array, archs: jax.Array) -> Population:
    def one(seed: jax.Array, arch: jax.Array) -> Variables:
        return network.specialise(network.init(jax.random.key(seed)), arch)

    variables = jax.vmap(one)(seeds, archs)
    return Population(variables, jax.tree.map(jnp.zeros_like, variables.params), seeds)


def train_population(
    network: Network,
    archs: np.ndarray,
    hyper: Hyper,
    data: TrainingData | StreamedData,
    *,
    epochs: int,
    batch_size: int,
    population: Population,
    start_epoch: int = 0,
    alive: np.ndarray | None = None,
    dtype: str = "float32",
    layout: Layout | None = None,
    survivors: Callable[[int, EpochMetrics], np.ndarray] | None = None,
    on_epoch: Callable[[int, Population, EpochMetrics], None] = lambda e, p, m: None,
) -> Population:
    """Train `archs: int32[N, D]` for `epochs` epochs, the state's capacity being at least N.

    A candidate whose loss stops being a number is frozen and its metrics are NaN from then on; the
    others do not notice. `on_epoch(epoch, population, metrics)` is called after each epoch (from 1).
    Minibatches are drawn without replacement within an epoch, from the candidate's seed: inside the
    program, or outside in just that order where images are streamed. Starting from the state after
    `start_epoch` epochs gives what an undisturbed run gives. The state passed in, and those handed to
    `on_epoch`, are used up by the epoch that follows.

    Args:
        network: every candidate's.
        archs: the rows that its choice points read.
        hyper: `[N]` each.
        data: on the device, or streamed to it.
        epochs: of those that are trained to the end; the learning rate's schedule is this long.
        batch_size: the most images a step; `hyper.batch_share` of it for each candidate.
        population: what to begin with, `init_population` or `population_of`.
        start_epoch: how many epochs `population` has behind it.
        alive: `bool[N]`, who is trained at all; None: everybody.
        dtype: what networks are computed in, `float32` or `bfloat16`.
        layout: how candidates share the devices; None: `Layout.fitting(capacity)`.
        survivors: called after `on_epoch` with the same epoch and its metrics, gives `bool[N]`: who is
            trained on (`jaxnas.training.fidelity`); None: everybody.
        on_epoch: hears of each epoch.

    Raises:
        InputError: more architectures than the state has places, a batch larger than the data, or a
            share of the batch that is no whole divisor of it.
    """
    n = len(archs)
    capacity = population.seeds.shape[0]
    if n > capacity:
        raise InputError(f"{n} architectures do not fit a population of capacity {capacity}.")
    train, images, evaluate, size = _handled(data)
    if batch_size > size:
        raise InputError(f"The batch size {batch_size} exceeds the {size} training images.")
    layout = Layout.fitting(capacity) if layout is None else layout
    options = Options.of(hyper, batch_size, dtype)
    hyper = jax.tree.map(lambda a: np.resize(np.asarray(a, np.float32), capacity), hyper)
    _check_batches(hyper.batch_share, batch_size)
    alive = np.ones(n, bool) if alive is None else alive.copy()
    rows = padded(archs, capacity)
    population = layout.dealt(population)
    for epoch in range(start_epoch, epochs):
        population, losses = train(
            network,
            options,
            layout,
            population,
            rows,
            hyper,
            images,
            np.resize(np.append(alive, np.zeros(capacity - n, bool)), capacity),
            (np.int32(epoch), np.int32(epochs)),
        )
        train_loss = np.array(to_host(losses)[:n])
        alive &= np.isfinite(train_loss)
        val_loss, val_accuracy = evaluate(
            network, population.variables, archs, which=alive, layout=layout
        )
        lost = np.where(alive, 0, np.nan)
        metrics = EpochMetrics(train_loss + lost, val_loss, val_accuracy)
        on_epoch(epoch + 1, population, metrics)
        if survivors is not None:
            alive &= survivors(epoch + 1, metrics)
    return population


def _handled(data: TrainingData | StreamedData) -> tuple[Callable, Any, Callable, int]:
    """What trains an epoch, on what; what evaluates; the number of training images."""
    if isinstance(data, StreamedData):
        evaluate = partial(evaluate_streamed, images=data.val)
        return stream_epoch, data.train, evaluate, len(data.train)
    evaluate = partial(evaluate_population, x=data.x_val, y=data.y_val)
    return train_epoch, (data.x, data.y), evaluate, len(data.x)


def _check_batches(share: np.ndarray, batch_size: int) -> None:
    parts = share * batch_size
    wrong = (np.abs(parts - np.round(parts)) > 1e-3) | (parts < 0.5)
    wrong |= np.where(wrong, False, batch_size % np.maximum(np.round(parts), 1) != 0)
    if wrong.any():
        raise InputError(
            f"batch_share is {share[wrong][0]:g} of {batch_size} images, expected 1 over a whole number "
            f"that divides {batch_size}."
        )
