"""ENAS's controller: an LSTM that emits an architecture's decisions one after another.

Pham et al., Efficient Neural Architecture Search via Parameter Sharing, arXiv:1802.03268. With h_d the
LSTM's output after the choices before decision d, and C_d its number of choices,

    p(a_d | a_1 ... a_{d-1}) = softmax over k < C_d of  c tanh((W_d h_d + b_d)_k / T),

c the `tanh_constant`, T the `temperature`. The LSTM reads an embedding of the choice before, the first
time a learned start. It is trained by REINFORCE with a moving average b of rewards R as baseline:

    loss = -mean((R - b) log p(a)) - entropy_weight mean(H(a)),

H(a) the sum of the entropies of p(. | a_1 ... a_{d-1}) on the way to a.
"""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax


@dataclass(frozen=True)
class Controller:
    """What a controller is; equal ones share compiled programs.

    `choices[d]` is the number of choices of decision d. Defaults are those of ENAS's cells.
    """

    choices: tuple[int, ...]
    hidden: int = 64
    temperature: float = 5.0
    tanh_constant: float = 2.5
    learning_rate: float = 3.5e-4
    entropy_weight: float = 1e-4
    baseline_decay: float = 0.99


class ControllerState(NamedTuple):
    """The LSTM's weights, Adam's moments, the baseline `float32[]` and the number of updates."""

    params: Any
    adam: Any
    baseline: jax.Array
    updates: jax.Array


class _Policy(nnx.Module):
    """Tables have one row a decision, padded to the most choices."""

    def __init__(self, controller: Controller, rngs: nnx.Rngs) -> None:
        d, most, hidden = len(controller.choices), max(controller.choices), controller.hidden
        uniform = nnx.initializers.uniform(0.2)

        def table(*shape: int) -> nnx.Param:
            return nnx.Param(uniform(rngs.params(), shape) - 0.1)

        self.start = table(hidden)
        self.embedding = table(d, most, hidden)
        self.weights = table(d, hidden, most)
        self.bias = nnx.Param(jnp.zeros((d, most)))
        self.lstm = nnx.OptimizedLSTMCell(hidden, hidden, rngs=rngs)


@partial(jax.jit, static_argnames="controller")
def init(controller: Controller, key: jax.Array) -> ControllerState:
    """A fresh controller, near uniform; the key is consumed."""
    params = nnx.state(_Policy(controller, nnx.Rngs(params=key)), nnx.Param)
    zero = jnp.zeros(())
    return ControllerState(params, _adam(controller).init(params), zero, jnp.zeros((), jnp.int32))


@partial(jax.jit, static_argnames=("controller", "n"))
def sample(controller: Controller, params: Any, key: jax.Array, n: int) -> jax.Array:
    """`n` architectures drawn independently, `int32[n, D]`; the key is consumed."""

    def draw(logits: jax.Array, key: jax.Array) -> jax.Array:
        return jax.random.categorical(key, logits)

    def one(key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, len(controller.choices))
        return _walk(controller, params, draw, keys)[0]

    return jax.vmap(one)(jax.random.split(key, n))


@partial(jax.jit, static_argnames="controller")
def log_prob(controller: Controller, params: Any, archs: jax.Array) -> jax.Array:
    """log p of each of `archs: int32[N, D]`, `float32[N]`."""
    return _followed(controller, params, archs)[0]


@partial(jax.jit, static_argnames="controller")
def entropy(controller: Controller, params: Any, archs: jax.Array) -> jax.Array:
    """H on the way to each of `archs: int32[N, D]`, in nats, `float32[N]`."""
    return _followed(controller, params, archs)[1]


@partial(jax.jit, static_argnames="controller")
def update(
    controller: Controller, state: ControllerState, archs: jax.Array, rewards: jax.Array
) -> ControllerState:
    """One step of Adam on REINFORCE's loss, for `archs: int32[N, D]` and their rewards `[N]`.

    The baseline moves first, from the mean of the first rewards on.
    """
    mean, decay = rewards.mean(), controller.baseline_decay
    moved = decay * state.baseline + (1 - decay) * mean
    baseline = jnp.where(state.updates == 0, mean, moved)

    def loss(params: Any) -> jax.Array:
        log_probs, entropies = _followed(controller, params, archs)
        gain = ((rewards - baseline) * log_probs).mean()
        return -gain - controller.entropy_weight * entropies.mean()

    gradient = jax.grad(loss)(state.params)
    updates, adam = _adam(controller).update(gradient, state.adam, state.params)
    params = optax.apply_updates(state.params, updates)
    return ControllerState(params, adam, baseline, state.updates + 1)


def _followed(controller: Controller, params: Any, archs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log p and H of given architectures."""

    def one(arch: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, log_p, h = _walk(controller, params, lambda logits, choice: choice, arch)
        return log_p, h

    return jax.vmap(one)(jnp.asarray(archs, jnp.int32))


def _walk(
    controller: Controller, params: Any, choose: Any, given: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Decision by decision: `choose(logits, given[d])` says what is taken. Choices, log p and H."""
    policy = nnx.merge(_graph(controller), params)
    counts = jnp.asarray(controller.choices)
    there = jnp.arange(max(controller.choices))[None] < counts[:, None]

    def step(carry: Any, inputs: Any) -> Any:
        state, x = carry
        given, weights, bias, embedding, there = inputs
        state, h = policy.lstm(state, x)
        bounded = jnp.tanh((h @ weights + bias) / controller.temperature)
        logits = jnp.where(there, controller.tanh_constant * bounded, -jnp.inf)
        choice = choose(logits, given)
        log_p = jax.nn.log_softmax(logits)
        # 0 log 0 = 0, whose gradient must not be NaN.
        known = jnp.where(there, log_p, 0)
        h_d = -jnp.sum(jnp.where(there, jnp.exp(known) * known, 0))
        return (state, embedding[choice]), (choice, log_p[choice], h_d)

    zeros = jnp.zeros(controller.hidden)
    tables = (given, policy.weights[...], policy.bias[...], policy.embedding[...], there)
    _, (choices, log_ps, entropies) = lax.scan(step, ((zeros, zeros), policy.start[...]), tables)
    return choices.astype(jnp.int32), log_ps.sum(), entropies.sum()


@lru_cache
def _graph(controller: Controller) -> Any:
    policy = nnx.eval_shape(lambda: _Policy(controller, nnx.Rngs(0)))
    return nnx.split(policy, nnx.Param)[0]


def _adam(controller: Controller) -> optax.GradientTransformation:
    return optax.adam(controller.learning_rate)
