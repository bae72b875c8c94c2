"""What a search will cost, said before it starts, and what its trainings did cost."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.config import TRAINING
from jaxnas.nn.conv import conv2d
from jaxnas.sections import JOINT
from jaxnas.stages.job import Job
from jaxnas.stages.train import expected_trainings, seconds_allowed

STEP_FORWARDS = 3
"""A training step costs about three forward passes: one forward, two for the gradient."""


def cost_sentence(job: Job) -> str:
    """The multiply-adds of all trainings, and about how long this device needs for them.

    Both are said from all networks being as large as the mean of those ranked to all being as large as
    the largest, to which rankings lean; the rate is that of one convolution of the candidates' width,
    timed now.
    """
    total, parts = np.zeros(2), []
    seconds = 0.0
    for name in TRAINING[1:]:
        if name not in job.config.active_stages:
            continue
        if name == "train" and (limited := seconds_allowed(job)):
            seconds = limited
            parts.append(f"candidates until {_duration(limited)} are over")
            continue
        total += planned(job, name)
        parts += [f"{n} x {epochs} epochs" for n, epochs in _trainings(job, name)]
    repeats = job.recipe.repeats
    scored = f"{len(job.archs):,} architectures to score without training"
    scored += f", {repeats} times each" if repeats > 1 else ""
    if "rank" not in job.config.active_stages:
        scored = "one architecture, which is given"
    if not parts:
        return f"To do: {scored}."
    training = f"To do: {scored}; training {' and '.join(parts)}"
    if not total.any():
        return f"{training}."
    took = seconds + total / _multiply_adds_per_second(job)
    amounts = " to ".join(dict.fromkeys(f"{t / 1e9:,.0f}" for t in total))
    work = "" if seconds else f"about {amounts} G multiply-adds, "
    durations = " to ".join(dict.fromkeys(map(_duration, took)))
    return f"{training}, {work}roughly {durations} on this device, compilation apart."


def planned(job: Job, stage: str) -> np.ndarray:
    """Multiply-adds of all steps that a stage will train at most, `float64[2]`.

    With networks as large as the mean of `job.archs`, and as the largest.
    """
    macs = job.count(job.config.stage(stage), job.archs).macs
    epochs = sum(n * each for n, each in _trainings(job, stage))
    steps = STEP_FORWARDS * epochs * len(job.data.train)
    return steps * np.array([macs.mean(), macs.max()], np.float64)


def multiply_adds(job: Job) -> dict[str, float]:
    """Of all steps that a finished search's stages trained, by stage.

    A step is taken for `STEP_FORWARDS` forward passes. What is not made of steps of one network each
    is left out: super-nets, joint runs, and searches of policies.
    """
    counted = {stage: _network_epochs(job, stage) for stage in job.config.active_stages}
    each = STEP_FORWARDS * len(job.data.train)
    return {stage: each * macs for stage, macs in counted.items() if macs is not None}


def _network_epochs(job: Job, stage: str) -> float | None:
    """Multiply-adds of an image times epochs, summed over a finished stage's networks."""
    trainer = job.config.train.trainer
    if stage == "train" and trainer == "population":
        return sum(float(c.macs) * c.epochs[-1] for c in job.trained if c.role != "winner")
    if stage == "finish" and trainer != JOINT:
        return sum(float(c.macs) * c.epochs[-1] for c in job.trained if c.role == "winner")
    if stage not in ("tune", "augment") or job.winner is None:
        return None
    config = job.config.stage(stage)
    epochs = len(job.policies) * config.epochs
    if stage == "tune":
        epochs = sum(entry["cost"] for entry in job.run.of_stage("tune", "segment"))
        epochs += 2 * len(job.run.of_stage("tune", "epoch"))
    return float(job.count(config, job.winner[None]).macs[0]) * epochs


def _trainings(job: Job, stage: str) -> list[tuple[int, int]]:
    """How many networks a stage trains at most and for how many epochs, searches of policies apart."""
    config = job.config.stage(stage)
    if stage == "train":
        return [(expected_trainings(job), config.epochs)]
    if stage == "tune":
        tried = (1, config.budget) if config.budget else (config.members, config.epochs)
        return [tried, *([(2, config.confirm)] if config.confirm else [])]
    if stage == "augment":
        return [(len(config.policies) + len(config.search or ()), config.epochs)]
    return [(1, config.epochs)]


def _multiply_adds_per_second(job: Job) -> float:
    size = job.size(job.config.train)
    side, channels, batch = size.resolution, size.channels, job.config.train.batch_size
    x = jnp.ones((batch, side, side, channels))
    w = jnp.ones((3, 3, channels, channels))
    run = jax.jit(conv2d)
    run(x, w).block_until_ready()
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        run(x, w).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 9 * channels**2 * side**2 * batch / best


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
