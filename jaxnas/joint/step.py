"""One step: the weights go down the training loss, and what follows for the outer parameters.

With weights w, outer parameters z (architecture a, policy d, hyper-parameters h) and U the step that SGD
takes, the outer parameters go down the gradient of

    J(z) = L_val(w'(z), a),    w'(z) = w - U(grad_w L_train(w, a, d, h), h),

the validation loss after the weight step just taken. It is exact, by reverse mode through that step:
dJ/dz = dL_val/dz + (dw'/dz)^T dL_val/dw', the product with the mixed second derivatives of L_train
taking two more passes back and forth, as many as a finite difference would. Second derivatives say
nothing of the kinks of ReLUs.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.augment.inputs import PolicyAugment
from jaxnas.augment.operations import NUMBER
from jaxnas.augment.search.relaxed import augmented
from jaxnas.joint.state import Outer, Tuned
from jaxnas.network import Network, Outputs, Variables
from jaxnas.nn.context import BatchNormMode
from jaxnas.nn.mixed import SampledContext
from jaxnas.supernet.differentiable.strategy import masked_log_softmax, masked_softmax
from jaxnas.training.hyper import Hyper, smoothed
from jaxnas.training.objective import Objective

CLIP = 5.0
"""The largest norm of a weight gradient."""


class Program(NamedTuple):
    """What an epoch is compiled for; in a `settled` one weights alone move."""

    network: Network
    settled: bool
    batch_size: int
    objective: Objective
    augmenter: PolicyAugment | None
    operations: tuple[str, ...]
    policy_temperature: float


class Path(NamedTuple):
    """The row that a step takes, `int32[P]`, and what it was drawn with.

    `noise: float32[P, K]` is Gumbel noise, scaled, and `kept: bool[P, K]` the branches that there are.
    """

    row: jax.Array
    noise: jax.Array
    kept: jax.Array
    temperature: jax.Array

    @classmethod
    def drawn(
        cls, alphas: jax.Array, noise: jax.Array, kept: jax.Array, temperature: Any
    ) -> "Path":
        """Of each choice the branch where log softmax(alpha) + noise is largest."""
        row = jnp.argmax(masked_log_softmax(alphas, kept) + noise, axis=-1)
        return cls(row.astype(jnp.int32), noise, kept, temperature)

    def weights(self, alphas: jax.Array) -> jax.Array:
        """1, with the gradient of softmax((log softmax(alpha) + noise) / temperature) (1910.04465)."""
        logits = masked_log_softmax(alphas, self.kept) + self.noise
        soft = masked_softmax(logits / self.temperature, self.kept)
        return 1 + (soft - jax.lax.stop_gradient(soft))


class Weights(NamedTuple):
    """All n weights as one vector, and what goes with each, `float32[n]`.

    `whole` makes parameters of a vector. `decayed` and `moving` are 1 for what decays and moves;
    what does not move keeps its `trace`.
    """

    params: jax.Array
    trace: jax.Array
    statistics: Any
    whole: Callable[[jax.Array], Any]
    decayed: Any
    moving: jax.Array


class Batch(NamedTuple):
    """Images and labels of both kinds, and a key for augmentation."""

    x: jax.Array
    y: jax.Array
    x_val: jax.Array
    y_val: jax.Array
    key: jax.Array


class Step(NamedTuple):
    """What a step is given beside the outer parameters.

    `hyper` is what the run began with, `rate` its schedule's learning rate now; `policy` what the
    augmenter does.
    """

    program: Program
    weights: Weights
    path: Path
    batch: Batch
    hyper: Hyper
    rate: jax.Array
    policy: Any


class Taken(NamedTuple):
    """A step that was taken: vectors `[n]`, statistics, and the losses and accuracy met on the way.

    `figures: float32[3]` are the training loss before the step, and the validation loss and accuracy
    after it.
    """

    params: jax.Array
    trace: jax.Array
    statistics: Any
    figures: jax.Array


def outer_gradient(step: Step, outer: Outer) -> tuple[Taken, Outer]:
    """The weight step, and the exact gradient of J at `outer`."""
    train = partial(training_gradient, step)
    gradient, pull, (loss, statistics) = jax.vjp(train, outer, has_aux=True)
    move = partial(moved, step)
    ahead, pull_step, trace = jax.vjp(move, gradient, outer.tuned, has_aux=True)
    down = jax.value_and_grad(partial(judged, step), argnums=(0, 1), has_aux=True)
    (val_loss, accuracy), (direction, direct) = down(ahead, outer.alphas)
    by_gradient, by_tuned = pull_step(direction)
    (slope,) = pull(by_gradient)
    slope = slope._replace(
        alphas=slope.alphas + direct, tuned=jax.tree.map(jnp.add, slope.tuned, by_tuned)
    )
    return Taken(ahead, trace, statistics, jnp.stack([loss, val_loss, accuracy])), slope


def weight_step(step: Step, outer: Outer) -> Taken:
    """The weight step alone; validation figures are NaN."""
    gradient, (loss, statistics) = training_gradient(step, outer)
    params, trace = moved(step, gradient, outer.tuned)
    return Taken(params, trace, statistics, jnp.stack([loss, *(2 * [jnp.nan])]))


def training_gradient(step: Step, outer: Outer) -> tuple[jax.Array, tuple[jax.Array, Any]]:
    """The gradient of the training loss by the weights `[n]`; the loss and renewed statistics."""
    x, targets = _images(step, outer)

    def loss(params: jax.Array) -> tuple[jax.Array, Any]:
        outputs = _forward(step, params, outer.alphas, x, "update")
        return step.program.objective(outputs.logits, targets), outputs.statistics

    down = jax.value_and_grad(loss, has_aux=True)
    (value, statistics), gradient = down(step.weights.params)
    return gradient, (value, statistics)


def moved(step: Step, gradient: jax.Array, tuned: Tuned) -> tuple[jax.Array, jax.Array]:
    """The weights after a step of SGD with Nesterov momentum down a clipped gradient, and its trace."""
    weights, hyper = step.weights, tuned.hyper(step.hyper)
    gradient = weights.moving * gradient
    norm = jnp.sqrt(jnp.square(gradient).sum() + 1e-12)
    gradient = gradient * jnp.minimum(1, CLIP / norm)
    gradient += hyper.weight_decay * weights.moving * weights.decayed * weights.params
    trace = jnp.where(weights.moving > 0, gradient + hyper.momentum * weights.trace, weights.trace)
    update = weights.moving * (gradient + hyper.momentum * trace)
    return weights.params - step.rate * jnp.exp(tuned.rate) * update, trace


def judged(step: Step, params: jax.Array, alphas: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Loss and accuracy on the validation images, batch norm by their own statistics."""
    y = step.batch.y_val
    logits = _forward(step, params, alphas, step.batch.x_val, "batch").logits
    loss = step.program.objective(logits, smoothed(y, logits.shape[-1], 0.0))
    return loss, (logits.argmax(-1) == y).mean()


def _forward(
    step: Step, params: jax.Array, alphas: jax.Array, x: jax.Array, mode: BatchNormMode
) -> Outputs:
    variables = Variables(step.weights.whole(params), step.weights.statistics)
    ctx = SampledContext(step.path.row, step.path.weights(alphas), batch_norm=mode)
    return step.program.network.apply_in(variables, ctx, x)


def _images(step: Step, outer: Outer) -> tuple[jax.Array, jax.Array]:
    """The training batch, augmented, and its targets."""
    program, batch = step.program, step.batch
    smoothing = jax.nn.sigmoid(outer.tuned.smoothing)
    x, targets = batch.x, smoothed(batch.y, program.network.classes, smoothing)
    if program.augmenter is None:
        return x, targets
    for_beside, for_policy = jax.random.split(batch.key)
    x, targets = program.augmenter(for_beside, x, targets, step.policy)
    if program.settled:
        return x, targets  # by the policy that was found
    assert outer.policy is not None
    levels = augmented(
        for_policy,
        program.augmenter.to_levels(x),
        outer.policy,
        [NUMBER[name] for name in program.operations],
        fill=jnp.asarray(program.augmenter.fill),
        temperature=program.policy_temperature,
    )
    return program.augmenter.to_inputs(levels), targets
