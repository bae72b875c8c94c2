"""A pool as strategies move about in it: who is near whom, and which member given decisions mean.

A member's neighbours are those that differ from it in one decision (members that a changed row equals, or
else equals once unreachable decisions are set to 0). A pool that is a sample has few of them: a member
with fewer than `FEW` gets the nearest others, by the number of decisions that differ, in their place.
"""

from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from jaxnas.spaces import ENUMERABLE, SearchSpace
from jaxnas.strategy import Task

FEW = 4
"""So many neighbours are enough to search by."""
NEAREST = 8
"""So many nearest members stand in where there are fewer."""
_BLOCK = 2**22


class Members(NamedTuple):
    """The pool as arrays, N members of D decisions.

    `archs: int32[N, D]`; `choices: int32[D]`; `classes: int32[N]`, equal where members compute the same
    function; `neighbours: int32[N, M]`, -1 behind the last; `chances: float32[N, M]`, cumulative: a
    decision is drawn uniformly, then one of its other choices; `row_of: int32[K]`, the member of each
    row's mixed-radix code, exact or the nearest; empty where there are too many codes.
    """

    archs: np.ndarray
    choices: np.ndarray
    classes: np.ndarray
    neighbours: np.ndarray
    chances: np.ndarray
    row_of: np.ndarray

    @property
    def kinds(self) -> int:
        """How many classes there are."""
        return int(self.classes.max()) + 1


_KNOWN: "WeakKeyDictionary[Task, Members]" = WeakKeyDictionary()


def members(task: Task) -> Members:
    """The members of a task's pool, computed once a task."""
    if task not in _KNOWN:
        _KNOWN[task] = _members(task.pool.space, np.asarray(task.pool.archs, np.int32))
    return _KNOWN[task]


def _members(space: SearchSpace, archs: np.ndarray) -> Members:
    canonical = space.canonical(archs)
    classes = np.unique(canonical, axis=0, return_inverse=True)[1].reshape(-1)
    lookup = _Lookup(space, archs)
    neighbours, chances = _neighbours(space, archs, lookup)
    return Members(
        archs,
        space.choices.astype(np.int32),
        classes.astype(np.int32),
        neighbours,
        chances,
        lookup.every(space, archs),
    )


class _Lookup:
    """From rows to members: by a number each row has, its mixed-radix code or a hash of 64 bits."""

    def __init__(self, space: SearchSpace, archs: np.ndarray) -> None:
        self.space, self.archs = space, archs
        radix = np.cumprod([1, *reversed(space.choices.tolist()[1:])])[::-1].tolist()
        if float(np.prod(space.choices.astype(float))) < 2.0**62:
            self.weights = np.array(radix, np.uint64)
        else:
            drawn = np.random.default_rng(0).integers(0, 2**63, archs.shape[1], np.uint64)
            self.weights = 2 * drawn + np.uint64(1)
        codes = self.codes(archs)
        self.order = np.argsort(codes, kind="stable")
        self.sorted = codes[self.order]

    def codes(self, rows: np.ndarray) -> np.ndarray:
        """`uint64[n]`; a hash wraps around."""
        return (rows.astype(np.uint64) * self.weights).sum(axis=1, dtype=np.uint64)

    def places(self, rows: np.ndarray) -> np.ndarray:
        """The first member equal to each row, or to it pruned; -1: none, or no row of the space."""
        found = self._exact(rows)
        absent = np.flatnonzero(found < 0)
        absent = absent[self.space.valid(rows[absent])]
        found[absent] = self._exact(self.space.pruned(rows[absent]))
        return found

    def every(self, space: SearchSpace, archs: np.ndarray) -> np.ndarray:
        """The member of each mixed-radix code: the nearest where none is equal."""
        total = float(np.prod(space.choices.astype(float)))
        if total > ENUMERABLE:
            return np.zeros(0, np.int32)
        every = np.stack(np.unravel_index(np.arange(int(total)), tuple(space.choices)), axis=1)
        found = self.places(every)
        absent = np.flatnonzero(found < 0)
        if len(absent) * len(archs) > 2**32:
            return np.zeros(0, np.int32)
        found[absent] = _nearest(every[absent], archs, 1)[:, 0]
        return found.astype(np.int32)

    def _exact(self, rows: np.ndarray) -> np.ndarray:
        place = np.searchsorted(self.sorted, self.codes(rows))
        member = self.order[np.minimum(place, len(self.order) - 1)]
        return np.where((self.archs[member] == rows).all(axis=1), member, -1)


def _neighbours(
    space: SearchSpace, archs: np.ndarray, lookup: _Lookup
) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours and cumulative chances, as `Members` has them."""
    found, decisions = [], []
    for d, choices in enumerate(space.choices.tolist()):
        for choice in range(choices):
            rows = archs.copy()
            rows[:, d] = choice
            places = lookup.places(rows)
            # A change that prunes back to the member itself, or to none, leads nowhere.
            places[(archs[:, d] == choice) | (places == np.arange(len(archs)))] = -1
            found.append(places)
            decisions.append(d)
    table, of = np.stack(found, axis=1), np.array(decisions)
    counts = np.stack([(table[:, of == d] >= 0).sum(1) for d in range(len(space.choices))], axis=1)
    with np.errstate(divide="ignore"):
        weights = np.where(table >= 0, (1 / counts)[:, of], 0.0)
    few = np.flatnonzero((table >= 0).sum(axis=1) < min(FEW, len(archs) - 1))
    width = min(NEAREST, len(archs) - 1, table.shape[1])
    if len(few) and width:
        table[few], weights[few] = -1, 0.0
        near = _nearest(archs[few], archs, width + 1)
        others = near != few[:, None]
        others[others.all(axis=1), -1] = (
            False  # equal members may have crowded out the member itself
        )
        table[few, :width] = near[others].reshape(len(few), width)
        weights[few, :width] = 1.0
    order = np.argsort(table < 0, axis=1, kind="stable")
    table, weights = (np.take_along_axis(each, order, axis=1) for each in (table, weights))
    widest = max(1, int((table >= 0).sum(axis=1).max()))
    table, weights = table[:, :widest], weights[:, :widest]
    total = weights.cumsum(axis=1)
    chances = total / np.maximum(total[:, -1:], 1e-30)
    return table.astype(np.int32), chances.astype(np.float32)


def _nearest(rows: np.ndarray, archs: np.ndarray, k: int) -> np.ndarray:
    """The k members in which fewest decisions differ from each row, `int64[n, k]`, the first first."""
    found = [np.zeros((0, k), np.int64)]
    step = max(1, _BLOCK // len(archs))
    for first in range(0, len(rows), step):
        block = rows[first : first + step]
        apart = np.zeros((len(block), len(archs)), np.int64)
        for d in range(archs.shape[1]):
            apart += block[:, d, None] != archs[None, :, d]
        keyed = apart * len(archs) + np.arange(len(archs))
        nearest = np.partition(keyed, k - 1, axis=1)[:, :k] if k < len(archs) else keyed
        found.append(np.sort(nearest, axis=1) % len(archs))
    return np.concatenate(found)
