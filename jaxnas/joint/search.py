"""A joint run from beginning to end: one training, and what it leaves is ready."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.augment.inputs import PolicyAugment
from jaxnas.augment.policy import Policy
from jaxnas.augment.search.relaxed import Logits
from jaxnas.errors import InputError
from jaxnas.joint.epoch import joint_epoch
from jaxnas.joint.run import JointEpoch, Run, fixed, kept, now, policy, program, record
from jaxnas.joint.settings import Settings
from jaxnas.joint.state import JointState, Outer, Tuned, adam
from jaxnas.network import Network, Variables
from jaxnas.spaces import SearchSpace
from jaxnas.supernet.differentiable.choices import Choices
from jaxnas.supernet.differentiable.loop import arrays_of
from jaxnas.training.hyper import Hyper
from jaxnas.training.objective import Objective
from jaxnas.training.population import TrainingData


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

    An epoch is one compiled program, and a smaller one once all but the weights is settled; another
    seed, learning rate or temperature compiles nothing.

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
    run = Run(
        space, network, data, choices, own, settings, augmenter, objective, epochs, batch_size
    )
    current = (
        begin(space, network, seed=seed, hyper=hyper, augmenter=augmenter, settings=settings)
        if state is None
        else state
    )
    history: list[JointEpoch] = []
    for epoch in range(int(current.epoch), epochs):
        phase = settings.phase(epoch, epochs)
        current, figures = joint_epoch(
            program(run, phase), current, kept(run), own, now(run, current), arrays_of(data)
        )
        if epoch + 1 == settings.phases(epochs)[0]:
            current = fixed(run, current)
        history.append(record(run, phase, current, np.asarray(figures)))
        on_epoch(current, history[-1])
    return _found(run, current, history)


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
    outer: Any = Outer(alphas, logits, tuned)
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


def _found(run: Run, state: JointState, history: list[JointEpoch]) -> Joint:
    arch = np.asarray(state.arch)
    hyper = jax.tree.map(
        lambda a: np.asarray(a, np.float32).reshape(1), state.outer.tuned.hyper(run.hyper)
    )
    row = run.space.rows(arch[None])[0].astype(np.int32)
    return Joint(arch, row, state.variables, hyper, policy(run, state), history)
