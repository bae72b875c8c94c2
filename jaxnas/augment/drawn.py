"""What a policy does to each image of a batch, as drawn."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.augment.geometry import Frame, Hole
from jaxnas.augment.operations import NUMBER, amounts
from jaxnas.augment.policy import Policy


class Draws(NamedTuple):
    """What happens to each of `[B]` images: `operations`, `amounts`, `centres` have L before it."""

    operations: jax.Array
    amounts: jax.Array
    centres: jax.Array
    frame: Frame
    cutout: Hole
    erased: Hole


def draw(key: jax.Array, policy: Policy, shape: tuple[int, int, int]) -> Draws:
    """What a policy does to B images of H x W, `shape` being those; the key is consumed."""
    batch, *sides = shape
    side = jnp.asarray(sides, jnp.float32)
    layers = policy.layers
    # One call, as each takes long to compile.
    u = jax.random.uniform(key, (11 + 6 * layers, batch))
    v = u[11:].reshape(6, layers, batch)
    subpolicy = _picked(jnp.asarray(policy.weights)[None], u[0])
    tables = (policy.choice, policy.probability, policy.magnitude, policy.spread)
    choice, *others = (jnp.asarray(t)[subpolicy].swapaxes(0, 1) for t in tables)  # [L, B, K]
    operations = _picked(choice, v[0])
    probability, magnitude, spread = (
        jnp.take_along_axis(t, operations[..., None], axis=-1)[..., 0] for t in others
    )
    operations = jnp.where(v[1] < probability, operations, NUMBER["Identity"])
    magnitude *= 1 - spread * v[2]
    reach = jnp.asarray(policy.reach)
    span = jnp.round(policy.shift * side)
    moved = [jnp.floor(u[2 + i] * (2 * span[i] + 1)) - span[i] for i in range(2)]
    frame = Frame(u[1] < policy.flip, *(m.astype(jnp.int32) for m in moved))
    length = jnp.round(policy.cutout * side)[:, None]
    centre = jnp.floor(u[4:6] * side[:, None])
    first = centre - jnp.floor(length / 2)
    cutout = Hole(*first, *jnp.broadcast_to(length, (2, batch)))
    return Draws(
        operations,
        amounts(operations, magnitude, v[3] < 0.5, reach, side),
        v[4:].transpose(1, 2, 0),
        frame,
        cutout,
        _erased(u[6:11], policy.erasing, side),
    )


def _picked(weights: jax.Array, draws: jax.Array) -> jax.Array:
    """Places in the last axis of `weights`, in proportion, for `draws` in [0, 1)."""
    upto = jnp.cumsum(weights, axis=-1)
    # Not beyond the last one of any weight, whatever the rounding.
    below = draws * upto[..., -1]
    place = (below[..., None] >= upto).sum(-1, dtype=jnp.int32)
    last = (upto < upto[..., -1:]).sum(-1, dtype=jnp.int32)
    return jnp.minimum(place, last)


def _erased(draws: jax.Array, probability: Any, side: jax.Array) -> Hole:
    """Rectangles of .02 to .4 of the area, as high as .3 to 1 / .3 times their width (1708.04896).

    The paper draws again what does not fit the image; here its longer side is cut to the image's, and its
    place drawn from those where it fits.
    """
    height, width = side
    area = (0.02 + 0.38 * draws[1]) * height * width
    ratio = jnp.exp(jnp.log(0.3) * (2 * draws[2] - 1))
    erased = draws[0] < probability
    extent = jnp.stack([jnp.sqrt(area * ratio), jnp.sqrt(area / ratio)])
    extent = jnp.clip(jnp.round(extent), 1, side[:, None])
    first = jnp.floor(draws[3:5] * (side[:, None] - extent + 1))
    return Hole(*first, *jnp.where(erased[None], extent, 0))
