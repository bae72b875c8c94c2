"""Augmentation policies as data: one tuple of arrays for every published kind of policy."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnas.augment.operations import NUMBER, OPERATIONS
from jaxnas.errors import InputError


class Policy(NamedTuple):
    """S sub-policies of L layers over the K operations of `OPERATIONS`; all traced.

    An image is flipped and shifted, gets one sub-policy and in each of its layers one operation, which
    is then applied or not, and at last is cut out and erased from. A population of policies has N as the
    first axis of every field (`stack`).
    """

    weights: Any
    """`[S]`: which sub-policy an image gets, in proportion."""
    choice: Any
    """`[S, L, K]`: which operation a layer is, in proportion."""
    probability: Any
    """`[S, L, K]`: that the operation is applied."""
    magnitude: Any
    """`[S, L, K]` in 0..1: a share of `reach`; signed operations go either way alike."""
    spread: Any
    """`[S, L, K]` in 0..1: magnitudes are drawn uniformly from (1 - spread) magnitude .. magnitude."""
    reach: Any
    """`[K]`: what magnitude 1 is, see `jaxnas.augment.operations.REACH`."""
    flip: Any = 0.0
    """Probability of left and right exchanged."""
    shift: Any = 0.0
    """Share of the side that images are moved by at most, in whole pixels (a crop after padding)."""
    cutout: Any = 0.0
    """Share of the side that a square cut out of every image has (1708.04552)."""
    erasing: Any = 0.0
    """Probability that a rectangle becomes noise (1708.04896)."""
    mixup: Any = 0.0
    """alpha of `mix`; 0: none (1710.09412)."""
    cutmix: Any = 0.0
    """alpha of `mix`; 0: none (1905.04899)."""

    @property
    def subpolicies(self) -> int:
        """S."""
        return np.shape(self.choice)[-3]

    @property
    def layers(self) -> int:
        """L."""
        return np.shape(self.choice)[-2]

    def padded(self, subpolicies: int, layers: int) -> "Policy":
        """The same policy with sub-policies of weight 0 and layers that do nothing added.

        Raises:
            InputError: it has more than that.
        """
        more = subpolicies - self.subpolicies, layers - self.layers
        if min(more) < 0:
            raise InputError(
                f"The policy has {self.subpolicies} sub-policies of {self.layers} layers, which do not "
                f"fit {subpolicies} of {layers}."
            )
        before = [(0, 0)] * (np.ndim(self.choice) - 3)
        tables = {
            name: np.pad(getattr(self, name), [*before, (0, more[0]), (0, more[1]), (0, 0)])
            for name in TABLES
        }
        tables["choice"][..., self.subpolicies :, :, NUMBER["Identity"]] = 1
        tables["choice"][..., self.layers :, NUMBER["Identity"]] = 1
        weights = np.pad(self.weights, [*before, (0, more[0])])
        return self._replace(weights=weights, **tables)

    def rows(self, which: Any) -> "Policy":
        """Some of a population's policies, or one of them."""
        return Policy(*(np.asarray(field)[which] for field in self))


TABLES = ("choice", "probability", "magnitude", "spread")
"""Fields of shape `[S, L, K]`."""

UNBOUNDED = ("weights", "choice", "reach", "mixup", "cutmix")
"""Fields that may be above 1."""


def stack(policies: Sequence[Policy]) -> Policy:
    """A population of policies, padded to one shape; numbers that all have get the axis too.

    Raises:
        InputError: there are none.
    """
    if not policies:
        raise InputError("A population of policies needs at least one.")
    most = max(p.subpolicies for p in policies), max(p.layers for p in policies)
    padded = [p.padded(*most) for p in policies]
    return Policy(
        *(np.stack([np.asarray(f, np.float32) for f in fs]) for fs in zip(*padded, strict=True))
    )


def checked(policy: Policy) -> Policy:
    """One policy as float32 arrays, once everything in it is found to make sense.

    Raises:
        InputError: a wrong shape, something that is not finite, out of its range or of no weight.
    """
    made = Policy(*(np.asarray(field, np.float32) for field in policy))
    table = made.choice.shape
    shapes = dict.fromkeys(TABLES, table) | {"weights": table[:1], "reach": table[-1:]}
    if len(table) != 3 or not made.choice.size or table[2] != len(OPERATIONS):
        raise InputError(
            f"A policy's choice has shape {table}, expected [sub-policies, layers, "
            f"{len(OPERATIONS)}]."
        )
    for name, field in made._asdict().items():
        if field.shape != shapes.get(name, ()):
            raise InputError(
                f"A policy's {name} has shape {field.shape}, expected {shapes.get(name, ())}."
            )
        bound = np.inf if name in UNBOUNDED else 1
        if not (np.isfinite(field) & (field >= 0) & (field <= bound)).all():
            within = "a finite number of at least 0" if bound > 1 else "within 0..1"
            raise InputError(f"A policy's {name} has values that are not {within}.")
    if not made.weights.sum() > 0 or not (made.choice.sum(-1) > 0).all():
        raise InputError("A policy's weights, and each layer's choice, need something above 0.")
    return made
