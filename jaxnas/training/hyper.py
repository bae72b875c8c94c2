"""Hyper-parameters as data: rows of a population program, none of which is compiled in."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

SCHEDULES = ("cosine", "linear", "constant")
"""Shapes of the learning rate after its warm-up; `Hyper.schedule` is the place in this list."""


class Hyper(NamedTuple):
    """Hyper-parameters of a population, `float32[N]` each; all traced.

    The learning rate rises linearly over `warmup` (a share of all steps), then follows `schedule`:
    0 a half cosine to 0, 1 a line to 0, 2 no change. `label_smoothing`, `dropout` (before the
    classifier), `drop_path` (paths that meet others in a node, image by image) and `flip` (left and
    right) are probabilities; `shift` pixels at most images are moved by, `cutout` the side in pixels of a
    square set to 0. `batch_share` is the share of the program's batch size that a step averages over:
    1 / 2 of 64 means batches of 32, of which an epoch has twice as many. A step then reads each of its
    images several times over, augmented and dropped by draws of their own.
    """

    learning_rate: Any
    weight_decay: Any
    momentum: Any
    label_smoothing: Any
    warmup: Any
    schedule: Any = 0.0
    dropout: Any = 0.0
    drop_path: Any = 0.0
    flip: Any = 0.0
    shift: Any = 0.0
    cutout: Any = 0.0
    batch_share: Any = 1.0

    @classmethod
    def constant(
        cls,
        n: int,
        *,
        learning_rate: float = 0.1,
        weight_decay: float = 5e-4,
        momentum: float = 0.9,
        label_smoothing: float = 0.0,
        warmup: float = 0.1,
        **others: float,
    ) -> "Hyper":
        """The same values for `n` candidates; `others` are further fields."""
        made = cls(learning_rate, weight_decay, momentum, label_smoothing, warmup, **others)
        return cls(*(np.full(n, v, np.float32) for v in made))

    def overridden(self, own: Mapping[str, np.ndarray]) -> "Hyper":
        """With a candidate's own values, `[N]` by name, where they are not NaN."""
        given = self._asdict()
        return Hyper(**given | {k: np.where(np.isnan(v), given[k], v) for k, v in own.items()})

    def rows(self, which: Any) -> "Hyper":
        """The values of some candidates, in order."""
        return Hyper(*(np.asarray(v)[which] if np.ndim(v) else v for v in self))


def schedule(hyper: Hyper, done: jax.Array) -> jax.Array:
    """The learning rate of one candidate when `done`, a share of all its steps, is behind it."""
    rising = done / jnp.maximum(hyper.warmup, 1e-6)
    left = 1 - (done - hyper.warmup) / (1 - hyper.warmup)
    shapes = [0.5 * (1 - jnp.cos(jnp.pi * left)), left, jnp.ones_like(left)]
    falling = jnp.stack(shapes)[jnp.asarray(hyper.schedule, jnp.int32)]
    return hyper.learning_rate * jnp.where(done < hyper.warmup, rising, falling)


def optimizer(hyper: Hyper, learning_rate: Any) -> optax.GradientTransformation:
    """SGD with Nesterov momentum; weight decay on kernels alone, not on batch norm or biases."""
    return optax.chain(
        optax.add_decayed_weights(
            hyper.weight_decay, mask=lambda p: jax.tree.map(lambda a: a.ndim > 1, p)
        ),
        optax.trace(decay=hyper.momentum, nesterov=True),
        optax.scale_by_learning_rate(learning_rate),
    )


def cross_entropy(logits: jax.Array, y: jax.Array, label_smoothing: Any) -> jax.Array:
    """Mean cross-entropy of `logits: [B, classes]` with smoothed labels `y: int32[B]`, in float32."""
    logits = logits.astype(jnp.float32)
    targets = optax.smooth_labels(jax.nn.one_hot(y, logits.shape[-1]), label_smoothing)
    return optax.softmax_cross_entropy(logits, targets).mean()
