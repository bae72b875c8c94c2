"""Policies by name, with their parameters: `randaugment:n=2:m=9`."""

import dataclasses
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jaxnas.augment.operations import NUMBER, OPERATIONS, reach
from jaxnas.augment.policy import Policy, checked
from jaxnas.augment.published import CIFAR10, IMAGENET, SVHN, Entry
from jaxnas.catalogue import chosen
from jaxnas.errors import InputError, unknown

ALIKE = tuple(name for name in OPERATIONS if name not in ("Invert", "Cutout", "SolarizeAdd"))
"""The 14 operations of RandAugment and TrivialAugment."""


@dataclass(frozen=True)
class Named:
    """What every policy can be given: `flip`, `shift`, ... as `Policy` has them."""

    name: ClassVar[str]
    paper: ClassVar[str]

    flip: float = 0.0
    shift: float = 0.0
    cutout: float = 0.0
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def policy(self) -> Policy:
        """The policy as data.

        Raises:
            InputError: a parameter out of its range.
        """
        others = {field.name: getattr(self, field.name) for field in dataclasses.fields(Named)}
        return checked(self.tables()._replace(**others))

    @abstractmethod
    def tables(self) -> Policy:
        """Sub-policies and their operations alone."""


def _uniform(names: Sequence[str], layers: int, magnitude: float, **ranges: float) -> Policy:
    """One sub-policy: in each layer one of `names`, all alike."""
    choice = np.zeros((1, layers, len(OPERATIONS)), np.float32)
    choice[..., [NUMBER[name] for name in names]] = 1
    return Policy(
        weights=np.ones(1, np.float32),
        choice=choice,
        probability=(choice > 0).astype(np.float32),
        magnitude=np.full_like(choice, magnitude),
        spread=np.zeros_like(choice),
        reach=reach(**ranges),
    )


def listed(subpolicies: Sequence[Sequence[Entry]], steps: int = 9) -> Policy:
    """Sub-policies as they are published, equally likely; magnitudes are whole numbers of 0..`steps`.

    Raises:
        InputError: no such operation, or sub-policies of different lengths.
    """
    lengths = {len(layers) for layers in subpolicies}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(f"Sub-policies have {sorted(lengths)} operations, expected as many each.")
    shape = len(subpolicies), *lengths, len(OPERATIONS)
    choice, probability, magnitude = (np.zeros(shape, np.float32) for _ in range(3))
    for s, layers in enumerate(subpolicies):
        for i, (name, chance, step) in enumerate(layers):
            if name not in NUMBER:
                raise unknown("image operation", name, OPERATIONS)
            place = s, i, NUMBER[name]
            choice[place], probability[place] = 1, chance
            magnitude[place] = 0 if step is None else step / steps
    weights = np.ones(len(subpolicies), np.float32)
    return Policy(weights, choice, probability, magnitude, np.zeros(shape, np.float32), reach())


@dataclass(frozen=True)
class Nothing(Named):
    """No augmentation, unless parameters say so."""

    name: ClassVar[str] = "none"
    paper: ClassVar[str] = ""

    def tables(self) -> Policy:
        """One layer that does nothing."""
        return _uniform(["Identity"], 1, 0.0)


@dataclass(frozen=True)
class FlipCrop(Nothing):
    """Half of the images mirrored, all moved by up to 4 of 32 pixels."""

    name: ClassVar[str] = "flip_crop"
    paper: ClassVar[str] = "He et al., Deep Residual Learning, arXiv:1512.03385"
    flip: float = 0.5
    shift: float = 0.125


@dataclass(frozen=True)
class RandAugment(Named):
    """n of 14 operations, all alike and of magnitude m of 30; flips, crops and Cutout beside."""

    name: ClassVar[str] = "randaugment"
    paper: ClassVar[str] = "Cubuk et al., RandAugment, arXiv:1909.13719"
    flip: float = 0.5
    shift: float = 0.125
    cutout: float = 0.5
    n: int = 2
    m: float = 9.0

    def tables(self) -> Policy:
        """n layers."""
        if self.n < 1:
            raise InputError(f"randaugment:n is {self.n}, expected at least 1.")
        if not 0 <= self.m <= 30:
            raise InputError(f"randaugment:m is {self.m:g}, expected a number within 0..30.")
        return _uniform(ALIKE, self.n, self.m / 30)


@dataclass(frozen=True)
class TrivialAugment(Named):
    """One of 14 operations at a uniformly random magnitude of the wide range; Cutout beside."""

    name: ClassVar[str] = "trivialaugment"
    paper: ClassVar[str] = "Müller and Hutter, TrivialAugment, arXiv:2103.10158"
    flip: float = 0.5
    shift: float = 0.125
    cutout: float = 0.5
    translate: float = 1.0
    """The farthest move, a share of the side: 32 of 32 pixels (the paper's 32 of any number)."""

    def tables(self) -> Policy:
        """One layer."""
        factors = dict.fromkeys(("Contrast", "Color", "Brightness", "Sharpness"), 0.99)
        moves = dict.fromkeys(("TranslateX", "TranslateY"), self.translate)
        wide = {"ShearX": 0.99, "ShearY": 0.99, "Rotate": 135.0, "Posterize": 6.0}
        made = _uniform(ALIKE, 1, 1.0, **factors, **moves, **wide)
        return made._replace(spread=np.ones_like(made.choice))


@dataclass(frozen=True)
class AutoAugmentCifar10(Named):
    """AutoAugment's 25 sub-policies for CIFAR-10; flips, crops and Cutout beside."""

    name: ClassVar[str] = "autoaugment_cifar10"
    paper: ClassVar[str] = "Cubuk et al., AutoAugment, arXiv:1805.09501"
    flip: float = 0.5
    shift: float = 0.125
    cutout: float = 0.5

    def tables(self) -> Policy:
        """25 of 2 layers."""
        return listed(CIFAR10)


@dataclass(frozen=True)
class AutoAugmentImagenet(Named):
    """AutoAugment's 25 sub-policies for ImageNet; flips beside."""

    name: ClassVar[str] = "autoaugment_imagenet"
    paper: ClassVar[str] = "Cubuk et al., AutoAugment, arXiv:1805.09501"
    flip: float = 0.5

    def tables(self) -> Policy:
        """25 of 2 layers."""
        return listed(IMAGENET)


@dataclass(frozen=True)
class AutoAugmentSvhn(Named):
    """AutoAugment's 25 sub-policies for SVHN; Cutout of 20 of 32 pixels beside."""

    name: ClassVar[str] = "autoaugment_svhn"
    paper: ClassVar[str] = "Cubuk et al., AutoAugment, arXiv:1805.09501"
    cutout: float = 0.625

    def tables(self) -> Policy:
        """25 of 2 layers."""
        return listed(SVHN)


NAMED: dict[str, type[Named]] = {
    kind.name: kind
    for kind in (
        Nothing,
        FlipCrop,
        RandAugment,
        TrivialAugment,
        AutoAugmentCifar10,
        AutoAugmentImagenet,
        AutoAugmentSvhn,
    )
}
"""The policies by name. A new one is a class and a line here."""


def get_policy(text: str) -> Policy:
    """The policy of a name, its parameters after colons: `randaugment:n=2:m=9:flip=0`.

    Raises:
        InputError: no such policy or parameter (with the nearest), or a value that it cannot have.
    """
    return chosen("augmentation policy", text, NAMED).policy()
