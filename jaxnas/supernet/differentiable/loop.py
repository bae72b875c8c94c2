"""One epoch of a differentiable search: architecture and weight steps in turn, in one program."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxnas.network import Network, Variables
from jaxnas.nn.context import BatchNormMode
from jaxnas.supernet.differentiable.choices import Choices
from jaxnas.supernet.differentiable.gradients import unrolled_loss, weight_masks
from jaxnas.supernet.differentiable.strategy import Alphas, Now, Strategy
from jaxnas.training.hyper import Hyper, cross_entropy, schedule
from jaxnas.training.population import TrainingData

CLIP = 5.0
"""The largest norm of a weight gradient, as in the strategies' own code."""


class SearchState(NamedTuple):
    """A search's state after `epoch` epochs, a pytree of arrays; `kept: bool[P, K]`: branches left."""

    variables: Variables
    momentum: Any
    alphas: Alphas
    adam: Any
    kept: jax.Array
    seed: jax.Array
    epoch: jax.Array


class _Batch(NamedTuple):
    x: jax.Array
    y: jax.Array
    x_val: jax.Array
    y_val: jax.Array
    key: jax.Array


class _Epoch(NamedTuple):
    """What an epoch's steps have in common.

    Steps see all weights as one vector: leaf by leaf, updates of the thousands of a large cell's weights
    would be most of the program. `trained` and `decayed` are 1 for what is trained and what decays.
    """

    network: Network
    strategy: Strategy
    choices: Choices
    kept: jax.Array
    hyper: Hyper
    now: Now
    whole: Callable[[jax.Array], Any]
    trained: Any
    decayed: Any


def adam(strategy: Strategy) -> optax.GradientTransformation:
    """For architecture parameters; the decay is part of the gradient."""
    return optax.chain(
        optax.add_decayed_weights(strategy.weight_decay),
        optax.adam(strategy.learning_rate, b1=0.5, b2=0.999),
    )


@partial(jax.jit, static_argnames=("network", "strategy", "batch_size"), donate_argnames="state")
def search_epoch(
    network: Network,
    strategy: Strategy,
    batch_size: int,
    state: SearchState,
    choices: Choices,
    hyper: Hyper,
    now: Now,
    data: tuple[jax.Array, jax.Array, jax.Array, jax.Array],
    progress: tuple[jax.Array, jax.Array],
) -> tuple[SearchState, jax.Array]:
    """One epoch over the training images; returns the state and mean losses (training, validation).

    Each step moves first the architecture parameters on a minibatch of validation images, which begin
    anew where they are used up, then the weights on one of training images. `progress` is (epochs done,
    epochs in all) of the learning rate; `hyper` has `float32[]` members.
    """
    x, y, x_val, y_val = data
    params, whole = ravel_pytree(state.variables.params)
    trained, decayed = weight_masks(network, state.variables.params)
    epoch = _Epoch(network, strategy, choices, state.kept, hyper, now, whole, trained, decayed)
    steps = x.shape[0] // batch_size
    key = jax.random.fold_in(jax.random.key(state.seed), state.epoch)
    train_key, val_key, step_key = jax.random.split(key, 3)
    order = jax.random.permutation(train_key, x.shape[0])[: steps * batch_size]
    order_val = jax.random.permutation(val_key, x_val.shape[0])
    order_val = order_val[jnp.arange(steps * batch_size) % x_val.shape[0]]

    def step(carry: Any, inputs: Any) -> Any:
        variables, momentum, alphas, moments = carry  # the weights as one vector
        rows, rows_val, number = inputs
        keys = jax.random.split(jax.random.fold_in(step_key, number))
        batch = _Batch(x[rows], y[rows], x_val[rows_val], y_val[rows_val], keys[0])
        done, epochs = progress
        rate = schedule(hyper, (done * steps + number + 0.5) / (epochs * steps))
        sgd = _sgd(epoch, rate)
        alphas, moments, val_loss = _architecture_step(
            epoch, sgd, (variables, momentum), alphas, moments, batch
        )
        variables, momentum, loss = _weight_step(
            epoch, sgd, variables, momentum, alphas, batch._replace(key=keys[1])
        )
        return (variables, momentum, alphas, moments), jnp.stack([loss, val_loss])

    empty = _sgd(epoch, 0.0).init(params)
    start = optax.tree.set(empty, trace=ravel_pytree(state.momentum)[0])
    shape = (steps, batch_size)
    batches = (order.reshape(shape), order_val.reshape(shape), jnp.arange(steps))
    carry = (state.variables._replace(params=params), start, state.alphas, state.adam)
    (variables, momentum, alphas, moments), losses = lax.scan(step, carry, batches)
    variables = variables._replace(params=whole(variables.params))
    trace = whole(optax.tree.get(momentum, "trace"))
    after = SearchState(variables, trace, alphas, moments, state.kept, state.seed, state.epoch + 1)
    return after, losses.mean(axis=0)


def _forward(
    epoch: _Epoch,
    variables: Variables,
    alphas: Alphas,
    x: jax.Array,
    key: jax.Array,
    batch_norm: BatchNormMode,
) -> Any:
    ctx = epoch.strategy.context(alphas, epoch.kept, epoch.choices, epoch.now, key, batch_norm)
    variables = variables._replace(params=epoch.whole(variables.params))
    return epoch.network.apply_in(variables, ctx, x)


def _train_loss(
    params: Any, alphas: Alphas, epoch: _Epoch, variables: Variables, batch: _Batch
) -> tuple[jax.Array, Any]:
    outputs = _forward(
        epoch, variables._replace(params=params), alphas, batch.x, batch.key, "update"
    )
    loss = cross_entropy(outputs.logits, batch.y, epoch.hyper.label_smoothing)
    return loss, outputs.statistics


def _val_loss(
    params: Any, alphas: Alphas, epoch: _Epoch, variables: Variables, batch: _Batch
) -> jax.Array:
    ahead = variables._replace(params=params)
    logits = _forward(epoch, ahead, alphas, batch.x_val, batch.key, "batch").logits
    return cross_entropy(logits, batch.y_val, 0.0)


def _architecture_step(
    epoch: _Epoch,
    sgd: optax.GradientTransformation,
    weights: tuple[Variables, Any],
    alphas: Alphas,
    moments: Any,
    batch: _Batch,
) -> tuple[Alphas, Any, jax.Array]:
    """Adam on the validation loss and the regulariser; without `moving` the loss alone."""
    variables, momentum = weights
    params = variables.params

    def val_loss(params: Any, alphas: Alphas) -> jax.Array:
        return _val_loss(params, alphas, epoch, variables, batch)

    def train_loss(params: Any, alphas: Alphas) -> jax.Array:
        return _train_loss(params, alphas, epoch, variables, batch)[0]

    def ahead(params: Any, gradient: Any) -> Any:
        gradient = epoch.trained * gradient
        return optax.apply_updates(params, sgd.update(gradient, momentum, params)[0])

    unrolled = epoch.strategy.unrolled
    objective = unrolled_loss(train_loss, val_loss, ahead) if unrolled else val_loss

    def regularised(alphas: Alphas) -> tuple[jax.Array, jax.Array]:
        loss = objective(params, alphas)
        more = epoch.now.regulariser * epoch.strategy.regulariser(alphas, epoch.kept)
        return loss + more, loss

    def move(alphas: Alphas, moments: Any) -> tuple[Alphas, Any, jax.Array]:
        gradient, loss = jax.grad(regularised, has_aux=True)(alphas)
        updates, moments = adam(epoch.strategy).update(gradient, moments, alphas)
        moved: Any = optax.apply_updates(alphas, updates)
        return moved, moments, loss

    if not epoch.strategy.warmup:
        return move(alphas, moments)  # which spares compiling the other

    def stay(alphas: Alphas, moments: Any) -> tuple[Alphas, Any, jax.Array]:
        return alphas, moments, val_loss(params, alphas)

    return lax.cond(epoch.now.moving > 0, move, stay, alphas, moments)


def _weight_step(
    epoch: _Epoch,
    sgd: optax.GradientTransformation,
    variables: Variables,
    momentum: Any,
    alphas: Alphas,
    batch: _Batch,
) -> tuple[Variables, Any, jax.Array]:
    params = variables.params
    (loss, statistics), gradient = jax.value_and_grad(_train_loss, has_aux=True)(
        params, alphas, epoch, variables, batch
    )
    gradient = epoch.trained * gradient
    gradient, _ = optax.clip_by_global_norm(CLIP).update(gradient, optax.EmptyState())
    updates, momentum = sgd.update(gradient, momentum, params)
    return Variables(optax.apply_updates(params, updates), statistics), momentum, loss


def _sgd(epoch: _Epoch, rate: Any) -> optax.GradientTransformation:
    """`jaxnas.training.hyper.optimizer` of the vector of all weights."""

    def decay(gradient: Any, params: Any) -> Any:
        return gradient + epoch.hyper.weight_decay * epoch.decayed * params

    return optax.chain(
        optax.stateless(decay),
        optax.trace(decay=epoch.hyper.momentum, nesterov=True),
        optax.scale_by_learning_rate(rate),
    )


def arrays_of(data: TrainingData) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The images and labels that an epoch takes."""
    return data.x, data.y, data.x_val, data.y_val
