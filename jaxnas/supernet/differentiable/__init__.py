"""Differentiable search: choices relaxed to numbers that are trained with the shared weights."""

from jaxnas.supernet.differentiable.search import (
    STRATEGIES,
    SearchEpoch,
    get_strategy,
    search,
)
from jaxnas.supernet.differentiable.strategy import Strategy

__all__ = ["STRATEGIES", "SearchEpoch", "Strategy", "get_strategy", "search"]
