"""A policy on a network's inputs: from normalised values to grey levels and back."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.augment.application import apply_policy
from jaxnas.augment.mixing import mix
from jaxnas.augment.policy import Policy
from jaxnas.data.dataset import Dataset
from jaxnas.errors import InputError


@dataclass(frozen=True)
class PolicyAugment:
    """What a policy makes of a batch of network inputs and its targets.

    Inputs are (pixel - mean) / std, by channel; pixels of `low`..`high` are levels 0..255. Holes
    and what comes in from outside are the mean, 0 in a network's inputs, to the nearest level. It is
    hashable, so that it can be a static argument of a program in which the policy is traced.

    Raises:
        InputError: `mean` and `std` of different lengths, a `std` of 0 or less, or no range.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: float = 0.0
    high: float = 255.0

    def __post_init__(self):
        if len(self.mean) != len(self.std) or not self.mean:
            raise InputError(
                f"mean has {len(self.mean)} channels and std {len(self.std)}; they must agree."
            )
        if not all(s > 0 for s in self.std):
            raise InputError(f"std is {self.std}, expected numbers above 0.")
        if not self.high > self.low:
            raise InputError(f"Pixels from {self.low:g} to {self.high:g} are no range of levels.")

    @classmethod
    def of(cls, data: Dataset) -> "PolicyAugment":
        """That of a data set's inputs; the levels of float images span what its training images do."""
        x = data.train.x
        low, high = (0.0, 1.0) if x.dtype == np.uint8 else (float(x.min()), float(x.max()))
        mean, std = (tuple(map(float, a)) for a in (data.mean, data.std))
        return cls(mean, std, low, high if high > low else low + 1)

    def levels(self, stored: np.ndarray) -> np.ndarray:
        """Images as they are stored, `[n, H, W, C]`, at levels 0..255, whole float32 numbers."""
        pixels = stored.astype(np.float32) / (255 if stored.dtype == np.uint8 else 1)
        return np.rint((pixels - self.low) * (255 / (self.high - self.low)))

    def to_levels(self, x: jax.Array) -> jax.Array:
        """Network inputs `[B, H, W, C]` at levels 0..255, not rounded."""
        return x * self._factor[None, None, None] + self._offset[None, None, None]

    def to_inputs(self, levels: jax.Array) -> jax.Array:
        """Levels as network inputs."""
        return (levels - self._offset[None, None, None]) / self._factor[None, None, None]

    @property
    def fill(self) -> np.ndarray:
        """The mean as a level, `float32[C]`."""
        return np.clip(np.round(self._offset), 0, 255)

    @property
    def _scale(self) -> np.float32:
        return np.float32(255 / (self.high - self.low))

    @property
    def _factor(self) -> np.ndarray:
        return np.asarray(self.std, np.float32) * self._scale

    @property
    def _offset(self) -> np.ndarray:
        return (np.asarray(self.mean, np.float32) - np.float32(self.low)) * self._scale

    def __call__(
        self, key: jax.Array, x: jax.Array, targets: jax.Array, policy: Policy
    ) -> tuple[jax.Array, jax.Array]:
        """`x: float32[B, H, W, C]` and `targets: float32[B, classes]`, augmented; the key is consumed.

        Images that nothing happens to are what they were, bit for bit. `policy` is one, traced.
        """
        for_policy, for_pairs = jax.random.split(key)
        levels = jax.lax.optimization_barrier(self.to_levels(x))
        made = apply_policy(for_policy, levels, policy, fill=jnp.asarray(self.fill))
        touched = jnp.any(made != levels, axis=(1, 2, 3), keepdims=True)
        made = jnp.where(touched, self.to_inputs(made), x)
        return mix(for_pairs, made, targets, policy.mixup, policy.cutmix)
