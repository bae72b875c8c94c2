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
import optax
from jax import lax

from jaxnas.errors import InputError, unknown
from jaxnas.network import Network, Variables
from jaxnas.nn.noise import Noise
from jaxnas.training.augmentation import augment
from jaxnas.training.evaluation import evaluate_population
from jaxnas.training.hyper import Hyper, cross_entropy, optimizer, schedule
from jaxnas.training.layout import Layout, padded, spread, to_host

DTYPES = ("float32", "bfloat16")


class Population(NamedTuple):
    """The state of a population: every leaf has the capacity as its first axis."""

    variables: Variables
    optimizer: Any
    seeds: jax.Array


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


@dataclass(frozen=True)
class Options:
    """What a program is compiled for.

    `noise` has dropout and drop-path in it, `augment` the operations on images; where every candidate's
    rates are 0 neither is needed. `dtype` is what networks are computed in, `float32` or `bfloat16`;
    weights, batch statistics and losses are float32 all the same.
    """

    batch_size: int
    noise: bool = False
    augment: bool = False
    dtype: str = "float32"

    @classmethod
    def of(cls, hyper: Hyper, batch_size: int, dtype: str = "float32") -> "Options":
        """What candidates of these hyper-parameters need."""
        if dtype not in DTYPES:
            raise unknown("dtype", dtype, DTYPES)
        noise, images = (hyper.dropout, hyper.drop_path), (hyper.flip, hyper.shift, hyper.cutout)
        return cls(
            batch_size,
            noise=any(np.any(np.asarray(v) != 0) for v in noise),
            augment=any(np.any(np.asarray(v) != 0) for v in images),
            dtype=dtype,
        )


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
    data: TrainingData,
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
    Minibatches are drawn inside the program, without replacement within an epoch, from the
    candidate's seed. Starting from the state after `start_epoch` epochs gives what an undisturbed run
    gives. The state passed in, and those handed to `on_epoch`, are used up by the epoch that follows.

    Args:
        network: every candidate's.
        archs: the rows that its choice points read.
        hyper: `[N]` each.
        data: on the device.
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
    if batch_size > len(data.x):
        raise InputError(f"The batch size {batch_size} exceeds the {len(data.x)} training images.")
    layout = Layout.fitting(capacity) if layout is None else layout
    options = Options.of(hyper, batch_size, dtype)
    hyper = jax.tree.map(lambda a: np.resize(np.asarray(a, np.float32), capacity), hyper)
    _check_batches(hyper.batch_share, batch_size)
    alive = np.ones(n, bool) if alive is None else alive.copy()
    rows = padded(archs, capacity)
    population = layout.dealt(population)
    for epoch in range(start_epoch, epochs):
        population, losses = train_epoch(
            network,
            options,
            layout,
            population,
            rows,
            hyper,
            (data.x, data.y),
            np.resize(np.append(alive, np.zeros(capacity - n, bool)), capacity),
            (np.int32(epoch), np.int32(epochs)),
        )
        train_loss = to_host(losses)[:n]
        alive &= np.isfinite(train_loss)
        val_loss, val_accuracy = evaluate_population(
            network,
            population.variables,
            archs,
            data.x_val,
            data.y_val,
            which=alive,
            layout=layout,
        )
        lost = np.where(alive, 0, np.nan)
        metrics = EpochMetrics(train_loss + lost, val_loss, val_accuracy)
        on_epoch(epoch + 1, population, metrics)
        if survivors is not None:
            alive &= survivors(epoch + 1, metrics)
    return population


def _check_batches(share: np.ndarray, batch_size: int) -> None:
    parts = share * batch_size
    wrong = (np.abs(parts - np.round(parts)) > 1e-3) | (parts < 0.5)
    wrong |= np.where(wrong, False, batch_size % np.maximum(np.round(parts), 1) != 0)
    if wrong.any():
        raise InputError(
            f"batch_share is {share[wrong][0]:g} of {batch_size} images, expected 1 over a whole number "
            f"that divides {batch_size}."
        )


@partial(jax.jit, static_argnames=("network", "options", "layout"), donate_argnames="population")
def train_epoch(
    network: Network,
    options: Options,
    layout: Layout,
    population: Population,
    archs: jax.Array,
    hyper: Hyper,
    data: tuple[jax.Array, jax.Array],
    which: jax.Array,
    progress: tuple[jax.Array, jax.Array],
) -> tuple[Population, jax.Array]:
    """One epoch of the candidates that `which: bool[N]` names; the state and mean losses `[N]`.

    `progress` is (epochs done, epochs in all). Candidates not named keep their state and report NaN.
    """

    def one(state: tuple[Population, jax.Array], member: Any, shared: Any) -> Any:
        return _candidate_epoch(network, options, state[0], *member, *shared)

    start = (population, jnp.full(archs.shape[0], jnp.nan))
    return spread(one, layout, start, (archs, hyper), (data, progress), which)


def _candidate_epoch(
    network: Network,
    options: Options,
    candidate: Population,
    arch: jax.Array,
    hyper: Hyper,
    data: tuple[jax.Array, jax.Array],
    progress: tuple[jax.Array, jax.Array],
) -> tuple[Population, jax.Array]:
    x, y = data
    epoch, epochs = progress
    own_batch = jnp.round(hyper.batch_share * options.batch_size).astype(jnp.int32)
    steps = x.shape[0] // own_batch
    key = jax.random.fold_in(jax.random.key(candidate.seeds), epoch)
    order = jax.random.permutation(key, x.shape[0])
    # A smaller batch comes several times over, which is the same mean and the same batch norm.
    places = jnp.arange(options.batch_size) % own_batch

    def step(number: jax.Array, state: Any) -> Any:
        variables, momentum, total = state
        images = order[number * own_batch + places]
        done = (epoch * steps + number + 0.5) / (epochs * steps)
        update = optimizer(hyper, schedule(hyper, done))
        inputs = (x[images], y[images], jax.random.fold_in(key, number))
        (loss, statistics), gradient = jax.value_and_grad(_loss, has_aux=True)(
            variables.params, network, options, variables, arch, hyper, inputs
        )
        updates, momentum = update.update(gradient, momentum, variables.params)
        params = optax.apply_updates(variables.params, updates)
        return Variables(params, statistics), momentum, total + loss

    start = optimizer(hyper, 0.0).init(candidate.variables.params)
    start = optax.tree.set(start, trace=candidate.optimizer)
    variables, momentum, total = lax.fori_loop(
        0, steps, step, (candidate.variables, start, jnp.zeros(()))
    )
    trace = optax.tree.get(momentum, "trace")
    return Population(variables, trace, candidate.seeds), total / steps


def _loss(
    params: Any,
    network: Network,
    options: Options,
    variables: Variables,
    arch: jax.Array,
    hyper: Hyper,
    inputs: tuple[jax.Array, jax.Array, jax.Array],
) -> tuple[jax.Array, Any]:
    x, y, key = inputs
    for_images, for_noise = jax.random.split(key)
    if options.augment:
        x = augment(for_images, x, hyper)
    noise = None
    if options.noise:
        rates = {"drop_path": hyper.drop_path, "dropout": hyper.dropout}
        noise = Noise.draw(for_noise, arch.shape[0], x.shape[0], **rates)
    if options.dtype != "float32":
        params, x = jax.tree.map(lambda a: a.astype(options.dtype), (params, x))
    outputs = network.apply(
        variables._replace(params=params),
        arch,
        x,
        batch_norm="update",
        noise=noise,
        distinct=hyper.batch_share,
    )
    return cross_entropy(outputs.logits, y, hyper.label_smoothing), outputs.statistics
