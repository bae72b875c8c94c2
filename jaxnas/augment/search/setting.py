"""What a search of augmentation policies works with, and what it finds."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from jaxnas.augment.inputs import PolicyAugment
from jaxnas.augment.named import get_policy
from jaxnas.augment.operations import OPERATIONS
from jaxnas.augment.policy import Policy
from jaxnas.errors import InputError, unknown
from jaxnas.network import Network
from jaxnas.training.epoch import Recipe
from jaxnas.training.hyper import Hyper
from jaxnas.training.population import TrainingData

PUBLISHED = tuple(name for name in OPERATIONS if name not in ("Identity", "SolarizeAdd"))
"""The 15 operations that the papers search over."""

BESIDE = ("flip", "shift", "cutout", "erasing", "mixup", "cutmix")
"""What a policy does beside its sub-policies."""


class Keeper:
    """What an interrupted search finds again: units of work that are done, in order; here nothing."""

    def units(self) -> list[dict[str, Any]]:
        """The figures of each unit."""
        return []

    def keep(self, state: Any = None, **figures: Any) -> None:
        """One more unit: its figures, as JSON has them, and a pytree of arrays to go on from."""

    def state(self, like: Any) -> Any:
        """The state of the last unit; `like` has its structure and shapes."""
        return like


@dataclass(frozen=True, eq=False)
class Setting:
    """One architecture, its data and how it is trained.

    Attributes:
        network: at the size that is searched at.
        row: `int32[P]`, what its choice points read.
        data: prepared images on the device; validation images are for judging alone.
        hyper: `[members]` of each hyper-parameter; the policy in it does nothing.
        recipe: with the augmenter that policies are for.
        members: networks that may be trained side by side.
        epochs: of a training.
        batch_size: images a step.
        metric: what networks are compared by.
        seed: of everything that is drawn.
        advance: hears how many epochs of a member were trained, and a word on how it goes.
        keeper: what a search that is interrupted goes on from.
        beside: flips, shifts, cutout, erasing, MixUp and CutMix of this policy come with every one that
            is searched and found; its sub-policies are not used.
    """

    network: Network
    row: np.ndarray
    data: TrainingData
    hyper: Hyper
    recipe: Recipe
    members: int
    epochs: int
    batch_size: int
    metric: str
    seed: int
    advance: Callable[[int, str], None] = lambda n, said: None
    keeper: Keeper = field(default_factory=Keeper)
    beside: Policy = field(default_factory=lambda: get_policy("flip_crop"))

    @property
    def augmenter(self) -> PolicyAugment:
        """The recipe's.

        Raises:
            InputError: it has none, or one that is not for policies.
        """
        found = self.recipe.augmenter
        if not isinstance(found, PolicyAugment):
            raise InputError(
                f"The recipe's augmenter is {found!r}, expected a PolicyAugment: without it no policy "
                "is applied."
            )
        return found

    @property
    def alone(self) -> Recipe:
        """The recipe without a teacher: networks that are searched with learn from labels."""
        return replace(self.recipe, teacher=None)

    @property
    def plain(self) -> Policy:
        """No sub-policies, what `beside` does alone."""
        return self.completed(get_policy("none"))

    def completed(self, policy: Policy) -> Policy:
        """A policy, or a population of them, with what `beside` does."""
        return with_beside(policy, self.beside)


class Found(NamedTuple):
    """What a search found.

    `schedule` is a policy for each epoch of a training, the epochs being the first axis of every field,
    where the search finds one; `policy` is then its last.
    """

    policy: Policy
    schedule: Policy | None = None

    def at(self, epoch: int, epochs: int) -> Policy:
        """The policy of an epoch, from 0: a schedule is stretched over `epochs`."""
        if self.schedule is None:
            return self.policy
        return self.schedule.rows(epoch * len(self.schedule.weights) // epochs)


def with_beside(policy: Policy, beside: Policy) -> Policy:
    """`policy`, one or a population, with what `beside` does beside its sub-policies."""
    shape = np.shape(policy.choice)[:-3]
    own = {name: np.full(shape, getattr(beside, name), np.float32) for name in BESIDE}
    return policy._replace(**own)


def known(operations: tuple[str, ...]) -> tuple[str, ...]:
    """The operations that are searched over.

    Raises:
        InputError: none, one twice, or one that there is not.
    """
    for name in operations:
        if name not in OPERATIONS:
            raise unknown("image operation", name, OPERATIONS)
    if not operations or len(set(operations)) < len(operations):
        raise InputError(f"The operations {', '.join(operations)} are none, or not all different.")
    return operations


def folds(y: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Places of images in folds of one size, `int64[count, n // count]`, drawn by class.

    Each class is dealt out over the folds in turn; what is left when all have as many is in none.

    Raises:
        InputError: fewer images than folds.
    """
    y = np.asarray(y)
    if len(y) < count:
        raise InputError(f"{len(y)} training images cannot be split into {count} folds.")
    shuffled = np.random.default_rng(seed).permutation(len(y))
    dealt = shuffled[np.argsort(y[shuffled], kind="stable")]
    # Who is left out is drawn too: else it would always be of the last class.
    size = len(y) // count
    left = np.random.default_rng([seed, 1]).permutation(len(y))[: len(y) - size * count]
    return np.delete(dealt, left).reshape(size, count).T
