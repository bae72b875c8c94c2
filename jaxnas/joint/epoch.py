"""One epoch of a joint run: weights and outer parameters together, in one program."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxnas.joint.state import JointState, Outer, Rates, descended
from jaxnas.joint.step import (
    Batch,
    Path,
    Program,
    Step,
    Taken,
    Weights,
    outer_gradient,
    weight_step,
)
from jaxnas.network import Network, Variables
from jaxnas.supernet.differentiable.gradients import weight_masks
from jaxnas.training.hyper import Hyper, schedule

type Images = tuple[jax.Array, jax.Array, jax.Array, jax.Array]
"""Training images `[n, H, W, C]` and labels `int32[n]`, then validation images and theirs."""


class Now(NamedTuple):
    """What differs by epoch, traced: Adam's rates, the temperature, a factor of the Gumbel noise.

    Once the path is `fixed` it is `row: int32[P]`; `policy` is what the augmenter does; `progress` the
    epochs done and in all.
    """

    rates: Rates
    temperature: Any
    noise: Any
    fixed: Any
    row: Any
    policy: Any
    progress: tuple[Any, Any]


@partial(jax.jit, static_argnames="program", donate_argnames="state")
def joint_epoch(
    program: Program, state: JointState, kept: Any, hyper: Hyper, now: Now, data: Images
) -> tuple[JointState, jax.Array]:
    """One epoch over the training images; the state, and the mean figures of its steps, `float32[3]`.

    Those are `Taken.figures`. Validation images begin anew where they are used up. What the
    step's path does not use does not move: neither weight decay nor momentum reaches it. `hyper` has
    `float32[]` members, `kept: bool[P, K]` says which branches there are.
    """
    x, y, x_val, y_val = data
    size, steps = program.batch_size, x.shape[0] // program.batch_size
    key = jax.random.fold_in(jax.random.key(state.seed), state.epoch)
    train_key, val_key, step_key = jax.random.split(key, 3)
    order = jax.random.permutation(train_key, x.shape[0])[: steps * size]
    order_val = jax.random.permutation(val_key, x_val.shape[0])
    order_val = order_val[jnp.arange(steps * size) % x_val.shape[0]]
    params, whole = ravel_pytree(state.variables.params)
    trained, decayed = weight_masks(program.network, state.variables.params)
    trained = jnp.where(now.fixed, 1.0, trained)
    owners = _owners(state.variables.params)
    done, epochs = now.progress

    def step(carry: Any, inputs: Any) -> Any:
        params, trace, statistics, outer, moments = carry
        rows, rows_val, number = inputs
        for_path, for_images = jax.random.split(jax.random.fold_in(step_key, number))
        path = _path(outer, kept, now, for_path)
        moving = trained * _used(program.network, path.row, owners)
        weights = Weights(params, trace, statistics, whole, decayed, moving)
        batch = Batch(x[rows], y[rows], x_val[rows_val], y_val[rows_val], for_images)
        rate = schedule(hyper, (done * steps + number + 0.5) / (epochs * steps))
        given = Step(program, weights, path, batch, hyper, rate, now.policy)
        taken, outer, moments = _taken(given, outer, moments, now.rates)
        return (taken.params, taken.trace, taken.statistics, outer, moments), taken.figures

    shape = (steps, size)
    batches = (order.reshape(shape), order_val.reshape(shape), jnp.arange(steps))
    carry = (params, state.trace, state.variables.statistics, state.outer, state.moments)
    (params, trace, statistics, outer, moments), figures = lax.scan(step, carry, batches)
    variables = Variables(whole(params), statistics)
    after = JointState(variables, trace, outer, moments, state.arch, state.seed, state.epoch + 1)
    return after, figures.mean(axis=0)


def _taken(step: Step, outer: Outer, moments: Any, rates: Rates) -> tuple[Taken, Outer, Any]:
    if step.program.settled:
        return weight_step(step, outer), outer, moments
    taken, slope = outer_gradient(step, outer)
    return taken, *descended(outer, slope, moments, rates)


def _path(outer: Outer, kept: Any, now: Now, key: jax.Array) -> Path:
    noise = now.noise * jax.random.gumbel(key, outer.alphas.shape)
    drawn = Path.drawn(outer.alphas, noise, kept, now.temperature)
    return drawn._replace(row=jnp.where(now.fixed, now.row, drawn.row))


def _owners(params: Any) -> np.ndarray:
    """Of the vector of all weights the leaf that each belongs to, `int32[n]`."""
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)


def _used(network: Network, row: jax.Array, owners: np.ndarray) -> jax.Array:
    """Of the vector of all weights 1 for what the path has, `float32[n]`; there are no widths."""
    flags = [jnp.ravel(mask)[0] for mask in jax.tree.leaves(network.active(row))]
    return jnp.stack(flags)[owners]
