"""What a search will cost, said before it starts."""

import time

import jax
import jax.numpy as jnp

from jaxnas.config import TRAINING
from jaxnas.nn.conv import conv2d
from jaxnas.stages.job import Job
from jaxnas.stages.train import expected_trainings, seconds_allowed

STEP_FORWARDS = 3
"""A training step costs about three forward passes: one forward, two for the gradient."""


def cost_sentence(job: Job) -> str:
    """The multiply-adds of all trainings, and about how long this device needs for them.

    The count takes every network as large as the mean of those ranked; the rate is that of one
    convolution of the candidates' width, timed now.
    """
    total, parts = 0.0, []
    images = len(job.data.train)
    seconds = 0.0
    for name in TRAINING[1:]:
        if name not in job.config.active_stages:
            continue
        config = getattr(job.config, name)
        if name == "train" and (limited := seconds_allowed(job)):
            seconds = limited
            parts.append(f"candidates until {_duration(limited)} are over")
            continue
        epochs = _epochs(job, name)
        macs = float(job.count(config, job.archs).macs.mean())
        total += STEP_FORWARDS * epochs * images * macs
        n = epochs // config.epochs
        parts.append(f"{n if epochs == n * config.epochs else 1} x {config.epochs} epochs")
    repeats = job.recipe.repeats
    scored = f"{len(job.archs):,} architectures to score without training"
    scored += f", {repeats} times each" if repeats > 1 else ""
    if "rank" not in job.config.active_stages:
        scored = "one architecture, which is given"
    if not parts:
        return f"To do: {scored}."
    training = f"To do: {scored}; training {' and '.join(parts)}"
    if not total:
        return f"{training}."
    took = seconds + total / _multiply_adds_per_second(job)
    work = "" if seconds else f"about {total / 1e9:,.0f} G multiply-adds, "
    return f"{training}, {work}roughly {_duration(took)} on this device, compilation apart."


def _epochs(job: Job, stage: str) -> int:
    """Epochs of all networks together that a stage trains at most, searches of policies apart."""
    config = job.config
    if stage == "train":
        return expected_trainings(job) * config.train.epochs
    if stage == "tune":
        return config.tune.budget or config.tune.members * config.tune.epochs
    if stage == "augment":
        ways = len(config.augment.policies) + len(config.augment.search or ())
        return ways * config.augment.epochs
    return config.finish.epochs


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
