"""Which architectures of a table are evaluated, and what the table says of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jaxnas.benchmarks.tables import Table
from jaxnas.benchmarks.tables.columns import Column
from jaxnas.errors import InputError, unknown
from jaxnas.spaces import SearchSpace

LEAST = 3
"""Architectures without which no correlation says anything."""


@dataclass(frozen=True)
class Population:
    """Architectures `int32[N, D]`, the rows of the table they stand in, and sentences for the user."""

    archs: np.ndarray
    places: np.ndarray
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.archs)


@dataclass(frozen=True)
class Target:
    """A column of the table: what is known of it, and its values `float64[N]`, higher is better.

    NaN where nothing was measured; those architectures are left out for this target.
    """

    column: Column
    values: np.ndarray
    note: str = ""

    @property
    def name(self) -> str:
        """The column's name."""
        return self.column.name

    @property
    def measured(self) -> int:
        """How many architectures have a value."""
        return int((~np.isnan(self.values)).sum())


def choose(
    space: SearchSpace,
    table: Table,
    *,
    asked_space: str,
    subset: str = "all",
    sample: int | None = None,
) -> Population:
    """The architectures of a table that belong to a subset of its space, in the table's order.

    Args:
        space: the search space.
        table: of that space, or of strings in its notation.
        asked_space: the space as it was named.
        subset: a name in `SUBSETS`.
        sample: so many of them, drawn without repetition by a fixed seed.

    Raises:
        InputError: the table is of another space, holds architectures that do not belong to it (how
            many, and one), or one twice; the subset is unknown; the sample is larger than there is.
    """
    if subset not in SUBSETS:
        raise unknown("subset", subset, SUBSETS)
    rows = _rows(space, table, asked_space)
    kept = SUBSETS[subset](space, rows)
    notes = []
    if space.size > len(rows):
        notes.append(
            f"{table.path.name} has {len(rows):,} of the {space.size:,} architectures of "
            f"{space.name}; the other {space.size - len(rows):,} are not evaluated."
        )
    if sample is not None:
        if not LEAST <= sample <= len(kept):
            raise InputError(
                f"The sample is {sample:,}, expected {LEAST} to {len(kept):,}, which is what "
                f"{table.path.name} has of the subset {subset!r}."
            )
        kept = np.sort(np.random.default_rng(0).choice(kept, sample, replace=False))
    if len(kept) < LEAST:
        raise InputError(
            f"{table.path.name} has {len(kept)} architectures of the subset {subset!r}; expected at "
            f"least {LEAST}."
        )
    return Population(rows[kept], kept, tuple(notes))


def targets(table: Table, names: Sequence[str], places: np.ndarray) -> tuple[Target, ...]:
    """The columns of these names at `places` of the table.

    Raises:
        InputError: there is no such column (with the nearest), it is named twice, holds fewer than three
            numbers there, or is constant.
    """
    columns = [table.column(name) for name in names]
    if len({column.name for column in columns}) < len(names):
        raise InputError(f"A target is named twice in {','.join(names)}.")
    found = []
    for column in columns:
        values = table.values(column.name)[places]
        known = values[np.isfinite(values)]
        where = f"Column {column.name} of {table.path.name}"
        if len(known) < LEAST:
            raise InputError(
                f"{where} holds {len(known) or 'no'} numbers for the {len(values):,} architectures "
                f"evaluated, expected at least {LEAST}."
            )
        if known.min() == known.max():
            raise InputError(f"{where} is constant, {known[0]:g}: there is nothing to rank by.")
        target = Target(column, np.where(np.isfinite(values), values, np.nan))
        if len(known) < len(values):
            missing = len(values) - len(known)
            note = f"{where} lacks {missing:,} of {len(values):,} values; they are left out of it."
            target = replace(target, note=note)
        found.append(target)
    return tuple(found)


def _rows(space: SearchSpace, table: Table, asked: str) -> np.ndarray:
    """All architectures of the table, checked against the space, each once."""
    kept = table.metadata.get("space")
    if kept is None:
        rows = _parsed(space, table)
    elif kept in (asked, space.name):
        rows = table.rows
        space.check(rows, table.path.name)
    else:
        raise InputError(f"{table.path.name} is a table of {kept}, expected one of {space.name}.")
    _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    if len(first) < len(rows):
        again = np.setdiff1d(np.arange(len(rows)), first)
        place, before = again[0], first[inverse.reshape(-1)[again[0]]]
        raise InputError(
            f"{len(again):,} of {len(rows):,} rows of {table.path.name} repeat an architecture, for "
            f"example rows {before + 1} and {place + 1}, {table.archs[place]}."
        )
    return rows


def _parsed(space: SearchSpace, table: Table) -> np.ndarray:
    rows, wrong = [], []
    for text in table.archs:
        try:
            rows.append(space.from_string(text))
        except InputError as error:
            wrong.append((text, str(error)))
    if wrong:
        raise InputError(
            f"{len(wrong):,} of {len(table):,} architectures of {table.path.name} do not belong to "
            f"{space.name}, for example {wrong[0][0]!r}: {wrong[0][1]}"
        )
    return np.stack(rows)


def _all(_: SearchSpace, rows: np.ndarray) -> np.ndarray:
    return np.arange(len(rows))


def _unique(space: SearchSpace, rows: np.ndarray) -> np.ndarray:
    """One of each class of equal canonical form: the form itself where it is there, else the first."""
    canonical = space.canonical(rows)
    _, inverse = np.unique(canonical, axis=0, return_inverse=True)
    other = (canonical != rows).any(axis=1)
    order = np.lexsort((np.arange(len(rows)), other, inverse.reshape(-1)))
    first = np.flatnonzero(np.diff(inverse.reshape(-1)[order], prepend=-1))
    return np.sort(order[first])


def _reachable(space: SearchSpace, rows: np.ndarray) -> np.ndarray:
    """Those that removing what does not reach the output leaves as they are."""
    return np.flatnonzero((space.pruned(rows) == rows).all(axis=1))


SUBSETS = {"all": _all, "unique": _unique, "reachable": _reachable}
"""Which rows of `int32[N, D]`, as indices."""
