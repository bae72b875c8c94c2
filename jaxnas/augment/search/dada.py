"""Differentiable augmentation: policy parameters go down the loss of held-out images (arXiv:2003.03780).

With weights w, policy parameters d and the rate xi, a step of the policy goes down the gradient of
L_held(w - xi grad_w L_train(w, d)) with respect to d, one step of training unrolled.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxnas.augment.operations import NUMBER
from jaxnas.augment.policy import checked
from jaxnas.augment.search.relaxed import Logits, augmented
from jaxnas.augment.search.setting import BESIDE, PUBLISHED, Found, Setting, folds, known
from jaxnas.augment.search.unrolled import unrolled
from jaxnas.errors import InputError
from jaxnas.network import Network, Variables
from jaxnas.training.epoch import Recipe
from jaxnas.training.hyper import Hyper, optimizer, schedule, smoothed

type Images = tuple[jax.Array, jax.Array]
"""Prepared images `[n, H, W, C]` and labels `int32[n]`."""


class Shape(NamedTuple):
    """The policy that is searched, and how fast its parameters move.

    subpolicies: S, all alike. layers: operations in each. rate: Adam's. temperature: of both relaxations.
    """

    subpolicies: int = 10
    layers: int = 2
    rate: float = 0.005
    temperature: float = 0.5


SHAPE = Shape()


class State(NamedTuple):
    """A search under way."""

    variables: Variables
    memory: Any
    logits: Logits
    moments: Any


class _Program(NamedTuple):
    """What a search is compiled for: one architecture, so that no branch is in it that is not taken."""

    network: Network
    row: tuple[int, ...]
    recipe: Recipe
    operations: tuple[str, ...]
    shape: Shape
    batch_size: int
    beside: bool


def differentiable(
    setting: Setting, *, operations: tuple[str, ...] = PUBLISHED, shape: Shape = SHAPE
) -> Found:
    """A policy of `shape.subpolicies` sub-policies, found in one training on half of the images.

    Weights are trained on one half of the training images, drawn by class, the policy on the other half.
    The gradient of the policy is DADA's: finite differences of w +- eps v, v the gradient of the held-out
    loss at the unrolled weights, eps = .01 / |v|.

    Departures from DADA: sub-policies have their own operation in each layer, as in Faster
    AutoAugment (1911.06987), and do not compete with each other, in place of one choice among all pairs
    of operations; gradients are straight through (`jaxnas.augment.search.relaxed`) and not RELAX's;
    w and d move by the gradients at the same w and d, so that one pass over the images serves both;
    the unrolled step is plain gradient descent. Networks are computed in float32 and without dropout,
    drop-path, distortion and averages; flips and shifts of `setting.hyper` are not applied.

    Args:
        setting: one of its members is trained; its validation images are not looked at.
        operations: those that are searched over.
        shape: see `Shape`.

    Raises:
        InputError: too few images, no augmenter, or a loss that stopped being a number.
    """
    train, held = folds(np.asarray(setting.data.y), 2, setting.seed)
    x, y = setting.data.x, setting.data.y
    return alternated(
        setting, (x[train], y[train]), (x[held], y[held]), operations=operations, shape=shape
    )


def alternated(
    setting: Setting,
    train: Images,
    held: Images,
    *,
    operations: tuple[str, ...] = PUBLISHED,
    shape: Shape = SHAPE,
) -> Found:
    """`differentiable` with weights trained on `train` and the policy on `held`."""
    operations, _ = known(operations), setting.augmenter
    key = jax.random.key(setting.seed)
    variables = setting.network.init(jax.random.fold_in(key, 0))
    # A copy, since the state is given up to the program that trains it.
    variables = setting.network.specialise(jax.tree.map(jnp.copy, variables), setting.row)
    hyper = setting.hyper.rows([0])._replace(policy=None).stretched(1).rows(0)
    hyper = hyper._replace(policy=setting.plain)
    row = tuple(int(v) for v in setting.row)
    beside = any(float(getattr(setting.beside, name)) > 0 for name in BESIDE)
    batch_size = min(setting.batch_size, len(train[0]), len(held[0]))
    program = _Program(setting.network, row, setting.alone, operations, shape, batch_size, beside)
    logits = Logits.even(shape.subpolicies, shape.layers, len(operations))
    memory = optimizer(hyper, 0.0, program.recipe.optimizer).init(variables.params)
    state = State(variables, memory, logits, optax.adam(shape.rate).init(logits))
    done = len(setting.keeper.units())
    if done:
        state = setting.keeper.state(state)
        setting.advance(done, "from the journal")
    for epoch in range(done, setting.epochs):
        progress = np.int32(epoch), np.int32(setting.epochs)
        state, losses = _epoch(
            program, state, hyper, train, held, jax.random.fold_in(key, 1), progress
        )
        found = np.asarray(losses)
        if not np.isfinite(found).all():
            raise InputError(
                f"The search of a policy diverged in epoch {epoch + 1} of {setting.epochs}: its losses "
                f"are {found[0]:.3g} and {found[1]:.3g}; a smaller learning rate may help."
            )
        setting.keeper.keep(state, losses=found)
        setting.advance(1, f"loss {found[0]:.3f}, held out {found[1]:.3f}")
    return Found(checked(setting.completed(state.logits.policy(operations))))


@partial(jax.jit, static_argnames="program", donate_argnames="state")
def _epoch(
    program: _Program,
    state: State,
    hyper: Hyper,
    train: Images,
    held: Images,
    key: jax.Array,
    progress: tuple[Any, Any],
) -> tuple[State, jax.Array]:
    """One epoch of weights and policy together; the state, and mean losses of both halves `[2]`."""
    epoch, epochs = progress
    for_train, for_held, for_steps = jax.random.split(jax.random.fold_in(key, epoch), 3)
    orders = [
        jax.random.permutation(k, len(x[0])) for k, x in ((for_train, train), (for_held, held))
    ]
    size = program.batch_size
    steps = min(len(train[0]), len(held[0])) // size

    def step(number: jax.Array, carry: Any) -> Any:
        state, total = carry
        batches = []
        for order, (x, y) in zip(orders, (train, held), strict=True):
            places = lax.dynamic_slice_in_dim(order, number * size, size)
            batches.append((x[places], y[places]))
        done = (epoch * steps + number + 0.5) / (epochs * steps)
        rate = schedule(hyper, done)
        own = jax.random.fold_in(for_steps, number)
        state, losses = _step(program, state, hyper, rate, batches, own)
        return state, total + losses

    state, total = lax.fori_loop(0, steps, step, (state, jnp.zeros(2)))
    return state, total / steps


def _step(
    program: _Program,
    state: State,
    hyper: Hyper,
    rate: jax.Array,
    batches: list[Images],
    key: jax.Array,
) -> tuple[State, jax.Array]:
    """One step of the policy and one of the weights; the losses of both batches, before it."""
    (x, y), held = batches
    for_beside, for_policy = jax.random.split(key)
    made, targets, pull = _made(program, state.logits, x, y, hyper, for_beside, for_policy)
    params = state.variables.params

    def loss(params: Any, images: jax.Array, targets: jax.Array, mode: Any = "batch") -> Any:
        variables = state.variables._replace(params=params)
        arch = np.array(program.row, np.int32)
        outputs = program.network.apply(variables, arch, images, batch_norm=mode)
        return program.recipe.objective(outputs.logits, targets), outputs.statistics

    down = jax.value_and_grad(loss, has_aux=True)
    (train_loss, statistics), gradient = down(params, made, targets, "update")
    wanted = smoothed(held[1], program.network.classes, hyper.label_smoothing)
    held_loss, by_image = unrolled(
        lambda params, images: loss(params, images, targets)[0],
        lambda params: loss(params, held[0], wanted)[0],
        params,
        gradient,
        made,
        rate,
    )
    # What is no number moves nothing.
    (slope,) = jax.tree.map(
        lambda g: jnp.nan_to_num(g, nan=0.0, posinf=0.0, neginf=0.0), pull(by_image)
    )
    move, moments = optax.adam(program.shape.rate).update(slope, state.moments)
    logits: Any = optax.apply_updates(state.logits, move)
    update = optimizer(hyper, rate, program.recipe.optimizer)
    change, memory = update.update(gradient, state.memory, params)
    variables = Variables(optax.apply_updates(params, change), statistics)
    return State(variables, memory, logits, moments), jnp.stack([train_loss, held_loss])


def _made(
    program: _Program,
    logits: Logits,
    x: jax.Array,
    y: jax.Array,
    hyper: Hyper,
    for_beside: jax.Array,
    for_policy: jax.Array,
) -> tuple[jax.Array, jax.Array, Any]:
    """The augmented batch, its targets, and from a gradient of its images to that of the policy."""
    augmenter: Any = program.recipe.augmenter
    numbers = [NUMBER[name] for name in program.operations]
    targets = smoothed(y, program.network.classes, hyper.label_smoothing)
    if program.beside:
        x, targets = augmenter(for_beside, x, targets, hyper.policy)
    fill, temperature = jnp.asarray(augmenter.fill), program.shape.temperature

    def images(logits: Logits) -> jax.Array:
        levels = augmenter.to_levels(x)
        made = augmented(for_policy, levels, logits, numbers, fill=fill, temperature=temperature)
        return augmenter.to_inputs(made)

    made, pull = jax.vjp(images, logits)
    return made, targets, pull
