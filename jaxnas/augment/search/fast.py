"""Density matching: policies that keep images where a network expects them (arXiv:1905.00397).

Networks are trained on all folds of the training images but one each, without sub-policies; a sub-policy
is good if the network that never saw a fold has a low loss on that fold augmented with it.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxnas.augment.inputs import PolicyAugment
from jaxnas.augment.operations import NUMBER, OPERATIONS, reach
from jaxnas.augment.policy import Policy, checked
from jaxnas.augment.search.setting import PUBLISHED, Found, Setting, folds, known
from jaxnas.errors import InputError
from jaxnas.hpo import Space, choice, uniform
from jaxnas.hpo.kde import Guide, guided
from jaxnas.network import Network, Variables
from jaxnas.training.evaluation import batched
from jaxnas.training.layout import Layout
from jaxnas.training.population import (
    EpochMetrics,
    Population,
    TrainingData,
    final_variables,
    init_population,
    train_population,
)

LAYERS = 2
FOLDS = 5
GUIDE = Guide(random=0.0, quantile=0.15, candidates=24, factor=1.0)
"""How sub-policies are proposed after the first round: TPE as in HyperOpt draws 24 and keeps the best."""


class Plan(NamedTuple):
    """How each fold is searched.

    rounds: of proposals, the first at random. proposals: sub-policies a round. top: how many of a fold
    are kept. images: of a fold, at most, that they are compared on.
    """

    rounds: int = 4
    proposals: int = 50
    top: int = 10
    images: int = 1024


PLAN = Plan()


def density_matching(
    setting: Setting, *, operations: tuple[str, ...] = PUBLISHED, plan: Plan = PLAN
) -> Found:
    """The best sub-policies of two operations of each fold, all alike.

    There are as many folds as members, 2 to 5. The published 200 proposals a fold come in 4 rounds of
    50, of which the first is drawn uniformly and the others by the densities of good and bad ones so far
    (`jaxnas.hpo.kde`, in place of HyperOpt's TPE). Departures: a proposal is one sub-policy, not five
    whose lowest loss by image counts; a fold is searched once, not twice; the loss is a mean over one
    draw for each of at most 1024 of its images, the same draws for all proposals.

    Args:
        setting: its validation images are not looked at.
        operations: those that are searched over.
        plan: see `Plan`.

    Raises:
        InputError: fewer images than folds, no augmenter, or all networks diverged.
    """
    operations, augmenter = known(operations), setting.augmenter
    count = min(max(setting.members, 2), FOLDS)
    parts = folds(np.asarray(setting.data.y), count, setting.seed)
    names = np.array([NUMBER[name] for name in operations])
    space = space_of(operations)
    kept = [np.array(unit["rows"], float) for unit in setting.keeper.units()]
    if kept:
        setting.advance(setting.epochs * len(kept), "from the journal")
    for fold in range(len(kept), count):
        others = np.delete(parts, fold, axis=0).ravel()
        x, y = setting.data.x, setting.data.y
        data = TrainingData(x[others], y[others], x[parts[fold]], y[parts[fold]])
        variables = _trained(setting, data, fold)
        some = slice(None, plan.images)
        images = batched(data.x_val[some], data.y_val[some])
        key = jax.random.fold_in(jax.random.key(setting.seed), fold)
        rng = np.random.default_rng([setting.seed, 2, fold])

        def losses(
            policies: Policy, variables: Any = variables, images: Any = images, key: Any = key
        ):
            return mean_losses(
                setting.network, augmenter, variables, setting.row, images, policies, key
            )

        rows, merits = searched(losses, operations, rng, plan)
        best = np.argsort(-merits, kind="stable")[: plan.top]
        best = best[np.isfinite(merits[best])]
        kept.append(rows[best])
        setting.keeper.keep(rows=rows[best])
        said = f"best loss {-merits[best[0]]:.4f}" if len(best) else "diverged"
        setting.advance(0, f"fold {fold + 1}: {said}")
    chosen = [subpolicies(space.values(rows), names) for rows in kept if len(rows)]
    if not chosen:
        raise InputError("The networks of all folds diverged, expected one that has a loss.")
    return Found(checked(setting.completed(joined(chosen))))


def _trained(setting: Setting, data: TrainingData, fold: int) -> Variables:
    """A network trained without sub-policies; all folds have one size and so one program."""
    places = Layout.default().places(1)
    seed = np.random.SeedSequence([setting.seed, 3, fold]).generate_state(1)
    hyper = setting.hyper._replace(policy=None).stretched(fold + 1).rows([fold])
    hyper = hyper._replace(policy=jax.tree.map(lambda a: np.asarray(a)[None], setting.plain))
    row, recipe = setting.row[None], setting.alone
    population = init_population(
        setting.network,
        np.resize(seed, places),
        row,
        optimizer=recipe.optimizer,
        averages=bool(np.any(hyper.ema > 0)),
    )

    def on_epoch(epoch: int, population: Population, metrics: EpochMetrics) -> None:
        setting.advance(1, f"fold {fold + 1}: held out {metrics.val_metric[0]:.4f}")

    population = train_population(
        setting.network,
        row,
        hyper,
        data,
        epochs=setting.epochs,
        batch_size=min(setting.batch_size, len(data.x)),
        population=population,
        recipe=recipe,
        metric=setting.metric,
        on_epoch=on_epoch,
    )
    return jax.tree.map(lambda a: a[0], final_variables(population, hyper))


def searched(
    losses: Any, operations: tuple[str, ...], rng: np.random.Generator, plan: Plan
) -> tuple[np.ndarray, np.ndarray]:
    """All rows of `space_of(operations)` that were proposed, `float64[T, P]`, and minus their losses.

    `losses` gives `float[proposals]` for as many sub-policies; what is not finite is worst. Advances
    `rng`.
    """
    space = space_of(operations)
    names = np.array([NUMBER[name] for name in operations])
    rows, merits = np.zeros((0, space.dimensions)), np.zeros(0)
    for round_ in range(plan.rounds):
        if round_ == 0:
            new = space.sample(rng, plan.proposals)
        else:
            seen = merits[:, None]
            new = np.stack([guided(space, seen, rows, rng, GUIDE) for _ in range(plan.proposals)])
        found = np.asarray(losses(subpolicies(space.values(new), names)), float)
        rows = np.concatenate([rows, new])
        merits = np.concatenate([merits, np.where(np.isfinite(found), -found, -np.inf)])
    return rows, merits


def space_of(operations: tuple[str, ...] = PUBLISHED) -> Space:
    """A sub-policy: for each layer an operation, its probability and its magnitude."""
    parts = {
        "operation": choice(*operations),
        "probability": uniform(0, 1),
        "magnitude": uniform(0, 1),
    }
    return Space.of({f"{k}_{i}": made for i in range(LAYERS) for k, made in parts.items()})


def subpolicies(values: Mapping[str, np.ndarray], numbers: np.ndarray) -> Policy:
    """N policies of one sub-policy each, from `values: float32[N]` by name as `space_of` has them.

    `numbers` are those of the operations that the values count.
    """
    n = len(values["operation_0"])
    tables = np.zeros((3, n, 1, LAYERS, len(OPERATIONS)), np.float32)
    for i in range(LAYERS):
        place = np.arange(n), 0, i, numbers[values[f"operation_{i}"].astype(int)]
        tables[0][place] = 1
        tables[1][place] = values[f"probability_{i}"]
        tables[2][place] = values[f"magnitude_{i}"]
    made = Policy(
        weights=np.ones((n, 1), np.float32),
        choice=tables[0],
        probability=tables[1],
        magnitude=tables[2],
        spread=np.zeros_like(tables[0]),
        reach=np.tile(reach(), (n, 1)),
    )
    return made._replace(**{f: np.zeros(n, np.float32) for f in Policy._fields[6:]})


def joined(parts: list[Policy]) -> Policy:
    """One policy of the sub-policies of all policies of all populations, each by its weight."""
    whole = jax.tree.map(lambda *fields: np.concatenate(fields), *parts)
    first = whole.rows(0)
    tables = {
        name: np.concatenate(list(getattr(whole, name)))
        for name in ("weights", "choice", "probability", "magnitude", "spread")
    }
    return first._replace(**tables)


@partial(jax.jit, static_argnames=("network", "augmenter"))
def mean_losses(
    network: Network,
    augmenter: PolicyAugment,
    variables: Variables,
    arch: jax.Array,
    images: tuple[jax.Array, jax.Array],
    policies: Policy,
    key: jax.Array,
) -> jax.Array:
    """Mean cross-entropy of one network on images augmented by each of N policies, `float32[N]`.

    `images` are `jaxnas.training.evaluation.batched`, those of label -1 do not count. Batch k is
    augmented with the key folded with k, the same for all policies. One program for all of them, one
    after another.
    """
    x, y = images

    def one(policy: Policy) -> jax.Array:
        def batch(total: jax.Array, inputs: Any) -> Any:
            k, x, y = inputs
            labels = jax.nn.one_hot(y, network.classes)
            made, targets = augmenter(jax.random.fold_in(key, k), x, labels, policy)
            logits = network.apply(variables, arch, made, batch_norm="running").logits
            losses = optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)
            return total + jnp.where(y >= 0, losses, 0).sum(), None

        total, _ = lax.scan(batch, jnp.zeros(()), (jnp.arange(len(x)), x, y))
        return total / (y >= 0).sum()

    return lax.map(one, policies)
