"""The compiled part of training: the steps of an epoch, and of a window of one that is streamed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxnas.errors import unknown
from jaxnas.network import Network, Variables
from jaxnas.nn.noise import Noise
from jaxnas.training.augmentation import augment
from jaxnas.training.hyper import Hyper, cross_entropy, optimizer, schedule
from jaxnas.training.layout import Layout, spread

DTYPES = ("float32", "bfloat16")


class Population(NamedTuple):
    """The state of a population: every leaf has the capacity as its first axis."""

    variables: Variables
    optimizer: Any
    seeds: jax.Array


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


class Window(NamedTuple):
    """A piece of an epoch: the images at `start`, `start` + 1, ... of the order they come in.

    `x: float32[W, H, W, C]` and `y: int32[W]` are read by every candidate, or have the capacity as
    their first axis where candidates have orders of their own. W is a multiple of the batch size;
    beyond `size`, the number of training images, nothing is read.
    """

    x: jax.Array
    y: jax.Array
    start: Any
    size: Any


type Read = Callable[[jax.Array], tuple[jax.Array, jax.Array]]
"""Images and labels at places of the order in which an epoch takes them."""


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
        (candidate, _), (arch, hyper), ((x, y), progress) = state, member, shared
        order = epoch_order(candidate.seeds, progress[0], len(x))

        def read(places: jax.Array) -> tuple[jax.Array, jax.Array]:
            images = order[places]
            return x[images], y[images]

        steps = len(x) // _own_batch(hyper, options)
        start = (candidate, jnp.zeros(()))
        piece = (0, steps, steps)
        candidate, total = _steps(network, options, start, arch, hyper, read, piece, progress)
        return candidate, total / steps

    start = (population, jnp.full(archs.shape[0], jnp.nan))
    return spread(one, layout, start, (archs, hyper), (data, progress), which)


@partial(jax.jit, static_argnames=("network", "options", "layout"), donate_argnames="state")
def train_window(
    network: Network,
    options: Options,
    layout: Layout,
    state: tuple[Population, jax.Array],
    archs: jax.Array,
    hyper: Hyper,
    window: Window,
    which: jax.Array,
    progress: tuple[jax.Array, jax.Array],
) -> tuple[Population, jax.Array]:
    """The steps of a window of an epoch, as those of `train_epoch`; the state and sums of losses `[N]`.

    `state` is what the window before left, the sums being 0 before the first.
    """
    images, apart = (window.x, window.y), window.x.ndim == 5

    def one(state: tuple[Population, jax.Array], member: Any, shared: Any) -> Any:
        (arch, hyper, own), (common, start, size, progress) = member, shared
        x, y = own if apart else common

        def read(places: jax.Array) -> tuple[jax.Array, jax.Array]:
            return x[places - start], y[places - start]

        batch = _own_batch(hyper, options)
        last = jnp.minimum(size, start + len(x)) // batch
        piece = (start // batch, last, size // batch)
        return _steps(network, options, state, arch, hyper, read, piece, progress)

    members = (archs, hyper, images if apart else None)
    common = (None if apart else images, window.start, window.size, progress)
    return spread(one, layout, state, members, common, which)


def epoch_order(seed: Any, epoch: Any, n: int) -> jax.Array:
    """The order in which a candidate's epoch (from 0) takes `n` images, `int32[n]`."""
    return jax.random.permutation(_epoch_key(seed, epoch), n)


def _epoch_key(seed: Any, epoch: Any) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), epoch)


def _own_batch(hyper: Hyper, options: Options) -> jax.Array:
    return jnp.round(hyper.batch_share * options.batch_size).astype(jnp.int32)


def _steps(
    network: Network,
    options: Options,
    state: tuple[Population, jax.Array],
    arch: jax.Array,
    hyper: Hyper,
    read: Read,
    piece: tuple[Any, Any, Any],
    progress: tuple[jax.Array, jax.Array],
) -> tuple[Population, jax.Array]:
    """One candidate's steps of an epoch from the first to before the last of `piece`.

    `piece` is (first, last, steps of the whole epoch); `state` the candidate, and the sum of its losses.
    """
    candidate, total = state
    (first, last, steps), (epoch, epochs) = piece, progress
    own_batch, key = _own_batch(hyper, options), _epoch_key(candidate.seeds, epoch)
    # A smaller batch comes several times over, which is the same mean and the same batch norm.
    places = jnp.arange(options.batch_size) % own_batch

    def step(number: jax.Array, state: Any) -> Any:
        variables, momentum, total = state
        x, y = read(number * own_batch + places)
        done = (epoch * steps + number + 0.5) / (epochs * steps)
        update = optimizer(hyper, schedule(hyper, done))
        inputs = (x, y, jax.random.fold_in(key, number))
        (loss, statistics), gradient = jax.value_and_grad(_loss, has_aux=True)(
            variables.params, network, options, variables, arch, hyper, inputs
        )
        updates, momentum = update.update(gradient, momentum, variables.params)
        params = optax.apply_updates(variables.params, updates)
        return Variables(params, statistics), momentum, total + loss

    start = optimizer(hyper, 0.0).init(candidate.variables.params)
    start = optax.tree.set(start, trace=candidate.optimizer)
    variables, momentum, total = lax.fori_loop(
        first, last, step, (candidate.variables, start, total)
    )
    trace = optax.tree.get(momentum, "trace")
    return Population(variables, trace, candidate.seeds), total


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
