"""Whose weights went where: what a tuner's members did, as a family tree."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jaxnas.report.model import TunedMember

NOBODY = -1


@dataclass(frozen=True)
class Copy:
    """Weights that were copied: places in the list of trials.

    Attributes:
        by: what was trained with them.
        source: what had trained them.
        given_up: what the member had done before, whose weights it gave up; `NOBODY`: not known.
    """

    by: int
    source: int
    given_up: int


def end(trial: TunedMember) -> int:
    """Units that lay behind it afterwards."""
    return trial.start + trial.units


def parents(trials: Sequence[TunedMember]) -> list[int]:
    """For each trial the one whose weights it went on from, by its place; `NOBODY`: it began anew.

    Trials are in the order of a tuner's segments, and of the members within each.
    """
    behind: dict[tuple[int, int], list[int]] = {}
    found, first = [], 0
    for k, t in enumerate(trials):
        if k and t.member <= trials[k - 1].member:
            first = k  # of a segment
        source = t.member if t.copied < 0 else t.copied
        found.append(_latest(behind.get((source, t.start), []), first) if t.start else NOBODY)
        behind.setdefault((t.member, end(t)), []).append(k)
    return found


def _latest(places: Sequence[int], first: int) -> int:
    """The last place before the segment that begins at `first`, else the last of all."""
    earlier = [i for i in places if i < first]
    return max(earlier or places, default=NOBODY)


def copies(trials: Sequence[TunedMember]) -> list[Copy]:
    """Who copied whom, in order; those whose source is not known are left out."""
    latest: dict[int, int] = {}
    found = []
    for k, (t, parent) in enumerate(zip(trials, parents(trials), strict=True)):
        if t.copied >= 0 and parent != NOBODY:
            found.append(Copy(k, parent, latest.get(t.member, NOBODY)))
        latest[t.member] = k
    return found


def best(trials: Sequence[TunedMember]) -> int:
    """The place of the highest fitness, the first of equals; `NOBODY`: all diverged."""
    fitness = [t.fitness if math.isfinite(t.fitness) else -math.inf for t in trials]
    most = max(fitness, default=-math.inf)
    return fitness.index(most) if most > -math.inf else NOBODY


def line(trials: Sequence[TunedMember]) -> list[int]:
    """How the best weights came about: places from where they began anew to the highest fitness."""
    found, k, before = [], best(trials), parents(trials)
    while k != NOBODY:
        found.append(k)
        k = before[k]
    return found[::-1]


@dataclass(frozen=True)
class Stretch:
    """Units `first` to `last`, from 1, over which no hyper-parameter changed."""

    first: int
    last: int
    values: Mapping[str, float]


def stretches(tuned: Mapping[str, Sequence[float]]) -> list[Stretch]:
    """A schedule `[units]` by name, cut where a value changes."""
    if not tuned:
        return []
    rows = np.stack([np.asarray(v, float) for v in tuned.values()], axis=1)
    same = (rows[1:] == rows[:-1]) | (np.isnan(rows[1:]) & np.isnan(rows[:-1]))
    starts = [0, *(1 + np.flatnonzero(~same.all(axis=1))).tolist()]
    ends = [*starts[1:], len(rows)]
    return [
        Stretch(a + 1, b, dict(zip(tuned, rows[a].tolist(), strict=True)))
        for a, b in zip(starts, ends, strict=True)
    ]
