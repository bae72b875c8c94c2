"""What regularises a network in training: paths and features dropped, maps distorted at random."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

BLOCK = 6
"""Side of the squares of a feature map that are distorted, at most half its own (DropBlock's 6)."""
INTENSITY = 0.3
"""Deviation of what distorted places become, in that of the map (alpha 30 times .01, as published)."""


class Noise(NamedTuple):
    """One step's draw for one candidate; every rate is traced.

    `paths: float32[D, B]` is, for each decision and image, 0 where the path is dropped, else 1 over
    1 - rate.
    `key` and `dropout: float32[]` are for the features before the classifier, `distortion: float32[]` is
    the share of each value between blocks that is distorted; None: no program for it.
    """

    paths: jax.Array
    key: jax.Array
    dropout: jax.Array
    distortion: jax.Array | None = None

    @classmethod
    def draw(
        cls,
        key: jax.Array,
        decisions: int,
        batch: int,
        *,
        drop_path: jax.Array,
        dropout: jax.Array,
        distortion: jax.Array | None = None,
    ) -> "Noise":
        """The noise of one step; the key is consumed. One draw for all paths, cut up."""
        for_paths, for_features = jax.random.split(key)
        paths = _kept(for_paths, drop_path, (decisions, batch))
        return cls(paths, for_features, dropout, distortion)

    def path(self, decision: int, y: jax.Array) -> jax.Array:
        """`y: [B, ...]`, the output of a choice, dropped for some images (Larsson et al., 1605.07648)."""
        kept = self.paths[decision].astype(y.dtype)
        return y * kept.reshape(-1, *(1,) * (y.ndim - 1))

    def features(self, y: jax.Array) -> jax.Array:
        """`y: [B, C]` after dropout (Srivastava et al., 2014)."""
        return y * _kept(self.key, self.dropout, y.shape).astype(y.dtype)

    def block(self, number: int, y: jax.Array) -> jax.Array:
        """`y: [B, H, W, C]`, the value after block `number`, distorted in squares at random.

        (m y + (1 - m) e) / mean(m): m is 0 in squares that cover about `distortion` of y (DropBlock,
        arXiv:1810.12890), e normal of `INTENSITY` times y's deviation, no gradient passing through it
        (Tang et al., "Beyond Dropout", arXiv:2002.11022).
        """
        if self.distortion is None or y.ndim != 4:
            return y
        height, width = y.shape[1:3]
        side = max(1, min(BLOCK, height // 2, width // 2))
        # Centres whose squares lie inside, as many as make the share.
        inside = (height - side + 1) * (width - side + 1)
        rate = self.distortion * height * width / (side**2 * inside)
        for_squares, for_values = jax.random.split(jax.random.fold_in(self.key, number))
        shape = (y.shape[0], height - side + 1, width - side + 1, y.shape[3])
        centres = (jax.random.uniform(for_squares, shape) < rate).astype(y.dtype)
        margin = ((0, 0), (side - 1, side - 1), (side - 1, side - 1), (0, 0))
        window = (1, side, side, 1)
        hit = lax.reduce_window(centres, jnp.zeros((), y.dtype), lax.max, window, (1,) * 4, margin)
        deviation = lax.stop_gradient(y.astype(jnp.float32).std())
        noise = INTENSITY * deviation * jax.random.normal(for_values, y.shape)
        kept = jnp.maximum(1 - hit.astype(jnp.float32).mean(), 1e-3)
        return jnp.where(hit > 0, noise.astype(y.dtype), y) / kept.astype(y.dtype)


def _kept(key: jax.Array, rate: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    kept = jax.random.uniform(key, shape) >= rate
    return jnp.where(kept, 1 / (1 - rate), 0.0)
