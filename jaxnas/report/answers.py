"""What a network answered to the test images, counted."""

from dataclasses import dataclass

import numpy as np

from jaxnas.report.model import Judged

NONE = -1


def answers(judged: Judged) -> np.ndarray:
    """The most probable class of each image, `int[n]`; `NONE` where a probability is no number."""
    known = np.isfinite(judged.probabilities).all(axis=1)
    return np.where(known, np.nan_to_num(judged.probabilities).argmax(axis=1), NONE)


def confusion(judged: Judged) -> np.ndarray:
    """`int[K, K]`: how many images of class k (row) were taken for class j (column)."""
    k = len(judged.class_names)
    found, given = np.zeros((k, k), int), answers(judged)
    there = given != NONE
    np.add.at(found, (judged.y[there], given[there]), 1)
    return found


@dataclass(frozen=True)
class Found:
    """One class: its images, and how many of them were found."""

    name: str
    found: int
    images: int

    @property
    def recall(self) -> float:
        """The share that was found; NaN without images."""
        return self.found / self.images if self.images else np.nan


def recalls(judged: Judged) -> list[Found]:
    """Each class in order; images without an answer count as not found."""
    totals = np.bincount(judged.y, minlength=len(judged.class_names))
    right = np.diag(confusion(judged))
    return [
        Found(name, int(r), int(n))
        for name, r, n in zip(judged.class_names, right, totals, strict=True)
    ]


def confused(judged: Judged, most: int) -> list[tuple[int, int, int]]:
    """The `most` frequent mistakes: (label, answer, how often), in order, of equals by label."""
    counts = confusion(judged)
    np.fill_diagonal(counts, 0)
    pairs = np.argwhere(counts)
    order = np.argsort(-counts[tuple(pairs.T)], kind="stable")[:most]
    return [(int(i), int(j), int(counts[i, j])) for i, j in pairs[order]]


def mistakes(judged: Judged, most: int) -> np.ndarray:
    """Places of the misclassified images, the surest of its answer first, at most `most` of them."""
    given = answers(judged)
    wrong = np.flatnonzero((given != NONE) & (given != judged.y))
    sure = judged.probabilities[wrong, given[wrong]]
    return wrong[np.argsort(-sure, kind="stable")[:most]]
