"""Parameters and multiply-adds of many architectures at once, in closed form.

A layer's size depends on few decisions: those that lead to it and those that choose its widths. So it
is a small table over them. Tables over the same decisions are added up once for a network, and the size
of an architecture is a sum of a few look-ups.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from jaxnas.nn.survey import Site, Survey
from jaxnas.nn.width import Width


@dataclass(frozen=True)
class Sizes:
    """A network's sizes: `tables[decisions]` is `int64[2, choices, choices, ...]`.

    The first axis is parameters and multiply-adds, the others run over the decisions' choices.
    """

    tables: dict[tuple[int, ...], np.ndarray]

    @classmethod
    def of(cls, survey: Survey) -> "Sizes":
        """The sizes of a network whose decisions have numbers."""
        choices = {int(d): len(names) for d, names in survey.decisions.items()}
        tables: dict[tuple[int, ...], np.ndarray] = {}
        seen: dict[int, list[Site]] = {}
        for site in survey.sites:
            params, macs = _table(site, choices, seen.setdefault(id(site.layer), []))
            seen[id(site.layer)].append(site)
            key = _decisions(site)
            zero = np.zeros((2, *(choices[d] for d in key)), np.int64)
            tables[key] = tables.get(key, zero) + np.stack([params, macs])
        return cls(_merged(tables))

    @property
    def largest(self) -> int:
        """Parameters, were every table to have its largest choice."""
        return int(sum(table[0].max() for table in self.tables.values()))

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Parameters and multiply-adds of `rows: int[N, P]`, `int64[N]` each."""
        rows = np.asarray(rows)
        total = np.zeros((2, len(rows)), np.int64)
        for decisions, table in self.tables.items():
            shape = table.shape[1:]
            place = np.zeros(len(rows), np.int64)
            for decision, n in zip(decisions, shape, strict=True):
                place = place * n + rows[:, decision]
            flat = table.reshape(2, -1)
            total[0] += flat[0][place]
            total[1] += flat[1][place]
        return total[0], total[1]


def _decisions(site: Site) -> tuple[int, ...]:
    widths = [w.decision for w in (site.x.channels, site.y.channels) if isinstance(w, Width)]
    return tuple(sorted({int(d) for d in (*widths, *(d for d, _ in site.conditions))}))


def _table(
    site: Site, choices: dict[int, int], before: Iterable[Site]
) -> tuple[np.ndarray, np.ndarray]:
    """The layer's size for each combination of the decisions it depends on."""
    key = _decisions(site)
    shape = tuple(choices[d] for d in key)
    grid = dict(zip(key, np.indices(shape, sparse=True), strict=True))
    met = np.ones(shape, bool)
    for decision, k in site.conditions:
        met = met & (grid[int(decision)] == k)

    def channels(width: int | Width) -> np.ndarray:
        if isinstance(width, Width):
            return np.asarray(width.values)[grid[int(width.decision)]]
        return np.asarray(width)

    positions = math.prod(site.y.shape[1:-1])
    params, macs = site.layer.count(channels(site.x.channels), channels(site.y.channels), positions)
    # A layer that is used twice in the same architectures has its parameters once.
    again = any(set(other.conditions) <= set(site.conditions) for other in before)
    return met * (0 if again else params), met * macs


def _merged(tables: dict[tuple[int, ...], np.ndarray]) -> dict[tuple[int, ...], np.ndarray]:
    """Smaller tables added into larger ones over the same decisions, where there are any."""
    merged: dict[tuple[int, ...], np.ndarray] = {}
    for key in sorted(tables, key=len, reverse=True):
        home = next((k for k in merged if set(key) <= set(k)), None)
        if home is None:
            merged[key] = tables[key]
        else:
            shape = [
                n if d in key else 1 for d, n in zip(home, merged[home].shape[1:], strict=True)
            ]
            merged[home] = merged[home] + tables[key].reshape(2, *shape)
    return merged
