"""A joint run from beginning to end: one training, and what it leaves is ready."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.augment.inputs import PolicyAugment
from jaxnas.augment.named import get_policy
from jaxnas.augment.policy import Policy, checked
from jaxnas.augment.search.relaxed import Logits
from jaxnas.augment.search.setting import with_beside
from jaxnas.errors import InputError
from jaxnas.joint.epoch import Now, joint_epoch
from jaxnas.joint.settings import Phase, Settings
from jaxnas.joint.state import JointState, Outer, Rates, Tuned, adam
from jaxnas.joint.step import Program
from jaxnas.network import Network, Variables
from jaxnas.spaces import SearchSpace
from jaxnas.supernet.differentiable.choices import Choices
from jaxnas.supernet.differentiable.loop import arrays_of
from jaxnas.supernet.differentiable.strategy import entropy, masked_softmax, progress
from jaxnas.supernet.inherited import calibration_batches, recalibrated
from jaxnas.training.evaluation import evaluate_population
from jaxnas.training.hyper import Hyper
from jaxnas.training.objective import Objective
from jaxnas.training.population import TrainingData


class JointEpoch(NamedTuple):
    """What an epoch (from 1) reports.

    `train_loss` is the mean over its steps. While paths are drawn `val_loss` and `val_accuracy` are too,
    of validation batches after each step; once the architecture is fixed they are those of all
    validation images by running averages, as the network stands. Then the mean entropy of a choice in
    nats, the share of skip connections and the architecture `int32[D]` that is, or would be, fixed;
    the peak learning rate, weight decay and label smoothing that were arrived at; and how strong each
    branch is, `float32[P, K]`.
    """

    epoch: int
    phase: Phase
    train_loss: float
    val_loss: float
    val_accuracy: float
    entropy: float
    share_of_skips: float
    arch: np.ndarray
    learning_rate: float
    weight_decay: float
    label_smoothing: float
    probabilities: np.ndarray


class Joint(NamedTuple):
    """What a run ends with.

    `variables` are those of `arch: int32[D]`, ready: `network.apply(variables, row, images,
    batch_norm="running")` with `row: int32[P]` is the network that was trained. `hyper`, `[1]` each,
    and `policy`, None without an augmenter, are what was arrived at.
    """

    arch: np.ndarray
    row: np.ndarray
    variables: Variables
    hyper: Hyper
    policy: Policy | None
    history: list[JointEpoch]


class _Run(NamedTuple):
    """What is the same in all epochs."""

    space: SearchSpace
    network: Network
    data: TrainingData
    choices: Choices
    hyper: Hyper
    settings: Settings
    augmenter: PolicyAugment | None
    objective: Objective
    epochs: int
    batch_size: int


def search(
    space: SearchSpace,
    network: Network,
    data: TrainingData,
    *,
    epochs: int,
    batch_size: int,
    seed: int = 0,
    hyper: Hyper | None = None,
    augmenter: PolicyAugment | None = None,
    objective: Objective = Objective(),
    settings: Settings | None = None,
    state: JointState | None = None,
    on_epoch: Callable[[JointState, JointEpoch], None] = lambda state, record: None,
) -> Joint:
    """Architecture, hyper-parameters, policy and weights from one training, without retraining.

    After DiffAutoML (Zhou et al., 2021, openreview.net/forum?id=pQ-AoEbNYQK; DHA, arXiv:2109.05765). In
    each step the weights of a drawn path go down the loss of augmented training images; then
    architecture parameters, the policy's logits, the factors of learning rate and weight decay and the
    logit of label smoothing go down the validation loss after that very step, by its exact gradient
    (`jaxnas.joint.step`). Paths are drawn by Gumbel noise, straight through (GDAS), the noise and the
    temperature falling to those of the strongest path. After `settings.fixed_after` of the epochs that
    path is fixed, batch norm gets statistics of its own, and its weights are trained on; after
    `settings.settled_after` all but the weights is left as it is. One schedule of the learning rate
    spans the run, times the learned factor.

    Departures from the paper, whose architecture part is ISTA-NAS's sparse coding and whose policy part
    weighs losses by probabilities of pairs of operations: paths as in GDAS and the relaxed policy of
    `jaxnas.augment.search.relaxed` take their place; label smoothing is learned too.

    An epoch is one compiled program for each of the three phases; another seed, learning rate or
    temperature compiles nothing.

    Args:
        space: one whose `discretise` fits; `network` is its super-network.
        network: see `space`.
        data: prepared images, on the device; weights never see validation images.
        epochs: in all.
        batch_size: of training and of validation images in a step.
        seed: of weights, order, paths and augmentation.
        hyper: `[1]` of each: what learning rate, weight decay and label smoothing (at least .01) begin
            with; momentum, warm-up and schedule stay. The rest of it is left out. None: the defaults of
            `Hyper.constant`.
        augmenter: of these images; None: no policy is learned and images stay as they are.
        objective: what is minimised, on both kinds of images.
        settings: see `Settings`; None: the defaults.
        state: one that `on_epoch` was given, to go on from: the result is an undisturbed run's, the
            epochs before being absent from its history.
        on_epoch: called after each epoch; the state is used up by the next.

    Raises:
        InputError: the space cannot be read off relaxed choices, sizes do not fit, or the loss stopped
            being a number.
    """
    choices = _checked(space, network)
    for images in (data.x, data.x_val):
        if batch_size > len(images):
            raise InputError(f"The batch size {batch_size} exceeds the {len(images)} images.")
    settings = settings or Settings()
    own = _one(hyper)
    run = _Run(
        space, network, data, choices, own, settings, augmenter, objective, epochs, batch_size
    )
    if state is None:
        state = begin(
            space, network, seed=seed, hyper=hyper, augmenter=augmenter, settings=settings
        )
    history: list[JointEpoch] = []
    for epoch in range(int(state.epoch), epochs):
        phase = settings.phase(epoch, epochs)
        state, figures = joint_epoch(
            _program(run, phase), state, choices.present, own, _now(run, state), arrays_of(data)
        )
        if epoch + 1 == settings.phases(epochs)[0]:
            state = _fixed(run, state)
        history.append(_record(run, phase, state, np.asarray(figures)))
        on_epoch(state, history[-1])
    return _found(run, state, history)


def begin(
    space: SearchSpace,
    network: Network,
    *,
    seed: int,
    hyper: Hyper | None = None,
    augmenter: PolicyAugment | None = None,
    settings: Settings | None = None,
) -> JointState:
    """The state that a run begins with, or that one kept by `on_epoch` is restored like."""
    choices, settings = _checked(space, network), settings or Settings()
    weights, relaxed = jax.random.split(jax.random.key(np.uint32(seed)))
    # Copies: what an epoch is given it uses up, and averages begin as the network's own arrays.
    variables = jax.tree.map(jnp.array, network.init(weights))
    alphas = 1e-3 * jax.random.normal(relaxed, choices.present.shape)
    shape = settings.subpolicies, settings.layers, len(settings.operations)
    logits = None if augmenter is None else jax.tree.map(jnp.array, Logits.even(*shape))
    tuned = jax.tree.map(jnp.array, Tuned.of(_one(hyper)))
    outer = Outer(alphas, logits, tuned)
    number = sum(a.size for a in jax.tree.leaves(variables.params))
    arch = jnp.zeros(len(space.decisions), jnp.int32)
    counters = (jnp.asarray(seed, jnp.uint32), jnp.asarray(0, jnp.int32))
    return JointState(variables, jnp.zeros(number), outer, adam().init(outer), arch, *counters)


def _one(hyper: Hyper | None) -> Hyper:
    """One candidate's hyper-parameters, `float32[]` each, the policy apart."""
    given = Hyper.constant(1) if hyper is None else hyper._replace(policy=None)
    return jax.tree.map(lambda a: np.asarray(a, np.float32).reshape(-1)[0], given)


def _checked(space: SearchSpace, network: Network) -> Choices:
    """The network's choices; `InputError` where the space cannot be read off them."""
    choices = Choices.of(network)
    space.discretise(np.asarray(choices.present, np.float32))
    return choices


def _program(run: _Run, phase: Phase) -> Program:
    settings = run.settings
    return Program(
        run.network,
        phase,
        run.batch_size,
        run.objective,
        run.augmenter,
        settings.operations,
        settings.policy_temperature,
    )


def _now(run: _Run, state: JointState) -> Now:
    """What the epoch after `state` is given."""
    settings, epoch = run.settings, int(state.epoch)
    phase = settings.phase(epoch, run.epochs)
    share = progress(epoch, settings.phases(run.epochs)[0]) if phase == "search" else 1.0
    temperature = settings.hot + (settings.cold - settings.hot) * share
    architecture = settings.architecture_rate if phase == "search" else 0.0
    rates = Rates(architecture, settings.policy_rate, settings.hyper_rate)
    found = _policy(run, state) if phase == "settled" else _beside(run)
    numbers = jax.tree.map(np.float32, (rates, temperature, 1 - share))
    row = run.space.rows(np.asarray(state.arch)[None])[0].astype(np.int32)
    return Now(*numbers, row, found, (np.int32(epoch), np.int32(run.epochs)))


def _beside(run: _Run) -> Policy | None:
    if run.augmenter is None:
        return None
    return checked(with_beside(get_policy("none"), run.settings.beside))


def _policy(run: _Run, state: JointState) -> Policy | None:
    """The policy that the logits stand for now."""
    if state.outer.policy is None:
        return None
    found = state.outer.policy.policy(run.settings.operations)
    return checked(with_beside(found, run.settings.beside))


def _probabilities(run: _Run, state: JointState) -> np.ndarray:
    return np.asarray(masked_softmax(state.outer.alphas, run.choices.present))


def _strongest(run: _Run, probabilities: np.ndarray) -> np.ndarray:
    """The architecture that the choices stand for, `int32[D]`; one that is connected.

    Where the most probable branches leave no path from input to output, "no connection" is not chosen.
    """
    arch = run.space.discretise(probabilities)
    if run.space.connected(arch[None])[0]:
        return arch
    return run.space.discretise(np.where(run.choices.zeros, 0, probabilities))


def _fixed(run: _Run, state: JointState) -> JointState:
    """With the strongest path as the architecture, and batch norm statistics that are its own."""
    arch = _strongest(run, _probabilities(run, state))
    size = min(256, len(run.data.x))
    batches = calibration_batches(run.data.x, batch_size=size, seed=int(state.seed))
    row = jnp.asarray(run.space.rows(arch[None])[0], jnp.int32)
    variables = _recalibrated(run.network, state.variables, row, batches)
    return state._replace(variables=variables, arch=jnp.asarray(arch, jnp.int32))


_recalibrated = partial(jax.jit, static_argnames="network")(recalibrated)


def _record(run: _Run, phase: Phase, state: JointState, figures: np.ndarray) -> JointEpoch:
    epoch, loss = int(state.epoch), figures[0]
    judged = figures[1:]
    if not np.isfinite(loss) or (phase != "settled" and not np.isfinite(judged).all()):
        raise InputError(
            f"The loss of the joint run stopped being a number in epoch {epoch}: training {loss}, "
            f"validation {judged[0]}; a smaller learning rate may help."
        )
    probabilities = _probabilities(run, state)
    arch = np.asarray(state.arch)
    if phase == "search":
        arch = _strongest(run, probabilities)
    row = run.space.rows(arch[None])
    if epoch >= run.settings.phases(run.epochs)[0]:
        one = jax.tree.map(lambda a: a[None], state.variables)
        found = evaluate_population(run.network, one, row, run.data.x_val, run.data.y_val)
        judged = np.ravel(found[:2])
    hyper = state.outer.tuned.hyper(run.hyper)
    return JointEpoch(
        epoch=epoch,
        phase=phase,
        train_loss=float(loss),
        val_loss=float(judged[0]),
        val_accuracy=float(judged[1]),
        entropy=entropy(probabilities),
        share_of_skips=run.choices.share_of_skips(row[0]),
        arch=arch,
        learning_rate=float(hyper.learning_rate),
        weight_decay=float(hyper.weight_decay),
        label_smoothing=float(hyper.label_smoothing),
        probabilities=probabilities,
    )


def _found(run: _Run, state: JointState, history: list[JointEpoch]) -> Joint:
    arch = np.asarray(state.arch)
    hyper = jax.tree.map(
        lambda a: np.asarray(a, np.float32).reshape(1), state.outer.tuned.hyper(run.hyper)
    )
    row = run.space.rows(arch[None])[0].astype(np.int32)
    return Joint(arch, row, state.variables, hyper, _policy(run, state), history)
