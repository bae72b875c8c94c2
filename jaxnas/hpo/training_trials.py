"""Networks as trials: members of a population whose hyper-parameters a tuner changes as they train."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import unknown
from jaxnas.network import Network
from jaxnas.training.epoch import Recipe
from jaxnas.training.hyper import Hyper
from jaxnas.training.layout import Layout
from jaxnas.training.population import (
    Options,
    Population,
    TrainingData,
    check,
    final_variables,
    init_population,
    judge,
    trained_on,
)
from jaxnas.training.stream import StreamedData

OPTIONAL = ("dropout", "drop_path", "distortion", "flip", "shift", "cutout", "ema")
"""Hyper-parameters that a program has no part for where all candidates have 0 of them."""


class Progress(NamedTuple):
    """A population under way: `epochs: int32[N]` are behind its members, `losses` what the last one gave.

    `hyper` is what members were trained with last.
    """

    population: Population
    epochs: np.ndarray
    losses: np.ndarray
    hyper: Hyper


@dataclass(frozen=True, eq=False)
class TrainingTrials:
    """N members of one architecture each (`jaxnas.hpo.tuner.Trials`); a unit is an epoch.

    The learning rate's schedule is `epochs` long for each member, counted from where it began anew: who
    copies weights stands where the copied one does. A tuner's values replace the fields of `base` that
    they are called after; `hyper_of(values, base)` may say otherwise.

    Attributes:
        network: every member's.
        rows: `int32[N, P]`, what its choice points read.
        data: on the device or streamed.
        base: hyper-parameters that are not tuned, `[N]` each.
        epochs: of a full training.
        batch_size: the most images a step.
        recipe, teacher, metric: as `train_population`.
        averages: whether `ema` is tuned; averages are kept too where `base.ema` is above 0.
        hyper_of: from a tuner's values, `float32[N]` by name, and `base` to hyper-parameters.
        on_epoch: hears of each epoch: losses `[N]`, NaN for who was not trained.
    """

    network: Network
    rows: np.ndarray
    data: TrainingData | StreamedData
    base: Hyper
    epochs: int
    batch_size: int
    recipe: Recipe = Recipe()
    teacher: Any = None
    metric: str = "accuracy"
    averages: bool = False
    hyper_of: Callable[[Mapping[str, np.ndarray], Hyper], Hyper] = field(
        default_factory=lambda: with_values
    )
    on_epoch: Callable[[np.ndarray], None] = lambda losses: None

    @property
    def capacity(self) -> int:
        """Places: as many as members, and more where devices want a multiple."""
        return Layout.default().places(len(self.rows))

    def init(self, seeds: np.ndarray) -> Progress:
        """Fresh members."""
        n = self.capacity
        averages = self.averages or bool(np.any(np.asarray(self.base.ema) > 0))
        population = init_population(
            self.network,
            np.resize(seeds, n),
            np.resize(self.rows, (n, self.rows.shape[1])),
            optimizer=self.recipe.optimizer,
            averages=averages,
        )
        nothing = np.full(len(self.rows), np.nan)
        hyper = self.base.stretched(len(self.rows))
        return Progress(population, np.zeros(len(self.rows), np.int32), nothing, hyper)

    def train(
        self, state: Progress, values: Mapping[str, np.ndarray], which: np.ndarray, units: int
    ) -> Progress:
        """The members that `which` names, `units` epochs on; who diverges is trained no further."""
        n, capacity = len(self.rows), self.capacity
        hyper = self.hyper_of(values, self.base)
        places = hyper.stretched(capacity)
        layout = Layout.fitting(capacity)
        # What is tuned is in the program even where all have 0 now: another would have to be compiled.
        tuned = {k: np.ones(capacity, np.float32) for k in values if k in OPTIONAL}
        options = Options.of(places._replace(**tuned), self.batch_size, self.recipe)
        check(self.data, places, state.population, options, self.teacher)
        population = layout.dealt(state.population)
        done, alive = state.epochs.copy(), np.asarray(which, bool).copy()
        losses = np.full(n, np.nan)
        rows = np.resize(self.rows, (capacity, self.rows.shape[1]))
        for _ in range(units):
            progress = (_filled(done, capacity), np.full(capacity, self.epochs, np.int32))
            there = np.append(alive, np.zeros(capacity - n, bool))
            population, found = trained_on(
                self.network,
                options,
                layout,
                population,
                rows,
                places,
                self.data,
                there,
                progress,
                self.teacher,
            )
            losses = np.where(alive, found[:n], np.nan)
            alive &= np.isfinite(losses)
            done[np.asarray(which, bool)] += 1
            self.on_epoch(losses)
        lost = np.asarray(which, bool) & ~alive
        losses = np.where(lost, np.nan, losses)
        kept = np.where(which, losses, state.losses)
        before, after = state.hyper.stretched(n), hyper.stretched(n)
        last = jax.tree.map(lambda a, b: np.where(_beside(which, a), b, a), before, after)
        return Progress(population, done, kept, last)

    def saved(self, state: Progress) -> dict[str, Any]:
        """The state as arrays alone, for a checkpoint; the policy, which values decide, is left out."""
        hyper = {k: np.asarray(v) for k, v in state.hyper._asdict().items() if k != "policy"}
        members = state.population
        parts = {"variables": members.variables, "optimizer": members.optimizer}
        if members.average is not None:
            parts["average"] = members.average
        counted = {"seeds": members.seeds, "epochs": state.epochs, "losses": state.losses}
        return parts | counted | {"hyper": hyper}

    def restored(self, restore: Callable[[dict[str, Any]], dict[str, Any]]) -> Progress:
        """The state that `saved` gave; `restore` reads it, given one of its structure and shapes."""
        fresh = self.init(np.zeros(len(self.rows), np.uint32))
        kept = restore(self.saved(fresh))
        population = fresh.population._replace(
            variables=kept["variables"],
            optimizer=kept["optimizer"],
            seeds=kept["seeds"],
            average=kept.get("average"),
        )
        hyper = Hyper(**kept["hyper"], policy=self.base.policy)
        return Progress(population, np.asarray(kept["epochs"]), np.asarray(kept["losses"]), hyper)

    def evaluate(self, state: Progress) -> np.ndarray:
        """The metric on the validation images, `[N]`; NaN: diverged."""
        n = len(self.rows)
        variables = final_variables(state.population, state.hyper)
        there = np.isfinite(state.losses)
        return judge(
            self.network, variables, self.rows[:n], self.data, which=there, metric=self.metric
        )[2]

    def gather(self, state: Progress, rows: np.ndarray, seeds: np.ndarray) -> Progress:
        """Members with others' weights, momentum and place in the schedule, or anew where -1.

        Who copies draws its own minibatches from then on.
        """
        n, capacity = len(self.rows), self.capacity
        fresh = np.asarray(rows) < 0
        source = _filled(np.where(fresh, np.arange(n), rows).astype(np.int32), capacity, count=True)
        population = _taken(state.population, source)
        population = population._replace(seeds=jnp.copy(state.population.seeds))
        epochs = np.where(fresh, 0, state.epochs[source[:n]]).astype(np.int32)
        losses = np.where(fresh, np.nan, state.losses[source[:n]])
        if fresh.any():
            anew = self.init(seeds).population
            there = np.append(fresh, np.zeros(capacity - n, bool))
            population = _replaced(population, anew, there)
        return Progress(population, epochs, losses, state.hyper.stretched(n).rows(source[:n]))


def with_values(values: Mapping[str, np.ndarray], base: Hyper) -> Hyper:
    """`base` with the tuned values in place of the fields of their names.

    Raises:
        InputError: a name that is no hyper-parameter of training.
    """
    known = [name for name in Hyper._fields if name != "policy"]
    for name in values:
        if name not in known:
            raise unknown("hyper-parameter", name, known)
    return base._replace(**{k: np.asarray(v, np.float32) for k, v in values.items()})


def _filled(values: np.ndarray, capacity: int, *, count: bool = False) -> np.ndarray:
    """`values: int32[N]` with the last one's for places beyond, or with the places' own numbers."""
    more = (
        np.arange(len(values), capacity) if count else np.full(capacity - len(values), values[-1])
    )
    return np.concatenate([values, more]).astype(np.int32)


def _beside(which: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`which: bool[N]` with as many axes as `values: [N, ...]`."""
    return np.asarray(which).reshape(-1, *(1,) * (values.ndim - 1))


@jax.jit
def _taken(population: Population, rows: jax.Array) -> Population:
    return jax.tree.map(lambda a: a[rows], population)


@partial(jax.jit, donate_argnums=0)
def _replaced(population: Population, others: Population, which: jax.Array) -> Population:
    def choose(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(which.reshape(-1, *(1,) * (a.ndim - 1)), b, a)

    return jax.tree.map(choose, population, others)
