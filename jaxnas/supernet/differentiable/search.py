"""A differentiable search from beginning to end."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError, unknown
from jaxnas.network import Network
from jaxnas.spaces import SearchSpace
from jaxnas.supernet.differentiable.betadarts import BetaDARTS
from jaxnas.supernet.differentiable.choices import Choices
from jaxnas.supernet.differentiable.darts import DARTS
from jaxnas.supernet.differentiable.drnas import DrNAS
from jaxnas.supernet.differentiable.gdas import GDAS
from jaxnas.supernet.differentiable.loop import SearchState, adam, arrays_of, search_epoch
from jaxnas.supernet.differentiable.pcdarts import PCDARTS
from jaxnas.supernet.differentiable.pdarts import PDARTS
from jaxnas.supernet.differentiable.snas import SNAS
from jaxnas.supernet.differentiable.strategy import Strategy, entropy
from jaxnas.training.hyper import Hyper
from jaxnas.training.population import TrainingData

STRATEGIES: dict[str, Strategy] = {
    "darts": DARTS(),
    "darts_v2": DARTS(second_order=True),
    "pdarts": PDARTS(),
    "pcdarts": PCDARTS(),
    "betadarts": BetaDARTS(),
    "gdas": GDAS(),
    "snas": SNAS(),
    "drnas": DrNAS(),
}
"""Differentiable strategies, by name."""


class SearchEpoch(NamedTuple):
    """What an epoch (from 1) reports.

    Mean losses; the mean entropy of a choice in nats; of the connections of the architecture that would
    be found now the share that are skip connections; that architecture `int32[D]`; how strong each branch
    is, `float32[P, K]`.
    """

    epoch: int
    train_loss: float
    val_loss: float
    entropy: float
    share_of_skips: float
    arch: np.ndarray
    probabilities: np.ndarray


def get_strategy(name: str | Strategy) -> Strategy:
    """The strategy of a name, or the one given; `InputError` for another name."""
    if isinstance(name, Strategy):
        return name
    if name not in STRATEGIES:
        raise unknown("differentiable strategy", name, STRATEGIES)
    return STRATEGIES[name]


def search(
    name: str | Strategy,
    space: SearchSpace,
    network: Network | Sequence[Network],
    data: TrainingData,
    hyper: Hyper,
    *,
    epochs: int,
    batch_size: int,
    seed: int = 0,
    state: SearchState | None = None,
    on_epoch: Callable[[SearchState, SearchEpoch], None] = lambda state, record: None,
) -> tuple[np.ndarray, list[SearchEpoch]]:
    """Search `space` by gradient: the architecture found, `int32[D]`, and what each epoch reported.

    Weights learn from `data`'s training images, architecture parameters from its validation images.
    An epoch is one compiled program for each network; another seed, learning rate or temperature
    compiles nothing.

    Args:
        name: of a strategy, or the strategy.
        space: one whose `discretise` fits; `network` is its super-network, or for strategies of several
            stages (P-DARTS) one network for each stage.
        network: see `space`.
        data: prepared images.
        hyper: of the weights, `[1]` each: the optimiser's and label smoothing; augmentation, dropout and
            shares of a batch are left out.
        epochs: in all; stages share them evenly.
        batch_size: of both kinds of step.
        seed: of weights, order and samples.
        state: one that `on_epoch` was given, to go on from: the result is an undisturbed run's, the
            epochs before being absent from what is reported.
        on_epoch: called after each epoch; the state is used up by the next.

    Raises:
        InputError: the space cannot be read off relaxed choices, sizes do not fit, or the loss stopped
            being a number.
    """
    strategy = get_strategy(name)
    networks = _networks(strategy, network)
    choices = _checked(space, networks)
    for images in (data.x, data.x_val):
        if batch_size > len(images):
            raise InputError(f"The batch size {batch_size} exceeds the {len(images)} images.")
    own = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32).reshape(-1)[0], hyper)
    current: SearchState = (
        _begin(strategy, networks[0], choices.present, seed, 0) if state is None else state
    )
    history: list[SearchEpoch] = []
    for epoch in range(int(current.epoch), epochs):
        stage = epoch * strategy.stages // epochs
        first, end = (math.ceil(s * epochs / strategy.stages) for s in (stage, stage + 1))
        if epoch == first > 0:
            found = np.asarray(strategy.probabilities(current.alphas, current.kept, choices))
            kept = strategy.kept_in(stage, found, choices)
            current = _begin(strategy, networks[stage], kept, int(current.seed), epoch)
        now = strategy.now(stage, epoch - first, end - first)
        current, losses = search_epoch(
            networks[stage],
            strategy,
            batch_size,
            current,
            choices,
            own,
            jax.tree.map(np.float32, now),
            arrays_of(data),
            (np.int32(epoch - first), np.int32(end - first)),
        )
        history.append(_record(strategy, space, choices, current, np.asarray(losses)))
        on_epoch(current, history[-1])
    probabilities = np.asarray(strategy.probabilities(current.alphas, current.kept, choices))
    return strategy.discretise(space, probabilities, choices), history


def begin(
    strategy: Strategy, space: SearchSpace, network: Network | Sequence[Network], *, seed: int
) -> SearchState:
    """The state that a search begins with, or that one kept by `on_epoch` is restored like."""
    networks = _networks(strategy, network)
    return _begin(strategy, networks[0], _checked(space, networks).present, seed, 0)


def _begin(strategy: Strategy, network: Network, kept: Any, seed: int, epoch: int) -> SearchState:
    key = jax.random.fold_in(jax.random.key(np.uint32(seed)), epoch)
    weights, relaxed = jax.random.split(jax.random.fold_in(key, np.uint32(2**32 - 1)))
    # Copies: what an epoch is given it uses up, and averages begin as the network's own arrays.
    variables = jax.tree.map(jnp.array, network.init(weights))
    alphas = strategy.init(relaxed, kept.shape)
    momentum = jax.tree.map(jnp.zeros_like, variables.params)
    moments = adam(strategy).init(alphas)
    counters = (jnp.asarray(seed, jnp.uint32), jnp.asarray(epoch, jnp.int32))
    return SearchState(variables, momentum, alphas, moments, jnp.array(kept), *counters)


def _record(
    strategy: Strategy,
    space: SearchSpace,
    choices: Choices,
    state: SearchState,
    losses: np.ndarray,
) -> SearchEpoch:
    epoch = int(state.epoch)
    if not np.isfinite(losses).all():
        raise InputError(
            f"The loss of the search stopped being a number in epoch {epoch}: training {losses[0]}, "
            f"validation {losses[1]}; a smaller learning rate may help."
        )
    probabilities = np.asarray(strategy.probabilities(state.alphas, state.kept, choices))
    arch = strategy.discretise(space, probabilities, choices)
    skips = choices.share_of_skips(space.rows(arch[None])[0])
    means = (float(losses[0]), float(losses[1]))
    return SearchEpoch(epoch, *means, entropy(probabilities), skips, arch, probabilities)


def _networks(strategy: Strategy, network: Network | Sequence[Network]) -> list[Network]:
    given = [network] if isinstance(network, Network) else list(network)
    if len(given) not in (1, strategy.stages):
        raise InputError(
            f"A search of {strategy.stages} stages takes one network, or one for each stage, not "
            f"{len(given)}."
        )
    return given if len(given) == strategy.stages else given * strategy.stages


def _checked(space: SearchSpace, networks: Sequence[Network]) -> Choices:
    """The choices of networks that all have the same; `InputError` where the space does not fit."""
    shapes = [
        (len(n.survey.decisions), max(map(len, n.survey.decisions.values()))) for n in networks
    ]
    space.discretise(np.ones(shapes[0], np.float32))
    if len(set(shapes)) > 1:
        raise InputError(f"The networks of a search's stages have different choices: {shapes}.")
    return Choices.of(networks[0])
