"""What a joint run can be told: when what is fixed, and how fast what moves."""

import math
from dataclasses import dataclass, field
from typing import Literal

from jaxnas.augment.named import get_policy
from jaxnas.augment.policy import Policy
from jaxnas.augment.search.setting import PUBLISHED, known
from jaxnas.errors import InputError

type Phase = Literal["search", "fixed", "settled"]
"""`search`: paths are drawn, all moves; `fixed`: one path, its weights, the policy and the
hyper-parameters move; `settled`: its weights alone."""


@dataclass(frozen=True, eq=False)
class Settings:
    """When a joint run fixes what it has found, and Adam's rates for what it finds.

    Attributes:
        fixed_after: share of the epochs in which the architecture is searched.
        settled_after: share after which policy and hyper-parameters stay as they are too.
        architecture_rate, policy_rate, hyper_rate: Adam's for architecture parameters, the policy's
            logits, and the logarithms and logit of the hyper-parameters; 0: they do not move.
        none: whether "no connection" may be chosen. After one step it does better than what has yet to
            learn, and DARTS does not choose it either (arXiv:1806.09055, section 2.4).
        hot, cold: the temperature of drawn paths falls from one to the other, linearly by epoch.
        operations: image operations that the policy is searched over.
        subpolicies: how many it has.
        layers: operations in each.
        policy_temperature: of its relaxations.
        beside: flips, shifts, cutout, erasing, MixUp and CutMix that come with it.

    Raises:
        InputError: shares that are not in order within 0..1, rates or temperatures that are no
            positive numbers, operations that there are not.
    """

    fixed_after: float = 0.5
    settled_after: float = 0.9
    architecture_rate: float = 0.01
    policy_rate: float = 5e-3
    hyper_rate: float = 5e-3
    none: bool = False
    hot: float = 10.0
    cold: float = 0.1
    operations: tuple[str, ...] = PUBLISHED
    subpolicies: int = 10
    layers: int = 2
    policy_temperature: float = 0.5
    beside: Policy = field(default_factory=lambda: get_policy("flip_crop"))

    def __post_init__(self) -> None:
        if not 0 < self.fixed_after <= self.settled_after <= 1:
            raise InputError(
                f"fixed_after is {self.fixed_after:g} and settled_after {self.settled_after:g}, expected "
                "shares of the epochs above 0, at most 1 and in this order."
            )
        for name in ("architecture_rate", "policy_rate", "hyper_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name):g}, expected a number from 0 on.")
        for name in ("hot", "cold", "policy_temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name):g}, expected a number above 0.")
        if min(self.subpolicies, self.layers) < 1:
            raise InputError(
                f"A policy of {self.subpolicies} sub-policies of {self.layers} layers has none; expected "
                "at least 1 of both."
            )
        known(self.operations)

    def phases(self, epochs: int) -> tuple[int, int]:
        """The number of epochs before the architecture, and before all but the weights, is fixed."""
        searched = math.ceil(self.fixed_after * epochs)
        return searched, max(searched, math.ceil(self.settled_after * epochs))

    def phase(self, epoch: int, epochs: int) -> Phase:
        """That of an epoch, from 0."""
        searched, tuned = self.phases(epochs)
        if epoch < searched:
            return "search"
        return "fixed" if epoch < tuned else "settled"
