"""Networks trained together: one program for all members, by vmap over their seeds."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxnas.predictors.regressor import Fitted

type Make = Callable[[nnx.Rngs], nnx.Module]
"""Makes a member; hashable, and equal for equal networks, since programs are kept by it."""
FEWEST = 32
"""Labels that the smallest program has room for."""


def fitted_ensemble(
    make: Make,
    inputs: tuple[np.ndarray, ...],
    rows: np.ndarray,
    z: np.ndarray,
    *,
    seed: int,
    members: int,
    steps: int,
    rate: float,
) -> Fitted:
    """Mean and deviation over networks that are called with the pool's arrays, each `[N, ...]`.

    Labels are filled up to a power of two, `FEWEST` at least, so that a few more compile nothing.
    """
    size = max(FEWEST, 1 << (len(rows) - 1).bit_length())
    filled = np.concatenate([rows, np.full(size - len(rows), rows[0])])
    targets = np.zeros(size, np.float32)
    targets[: len(rows)] = z
    counted = (np.arange(size) < len(rows)).astype(np.float32)
    picked = tuple(array[filled] for array in inputs)
    key = jax.random.key(seed)
    every = _train(make, inputs, picked, targets, counted, key, members, steps, rate)
    mean, std = np.asarray(every.mean(axis=0)), np.asarray(every.std(axis=0))
    return lambda asked: (mean[asked], std[asked])


@partial(jax.jit, static_argnames=("make", "members", "steps", "rate"))
def _train(
    make: Make,
    inputs: tuple[jax.Array, ...],
    picked: tuple[jax.Array, ...],
    targets: jax.Array,
    counted: jax.Array,
    key: jax.Array,
    members: int,
    steps: int,
    rate: float,
) -> jax.Array:
    """Predictions `float32[members, N]` after `steps` full-batch steps on the mean squared error.

    AdamW, its rate falling along a cosine. Members differ in their initial weights.
    """

    def one(key: jax.Array) -> jax.Array:
        graph, start = nnx.split(make(nnx.Rngs(key)))
        optimiser = optax.adamw(optax.cosine_decay_schedule(rate, steps), weight_decay=1e-3)

        def loss(params: Any) -> jax.Array:
            out = nnx.merge(graph, params)(*picked)  # pyright: ignore
            return jnp.sum(counted * jnp.square(out - targets)) / counted.sum()

        def step(_: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            params, state = carry
            updates, state = optimiser.update(jax.grad(loss)(params), state, params)
            return optax.apply_updates(params, updates), state

        params, _ = jax.lax.fori_loop(0, steps, step, (start, optimiser.init(start)))
        return nnx.merge(graph, params)(*inputs)  # pyright: ignore

    return jax.vmap(one)(jax.random.split(key, members))
