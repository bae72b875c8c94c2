"""Policies that can be differentiated: hard draws, with gradients of what they are relaxed to."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.augment.operations import NUMBER, OPERATIONS, amounts, reach, transform
from jaxnas.augment.policy import Policy


class Logits(NamedTuple):
    """A policy's parameters, `float32[S, L, k]` each: S sub-policies of L layers over k operations.

    `choice` goes through a softmax over operations, `probability` and `magnitude` through a sigmoid.
    """

    choice: jax.Array
    probability: jax.Array
    magnitude: jax.Array

    @classmethod
    def even(cls, subpolicies: int, layers: int, operations: int) -> "Logits":
        """All operations alike, with probability and magnitude 1/2."""
        return cls(*jnp.zeros((3, subpolicies, layers, operations)))

    def policy(self, operations: Sequence[str]) -> Policy:
        """The policy that they stand for."""
        number = [NUMBER[name] for name in operations]
        s, layers, _ = self.choice.shape
        tables = np.zeros((4, s, layers, len(OPERATIONS)), np.float32)
        tables[0][..., number] = jax.nn.softmax(self.choice)
        tables[1][..., number] = jax.nn.sigmoid(self.probability)
        tables[2][..., number] = jax.nn.sigmoid(self.magnitude)
        choice, probability, magnitude, spread = tables
        weights = np.ones(s, np.float32)
        return Policy(weights, choice, probability, magnitude, spread, reach())


def augmented(
    key: jax.Array,
    levels: jax.Array,
    logits: Logits,
    numbers: Sequence[int],
    *,
    fill: jax.Array,
    temperature: float,
) -> jax.Array:
    """Images `[B, H, W, C]` at levels 0..255 as the policy of `logits` makes them; the key is consumed.

    Forwards it is `jaxnas.augment.apply_policy` with that policy, for other draws. Backwards, an
    operation is chosen by the Gumbel-softmax of its logits and applied by the relaxed Bernoulli
    of its probability, at `temperature` both, straight through (arXiv:1611.01144): an image is
    differentiated as if it were the mean, by those weights, of what all operations make of it. Through an
    operation itself gradients go straight too: 1 for each pixel of its image, and with respect to its
    magnitude 1 for each pixel, levels and magnitudes both counted from 0 to 1 (arXiv:1911.06987); 0 where
    magnitude means nothing.
    """
    batch = levels.shape[0]
    for_subpolicy, *keys = jax.random.split(key, 1 + logits.choice.shape[1])
    subpolicy = jax.random.randint(for_subpolicy, (batch,), 0, logits.choice.shape[0])
    for layer, layer_key in enumerate(keys):
        own = Logits(*(table[:, layer][subpolicy] for table in logits))
        levels = _layer(layer_key, levels, own, numbers, fill, temperature)
    return levels


def _layer(
    key: jax.Array,
    levels: jax.Array,
    own: Logits,
    numbers: Sequence[int],
    fill: jax.Array,
    temperature: float,
) -> jax.Array:
    """One layer, with logits `[B, k]` for each image."""
    batch, kinds = own.choice.shape
    keys = jax.random.split(key, 3)
    soft = jax.nn.softmax((own.choice + jax.random.gumbel(keys[0], (batch, kinds))) / temperature)
    chosen = _straight(jax.nn.one_hot(soft.argmax(-1), kinds), soft)
    noise = jax.random.logistic(keys[1], (batch, kinds))
    applied = jax.nn.sigmoid((own.probability + noise) / temperature)
    applied = _straight((applied > 0.5).astype(jnp.float32), applied)
    magnitude = jax.nn.sigmoid(own.magnitude)
    made = lax.stop_gradient(_made(keys[2], levels, magnitude, numbers, fill))
    meant = jnp.asarray(reach()[np.asarray(numbers)] > 0)[None]
    moved = 255 * jnp.where(meant, magnitude - lax.stop_gradient(magnitude), 0)
    made += (levels - lax.stop_gradient(levels))[:, None] + moved[:, :, None, None, None]
    # Zero weights times finite images: the sum is what the chosen operation made, to rounding.
    weights = chosen * applied
    mixed = jnp.einsum("bk,bkhwc->bhwc", weights, made)
    return mixed + (chosen * (1 - applied)).sum(-1)[:, None, None, None] * levels


def _made(
    key: jax.Array,
    levels: jax.Array,
    magnitude: jax.Array,
    numbers: Sequence[int],
    fill: jax.Array,
) -> jax.Array:
    """What each of k operations makes of each image, `[B, k, H, W, C]`."""
    batch, height, width, channels = levels.shape
    kinds = len(numbers)
    u = jax.random.uniform(key, (3, batch))
    operations = jnp.tile(jnp.asarray(numbers, jnp.int32), batch)
    side = jnp.asarray((height, width), jnp.float32)
    minus = jnp.repeat(u[0] < 0.5, kinds)
    amount = amounts(operations, magnitude.reshape(-1), minus, jnp.asarray(reach()), side)
    made = transform(
        jnp.repeat(levels, kinds, axis=0),
        operations,
        amount,
        fill=fill,
        centres=jnp.repeat(u[1:].T, kinds, axis=0),
    )
    return made.reshape(batch, kinds, height, width, channels)


def _straight(hard: jax.Array, soft: jax.Array) -> jax.Array:
    """`hard`, with the gradient of `soft`."""
    return lax.stop_gradient(hard) + soft - lax.stop_gradient(soft)
