"""Training a super-net by name."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError, unknown
from jaxnas.network import Network
from jaxnas.spaces import SearchSpace
from jaxnas.supernet.enas import ENAS
from jaxnas.supernet.fairnas import FairNAS
from jaxnas.supernet.shared import SuperNet, train_epoch
from jaxnas.supernet.source import Source
from jaxnas.supernet.trainer import Trainer, drawn_rows
from jaxnas.supernet.uniform import RandomSearch, SinglePath
from jaxnas.training.hyper import Hyper
from jaxnas.training.population import TrainingData

TRAINERS: dict[str, Trainer] = {
    "spos": SinglePath(),
    "fairnas": FairNAS(),
    "random": RandomSearch(),
    "enas": ENAS(),
}
"""Ways to train a super-net, by name."""


class SuperNetMetrics(NamedTuple):
    """One epoch: the mean training loss over its paths, and what the trainer reports by name."""

    train_loss: float
    figures: dict[str, float]


def get_trainer(trainer: str | Trainer) -> Trainer:
    """The trainer of a name, or the one given; `InputError` for another name."""
    if isinstance(trainer, Trainer):
        return trainer
    if trainer not in TRAINERS:
        raise unknown("super-net trainer", trainer, TRAINERS)
    return TRAINERS[trainer]


def init_supernet(
    trainer: str | Trainer,
    space: SearchSpace,
    network: Network,
    *,
    seed: int,
    shape_classes: tuple[int, ...] = (0,),
) -> SuperNet:
    """Fresh weights, no momentum, and the policy that the trainer begins with."""
    source = Source(space, shape_classes)
    weights, policy = jax.random.split(jax.random.key(seed))
    variables = network.init(weights)
    momentum = jax.tree.map(jnp.zeros_like, variables.params)
    state = get_trainer(trainer).init(source, policy)
    return SuperNet(variables, momentum, state, jnp.asarray(seed, jnp.uint32))


def train_supernet(
    trainer: str | Trainer,
    space: SearchSpace,
    network: Network,
    data: TrainingData,
    hyper: Hyper,
    *,
    epochs: int,
    batch_size: int,
    seed: int = 0,
    shape_classes: tuple[int, ...] = (0,),
    state: SuperNet | None = None,
    start_epoch: int = 0,
    on_epoch: Callable[[int, SuperNet, SuperNetMetrics], None] = lambda e, s, m: None,
) -> SuperNet:
    """Train one super-net for `epochs` epochs of single paths (or several a step) drawn from `space`.

    A super-net holds the weights of one network. A space of several shape classes has one each, which
    share nothing: `shape_classes` says of which ones `network` is, and only their architectures are
    drawn. `on_epoch(epoch, state, metrics)` is called after each epoch (from 1). Starting from the state
    after `start_epoch` epochs gives what an undisturbed run gives; paths and minibatches are drawn
    from its seed and the epoch's number. The state passed in, and those handed to `on_epoch`, are used
    up by the epoch that follows.

    Args:
        trainer: a name of `TRAINERS`, or a trainer with settings of one's own.
        hyper: of one candidate (`Hyper.constant(1)`).

    Raises:
        InputError: an unknown trainer or one that cannot train the space, a batch larger than the data,
            hyper-parameters of several candidates, a loss that stops being a number.
    """
    trainer, source = get_trainer(trainer), Source(space, shape_classes)
    trainer.check(source)
    if batch_size > len(data.x):
        raise InputError(f"The batch size {batch_size} exceeds the {len(data.x)} training images.")
    _check_hyper(hyper)
    own = jax.tree.map(lambda value: np.float32(np.ravel(value)[0]), hyper)
    if state is None:
        state = init_supernet(trainer, space, network, seed=seed, shape_classes=shape_classes)
    for epoch in range(start_epoch, epochs):
        state, metrics = _epoch(
            trainer, source, network, data, own, state, batch_size, (epoch, epochs)
        )
        if not np.isfinite(metrics.train_loss):
            raise InputError(
                f"The super-net's training diverged in epoch {epoch + 1}: its loss stopped being a "
                f"number; try a lower learning rate than {own.learning_rate:g}."
            )
        on_epoch(epoch + 1, state, metrics)
    return state


def _check_hyper(hyper: Hyper) -> None:
    if any(np.size(value) != 1 for value in hyper):
        raise InputError(
            f"A super-net has one set of hyper-parameters, got {np.size(hyper.learning_rate)} of each."
        )
    plain = {"dropout": 0, "drop_path": 0, "batch_share": 1}
    for name, value in plain.items():
        got = float(np.ravel(getattr(hyper, name))[0])
        if got != value:
            raise InputError(f"Super-nets are trained with {name} {value}, got {got:g}.")


def _epoch(
    trainer: Trainer,
    source: Source,
    network: Network,
    data: TrainingData,
    hyper: Hyper,
    state: SuperNet,
    batch_size: int,
    progress: tuple[int, int],
) -> tuple[SuperNet, SuperNetMetrics]:
    key = jax.random.fold_in(jax.random.key(state.seed), progress[0])
    paths, order, turn = jax.random.split(key, 3)
    archs = trainer.draw(source, state.policy, paths, len(data.x) // batch_size)
    params, momentum, loss = train_epoch(
        network,
        batch_size,
        any(value != 0 for value in (hyper.flip, hyper.shift, hyper.cutout)),
        state.variables.params,
        state.momentum,
        state.variables.statistics,
        drawn_rows(source, archs),
        hyper,
        data.x,
        data.y,
        order,
        (np.int32(progress[0]), np.int32(progress[1])),
    )
    variables = state.variables._replace(params=params)
    policy, figures = trainer.turn(source, network, state.policy, variables, data, turn)
    state = SuperNet(variables, momentum, policy, state.seed)
    return state, SuperNetMetrics(float(loss), figures)
