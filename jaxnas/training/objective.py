"""What training minimises: a loss by image, weighed by class, beside a teacher's."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnas.errors import InputError, unknown

type Loss = Callable[[jax.Array, jax.Array], jax.Array]
"""From logits `float32[B, classes]` and targets, probabilities of the same shape, to `float32[B]`."""


def focal(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropy times (1 - p)^2, p the probability of a class (Lin et al., arXiv:1708.02002)."""
    log_p = jax.nn.log_softmax(logits)
    return -(targets * (1 - jnp.exp(log_p)) ** 2 * log_p).sum(-1)


LOSSES: dict[str, Loss] = {"cross_entropy": optax.softmax_cross_entropy, "focal": focal}
"""Losses by name."""


def get_loss(name: str | Loss) -> Loss:
    """A loss by its name, or a function of the user's own: itself, or `module:attribute`.

    Raises:
        InputError: an unknown name, or a module or attribute that is not there or no function.
    """
    if callable(name):
        return name
    if ":" not in name:
        if name not in LOSSES:
            raise unknown("loss", name, LOSSES)
        return LOSSES[name]
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError, TypeError, ValueError) as error:
        raise InputError(f"The loss {name} cannot be imported: {error}.") from error
    loss: Any = found  # or type checkers take it for any callable
    if not callable(found):
        raise InputError(f"The loss {name} is {type(found).__name__}, expected a function.")
    return loss


def balanced_weights(y: np.ndarray, classes: int) -> tuple[float, ...]:
    """n / (classes n_k) for a class of n_k of the n labels, as scikit-learn's `balanced`."""
    counts = np.bincount(y, minlength=classes)
    return tuple((len(y) / (classes * np.maximum(counts, 1))).tolist())


@dataclass(frozen=True)
class Objective:
    """What the programs of a population are compiled for, alike for all its candidates.

    `loss` is by image; `class_weights`, one a class, weigh images by their targets, and the mean is over
    the weights; None: all alike.
    """

    loss: Loss = optax.softmax_cross_entropy
    class_weights: tuple[float, ...] | None = None

    @classmethod
    def of(
        cls, loss: str | Loss, class_weights: Sequence[float] | None, classes: int
    ) -> "Objective":
        """A checked one.

        Raises:
            InputError: an unknown loss, another number of weights than classes, one that is not above 0,
                or a loss that gives other than a number for each image.
        """
        weights = None if class_weights is None else tuple(float(w) for w in class_weights)
        if weights is not None and (
            len(weights) != classes or not all(0 < w < float("inf") for w in weights)
        ):
            raise InputError(
                f"The class weights are {weights}, expected {classes} numbers above 0, one a class."
            )
        found = get_loss(loss)
        like = jax.ShapeDtypeStruct((2, classes), jnp.float32)
        try:
            shape = jax.eval_shape(found, like, like).shape
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            NameError,
            TypeError,
            ValueError,
        ) as error:
            said = str(error).partition("\n")[0]
            raise InputError(
                f"The loss {loss} does not take logits and targets [B, {classes}]: {said}"
            ) from error
        if shape != (2,):
            raise InputError(
                f"The loss {loss} gives shape {shape} for two images, expected (2,): one number each."
            )
        return cls(found, weights)

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """The mean over images of `logits` and `targets`, `[B, classes]` both, in float32."""
        losses = self.loss(logits.astype(jnp.float32), targets)
        if self.class_weights is None:
            return losses.mean()
        weights = targets @ jnp.asarray(self.class_weights, jnp.float32)
        return (losses * weights).sum() / weights.sum()


def distillation(logits: jax.Array, teacher: jax.Array, temperature: Any) -> jax.Array:
    """T^2 KL(teacher || student) of softened probabilities, `[B, classes]` both: a mean over images.

    Hinton, Vinyals, Dean, arXiv:1503.02531; on augmented images, whose labels may have become wrong,
    Wei et al., arXiv:2003.11342.
    """
    student = jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)
    taught = jax.nn.log_softmax(teacher.astype(jnp.float32) / temperature)
    return temperature**2 * (jnp.exp(taught) * (taught - student)).sum(-1).mean()
