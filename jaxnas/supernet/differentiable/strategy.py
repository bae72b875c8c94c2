"""What a differentiable strategy says: how choices are relaxed, and by what schedule."""

import abc
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.nn.context import BatchNormMode, Context
from jaxnas.spaces import SearchSpace
from jaxnas.supernet.differentiable.choices import Choices


class Alphas(NamedTuple):
    """Architecture parameters: `operations: float32[P, K]`; `edges: float32[P]`, where they are used."""

    operations: jax.Array
    edges: jax.Array


class Now(NamedTuple):
    """What differs by epoch, `float32[]` each, traced.

    `moving` is 0 while weights alone are trained; `temperature` that of samples; `skip_dropout` a rate;
    `regulariser` a factor.
    """

    moving: Any = 1.0
    temperature: Any = 1.0
    skip_dropout: Any = 0.0
    regulariser: Any = 0.0


@dataclass(frozen=True)
class Strategy(abc.ABC):
    """A way to relax choices, and Adam's settings for the architecture parameters (betas .5, .999).

    A strategy is a hashable constant of the compiled epoch. `warmup` is the share of epochs at the
    beginning in which weights alone are trained.
    """

    learning_rate: float = 3e-4
    weight_decay: float = 1e-3
    warmup: float = 0.0

    @property
    def stages(self) -> int:
        """How many times the search begins anew, with fewer branches or a deeper network."""
        return 1

    @property
    def unrolled(self) -> bool:
        """Whether architecture gradients go through the weights' next step."""
        return False

    def init(self, key: jax.Array, shape: tuple[int, int]) -> Alphas:
        """Architecture parameters at the beginning: 1e-3 times standard normal."""
        a, b = jax.random.split(key)
        operations, edges = jax.random.normal(a, shape), jax.random.normal(b, shape[:1])
        return Alphas(1e-3 * operations, 1e-3 * edges)

    def now(self, stage: int, epoch: int, epochs: int) -> Now:
        """The schedule's values in `epoch`, from 0, of a stage's `epochs`."""
        return Now(moving=float(epoch >= self.warmup * epochs))

    @abc.abstractmethod
    def context(
        self,
        alphas: Alphas,
        kept: jax.Array,
        choices: Choices,
        now: Now,
        key: jax.Array,
        batch_norm: BatchNormMode,
    ) -> Context:
        """What a forward pass runs in, differentiable in `alphas`; the key is consumed.

        `kept: bool[P, K]` are the branches that may be taken.
        """

    def regulariser(self, alphas: Alphas, kept: jax.Array) -> jax.Array:
        """What is added to the validation loss times `now.regulariser`, `float32[]`."""
        return jnp.zeros(())

    def probabilities(self, alphas: Alphas, kept: jax.Array, choices: Choices) -> jax.Array:
        """`float32[P, K]`: how strong each branch is, 0 where it is not kept."""
        return masked_softmax(alphas.operations, kept)

    def kept_in(self, stage: int, probabilities: np.ndarray, choices: Choices) -> np.ndarray:
        """`bool[P, K]`: the branches that a stage begins with, by what the one before found."""
        return choices.present

    def discretise(
        self, space: SearchSpace, probabilities: np.ndarray, choices: Choices
    ) -> np.ndarray:
        """The architecture that is found, `int32[D]`."""
        return space.discretise(probabilities)


def masked_softmax(alphas: jax.Array, kept: jax.Array) -> jax.Array:
    """exp(alpha) / sum exp(alpha) along the last axis, over the branches that are kept; else 0."""
    return jnp.where(kept, jax.nn.softmax(jnp.where(kept, alphas, -jnp.inf), axis=-1), 0)


def masked_log_softmax(alphas: jax.Array, kept: jax.Array) -> jax.Array:
    """The logarithm of `masked_softmax`, -inf for what is not kept."""
    return jax.nn.log_softmax(jnp.where(kept, alphas, -jnp.inf), axis=-1)


def gumbel_softmax(
    key: jax.Array, alphas: jax.Array, kept: jax.Array, temperature: Any
) -> jax.Array:
    """softmax((log p + g) / temperature), p = softmax(alpha) and g standard Gumbel, over kept branches.

    Jang et al., arXiv:1611.01144. Its largest entry is branch k with probability p_k.
    """
    noise = jax.random.gumbel(key, alphas.shape)
    return masked_softmax((masked_log_softmax(alphas, kept) + noise) / temperature, kept)


def progress(epoch: int, epochs: int) -> float:
    """From 0 in the first epoch to 1 in the last."""
    return epoch / max(epochs - 1, 1)


def entropy(probabilities: np.ndarray) -> float:
    """The mean over choices of -sum_k p_k ln p_k, each choice's p divided by their sum; in nats."""
    p = np.asarray(probabilities, np.float64)
    p = p / np.maximum(p.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    logarithm = np.log(p, out=np.zeros_like(p), where=p > 0)
    return float(-(p * logarithm).sum(axis=1).mean())
