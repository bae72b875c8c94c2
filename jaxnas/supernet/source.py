"""Where a super-net's paths come from: a space, and which of its shape classes the network is of."""

from dataclasses import dataclass

import jax
import numpy as np

from jaxnas.errors import InputError
from jaxnas.spaces import TRIES, SearchSpace


@dataclass(frozen=True, eq=False)
class Source:
    """The architectures that one super-net holds.

    Those of `shape_classes`, as numbered by `space.shape_classes`: a super-net has the weights of one
    network, and classes whose networks differ share none. Architectures without a path from input to
    output are left out: they have nothing to learn.
    """

    space: SearchSpace
    shape_classes: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        known = self.space.programs
        wrong = [k for k in self.shape_classes if not 0 <= k < known]
        if wrong or not self.shape_classes:
            raise InputError(
                f"The shape classes {self.shape_classes} are not all there in {self.space.name}, "
                f"which has {known}; expected some of 0 to {known - 1}."
            )

    def holds(self, archs: np.ndarray) -> np.ndarray:
        """`bool[N]`: which of `archs: int32[N, D]`, each of integers in range, the super-net has."""
        space = self.space
        held = np.asarray(space.valid(archs), bool).copy()
        inside = archs[held]
        kinds = np.isin(space.shape_classes(inside), self.shape_classes)
        held[held] = kinds & space.connected(inside)
        return held

    def draw(self, key: jax.Array, n: int) -> np.ndarray:
        """`n` of them drawn uniformly and independently, `int32[n, D]`; the key is consumed.

        Raises:
            InputError: `TRIES` draws in a row were of none.
        """
        found, have, tries = [np.zeros((0, len(self.space.decisions)), np.int32)], 0, 0
        while have < n:
            key, use = jax.random.split(key)
            archs = self.space.sample(use, n)
            archs = archs[self.holds(archs)]
            found.append(archs)
            have += len(archs)
            tries = 0 if len(archs) else tries + n
            if tries >= TRIES:
                raise InputError(
                    f"None of {tries:,} architectures drawn from {self.space.name} is of the shape "
                    f"classes {self.shape_classes} and connected."
                )
        return np.concatenate(found)[:n]

    def distinct(self, key: jax.Array, n: int) -> np.ndarray:
        """Up to `n` that differ in more than inactive decisions; fewer where draws find no more."""
        archs = np.zeros((0, len(self.space.decisions)), np.int32)
        for step in range(64):
            archs = np.concatenate([archs, self.draw(jax.random.fold_in(key, step), n)])
            _, first = np.unique(self.space.pruned(archs), axis=0, return_index=True)
            archs = archs[np.sort(first)]
            if len(archs) >= n:
                break
        return archs[:n]
