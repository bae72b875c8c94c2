"""scikit-learn's own checks, and what they do not look at: images."""

import pickle
from typing import Any

import numpy as np
import pytest
from flax import nnx
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from jaxnas.errors import InputError
from jaxnas.estimator import ImageClassifier
from jaxnas.nn import Choice, Flatten, Linear, ReLU, Sequential
from jaxnas.spaces import Size

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"


class Tiny(nnx.Module):
    """A linear layer, or one with 8 units before it: what compiles quickly."""

    def __init__(self, size: Size, classes: int, image_channels: int) -> None:
        side = size.resolution
        self.flatten = Flatten()
        inputs = image_channels * side**2
        hidden = Sequential(Linear(inputs, 8), ReLU(), Linear(8, classes))
        self.out = Choice("out", {"linear": Linear(inputs, classes), "hidden": hidden})

    def __call__(self, x: Any, ctx: Any) -> Any:
        return self.out(self.flatten(x, ctx), ctx)


def quick(**options) -> ImageClassifier:
    """A fit that trains one given network of a few units."""
    small = {"arch": "out=linear", "finish.epochs": 8, "batch_size": 8}
    return ImageClassifier("test_estimator:Tiny", **small | options)


EXPECTED: dict[str, str] = {}


@parametrize_with_checks([quick()], expected_failed_checks=lambda estimator: EXPECTED)
def test_scikit_learns_checks(estimator, check):
    check(estimator)
