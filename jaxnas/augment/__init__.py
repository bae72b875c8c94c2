"""Augmentation: image operations in JAX, policies as data, and the published ones by name."""

from jaxnas.augment.application import apply_policy
from jaxnas.augment.files import from_json, load, save, to_json
from jaxnas.augment.inputs import PolicyAugment
from jaxnas.augment.mixing import mix
from jaxnas.augment.named import NAMED, get_policy
from jaxnas.augment.operations import OPERATIONS, REACH, transform
from jaxnas.augment.policy import Policy, checked, stack

__all__ = [
    "NAMED",
    "OPERATIONS",
    "REACH",
    "Policy",
    "PolicyAugment",
    "apply_policy",
    "checked",
    "from_json",
    "get_policy",
    "load",
    "mix",
    "save",
    "stack",
    "to_json",
    "transform",
]
