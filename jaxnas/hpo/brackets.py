"""Brackets one after another: the synchronous tuners. Their arithmetic is that of `jaxnas.strategies`."""

import abc
from dataclasses import dataclass

import numpy as np

from jaxnas.hpo.rungs import Rungs, RungState, Wanted, best_first
from jaxnas.strategies.brackets import Bracket


@dataclass(frozen=True)
class Brackets(Rungs):
    """A plan of brackets, over and over: a rung is full before its best are trained on."""

    @abc.abstractmethod
    def plan(self, state: RungState) -> tuple[Bracket, ...]:
        """The brackets of one round, in order."""

    def wanted(self, state: RungState) -> Wanted:
        """The next of the bracket that is under way, or of the one after it."""
        plan = self.plan(state)
        under_way = int(state.bracket[-1]) if len(state.bracket) else 0
        found = self.within(state, under_way, plan[under_way % len(plan)])
        if found is None:
            bracket = plan[(under_way + 1) % len(plan)]
            return Wanted(bracket.first, _NOBODY, bracket.counts[0], under_way + 1)
        return found

    def within(self, state: RungState, number: int, bracket: Bracket) -> Wanted | None:
        """Who of bracket `number` is trained next; None: it is over. Who diverged is not promoted."""
        trials = np.flatnonzero(state.bracket == number)
        if missing := bracket.counts[0] - len(trials):
            return Wanted(bracket.first, _NOBODY, missing, number)
        for i, count in enumerate(bracket.counts[1:], start=1):
            rung = bracket.first + i
            chosen = best_first(trials, state.merits[trials, rung - 1])[:count]
            waiting = chosen[np.isnan(state.merits[chosen, rung])]
            if len(waiting):
                return Wanted(rung, waiting, bracket=number)
            trials = chosen
        return None


_NOBODY = np.zeros(0, np.int64)
