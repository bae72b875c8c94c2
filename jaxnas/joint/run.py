"""What the epochs of a joint run are given, and what is made of their ends."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.augment.inputs import PolicyAugment
from jaxnas.augment.named import get_policy
from jaxnas.augment.policy import Policy, checked
from jaxnas.augment.search.setting import with_beside
from jaxnas.errors import InputError
from jaxnas.joint.epoch import Now
from jaxnas.joint.settings import Phase, Settings
from jaxnas.joint.state import JointState, Rates
from jaxnas.joint.step import Program
from jaxnas.network import Network
from jaxnas.spaces import SearchSpace
from jaxnas.supernet.differentiable.choices import Choices
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


class Run(NamedTuple):
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


def kept(run: Run) -> np.ndarray:
    """The branches that may be taken, `bool[P, K]`."""
    present, zeros = run.choices.present, run.choices.zeros
    others = present & ~zeros
    alone = ~others.any(axis=1, keepdims=True)
    return present if run.settings.none else others | (present & alone)


def program(run: Run, phase: Phase) -> Program:
    """What the epochs of a phase are compiled for: the first two share a program."""
    settings = run.settings
    return Program(
        run.network,
        phase == "settled",
        run.batch_size,
        run.objective,
        run.augmenter,
        settings.operations,
        settings.policy_temperature,
    )


def now(run: Run, state: JointState) -> Now:
    """What the epoch after `state` is given."""
    settings, epoch = run.settings, int(state.epoch)
    phase = settings.phase(epoch, run.epochs)
    share = progress(epoch, settings.phases(run.epochs)[0]) if phase == "search" else 1.0
    temperature = settings.hot + (settings.cold - settings.hot) * share
    architecture = settings.architecture_rate if phase == "search" else 0.0
    rates = Rates(architecture, settings.policy_rate, settings.hyper_rate)
    found = policy(run, state) if phase == "settled" else _beside(run)
    row = run.space.rows(np.asarray(state.arch)[None])[0].astype(np.int32)
    return Now(
        rates=jax.tree.map(np.float32, rates),
        temperature=np.float32(temperature),
        noise=np.float32(1 - share),
        fixed=np.bool_(phase != "search"),
        row=row,
        policy=found,
        progress=(np.int32(epoch), np.int32(run.epochs)),
    )


def _beside(run: Run) -> Policy | None:
    if run.augmenter is None:
        return None
    return checked(with_beside(get_policy("none"), run.settings.beside))


def policy(run: Run, state: JointState) -> Policy | None:
    """The policy that the logits stand for now."""
    if state.outer.policy is None:
        return None
    found = state.outer.policy.policy(run.settings.operations)
    return checked(with_beside(found, run.settings.beside))


def _probabilities(run: Run, state: JointState) -> np.ndarray:
    return np.asarray(masked_softmax(state.outer.alphas, jnp.asarray(kept(run))))


def _strongest(run: Run, probabilities: np.ndarray) -> np.ndarray:
    """The architecture that the choices stand for, `int32[D]`; one that is connected.

    Where the most probable branches leave no path from input to output, "no connection" is not chosen.
    """
    arch = run.space.discretise(probabilities)
    if run.space.connected(arch[None])[0]:
        return arch
    return run.space.discretise(np.where(run.choices.zeros, 0, probabilities))


def fixed(run: Run, state: JointState) -> JointState:
    """With the strongest path as the architecture, and batch norm statistics that are its own."""
    arch = _strongest(run, _probabilities(run, state))
    size = min(256, len(run.data.x))
    batches = calibration_batches(run.data.x, batch_size=size, seed=int(state.seed))
    row = jnp.asarray(run.space.rows(arch[None])[0], jnp.int32)
    variables = _recalibrated(run.network, state.variables, row, batches)
    return state._replace(variables=variables, arch=jnp.asarray(arch, jnp.int32))


_recalibrated = partial(jax.jit, static_argnames="network")(recalibrated)


def record(run: Run, phase: Phase, state: JointState, figures: np.ndarray) -> JointEpoch:
    """What is said of the epoch that ended in `state`, its mean `Taken.figures` given.

    Raises:
        InputError: they are no numbers.
    """
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
