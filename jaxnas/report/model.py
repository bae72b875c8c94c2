"""What a report is written from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from jaxnas.errors import InputError
from jaxnas.graph import CellGraph

DEVIATION = "_std"
"""What the name of the column ends in that holds the deviation of a proxy's score over repeats."""


def score_columns(ranking: pd.DataFrame) -> dict[str, str | None]:
    """The proxies' columns, each with that of its deviation; None where all repeats agree."""
    fixed = ("index", "arch", "rank", "score")
    numbers = [str(c) for c in ranking.select_dtypes("number").columns if c not in fixed]
    deviations = {f"{c}{DEVIATION}" for c in numbers} & set(numbers)
    varying = {c for c in deviations if np.any(ranking[c].to_numpy(float) > 0)}
    return {
        c: f"{c}{DEVIATION}" if f"{c}{DEVIATION}" in varying else None
        for c in numbers
        if c not in deviations
    }


ROLES = ("winner", "candidate", "largest", "random")


@dataclass(frozen=True)
class TrainedCandidate:
    """One training: an architecture, why it was trained, its cost and its curves.

    Attributes:
        arch: the architecture in its space's notation.
        role: one of `ROLES`. "winner" is the pick, "largest" and "random" are baselines.
        params: number of weights.
        macs: multiply-adds of one image.
        seconds: what its training cost.
        epochs: epochs at which the two curves were taken, increasing.
        train_loss: mean training loss, one for each of `epochs`.
        val_accuracy: validation accuracy in [0, 1], one for each of `epochs`.
        diverged: whether training ended in numbers that are not finite.
        stopped: whether it was trained for less than a full training, others longer (successive halving).
        costs: params, macs and, where known, latency (milliseconds of one image) of the network that the
            run ends with, which may be larger than the one that was trained.

    Raises:
        InputError: unknown role, or curves and epochs of different lengths.
    """

    arch: str
    role: str
    params: int
    macs: int
    seconds: float
    epochs: tuple[int, ...]
    train_loss: tuple[float, ...]
    val_accuracy: tuple[float, ...]
    diverged: bool = False
    stopped: bool = False
    costs: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InputError(f"Role {self.role!r} of a trained candidate is none of {ROLES}.")
        if not len(self.epochs) == len(self.train_loss) == len(self.val_accuracy):
            raise InputError(
                f"A trained candidate has {len(self.epochs)} epochs, {len(self.train_loss)} losses "
                f"and {len(self.val_accuracy)} accuracies; they must be as many."
            )

    @property
    def best_val_accuracy(self) -> float:
        """The best finite validation accuracy, NaN without one."""
        return max(filter(math.isfinite, self.val_accuracy), default=math.nan)


@dataclass(frozen=True)
class Decision:
    """One training that a search strategy asked for.

    Attributes:
        arch: the architecture in its space's notation.
        batch: in which batch, from 1.
        epochs: how long it was trained.
        place: its place in the label-free ranking of those that the strategy chose from, from 1.
        expected: the fitness that the strategy's predictor expected beforehand; NaN: it has none.
        deviation: the standard deviation it gave.
        reached: the fitness that came of it; NaN: the training failed.
    """

    arch: str
    batch: int
    epochs: int
    place: int
    expected: float
    deviation: float
    reached: float


@dataclass(frozen=True)
class TunedMember:
    """What one member of a tuner's population did in one segment.

    Attributes:
        member: its number.
        start: units (epochs) that lay behind it.
        units: how long it was trained.
        copied: whose weights it began with; -1: its own, or fresh ones.
        values: the hyper-parameters, by name.
        fitness: what it reached; NaN: it diverged.
    """

    member: int
    start: int
    units: int
    copied: int
    values: Mapping[str, float]
    fitness: float


@dataclass(frozen=True)
class ComparedPolicy:
    """One way to augment images: its name, the validation metric by epoch, whether it was chosen."""

    name: str
    val_metric: tuple[float, ...]
    chosen: bool


@dataclass(frozen=True, eq=False)
class Judged:
    """What the finished network says of test images.

    Attributes:
        probabilities: `[n, classes]`.
        y: labels, `[n]`.
        class_names: K names.
        images: as they are stored, `[n, H, W, C]`.
        places: their places in the split, `[n]`; None: they are all of it.
        total: images of the split, where these are drawn from them.
        split: what they are, "test" or "validation".
    """

    probabilities: np.ndarray
    y: np.ndarray
    class_names: tuple[str, ...]
    images: np.ndarray
    places: np.ndarray | None = None
    total: int = 0
    split: str = "test"


@dataclass(frozen=True, eq=False)
class Augmented:
    """Some training images, and what the policy that was chosen makes of them.

    Attributes:
        images: `uint8[n, H, W, C]`.
        made: `uint8[n, k, H, W, C]`, k draws of each.
        policy: the policy's name.
    """

    images: np.ndarray
    made: np.ndarray
    policy: str


@dataclass(frozen=True)
class ReportData:
    """All that `report.html` shows.

    Attributes:
        title: the page's heading.
        result: the contents of `result.json`: arch, val_accuracy, test_accuracy, params, macs,
            seconds (stage -> {"run": s, "compile": s}), multiply_adds (stage -> those of its training
            steps), seed, versions, device, config, command. Keys that a run did not produce are absent.
        ranking: columns `index`, `arch`, one per proxy, `score` and `rank` (1 is best).
        graphs: `(caption, graph)` of the winner's cells.
        trained: empty when only the rank stage ran.
        notes: sentences to put before the user's eyes.
        curves: what a super-net's training reported, a value an epoch, by name.
        decisions: what a strategy asked for, in order.
        limits: the most that the winner may cost, by the names that candidates' costs go by.
        trials: what a tuner's members did, segment by segment.
        tuned: the hyper-parameters that were found, unit by unit, by name.
        policies: the ways to augment images that were compared.
        augmented: examples of the chosen one.
        judged: what the finished network says of the test images, or of a sample of them.
        metric: what networks were compared by.

    Raises:
        InputError: `ranking` lacks a column.
    """

    title: str
    result: dict[str, Any]
    ranking: pd.DataFrame
    graphs: tuple[tuple[str, CellGraph], ...]
    trained: tuple[TrainedCandidate, ...]
    notes: tuple[str, ...] = ()
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    decisions: tuple[Decision, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    trials: tuple[TunedMember, ...] = ()
    tuned: Mapping[str, Sequence[float]] = field(default_factory=dict)
    policies: tuple[ComparedPolicy, ...] = ()
    augmented: Augmented | None = None
    judged: Judged | None = None
    metric: str = "accuracy"

    def __post_init__(self) -> None:
        missing = [c for c in ("index", "arch", "score", "rank") if c not in self.ranking.columns]
        if missing:
            raise InputError(f"The ranking has no column {', '.join(missing)}.")

    @property
    def budget(self) -> int:
        """Epochs of the common budget: the longest training of a candidate.

        Without a candidate, the longest of all trainings; 0 without any.
        """
        candidates = [c for c in self.trained if c.role == "candidate"] or self.trained
        return max((c.epochs[-1] for c in candidates if c.epochs), default=0)

    def at_budget(self) -> tuple[TrainedCandidate, ...]:
        """The trainings within the common budget, which may be compared with one another."""
        return tuple(c for c in self.trained if not c.epochs or c.epochs[-1] <= self.budget)

    def beyond_budget(self) -> tuple[TrainedCandidate, ...]:
        """The longer trainings, such as the winner's to the end."""
        return tuple(c for c in self.trained if c.epochs and c.epochs[-1] > self.budget)

    def role(self, candidate: TrainedCandidate) -> str:
        """Its role, where the candidate that was picked counts as the winner."""
        picked = candidate.role == "candidate" and candidate.arch == self.result.get("arch")
        return "winner" if picked else candidate.role
