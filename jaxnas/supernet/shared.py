"""A super-net's weights and the one compiled program that trains them for an epoch."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxnas.network import Network, Variables
from jaxnas.training.augmentation import augment
from jaxnas.training.hyper import Hyper, cross_entropy, optimizer, schedule


class SuperNet(NamedTuple):
    """The state of a super-net's training, a pytree that can be saved.

    `momentum` is like the parameters, `policy` the trainer's own state, `seed: uint32[]`.
    """

    variables: Variables
    momentum: Any
    policy: Any
    seed: jax.Array


@partial(
    jax.jit,
    static_argnames=("network", "batch_size", "augments"),
    donate_argnames=("params", "momentum"),
)
def train_epoch(
    network: Network,
    batch_size: int,
    augments: bool,
    params: Any,
    momentum: Any,
    statistics: Any,
    rows: jax.Array,
    hyper: Hyper,
    x: jax.Array,
    y: jax.Array,
    key: jax.Array,
    progress: tuple[jax.Array, jax.Array],
) -> tuple[Any, Any, jax.Array]:
    """One epoch: parameters, momentum and the mean loss. `params` and `momentum` are used up.

    Step i takes the gradients, summed, of the paths `rows[i]: int32[K, P]` on one minibatch, with batch
    norm by the batch's statistics. Weights that none of them has do not move: neither weight decay
    nor momentum reaches them, and their momentum stays. Minibatches are drawn without replacement, and
    augmented (the same for all paths) if the program `augments`. `hyper` holds numbers `float32[]`;
    `progress` is (epochs done, epochs in all).
    """
    epoch, epochs = progress
    steps = rows.shape[0]
    order = jax.random.permutation(key, x.shape[0])[: steps * batch_size]
    draws = jax.random.fold_in(key, 1)

    def loss(params: Any, row: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
        logits = network.apply(Variables(params, statistics), row, images).logits
        return cross_entropy(logits, labels, hyper.label_smoothing)

    def step(carry: Any, inputs: Any) -> Any:
        params, state = carry
        rows, batch, number = inputs
        images, labels = x[batch], y[batch]
        if augments:
            images = augment(jax.random.fold_in(draws, number), images, hyper)

        def path(total: Any, row: jax.Array) -> Any:
            gradient, used = total
            value, more = jax.value_and_grad(loss)(params, row, images, labels)
            gradient = jax.tree.map(jnp.add, gradient, more)
            return (gradient, jax.tree.map(jnp.maximum, used, network.active(row))), value

        masks = jax.tree.map(jnp.zeros_like, network.active(rows[0]))
        zeros = jax.tree.map(jnp.zeros_like, params)
        (gradient, used), values = lax.scan(path, (zeros, masks), rows)
        done = (epoch * steps + number + 0.5) / (epochs * steps)
        updates, after = optimizer(hyper, schedule(hyper, done)).update(gradient, state, params)
        moved = _where(used, optax.apply_updates(params, updates), params)
        trace = _where(used, optax.tree.get(after, "trace"), optax.tree.get(state, "trace"))
        return (moved, optax.tree.set(after, trace=trace)), values.mean()

    state = optax.tree.set(optimizer(hyper, 0.0).init(params), trace=momentum)
    inputs = (rows, order.reshape(steps, batch_size), jnp.arange(steps))
    (params, state), losses = lax.scan(step, (params, state), inputs)
    return params, optax.tree.get(state, "trace"), losses.mean()


def _where(used: Any, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda mask, a, b: jnp.where(mask > 0, a, b), used, new, old)
