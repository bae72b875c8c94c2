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
from jaxnas.training.epoch import Options, Population, Recipe, train_epoch
from jaxnas.training.evaluation import evaluate_population
from jaxnas.training.hyper import Hyper, fresh_state
from jaxnas.training.layout import Layout, padded, to_host
from jaxnas.training.stream import StreamedData, evaluate_streamed, stream_epoch


class EpochMetrics(NamedTuple):
    """One epoch of one population, `[N]` each; NaN marks candidates that were not trained any more.

    `val_metric` is what candidates are compared by: the accuracy, or another of
    `jaxnas.training.metrics.METRICS`.
    """

    train_loss: np.ndarray
    val_loss: np.ndarray
    val_accuracy: np.ndarray
    val_metric: np.ndarray


@dataclass(frozen=True)
class TrainingData:
    """Prepared images `float32[n, H, W, C]` and labels `int32[n]` of two splits."""

    x: jax.Array
    y: jax.Array
    x_val: jax.Array
    y_val: jax.Array


def init_population(
    network: Network,
    seeds: np.ndarray,
    archs: np.ndarray,
    *,
    optimizer: str = "sgd",
    averages: bool = False,
) -> Population:
    """Fresh candidates, one a seed; equal seeds give equal weights.

    There may be more seeds than `archs: int32[N, P]`: places that are kept free. `optimizer` is the
    recipe's; `averages` are kept where some `Hyper.ema` is above 0.
    """
    rows = padded(archs, len(seeds))
    return _init(network, optimizer, averages, jnp.asarray(seeds, jnp.uint32), rows)


def population_of(
    members: Sequence[Variables],
    seeds: np.ndarray,
    *,
    optimizer: str = "sgd",
    averages: bool = False,
) -> Population:
    """Candidates that begin with given variables, as those of `jaxnas.morphisms.morph`."""
    variables = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    return _begun(variables, jnp.asarray(seeds, jnp.uint32), optimizer, averages)


@partial(jax.jit, static_argnames=("network", "optimizer", "averages"))
def _init(
    network: Network, optimizer: str, averages: bool, seeds: jax.Array, archs: jax.Array
) -> Population:
    def one(seed: jax.Array, arch: jax.Array) -> Variables:
        return network.specialise(network.init(jax.random.key(seed)), arch)

    return _begun(jax.vmap(one)(seeds, archs), seeds, optimizer, averages)


def _begun(variables: Variables, seeds: jax.Array, optimizer: str, averages: bool) -> Population:
    memory = fresh_state(variables.params, optimizer)
    # A copy, since the state is given up to the program that trains it.
    average = jax.tree.map(jnp.copy, variables) if averages else None
    return Population(variables, memory, seeds, average)


def final_variables(population: Population, hyper: Hyper) -> Variables:
    """What candidates are evaluated by: their average where they have one, else their variables."""
    if population.average is None:
        return population.variables
    averaged = hyper.stretched(len(population.seeds)).ema > 0
    return _chosen(averaged, population.average, population.variables)


@jax.jit
def _chosen(which: jax.Array, a: Variables, b: Variables) -> Variables:
    def choose(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.where(which.reshape(-1, *(1,) * (x.ndim - 1)), x, y)

    return jax.tree.map(choose, a, b)


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
    recipe: Recipe = Recipe(),
    teacher: Any = None,
    metric: str = "accuracy",
    layout: Layout | None = None,
    hyper_at: Callable[[int, Hyper], Hyper] | None = None,
    survivors: Callable[[int, EpochMetrics], np.ndarray] | None = None,
    on_epoch: Callable[[int, Population, EpochMetrics], None] = lambda e, p, m: None,
) -> Population:
    """Train `archs: int32[N, D]` for `epochs` epochs, the state's capacity being at least N.

    A candidate whose loss stops being a number is frozen and its metrics are NaN from then on; the
    others do not notice. Training ends early once `survivors` has left nobody.
    `on_epoch(epoch, population, metrics)` is called after each epoch (from 1). Minibatches are drawn
    without replacement within an epoch, from the candidate's seed: inside the program, or outside in
    just that order where images are streamed. Starting from the state after `start_epoch` epochs gives
    what an undisturbed run gives. The state passed in, and those handed to `on_epoch`, are used up by
    the epoch that follows.

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
        recipe: precision, optimizer, objective, augmentation and teacher of all.
        teacher: the variables and the architecture of `recipe.teacher`.
        metric: what `EpochMetrics.val_metric` is, a name of `jaxnas.training.metrics.METRICS`.
        layout: how candidates share the devices; None: `Layout.fitting(capacity)`.
        hyper_at: from an epoch, from 0, and `hyper` to the hyper-parameters of that epoch, as those that
            a tuner found; None: `hyper` in all of them.
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
    layout = Layout.fitting(capacity) if layout is None else layout
    every = [hyper if hyper_at is None else hyper_at(e, hyper) for e in range(epochs)]
    every = [h.stretched(capacity) for h in every]
    # One program for all epochs, with what any of them needs.
    needs = jax.tree.map(lambda *values: np.stack(values), *every) if hyper_at else hyper
    options = Options.of(needs, batch_size, recipe)
    for hyper in every[:1] if hyper_at is None else every:
        check(data, hyper, population, options, teacher)
    alive = np.ones(n, bool) if alive is None else alive.copy()
    rows = padded(archs, capacity)
    population = layout.dealt(population)
    for epoch in range(start_epoch, epochs):
        hyper = every[epoch]
        which = np.append(alive, np.zeros(capacity - n, bool))
        progress = (np.full(capacity, epoch, np.int32), np.full(capacity, epochs, np.int32))
        population, losses = trained_on(
            network, options, layout, population, rows, hyper, data, which, progress, teacher
        )
        train_loss = losses[:n]
        alive &= np.isfinite(train_loss)
        final = final_variables(population, hyper)
        judged = judge(network, final, archs, data, which=alive, layout=layout, metric=metric)
        lost = np.where(alive, 0, np.nan)
        metrics = EpochMetrics(train_loss + lost, *judged)
        on_epoch(epoch + 1, population, metrics)
        if survivors is not None:
            there, alive = alive, alive & survivors(epoch + 1, metrics)
            if there.any() and not alive.any():
                break
    return population


def trained_on(
    network: Network,
    options: Options,
    layout: Layout,
    population: Population,
    rows: np.ndarray,
    hyper: Hyper,
    data: TrainingData | StreamedData,
    which: np.ndarray,
    progress: tuple[np.ndarray, np.ndarray],
    teacher: Any = None,
) -> tuple[Population, np.ndarray]:
    """One epoch of some members, each at its own place of its training: the state, which is used up, and
    mean losses `[N]`.

    All arrays have the capacity N as their first axis: `rows: int32[N, P]`, `which: bool[N]`, `progress`
    epochs done and in all, `int32[N]`. Hyper-parameters may be others than in the epoch before.
    """
    streamed = isinstance(data, StreamedData)
    train: Callable[..., Any] = stream_epoch if streamed else train_epoch
    images = data.train if streamed else (data.x, data.y)
    population, losses = train(
        network, options, layout, population, rows, hyper, images, which, progress, teacher
    )
    return population, np.array(to_host(losses))


def judge(
    network: Network,
    variables: Variables,
    archs: np.ndarray,
    data: TrainingData | StreamedData,
    *,
    which: np.ndarray | None = None,
    layout: Layout | None = None,
    metric: str = "accuracy",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loss, accuracy and metric on the validation images, `[N]` each."""
    how: dict[str, Any] = {"which": which, "layout": layout, "metric": metric}
    if isinstance(data, StreamedData):
        return evaluate_streamed(network, variables, archs, data.val, **how)
    return evaluate_population(network, variables, archs, data.x_val, data.y_val, **how)


def check(
    data: TrainingData | StreamedData,
    hyper: Hyper,
    population: Population,
    options: Options,
    teacher: Any = None,
) -> None:
    """Refuse what `trained_on` cannot do, `hyper` being stretched to the capacity.

    Raises:
        InputError: a batch larger than the data, a share of the batch that is no whole divisor of it, or
            a state without what the optimizer or an average needs, or one half of a teacher.
    """
    size = len(data.train if isinstance(data, StreamedData) else data.x)
    if options.batch_size > size:
        raise InputError(f"The batch size {options.batch_size} exceeds the {size} training images.")
    _check_batches(hyper.batch_share, options.batch_size)
    _check_state(population, options)
    if (options.recipe.teacher is None) != (teacher is None):
        raise InputError(
            "A recipe's teacher and the teacher's variables and architecture belong together; got only "
            "one of them."
        )


def _check_state(population: Population, options: Options) -> None:
    wanted, kind = set(fresh_state((), options.recipe.optimizer)), options.recipe.optimizer
    if set(population.optimizer) != wanted:
        raise InputError(
            f"The population remembers {', '.join(population.optimizer)}, but {kind} needs "
            f"{', '.join(wanted)}; make it with init_population(..., optimizer={kind!r})."
        )
    if options.averages and population.average is None:
        raise InputError(
            "Hyper.ema is above 0, but the population has no averages; make it with "
            "init_population(..., averages=True)."
        )


def _check_batches(share: np.ndarray, batch_size: int) -> None:
    parts = share * batch_size
    wrong = (np.abs(parts - np.round(parts)) > 1e-3) | (parts < 0.5)
    wrong |= np.where(wrong, False, batch_size % np.maximum(np.round(parts), 1) != 0)
    if wrong.any():
        raise InputError(
            f"batch_share is {share[wrong][0]:g} of {batch_size} images, expected 1 over a whole number "
            f"that divides {batch_size}."
        )
