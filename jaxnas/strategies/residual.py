"""A Gaussian process on what the label-free ranking leaves unexplained, in pure JAX and fixed shapes.

Of N candidates with the ranking's normal scores p, the fitness is

    y = a + s (.85 p + b p + f + h + noise),   b ~ N(0, .3^2),

a being unknown, f a Gaussian process of what the architecture is (`jaxnas.predictors.structure`,
decisions one-hot, p, the proxies' normal scores) and h one of the proxies' scores alone, both with Matern
5/2 kernels of one length (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006).
Amplitude, length and noise are those of a small grid that maximise marginal likelihood times prior; s
maximises it in closed form.
"""

import itertools
from typing import NamedTuple
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.linalg import solve_triangular

from jaxnas.predictors.encodings import adjacency, normal_scores, proxy_ranks
from jaxnas.predictors.structure import structure
from jaxnas.strategies.listed import best_first
from jaxnas.strategies.members import members
from jaxnas.strategy import Task

SLOPE, SLOPE_SPREAD = 0.85, 0.3
"""What a normal score of a ranking says about one of the labels, and how sure that is."""
OFFSET = 6.0
"""Deviation of what is left of a once the labels' own mean was taken away, in units of s: more than the
ranking's best, which are labelled first, are above its mean."""
PROXIES = 0.6
"""The amplitude of h, as a share of that of f."""
GRID = np.array(
    list(itertools.product((0.3, 0.5, 0.8), (1.0, 1.6, 2.5), (0.1, 0.2, 0.4))), np.float32
)
"""Amplitude of f, length, and the noise's deviation."""
MIDDLE, WIDTH = np.log(np.array((0.5, 1.6, 0.2))), np.array((0.5, 0.5, 0.7))
"""Their log-normal prior."""
PSEUDO = 2.0
"""So many labels' worth is the belief that s is the labels' own deviation."""


class Features(NamedTuple):
    """Candidates: one member of each class of equal functions, the best by the ranking.

    `rows: int32[C]` of the pool; `of: int32[N]`, the candidate that stands for each member; `prior:
    float32[C]`; `what: float32[C, F]` and `proxies: float32[C, P]`, what f and h see.
    """

    rows: np.ndarray
    of: np.ndarray
    prior: np.ndarray
    what: np.ndarray
    proxies: np.ndarray


class Labels(NamedTuple):
    """Who was trained: candidates `int32[L]`, their fitness `float32[L]`, and how many are held."""

    candidates: jax.Array
    fitness: jax.Array
    held: jax.Array


class Process(NamedTuple):
    """The process given its first `held` labels, whose places behind them are empty.

    `hyper: float32[3]`, a row of the grid; `factor: float32[L, L]`, the Cholesky factor of the labels'
    kernel; `known: float32[L, C]`, its inverse times the kernel of labels and candidates; `explained:
    float32[C]`, the sum of that squared; `held: int32[]`.
    """

    hyper: jax.Array
    factor: jax.Array
    known: jax.Array
    explained: jax.Array
    held: jax.Array


_KNOWN: "WeakKeyDictionary[Task, Features]" = WeakKeyDictionary()


def features(task: Task) -> Features:
    """The candidates of a task, computed once a task."""
    if task not in _KNOWN:
        _KNOWN[task] = _features(task)
    return _KNOWN[task]


def _features(task: Task) -> Features:
    classes = members(task).classes
    pool = task.pool
    order = np.arange(len(pool)) if pool.prior is None else best_first(pool.prior)
    rows = order[np.sort(np.unique(classes[order], return_index=True)[1])]
    place = np.zeros(classes.max() + 1, np.int32)
    place[classes[rows]] = np.arange(len(rows))
    prior = np.zeros(len(pool)) if pool.prior is None else normal_scores(pool.prior)
    decisions = adjacency(pool) / np.sqrt(2 * len(pool.space.decisions))
    together = [structure(pool), decisions, prior[:, None] / 2]
    proxies = np.zeros((len(pool), 1))
    if pool.scores:
        proxies = proxy_ranks(pool) / np.sqrt(len(pool.scores))
        together.append(proxies)
    what = np.concatenate(together, axis=1)
    taken = (prior, what, proxies)
    return Features(
        rows.astype(np.int32), place[classes], *(a[rows].astype(np.float32) for a in taken)
    )


def empty(task: Task, labels: int) -> Process:
    """Nothing was told; room for so many labels."""
    known = features(task)
    size = len(known.rows)
    return Process(
        jnp.exp(jnp.asarray(MIDDLE, jnp.float32)),
        jnp.eye(labels, dtype=jnp.float32),
        jnp.zeros((labels, size), jnp.float32),
        jnp.zeros(size, jnp.float32),
        jnp.zeros((), jnp.int32),
    )


def covariance(known: Features, hyper: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """The kernel without noise of candidates `a: int32[n]` and `b: int32[m]`, `float32[n, m]`."""
    prior = jnp.asarray(known.prior)
    slope = SLOPE_SPREAD**2 * prior[a][:, None] * prior[b][None]
    far = _matern(jnp.asarray(known.what), hyper[1], a, b)
    near = _matern(jnp.asarray(known.proxies), hyper[1], a, b)
    return OFFSET**2 + slope + hyper[0] ** 2 * (far + PROXIES**2 * near)


def variance(known: Features, hyper: jax.Array) -> jax.Array:
    """The kernel without noise of each candidate with itself, `float32[C]`."""
    slope = jnp.square(SLOPE_SPREAD * jnp.asarray(known.prior))
    return OFFSET**2 + slope + hyper[0] ** 2 * (1 + PROXIES**2)


def _matern(x: jax.Array, length: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    square = jnp.square(x).sum(axis=1)
    apart = square[a][:, None] + square[b][None] - 2 * x[a] @ x[b].T
    r = jnp.sqrt(5 * jnp.maximum(apart, 0)) / length
    return (1 + r + r * r / 3) * jnp.exp(-r)


def appended(known: Features, process: Process, candidate: jax.Array) -> Process:
    """The process with one more label, of this candidate `int32[]`: one row of the factor."""
    every = jnp.arange(len(known.rows))
    kernel = covariance(known, process.hyper, candidate[None], every)[0]
    row = process.known[:, candidate]
    pivot = kernel[candidate] + process.hyper[2] ** 2 - row @ row
    pivot = jnp.sqrt(jnp.maximum(pivot, 1e-6))
    new = (kernel - row @ process.known) / pivot
    place = process.held
    return Process(
        process.hyper,
        process.factor.at[place].set(row.at[place].set(pivot)),
        process.known.at[place].set(new),
        process.explained + jnp.square(new),
        place + 1,
    )


def posterior(
    known: Features, process: Process, labels: Labels, scale: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation `float32[C]` of .85 p + b p + f + h, in units of s."""
    prior = SLOPE * jnp.asarray(known.prior)
    there = jnp.arange(len(labels.fitness)) < process.held
    rest = jnp.where(there, labels.fitness / scale - prior[labels.candidates], 0)
    weights = solve_triangular(process.factor, rest, lower=True)
    left = variance(known, process.hyper) - process.explained
    return prior + weights @ process.known, jnp.sqrt(jnp.maximum(left, 1e-6))


def fitted(known: Features, labels: Labels, before: jax.Array, due: jax.Array) -> jax.Array:
    """The row of the grid `float32[3]` that suits the labels best, or `before` where none is due.

    A loop of no steps leaves out what is not due; a condition would, under vmap, compute it all the same.
    """
    there = jnp.arange(len(labels.fitness)) < labels.held
    away = (np.log(GRID) - MIDDLE) / WIDTH
    grid, prior = jnp.asarray(GRID), jnp.asarray(-0.5 * np.square(away).sum(axis=1), jnp.float32)

    def step(place: jax.Array, best: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        factor = _factor(known, grid[place], labels, there)
        evidence = _scaled(known, factor, labels, there)[1] + prior[place]
        better = evidence > best[0]
        return jnp.where(better, evidence, best[0]), jnp.where(better, grid[place], best[1])

    steps = jnp.where(due, len(GRID), 0)
    return lax.fori_loop(0, steps, step, (jnp.asarray(-jnp.inf, jnp.float32), before))[1]


def scale_of(known: Features, process: Process, labels: Labels) -> jax.Array:
    """s, `float32[]`, by the labels that the process holds."""
    there = jnp.arange(len(labels.fitness)) < process.held
    return _scaled(known, process.factor, labels, there)[0]


def _factor(known: Features, hyper: jax.Array, labels: Labels, there: jax.Array) -> jax.Array:
    kernel = covariance(known, hyper, labels.candidates, labels.candidates)
    both = there[:, None] & there[None]
    noise = jnp.where(there, hyper[2] ** 2, 1)
    return jnp.linalg.cholesky(jnp.where(both, kernel, 0) + jnp.diag(noise))


def _scaled(
    known: Features, factor: jax.Array, labels: Labels, there: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """s, and the logarithm of the marginal likelihood there.

    With u = L^-1 y, v = L^-1 .85 p and t = 1 / s, minus twice the logarithm is |u t - v|^2 + nu (d t)^2 -
    2 (n + nu) log t + 2 log |L|, d being the labels' deviation and nu = `PSEUDO`.
    """
    number = there.sum()
    mean = SLOPE * jnp.asarray(known.prior)[labels.candidates]
    both = jnp.stack([jnp.where(there, labels.fitness, 0), jnp.where(there, mean, 0)], axis=1)
    u, v = solve_triangular(factor, both, lower=True).T
    deviation = jnp.where(there, labels.fitness, 0).std() * jnp.sqrt(
        len(there) / jnp.maximum(number, 1)
    )
    spread = jnp.where(deviation > 1e-12, deviation, 1)
    a, b = u @ u + PSEUDO * spread**2, u @ v
    t = (b + jnp.sqrt(b * b + 4 * a * (number + PSEUDO))) / (2 * a)
    twice = a * t * t - 2 * b * t + v @ v - 2 * (number + PSEUDO) * jnp.log(t)
    return 1 / t, -0.5 * twice - jnp.log(jnp.diag(factor)).sum()
