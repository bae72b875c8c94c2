"""What joint runs and stages one after another cost, in multiply-adds."""

import argparse
from typing import Any, NamedTuple

import numpy as np

from jaxnas.cost import STEP_FORWARDS
from jaxnas.data.dataset import Dataset
from jaxnas.joint import JointEpoch, Settings
from jaxnas.network import Network
from jaxnas.spaces import SearchSpace
from jaxnas.training.population import TrainingData

LOOKING_AHEAD = 10
"""Multiply-adds of a joint step over those of a forward pass; a training step's are `STEP_FORWARDS`.

A gradient is two passes; a joint step has two gradients, and between them the product with second
derivatives: of each convolution's two gradients two more each.
"""
DRAWN = 1000
"""Paths whose mean stands for what an epoch draws."""


class Task(NamedTuple):
    """What both methods are given."""

    args: argparse.Namespace
    space: SearchSpace
    network: Network
    data: Dataset
    images: TrainingData


def affordable(task: Task, settings: Settings, staged: dict[str, Any]) -> int:
    """The most epochs that cost no more than the stages, at least 1.

    Paths are taken for as large as the mean of the space while they are drawn, then for as large as
    what the stages found.
    """
    even = np.zeros((len(task.network.survey.decisions), 0))
    mean, macs = mean_macs(task, even, 0), staged["macs"]

    def cost(epochs: int) -> float:
        searched, tuned = settings.phases(epochs)
        joint = LOOKING_AHEAD * (searched * mean + (tuned - searched) * macs)
        return (joint + STEP_FORWARDS * (epochs - tuned) * macs) * len(task.images.x)

    epochs = 1
    while cost(epochs + 1) <= staged["multiply_adds"]:
        epochs += 1
    return epochs


def spent(task: Task, record: JointEpoch, seed: int) -> float:
    """Multiply-adds of an epoch, about: of drawn paths the mean over as many draws."""
    if record.phase == "search":
        macs = mean_macs(task, record.probabilities, seed)
    else:
        macs = float(task.network.count(task.space.rows(record.arch[None])).macs[0])
    passes = STEP_FORWARDS if record.phase == "settled" else LOOKING_AHEAD
    return passes * macs * len(task.images.x)


def mean_macs(task: Task, probabilities: np.ndarray, seed: int) -> float:
    """Of paths drawn by `probabilities: float[P, K]`; without branches (K = 0): evenly."""
    rng, rows = np.random.default_rng(seed), []
    for decision, names in sorted(task.network.survey.decisions.items()):
        p = np.asarray(probabilities[int(decision)][: len(names)], np.float64)
        p = p / p.sum() if p.size else None
        rows.append(rng.choice(len(names), DRAWN, p=p))
    return float(task.network.count(np.stack(rows, axis=1).astype(np.int32)).macs.mean())
