"""Population based augmentation: a population's policies change as it is trained (arXiv:1905.05393).

A policy is a list of every operation twice, each with a probability 0, .1, ..., 1 and a magnitude
0, 1, ..., 9 of its own. To an image, a number of operations is drawn: 0, 1 or 2 with chances .2, .3, .5;
then the list is gone through in random order, each operation being applied with its probability, until so
many were.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from jaxnas.augment.operations import NUMBER, OPERATIONS, reach
from jaxnas.augment.policy import Policy, checked
from jaxnas.augment.search.setting import PUBLISHED, Found, Setting, known, with_beside
from jaxnas.errors import InputError
from jaxnas.hpo import Space, integer
from jaxnas.hpo.drive import Done, run
from jaxnas.hpo.population import PopulationState, PopulationTuner
from jaxnas.hpo.schedule import Schedule, unit_rows
from jaxnas.hpo.training_trials import TrainingTrials
from jaxnas.hpo.tuner import Trials
from jaxnas.training.hyper import Hyper

COUNTS = (0.2, 0.3, 0.5)
"""The chances that 0, 1, 2 operations are applied to an image."""
COPIES = 2
STEPS = 10, 9
"""The highest probability, in tenths, and the highest magnitude, which is all of its reach."""


@dataclass(frozen=True)
class PbaTuner(PopulationTuner):
    """PBT as published for augmentation: the worst quarter copies one of the best each.

    Who copied explores: each hyper-parameter is drawn anew with probability `resample`, else moved up or
    down, at even odds, by 0, 1, 2 or 3, alike, and kept in its range.
    """

    name: ClassVar[str] = "pba"
    paper: ClassVar[str] = "Ho et al., Population Based Augmentation, arXiv:1905.05393"
    interval: int = 3
    share: float = 0.25
    resample: float = 0.2
    most: int = 3

    def explore(
        self,
        state: PopulationState,
        rows: np.ndarray,
        changed: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Drawn anew or moved, in whole steps."""
        counts = state.job.space.counts
        before = np.floor(rows[changed] * counts).astype(int)
        anew = rng.random(before.shape) < self.resample
        drawn = rng.integers(counts, size=before.shape)
        step = rng.integers(self.most + 1, size=before.shape)
        sign = np.where(rng.random(before.shape) < 0.5, -1, 1)
        moved = np.clip(before + sign * step, 0, counts - 1)
        return (np.where(anew, drawn, moved) + 0.5) / counts


def population_based(
    setting: Setting, *, operations: tuple[str, ...] = PUBLISHED, interval: int = 0
) -> Found:
    """The schedule of the member that is best in the end, and its last policy.

    All members begin with every probability and magnitude 0, as published, and exchange every `interval`
    epochs: 0 is the published 3, less in trainings shorter than 30 epochs, a tenth of them. As published,
    members are compared on images that none is trained on, the validation images.

    Args:
        setting: `setting.members` are trained, for `setting.epochs` each.
        operations: those that are searched over.
        interval: epochs between exchanges.

    Raises:
        InputError: fewer than two members, which could not exchange anything.
    """
    if setting.members < 2:
        raise InputError(f"PBA has {setting.members} members, expected at least 2.")
    operations = known(operations)

    def hyper_of(values: Mapping[str, np.ndarray], base: Hyper) -> Hyper:
        return base._replace(policy=setting.completed(policies(values, operations)))

    def on_epoch(losses: np.ndarray) -> None:
        trained = losses[np.isfinite(losses)]
        said = f"training loss {trained.mean():.3f}" if len(trained) else "all diverged"
        setting.advance(setting.members, said)

    _ = setting.augmenter
    trials = TrainingTrials(
        setting.network,
        np.repeat(setting.row[None], setting.members, axis=0),
        setting.data,
        setting.hyper.stretched(setting.members),
        setting.epochs,
        setting.batch_size,
        recipe=setting.alone,
        metric=setting.metric,
        hyper_of=hyper_of,
        on_epoch=on_epoch,
    )

    behind = setting.keeper.units()
    population = None
    if behind:
        population = trials.restored(setting.keeper.state)
        setting.advance(sum(unit["cost"] for unit in behind), "from the journal")

    def on_segment(done: Done) -> None:
        setting.keeper.keep(
            trials.saved(done.state),
            hyper=done.segment.hyper,
            fitness=done.fitness,
            cost=done.segment.cost,
        )
        best = np.max(done.fitness, initial=-np.inf, where=np.isfinite(done.fitness))
        setting.advance(0, f"best validation {best:.4f}")

    schedule = evolved(
        trials,
        setting.members,
        setting.epochs,
        operations=operations,
        interval=interval,
        seed=setting.seed,
        told=[np.array([float(v) for v in unit["fitness"]]) for unit in behind],
        asked=[np.array(unit["hyper"], float) for unit in behind],
        population=population,
        on_segment=on_segment,
    )
    return found_of(schedule, setting.epochs, operations, setting.beside)


def evolved(
    trials: Trials,
    n: int,
    epochs: int,
    *,
    operations: tuple[str, ...] = PUBLISHED,
    interval: int = 0,
    seed: int = 0,
    **progress: Any,
) -> Schedule:
    """What a population of `n`, each trained for `epochs`, did under PBA; for any trials.

    `progress` is what `jaxnas.hpo.run` takes of a run that goes on, and who hears of its segments.
    """
    space = space_of(operations)
    tuner = PbaTuner(interval=interval or min(3, max(1, epochs // 10)))
    nothing = np.tile(0.5 / space.counts, (n, 1))
    return run(
        tuner,
        trials,
        space,
        n=n,
        units=epochs,
        budget=n * epochs,
        seed=seed,
        first=nothing,
        **progress,
    ).schedule


def found_of(schedule: Schedule, epochs: int, operations: tuple[str, ...], beside: Policy) -> Found:
    """The policies that made the member that is best in the end, epoch by epoch.

    Where its line is shorter, since everybody had diverged and begun anew, it is stretched.
    """
    last = schedule.events[-1].fitness
    alive = np.isfinite(last).any()
    best = int(np.nanargmax(np.where(np.isfinite(last), last, np.nan))) if alive else None
    line = schedule.lineage(len(schedule.events) - 1, best) if alive else schedule.lineage()
    rows = unit_rows(line)
    rows = rows[np.arange(epochs) * len(rows) // epochs]
    made = with_beside(policies(schedule.space.values(rows), operations), beside)
    return Found(checked(made.rows(-1)), made)


def space_of(operations: tuple[str, ...] = PUBLISHED) -> Space:
    """Two copies of each operation: `probability_Invert_0`, in tenths, `magnitude_Invert_0`, ..."""
    return Space.of(
        {
            f"{kind}_{name}_{copy}": integer(0, most)
            for copy in range(COPIES)
            for name in operations
            for kind, most in zip(("probability", "magnitude"), STEPS, strict=True)
        }
    )


def policies(values: Mapping[str, np.ndarray], operations: tuple[str, ...] = PUBLISHED) -> Policy:
    """A population of policies of `values: float32[N]` by name, as `space_of` has them.

    What the module says is done to images is said exactly, by sub-policies of no operation, of one,
    and of two. Sub-policy 0 is no operation; 1 and 2 are one operation, of the first or the second
    copies; the others are one operation i and then one of either copies, given i. With every operation
    put at a time t uniform in 0..1 and p its probability, i is the first that is applied, and j the
    second, with the chance p_i p_j integral of t prod_k (1 - p_k t) dt, k being all others, and i is the
    only one with p_i prod_k (1 - p_k), where the product is over all but i.
    """
    p, m = (
        np.stack([values[f"{kind}_{o}_{c}"] for c in range(COPIES) for o in operations], -1) / most
        for kind, most in zip(("probability", "magnitude"), STEPS, strict=True)
    )
    pairs, first, only = chances(p.astype(float))
    n, entries = p.shape
    kinds = len(operations)
    number = np.array([NUMBER[name] for name in operations])
    shape = n, 1 + COPIES + entries * COPIES, 2, len(OPERATIONS)
    choice, magnitude = np.zeros(shape), np.zeros(shape)
    one = (COUNTS[1] * first + COUNTS[2] * only).reshape(n, COPIES, kinds)
    choice[:, 1 : 1 + COPIES, 0, number] = one
    magnitude[:, 1 : 1 + COPIES, 0, number] = m.reshape(n, COPIES, kinds)
    two = COUNTS[2] * pairs.reshape(n, entries * COPIES, kinds)
    entry = np.repeat(np.arange(entries), COPIES)
    place = 1 + COPIES + np.arange(entries * COPIES)
    choice[:, place, 0, number[entry % kinds]] = two.sum(-1)
    magnitude[:, place, 0, number[entry % kinds]] = m[:, entry]
    choice[:, place[:, None], 1, number] = two
    copies = np.tile(m.reshape(n, 1, COPIES, kinds), (1, entries, 1, 1))
    magnitude[:, place[:, None], 1, number] = copies.reshape(n, entries * COPIES, kinds)
    weights = choice[:, :, 0].sum(-1)
    weights[:, 0] = 1 - weights.sum(-1)
    total = choice.sum(-1, keepdims=True)
    choice = np.where(total > 0, choice / np.maximum(total, 1e-300), 0)
    choice[..., NUMBER["Identity"]] += total[..., 0] == 0
    zeros, ones = np.zeros(shape), np.ones(shape)
    everywhere = np.tile(reach(), (n, 1))
    made = Policy(np.maximum(weights, 0), choice, ones, magnitude, zeros, everywhere)
    made = made._replace(**{f: np.zeros(n) for f in Policy._fields[6:]})
    return jax.tree.map(lambda a: np.asarray(a, np.float32), made)


def chances(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of applying operations of probabilities `p: float64[N, m]` in random order.

    Returns:
        `[N, m, m]`, that i is applied first and j second; `[N, m]`, that i is first; `[N, m]`, that
        i is the only one.
    """
    m = p.shape[-1]
    nodes, weights = np.polynomial.legendre.leggauss(m // 2 + 1)  # exact for these polynomials
    t, weights = (nodes + 1) / 2, weights / 2
    missed = 1 - p[:, None] * t[:, None]  # [N, nodes, m], positive since t < 1
    product = (weights * t * missed.prod(-1))[..., None, None]
    others = product / (missed[..., :, None] * missed[..., None, :])
    pairs = others.sum(1) * p[:, :, None] * p[:, None, :]
    pairs[:, np.arange(m), np.arange(m)] = 0
    but = np.stack([np.delete(1 - p, i, axis=1).prod(-1) for i in range(m)], -1)
    return pairs, pairs.sum(-1) + p * but, p * but
