"""What a hyper-parameter may be, and when it is there: how spaces are made in Python."""

from collections.abc import Callable
from typing import Any

from jaxnas.language import (
    Bool,
    Category,
    Condition,
    Float,
    FloatCat,
    FloatExp,
    Int,
    IntCat,
    IntExp,
    Parameter,
)

type Made = Callable[[str], Parameter]
"""A parameter that still has no name."""


def uniform(low: float, high: float) -> Made:
    """A number of [`low`, `high`], uniform."""
    return lambda key: Float(key, low, high)


def log_uniform(low: float, high: float) -> Made:
    """A number of [`low`, `high`], both above 0, uniform in its logarithm."""
    return lambda key: FloatExp(key, low, high)


def integer(low: int, high: int, *, log: bool = False) -> Made:
    """A whole number of `low` to `high`, uniform, or with `log` in its logarithm."""
    return lambda key: (IntExp if log else Int)(key, low, high)


def choice(*values: Any) -> Made:
    """One of `values`: truth values, whole numbers, numbers or words."""
    if all(isinstance(v, bool) for v in values):
        kind: Callable[[str, tuple[Any, ...]], Parameter] = Bool
    elif all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        kind = IntCat
    elif all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        kind = FloatCat
    else:
        kind = Category
    return lambda key: kind(key, values)


def only_if(child: str, parent: str, *values: Any) -> Condition:
    """`child` is active where `parent` is active and has one of `values` (of an interval: its ends)."""
    return Condition(child, parent, "EQUAL" if len(values) == 1 else "IN", values)
