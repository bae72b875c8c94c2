"""What a run did: who copied whom when, with which hyper-parameters; the best member's line, replayed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from jaxnas.errors import InputError
from jaxnas.hpo.space import Space
from jaxnas.hpo.tuner import Job, Segment, Tuner


class Event(NamedTuple):
    """A segment and what came of it: `Segment`'s fields, and `fitness: float64[N]`."""

    copy: np.ndarray
    hyper: np.ndarray
    which: np.ndarray
    units: int
    fitness: np.ndarray


class Step(NamedTuple):
    """One segment of a member's line: `units` with the hyper-parameters `hyper: float64[P]`.

    `member` is where it lived, `event` the segment's place in the run, `fitness` what it had at the end.
    """

    event: int
    member: int
    units: int
    hyper: np.ndarray
    fitness: float


@dataclass(frozen=True, eq=False)
class Schedule:
    """All segments of a run, in order.

    Raises:
        InputError: there are none with a trained member, asked for the best.
    """

    space: Space
    events: tuple[Event, ...]

    @cached_property
    def best(self) -> tuple[int, int]:
        """Event and member of the highest fitness, the first of equals."""
        found, most = None, -np.inf
        for i, event in enumerate(self.events):
            fitness = np.where(np.isnan(event.fitness), -np.inf, event.fitness)
            member = int(np.argmax(fitness))
            if fitness[member] > most:
                found, most = (i, member), fitness[member]
        if found is None:
            raise InputError(
                "No member has a fitness: nothing was trained, or everything diverged."
            )
        return found

    def lineage(self, event: int | None = None, member: int | None = None) -> tuple[Step, ...]:
        """How a member's weights came about, first step first; the best member's by default.

        From its last segment backwards: a member that copied goes back to whom it copied, up to where
        it began anew.
        """
        at, who = self.best if event is None or member is None else (event, member)
        steps = []
        while at >= 0 and who >= 0:
            now = self.events[at]
            if now.which[who]:
                steps.append(Step(at, who, now.units, now.hyper[who], float(now.fitness[who])))
            who = int(now.copy[who])
            at -= 1
        return tuple(reversed(steps))

    def rows(self) -> np.ndarray:
        """The best line's hyper-parameters unit by unit, `float64[units, P]`."""
        return unit_rows(self.lineage())

    def values(self) -> dict[str, np.ndarray]:
        """The best line's values unit by unit, `float32[units]` by name, as programs read them."""
        return self.space.values(self.rows())

    def copies(self) -> list[tuple[int, int, int]]:
        """Who copied whom: (event, member, whose weights), members that began anew left out."""
        return [
            (i, member, int(event.copy[member]))
            for i, event in enumerate(self.events)
            for member in range(len(event.copy))
            if event.copy[member] not in (-1, member)
        ]

    @property
    def spent(self) -> int:
        """Candidate-units."""
        return sum(int(e.which.sum()) * e.units for e in self.events)

    def to_json(self) -> str:
        """One document, exact: floats are written as Python does, NaN as null."""
        return json.dumps(
            {
                "names": self.space.names,
                "space": self.space.identity(),
                "events": [
                    {
                        "copy": event.copy.tolist(),
                        "hyper": event.hyper.tolist(),
                        "which": event.which.tolist(),
                        "units": int(event.units),
                        "fitness": [_plain(v) for v in event.fitness.tolist()],
                    }
                    for event in self.events
                ],
            },
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str, space: Space) -> "Schedule":
        """What `to_json` wrote.

        Raises:
            InputError: it is no such document, or of another space.
        """
        try:
            parts = json.loads(text)
            if parts["space"] != space.identity():
                raise InputError(
                    f"The schedule is of another space, of {', '.join(parts['names'])}; "
                    f"expected {', '.join(space.names)} with the same ranges."
                )
            events = tuple(_event(e, space) for e in parts["events"])
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"This is not a schedule as jaxnas writes it: {error!r}.") from None
        return cls(space, events)

    def save(self, path: str | Path) -> None:
        """Write `to_json()` to a file."""
        Path(path).write_text(self.to_json())

    @classmethod
    def load(cls, path: str | Path, space: Space) -> "Schedule":
        """Read a file that `save` wrote.

        Raises:
            InputError: it cannot be read, or is not of this space.
        """
        try:
            text = Path(path).read_text()
        except OSError as error:
            raise InputError(f"Cannot read the schedule {path}: {error.strerror}.") from None
        return cls.from_json(text, space)


def unit_rows(steps: Sequence[Step]) -> np.ndarray:
    """The rows of a line unit by unit, `float64[units, P]`."""
    return np.concatenate([np.repeat(s.hyper[None], s.units, axis=0) for s in steps])


def _plain(value: float) -> float | str | None:
    if np.isnan(value):
        return None
    return value if np.isfinite(value) else repr(value)


def _event(parts: dict[str, Any], space: Space) -> Event:
    fitness = [np.nan if v is None else float(v) for v in parts["fitness"]]
    return Event(
        np.array(parts["copy"], np.int32),
        np.array(parts["hyper"], float).reshape(len(fitness), space.dimensions),
        np.array(parts["which"], bool),
        int(parts["units"]),
        np.array(fitness, float),
    )


class ReplayState(NamedTuple):
    """How many segments are behind."""

    job: Job
    told: np.ndarray


@dataclass(frozen=True, eq=False)
class Replay(Tuner):
    """All members follow one line's hyper-parameters from the start, with seeds of their own.

    Args:
        steps: the line, `Schedule.lineage()`. Where a full training is longer or shorter than it, it is
            stretched: of U units in place of the line's u, unit i is trained as unit floor(i u / U).
    """

    name: ClassVar[str] = "replay"
    paper: ClassVar[str] = (
        "Jaderberg et al., Population Based Training of Neural Networks, arXiv:1711.09846, section 4.4"
    )
    steps: tuple[Step, ...] = ()

    def init(
        self,
        space: Space,
        n: int,
        units: int,
        key: jax.Array,
        *,
        first: np.ndarray | None = None,
    ) -> ReplayState:
        """Nothing was trained; key and `first` are not used.

        Raises:
            InputError: there is no line.
        """
        if not self.steps:
            raise InputError(
                "There is no line to replay; expected the steps of a schedule's lineage."
            )
        return ReplayState(Job(space, n, units), np.zeros((), np.int64))

    def ask(self, state: ReplayState) -> Segment | None:
        """The next stretch of units with the same hyper-parameters."""
        job, told = state.job, int(state.told)
        line = unit_rows(self.steps)
        rows = line[np.arange(job.units) * len(line) // job.units]
        changes = 1 + np.flatnonzero((rows[1:] != rows[:-1]).any(axis=1))
        starts = [0, *changes.tolist(), job.units]
        if told >= len(starts) - 1:
            return None
        return Segment(
            np.arange(job.n, dtype=np.int32) if told else np.full(job.n, -1, np.int32),
            np.repeat(rows[starts[told]][None], job.n, axis=0),
            np.ones(job.n, bool),
            starts[told + 1] - starts[told],
        )

    def tell(self, state: ReplayState, fitness: np.ndarray) -> ReplayState:
        """One more segment is behind."""
        return state._replace(told=state.told + 1)
