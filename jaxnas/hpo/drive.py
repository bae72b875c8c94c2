"""The loop that brings a tuner and a population together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxnas.errors import InputError
from jaxnas.hpo.schedule import Event, Schedule
from jaxnas.hpo.space import Space
from jaxnas.hpo.tuner import Segment, Trials, Tuner, checked_fitness


@dataclass(frozen=True, eq=False)
class Done:
    """One segment that was trained, as `on_segment` hears of it.

    `index` counts segments from 0; `state` is the population after it, used up by the segment that
    follows; `fitness: float64[N]` is NaN for members that were not trained or diverged; `spent` counts
    candidate-units so far.
    """

    index: int
    segment: Segment
    fitness: np.ndarray
    state: Any
    spent: int


@dataclass(frozen=True, eq=False)
class Result:
    """What came of a run.

    `schedule` holds all segments, and with them the best member's line; `population` the state of the
    trials after the last one; `tuner_state` the tuner's; `spent` the candidate-units trained.
    """

    schedule: Schedule
    population: Any
    tuner_state: Any
    spent: int

    @property
    def best(self) -> dict[str, Any]:
        """The active values of the fittest member, at its last segment."""
        event, member = self.schedule.best
        return self.schedule.space.configurations(
            self.schedule.events[event].hyper[member : member + 1]
        )[0]

    @property
    def fitness(self) -> float:
        """The highest fitness that was told."""
        event, member = self.schedule.best
        return float(self.schedule.events[event].fitness[member])


def member_seeds(seed: int, index: int, n: int) -> np.ndarray:
    """`uint32[n]`: the seeds of members that begin anew in segment `index`."""
    return np.random.SeedSequence([seed, index]).generate_state(n)


def run(
    tuner: Tuner,
    trials: Trials,
    space: Space,
    *,
    n: int,
    units: int,
    budget: int,
    seed: int = 0,
    first: np.ndarray | None = None,
    told: Sequence[np.ndarray] | None = None,
    asked: Sequence[np.ndarray] | None = None,
    population: Any = None,
    on_segment: Callable[[Done], None] = lambda done: None,
) -> Result:
    """Train segment after segment until the budget is spent or the tuner has nothing more to ask.

    Of a segment that costs more than is left only the first members that it pays for are trained, and
    it is the last.

    Args:
        tuner: who decides.
        trials: the population.
        space: what is tuned.
        n: members of the population.
        units: a full training of one member.
        budget: candidate-units, trained members times the units that each is trained for.
        seed: of the tuner and of the members.
        first: rows to begin with.
        told: fitness of segments that are behind already, from a journal; None: what the tuner itself
            has kept of an interrupted run, nothing for most.
        asked: the rows `float64[N, P]` that those segments had, where they were kept too.
        population: the state of the trials after them; None: the segments in `told` are trained again,
            unless every segment of the tuner begins anew.
        on_segment: hears of each segment, not of those in `told`.

    Raises:
        InputError: a budget of less than one unit, a journal longer than the run, or one of other
            rows than the tuner asks for now.
    """
    if budget < 1:
        raise InputError(f"The budget is {budget} candidate-units, expected at least 1.")
    state = tuner.init(space, n, units, jax.random.key(seed), first=first)
    behind = list(tuner.told_before(state) if told is None else told)
    again = population is None and not tuner.fresh
    trained = population
    events: list[Event] = []
    spent, index = 0, 0
    while spent < budget and (wanted := tuner.ask(state)) is not None:
        if wanted.cost < 1:
            raise InputError(f"The tuner {tuner.name} asks for a segment that trains nobody.")
        segment = affordable(wanted, budget - spent)
        if segment is None:
            break
        known = index < len(behind)
        if asked is not None and index < len(asked):
            _check_rows(index, segment.hyper, asked[index])
        if not known or again:
            trained = _trained(trials, trained, segment, space, member_seeds(seed, index, n))
        fitness = checked_fitness(segment, behind[index] if known else trials.evaluate(trained))
        spent += segment.cost
        events.append(Event(segment.copy, segment.hyper, segment.which, segment.units, fitness))
        if not known:
            on_segment(Done(index, segment, fitness, trained, spent))
        if segment is not wanted:
            tuner.record(state, segment, fitness)
            break
        state = tuner.tell(state, fitness)
        index += 1
    if len(behind) > len(events):
        raise InputError(
            f"The journal has {len(behind)} segments, of which the budget pays for {len(events)}."
        )
    return Result(Schedule(space, tuple(events)), trained, state, spent)


def _check_rows(index: int, now: np.ndarray, then: np.ndarray) -> None:
    if now.shape != then.shape or not np.allclose(now, then, atol=1e-6, equal_nan=True):
        raise InputError(
            f"Segment {index + 1} of the journal trained other hyper-parameters than the tuner asks for "
            "now; its space, its study or its version has changed since."
        )


def affordable(segment: Segment, left: int) -> Segment | None:
    """The segment with as many members, the first, as `left` candidate-units pay for; None: nobody."""
    if segment.cost <= left:
        return segment
    members = np.flatnonzero(segment.which)[: left // segment.units]
    if not len(members):
        return None
    return segment._replace(which=np.isin(np.arange(len(segment.which)), members))


def _trained(trials: Trials, state: Any, segment: Segment, space: Space, seeds: np.ndarray) -> Any:
    if state is None:
        state = trials.init(seeds)
    elif (segment.copy != np.arange(len(segment.copy))).any():
        state = trials.gather(state, segment.copy, seeds)
    return trials.train(state, space.values(segment.hyper), segment.which, segment.units)
