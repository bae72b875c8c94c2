"""An LSTM that emits decisions one after another, trained by REINFORCE on full trainings."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.strategies import controller
from jaxnas.strategies.controller import Controller, ControllerState
from jaxnas.strategies.draws import rows_of
from jaxnas.strategies.members import Members, members
from jaxnas.strategies.reinforce import finite_rewards
from jaxnas.strategy import Asked, Strategy, Task, Told


class RnnState(NamedTuple):
    """The controller's state, and how many were told."""

    key: jax.Array
    policy: ControllerState
    told: jax.Array


@dataclass(frozen=True)
class RnnController(Strategy):
    """`jaxnas.strategies.controller` as a strategy; an architecture may come again.

    Fitness is multiplied by `scale` (.01 makes fractions of percentages), which the weight of the entropy
    is chosen for. Args are the controller's; the learning rate is larger than for the thousands of
    trainings that ENAS's and Zoph and Le's have.
    """

    name: ClassVar[str] = "rnn_controller"
    paper: ClassVar[str] = (
        "Zoph, Le, Neural Architecture Search with Reinforcement Learning, arXiv:1611.01578"
    )
    traced: ClassVar[bool] = True
    hidden: int = 32
    temperature: float = 5.0
    tanh_constant: float = 2.5
    learning_rate: float = 0.01
    entropy_weight: float = 1e-4
    baseline_decay: float = 0.9
    scale: float = 0.01

    def init(self, task: Task, key: jax.Array) -> RnnState:
        """A fresh controller."""
        draw, key = jax.random.split(key)
        policy = controller.init(self._controller(members(task)), draw)
        return RnnState(key, policy, jnp.zeros((), jnp.int32))

    def ask(self, task: Task, state: RnnState, n: int) -> Asked:
        """Drawn independently; decisions that no member has stand for the nearest."""
        pool = members(task)
        key = jax.random.fold_in(state.key, state.told)
        archs = controller.sample(self._controller(pool), state.policy.params, key, n)
        return Asked(rows_of(pool, archs), jnp.full(n, task.full, jnp.int32))

    def tell(self, task: Task, state: RnnState, asked: Asked, told: Told) -> RnnState:
        """One update; who failed counts as the mean of the others, a batch of failures as nothing."""
        pool = members(task)
        rewards, fine, number = finite_rewards(told)
        rewards = self.scale * jnp.where(fine, rewards, rewards.sum() / number)
        archs = jnp.asarray(pool.archs)[asked.rows]
        updated = controller.update(self._controller(pool), state.policy, archs, rewards)
        policy = jax.tree.map(lambda a, b: jnp.where(fine.any(), a, b), updated, state.policy)
        return RnnState(state.key, policy, state.told + len(asked.rows))

    def _controller(self, pool: Members) -> Controller:
        return Controller(
            tuple(pool.choices.tolist()),
            hidden=self.hidden,
            temperature=self.temperature,
            tanh_constant=self.tanh_constant,
            learning_rate=self.learning_rate,
            entropy_weight=self.entropy_weight,
            baseline_decay=self.baseline_decay,
        )
