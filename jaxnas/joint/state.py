"""What a joint run learns: weights, and the outer parameters that are judged by validation images."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnas.augment.search.relaxed import Logits
from jaxnas.network import Variables
from jaxnas.training.hyper import Hyper

REACH = 10.0
"""Learning rate and weight decay stay within this factor of what they begin with, either way.

One step ahead a small learning rate looks better than it is in the end (arXiv:1803.02021)."""
SMOOTHING = (0.001, 0.3)
"""Label smoothing stays between these."""
LEAST_SMOOTHING = 0.01
"""It begins with at least this, since at 0 its logit has no gradient."""


class Tuned(NamedTuple):
    """Hyper-parameters as they are learned, `float32[]` each.

    `rate` and `decay` are logarithms of factors of the initial learning rate and weight decay (an initial
    0 stays 0); `smoothing` is the logit of label smoothing.
    """

    rate: jax.Array
    decay: jax.Array
    smoothing: jax.Array

    @classmethod
    def of(cls, hyper: Hyper) -> "Tuned":
        """What stands for `hyper`, one candidate's."""
        smoothing = np.clip(hyper.label_smoothing, LEAST_SMOOTHING, SMOOTHING[1])
        zero = jnp.zeros((), jnp.float32)
        return cls(zero, zero, jnp.asarray(_logit(smoothing), jnp.float32))

    def hyper(self, initial: Hyper) -> Hyper:
        """The hyper-parameters that they stand for."""
        return initial._replace(
            learning_rate=initial.learning_rate * jnp.exp(self.rate),
            weight_decay=initial.weight_decay * jnp.exp(self.decay),
            label_smoothing=jax.nn.sigmoid(self.smoothing),
        )

    def bounded(self) -> "Tuned":
        """Within `REACH` and `SMOOTHING`."""
        reach = float(np.log(REACH))
        low, high = (float(_logit(s)) for s in SMOOTHING)
        return Tuned(
            jnp.clip(self.rate, -reach, reach),
            jnp.clip(self.decay, -reach, reach),
            jnp.clip(self.smoothing, low, high),
        )


def _logit(p: Any) -> Any:
    return np.log(p / (1 - p))


class Outer(NamedTuple):
    """What moves down the validation loss.

    `alphas: float32[P, K]` are the architecture parameters; `policy` the relaxed policy's logits, None
    without an augmenter.
    """

    alphas: jax.Array
    policy: Logits | None
    tuned: Tuned


class JointState(NamedTuple):
    """A run's state after `epoch` epochs, a pytree of arrays.

    `trace: float32[n]` is the momentum of all n weights as one vector; `arch: int32[D]` the
    architecture, zeros until it is fixed.
    """

    variables: Variables
    trace: jax.Array
    outer: Outer
    moments: Any
    arch: jax.Array
    seed: jax.Array
    epoch: jax.Array


def adam() -> optax.GradientTransformation:
    """Directions for the outer parameters, which have rates of their own; betas as in DARTS."""
    return optax.scale_by_adam(b1=0.5, b2=0.999)


class Rates(NamedTuple):
    """Adam's rates, `float32[]` each."""

    alphas: Any
    policy: Any
    tuned: Any


def descended(outer: Outer, slope: Outer, moments: Any, rates: Rates) -> tuple[Outer, Any]:
    """The outer parameters one step of Adam down `slope`, and Adam's moments."""
    gradient: Any = slope
    directions: Any
    directions, moments = adam().update(gradient, moments)

    def down(values: Any, direction: Any, rate: Any) -> Any:
        return jax.tree.map(lambda v, d: v - rate * d, values, direction)

    moved = Outer(*(down(*parts) for parts in zip(outer, directions, rates, strict=True)))
    return moved._replace(tuned=moved.tuned.bounded()), moments
