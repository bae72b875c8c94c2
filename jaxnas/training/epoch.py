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
from jaxnas.training.hyper import Hyper, fresh_state, optimizer, schedule, smoothed
from jaxnas.training.layout import Layout, spread
from jaxnas.training.objective import Objective, distillation

DTYPES = ("float32", "bfloat16")


class Population(NamedTuple):
    """The state of a population: every leaf has the capacity as its first axis.

    `optimizer` is what the optimizer remembers, by name; `average` the mean of the variables over steps
    where candidates have one, else None.
    """

    variables: Variables
    optimizer: dict[str, Any]
    seeds: jax.Array
    average: Variables | None = None


type Augmenter = Callable[[jax.Array, jax.Array, jax.Array, Any], tuple[jax.Array, jax.Array]]
"""From a key, images `[B, H, W, C]` as networks read them, targets `[B, classes]` and one candidate's
`Hyper.policy` to images and targets; hashable, as it is compiled in."""


@dataclass(frozen=True)
class Recipe:
    """How candidates are trained beyond their hyper-parameters, alike for all of a program.

    `dtype` is what networks are computed in, `float32` or `bfloat16`; weights, batch statistics and
    losses are float32 all the same. `augmenter` reads `Hyper.policy`. `teacher` is the network whose
    logits are learned by the weight `Hyper.distill`, its variables and architecture given with the data.
    """

    dtype: str = "float32"
    optimizer: str = "sgd"
    objective: Objective = Objective()
    augmenter: Augmenter | None = None
    teacher: Network | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise unknown("dtype", self.dtype, DTYPES)
        fresh_state((), self.optimizer)  # refuses another name


@dataclass(frozen=True)
class Options:
    """What a program is compiled for.

    `noise` has dropout and drop-path in it, `distorts` feature maps too, `augment` the operations on
    images, `averages` the mean over steps; where every candidate's rates are 0 none is needed.
    """

    batch_size: int
    noise: bool = False
    augment: bool = False
    distorts: bool = False
    averages: bool = False
    recipe: Recipe = Recipe()

    @classmethod
    def of(cls, hyper: Hyper, batch_size: int, recipe: Recipe = Recipe()) -> "Options":
        """What candidates of these hyper-parameters need."""

        def some(*rates: Any) -> bool:
            return any(np.any(np.asarray(v) != 0) for v in rates)

        return cls(
            batch_size,
            noise=some(hyper.dropout, hyper.drop_path, hyper.distortion),
            augment=some(hyper.flip, hyper.shift, hyper.cutout),
            distorts=some(hyper.distortion),
            averages=some(hyper.ema),
            recipe=recipe,
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
    teacher: Any = None,
) -> tuple[Population, jax.Array]:
    """One epoch of the candidates that `which: bool[N]` names; the state and mean losses `[N]`.

    `progress` is (epochs done, epochs in all), `int32[N]` each. `teacher` is the variables and the
    architecture of the teacher, where the recipe has one. Candidates not named keep their state and
    report NaN.
    """

    def one(state: tuple[Population, jax.Array], member: Any, shared: Any) -> Any:
        (candidate, _), (arch, hyper, progress), ((x, y), teacher) = state, member, shared
        order = epoch_order(candidate.seeds, progress[0], len(x))

        def read(places: jax.Array) -> tuple[jax.Array, jax.Array]:
            images = order[places]
            return x[images], y[images]

        steps = len(x) // _own_batch(hyper, options)
        start = (candidate, jnp.zeros(()))
        piece = (0, steps, steps)
        program = _Program(network, options, arch, hyper, teacher)
        candidate, total = _steps(program, start, read, piece, progress)
        return candidate, total / steps

    start = (population, jnp.full(archs.shape[0], jnp.nan))
    return spread(one, layout, start, (archs, hyper, progress), (data, teacher), which)


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
    teacher: Any = None,
) -> tuple[Population, jax.Array]:
    """The steps of a window of an epoch, as those of `train_epoch`; the state and sums of losses `[N]`.

    `state` is what the window before left, the sums being 0 before the first.
    """
    images, apart = (window.x, window.y), window.x.ndim == 5

    def one(state: tuple[Population, jax.Array], member: Any, shared: Any) -> Any:
        (arch, hyper, own, progress), (common, start, size, teacher) = member, shared
        x, y = own if apart else common

        def read(places: jax.Array) -> tuple[jax.Array, jax.Array]:
            return x[places - start], y[places - start]

        batch = _own_batch(hyper, options)
        last = jnp.minimum(size, start + len(x)) // batch
        piece = (start // batch, last, size // batch)
        program = _Program(network, options, arch, hyper, teacher)
        return _steps(program, state, read, piece, progress)

    members = (archs, hyper, images if apart else None, progress)
    common = (None if apart else images, window.start, window.size, teacher)
    return spread(one, layout, state, members, common, which)


def epoch_order(seed: Any, epoch: Any, n: int) -> jax.Array:
    """The order in which a candidate's epoch (from 0) takes `n` images, `int32[n]`."""
    return jax.random.permutation(_epoch_key(seed, epoch), n)


def _epoch_key(seed: Any, epoch: Any) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), epoch)


def _own_batch(hyper: Hyper, options: Options) -> jax.Array:
    return jnp.round(hyper.batch_share * options.batch_size).astype(jnp.int32)


class _Program(NamedTuple):
    """What the steps of one candidate read."""

    network: Network
    options: Options
    arch: jax.Array
    hyper: Hyper
    teacher: Any


def _steps(
    program: _Program,
    state: tuple[Population, jax.Array],
    read: Read,
    piece: tuple[Any, Any, Any],
    progress: tuple[jax.Array, jax.Array],
) -> tuple[Population, jax.Array]:
    """One candidate's steps of an epoch from the first to before the last of `piece`.

    `piece` is (first, last, steps of the whole epoch); `state` the candidate, and the sum of its losses.
    """
    candidate, total = state
    options, hyper, kind = program.options, program.hyper, program.options.recipe.optimizer
    (first, last, steps), (epoch, epochs) = piece, progress
    own_batch, key = _own_batch(hyper, options), _epoch_key(candidate.seeds, epoch)
    # A smaller batch comes several times over, which is the same mean and the same batch norm.
    places = jnp.arange(options.batch_size) % own_batch

    def step(number: jax.Array, state: Any) -> Any:
        variables, memory, average, total = state
        x, y = read(number * own_batch + places)
        behind = epoch * steps + number
        done = (behind + 0.5) / (epochs * steps)
        update = optimizer(hyper, schedule(hyper, done), kind)
        inputs = (x, y, jax.random.fold_in(key, number), done)
        (loss, statistics), gradient = jax.value_and_grad(_loss, has_aux=True)(
            variables.params, program, variables, inputs
        )
        before = _remembered(update, variables.params, memory, behind)
        updates, after = update.update(gradient, before, variables.params)
        variables = Variables(optax.apply_updates(variables.params, updates), statistics)
        memory = {name: optax.tree.get(after, name) for name in memory}
        if options.averages:
            average = _averaged(average, variables, hyper.ema, behind)
        return variables, memory, average, total + loss

    start = (candidate.variables, candidate.optimizer, candidate.average, total)
    variables, memory, average, total = lax.fori_loop(first, last, step, start)
    return Population(variables, memory, candidate.seeds, average), total


def _remembered(
    update: optax.GradientTransformation, params: Any, memory: dict[str, Any], behind: jax.Array
) -> Any:
    """The optimizer's state from what it remembers and the number of steps behind it."""
    state = update.init(params)
    counts = {"count": jnp.asarray(behind, jnp.int32)} if "mu" in memory else {}
    return optax.tree.set(state, **memory, **counts)


def _averaged(average: Any, variables: Variables, decay: jax.Array, behind: jax.Array) -> Any:
    """The running mean of variables, which follows sooner in the beginning."""
    decay = jnp.minimum(decay, (1 + behind) / (10 + behind))
    return jax.tree.map(lambda a, b: a + (1 - decay) * (b - a), average, variables)


def _loss(
    params: Any,
    program: _Program,
    variables: Variables,
    inputs: tuple[jax.Array, jax.Array, jax.Array, jax.Array],
) -> tuple[jax.Array, Any]:
    network, options, arch, hyper, teacher = program
    recipe, (x, y, key, done) = options.recipe, inputs
    for_images, for_noise = jax.random.split(key)
    targets = smoothed(y, network.classes, hyper.label_smoothing)
    if options.augment:
        x = augment(for_images, x, hyper)
    if recipe.augmenter is not None:
        x, targets = recipe.augmenter(jax.random.fold_in(for_images, 1), x, targets, hyper.policy)
    noise = None
    if options.noise:
        rates = {"drop_path": hyper.drop_path, "dropout": hyper.dropout}
        # As published, the share grows to its end over the training.
        rates |= {"distortion": hyper.distortion * done} if options.distorts else {}
        noise = Noise.draw(for_noise, arch.shape[0], x.shape[0], **rates)
    images = x
    if recipe.dtype != "float32":
        params, x = jax.tree.map(lambda a: a.astype(recipe.dtype), (params, x))
    outputs = network.apply(
        variables._replace(params=params),
        arch,
        x,
        batch_norm="update",
        noise=noise,
        distinct=hyper.batch_share,
    )
    loss = recipe.objective(outputs.logits, targets)
    if recipe.teacher is not None:
        known, row = teacher
        taught = recipe.teacher.apply(known, row, images, batch_norm="running").logits
        learned = distillation(outputs.logits, lax.stop_gradient(taught), hyper.temperature)
        loss = (1 - hyper.distill) * loss + hyper.distill * learned
    return loss, outputs.statistics
