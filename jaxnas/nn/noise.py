"""What regularises a network while it is trained: paths and features that are dropped at random."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Noise(NamedTuple):
    """One step's draw for one candidate; every rate is traced.

    `paths: float32[D, B]` is, for each decision and image, 0 where the path is dropped, else 1 over
    1 - rate.
    `key` and `dropout: float32[]` are for the features before the classifier.
    """

    paths: jax.Array
    key: jax.Array
    dropout: jax.Array

    @classmethod
    def draw(
        cls, key: jax.Array, decisions: int, batch: int, *, drop_path: jax.Array, dropout: jax.Array
    ) -> "Noise":
        """The noise of one step; the key is consumed. One draw for all paths, cut up."""
        for_paths, for_features = jax.random.split(key)
        return cls(_kept(for_paths, drop_path, (decisions, batch)), for_features, dropout)

    def path(self, decision: int, y: jax.Array) -> jax.Array:
        """`y: [B, ...]`, the output of a choice, dropped for some images (Larsson et al., 1605.07648)."""
        kept = self.paths[decision].astype(y.dtype)
        return y * kept.reshape(-1, *(1,) * (y.ndim - 1))

    def features(self, y: jax.Array) -> jax.Array:
        """`y: [B, C]` after dropout (Srivastava et al., 2014)."""
        return y * _kept(self.key, self.dropout, y.shape).astype(y.dtype)


def _kept(key: jax.Array, rate: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    kept = jax.random.uniform(key, shape) >= rate
    return jnp.where(kept, 1 / (1 - rate), 0.0)
