"""Hyper-parameters as data: rows of a population program, none of which is compiled in."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnas.errors import unknown

SCHEDULES = ("cosine", "linear", "constant", "one_cycle")
"""Shapes of the learning rate after its warm-up; `Hyper.schedule` is the place in this list."""

OPTIMIZERS = ("sgd", "adamw")
"""What turns gradients into steps; one for all candidates of a program."""


class Hyper(NamedTuple):
    """Hyper-parameters of a population, `float32[N]` each; all traced.

    The learning rate rises linearly over `warmup` (a share of all steps), then follows `schedule`:
    0 a half cosine to 0, 1 a line to 0, 2 no change, 3 one cycle: half a cosine up in the warm-up too
    (Smith, Topin, arXiv:1708.07120). `momentum` is Nesterov's, or AdamW's first decay.
    `label_smoothing`, `dropout` (before the classifier), `drop_path` (paths that meet others in a node,
    image by image) and `flip` (left and right) are probabilities; `shift` pixels at most images are
    moved by, `cutout` the side in pixels of a square set to 0.
    `batch_share` is the share of the program's batch size that a step averages over: 1 / 2 of 64 means
    batches of 32, of which an epoch has twice as many. A step then reads each of its images several
    times over, augmented and dropped by draws of its own.

    `ema` is the decay of an average of weights and batch statistics over steps, which is then what is
    evaluated; 0: none. `distortion` is the share of feature maps that is distorted (`jaxnas.nn.noise`).
    `distill` is the weight of the teacher's loss at `temperature`, where the program has a teacher.
    `policy` is what the program's augmenter (`jaxnas.training.epoch.Recipe`) does to images: a pytree
    with the population as its leaves' first axis, None without one.
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
    ema: Any = 0.0
    distortion: Any = 0.0
    distill: Any = 0.0
    temperature: Any = 1.0
    policy: Any = None

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
        policy: Any = None,
        **others: float,
    ) -> "Hyper":
        """The same values for `n` candidates; `others` are further fields, `policy` one candidate's."""
        made = cls(learning_rate, weight_decay, momentum, label_smoothing, warmup, **others)
        numbers = {k: np.full(n, v, np.float32) for k, v in made._asdict().items() if k != "policy"}
        copies = jax.tree.map(lambda a: np.repeat(np.asarray(a)[None], n, axis=0), policy)
        return cls(**numbers, policy=copies)

    def overridden(self, own: Mapping[str, np.ndarray]) -> "Hyper":
        """With a candidate's own values, `[N]` by name, where they are not NaN."""
        given = self._asdict()
        return Hyper(**given | {k: np.where(np.isnan(v), given[k], v) for k, v in own.items()})

    def stretched(self, n: int) -> "Hyper":
        """For `n` places: the candidates' values, over and over."""

        def stretch(value: Any) -> np.ndarray:
            values = np.atleast_1d(np.asarray(value, np.float32))
            return values[np.arange(n) % len(values)]

        return jax.tree.map(stretch, self)

    def rows(self, which: Any) -> "Hyper":
        """The values of some candidates, in order."""
        return jax.tree.map(lambda v: np.asarray(v)[which] if np.ndim(v) else v, self)


def schedule(hyper: Hyper, done: jax.Array) -> jax.Array:
    """The learning rate of one candidate when `done`, a share of all its steps, is behind it."""
    kind = jnp.asarray(hyper.schedule, jnp.int32)
    rising = done / jnp.maximum(hyper.warmup, 1e-6)
    rising = jnp.where(kind == 3, 0.5 * (1 - jnp.cos(jnp.pi * rising)), rising)
    # Beyond its end, where a member is trained for longer than was planned, a schedule stays at 0.
    left = jnp.maximum(1 - (done - hyper.warmup) / (1 - hyper.warmup), 0)
    cosine = 0.5 * (1 - jnp.cos(jnp.pi * left))
    falling = jnp.stack([cosine, left, jnp.ones_like(left), cosine])[kind]
    return hyper.learning_rate * jnp.where(done < hyper.warmup, rising, falling)


def optimizer(hyper: Hyper, learning_rate: Any, kind: str = "sgd") -> optax.GradientTransformation:
    """SGD with Nesterov momentum, or AdamW (Loshchilov, Hutter, arXiv:1711.05101).

    Weight decay on kernels alone, not on batch norm or biases; SGD's is added to the gradient, AdamW's
    to the step.
    """
    decay = optax.add_decayed_weights(
        hyper.weight_decay, mask=lambda p: jax.tree.map(lambda a: a.ndim > 1, p)
    )
    if kind == "sgd":
        moving = (decay, optax.trace(decay=hyper.momentum, nesterov=True))
    elif kind == "adamw":
        moving = (optax.scale_by_adam(b1=hyper.momentum), decay)
    else:
        raise unknown("optimizer", kind, OPTIMIZERS)
    return optax.chain(*moving, optax.scale_by_learning_rate(learning_rate))


def fresh_state(params: Any, kind: str) -> dict[str, Any]:
    """What an optimizer remembers of `params` before the first step, like them and all 0, by name."""
    names = {"sgd": ("trace",), "adamw": ("mu", "nu")}
    if kind not in names:
        raise unknown("optimizer", kind, OPTIMIZERS)
    return {name: jax.tree.map(jnp.zeros_like, params) for name in names[kind]}


def smoothed(y: jax.Array, classes: int, label_smoothing: Any) -> jax.Array:
    """Labels `int32[B]` as probabilities `[B, classes]`."""
    return optax.smooth_labels(jax.nn.one_hot(y, classes), label_smoothing)


def cross_entropy(logits: jax.Array, y: jax.Array, label_smoothing: Any) -> jax.Array:
    """Mean cross-entropy of `logits: [B, classes]` with smoothed labels `y: int32[B]`, in float32."""
    logits = logits.astype(jnp.float32)
    targets = smoothed(y, logits.shape[-1], label_smoothing)
    return optax.softmax_cross_entropy(logits, targets).mean()
