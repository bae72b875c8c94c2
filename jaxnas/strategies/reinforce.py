"""REINFORCE on a distribution whose decisions are independent, as in NAS-Bench-101's and 201's baselines.

    p(a) = prod_d softmax(theta_d)[a_d],    loss = -mean((R - b) log p(a)),

b an exponential moving average of rewards R, corrected for its start and moved before it is used
(Williams 1992; Ying et al., arXiv:1902.09635; Dong and Yang, arXiv:2001.00326). theta starts near 0 and
is moved by Adam.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnas.strategies.draws import merit, rows_of
from jaxnas.strategies.members import Members, members
from jaxnas.strategy import Asked, Strategy, Task, Told


class PolicyState(NamedTuple):
    """theta `float32[D, K]`, Adam's moments, the average and the sum of its weights."""

    key: jax.Array
    logits: jax.Array
    adam: Any
    average: jax.Array
    weight: jax.Array
    told: jax.Array


@dataclass(frozen=True)
class Reinforce(Strategy):
    """Full trainings only; an architecture may come again. Who failed teaches nothing.

    Args:
        learning_rate: Adam's; the authors tried .01 to .5 on NAS-Bench-201.
        decay: of the moving average.
    """

    name: ClassVar[str] = "reinforce"
    paper: ClassVar[str] = "Dong, Yang, NAS-Bench-201, arXiv:2001.00326; Williams 1992"
    traced: ClassVar[bool] = True
    learning_rate: float = 0.1
    decay: float = 0.9

    def init(self, task: Task, key: jax.Array) -> PolicyState:
        """Nearly uniform."""
        draw, key = jax.random.split(key)
        choices = members(task).choices
        logits = 1e-3 * jax.random.normal(draw, (len(choices), int(choices.max())))
        adam = optax.adam(self.learning_rate).init(logits)
        return PolicyState(
            key, logits, adam, jnp.zeros(()), jnp.zeros(()), jnp.zeros((), jnp.int32)
        )

    def ask(self, task: Task, state: PolicyState, n: int) -> Asked:
        """Drawn independently; decisions that no member has stand for the nearest."""
        pool = members(task)
        log_p = _log_p(pool, state.logits)
        key = jax.random.fold_in(state.key, state.told)
        archs = jax.random.categorical(key, log_p, shape=(n, len(log_p))).astype(jnp.int32)
        return Asked(rows_of(pool, archs), jnp.full(n, task.full, jnp.int32))

    def tell(self, task: Task, state: PolicyState, asked: Asked, told: Told) -> PolicyState:
        """One step of Adam on the mean over those that did not fail."""
        pool = members(task)
        rewards, fine, number = finite_rewards(told)
        weight = self.decay * state.weight + (1 - self.decay)
        # The first average is the first mean to the last bit: Adam would blow up what rounding leaves.
        share = (1 - self.decay) / weight
        average = state.average + share * (rewards.sum() / number - state.average)
        gain = jnp.where(fine, rewards - average, 0)
        archs = jnp.asarray(pool.archs)[asked.rows]

        def loss(logits: jax.Array) -> jax.Array:
            log_p = jnp.take_along_axis(_log_p(pool, logits)[None], archs[:, :, None], axis=2)
            return -(gain * log_p.sum(axis=(1, 2))).sum() / number

        step, adam = optax.adam(self.learning_rate).update(jax.grad(loss)(state.logits), state.adam)
        logits = jnp.asarray(optax.apply_updates(state.logits, step))
        kept = (state.logits, state.adam, state.average, state.weight)
        logits, adam, average, weight = jax.tree.map(
            lambda a, b: jnp.where(fine.any(), a, b), (logits, adam, average, weight), kept
        )
        seen = state.told + len(asked.rows)
        return PolicyState(state.key, logits, adam, average, weight, seen)


def finite_rewards(told: Told) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Rewards `[n]`, 0 for who failed, who did not, and how many did not (at least 1)."""
    merits = merit(told)
    fine = jnp.isfinite(merits)
    return jnp.where(fine, merits, 0), fine, jnp.maximum(fine.sum(), 1)


def _log_p(pool: Members, logits: jax.Array) -> jax.Array:
    """log p of each choice, `float32[D, K]`; -inf where a decision has fewer."""
    there = jnp.arange(logits.shape[1])[None] < jnp.asarray(pool.choices)[:, None]
    return jax.nn.log_softmax(jnp.where(there, logits, -jnp.inf), axis=1)
