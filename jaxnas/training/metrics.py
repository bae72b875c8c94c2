"""What a classifier is judged by: figures of labels and probabilities, more is better."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxnas.errors import unknown

type Metric = Callable[[np.ndarray, np.ndarray], float]
"""From labels `int[n]` and probabilities `float[n, classes]` to one number in [0, 1]."""


def accuracy(y: np.ndarray, probabilities: np.ndarray) -> float:
    """The share of images whose most probable class is right."""
    return float((probabilities.argmax(-1) == y).mean())


def balanced_accuracy(y: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean over classes that occur of the share of their images that is found (recall)."""
    right = probabilities.argmax(-1) == y
    return float(np.mean([right[y == k].mean() for k in np.unique(y)]))


def f1(y: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean over classes of F1, 2 TP / (2 TP + FP + FN) (macro)."""
    from sklearn.metrics import f1_score

    # 0, which the stubs do not know.
    nothing: Any = 0
    found = f1_score(y, probabilities.argmax(-1), average="macro", zero_division=nothing)
    return float(found)


def auc(y: np.ndarray, probabilities: np.ndarray) -> float:
    """The area under the ROC curve: the second of two classes', or the mean of each against the rest.

    Classes that do not occur, or alone do, have none and are left out; .5 where none is left.
    """
    from sklearn.metrics import roc_auc_score

    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    areas = [
        roc_auc_score(y == k, probabilities[:, k]) for k in classes if 0 < (y == k).sum() < len(y)
    ]
    return float(np.mean(areas)) if areas else 0.5


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "f1": f1,
    "auc": auc,
}
"""Metrics by name."""


def get_metric(name: str) -> Metric:
    """The metric of a name; `InputError` for another."""
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return METRICS[name]
