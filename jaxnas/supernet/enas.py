"""A controller that learns, from the accuracies of inherited weights, which paths to take."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.errors import InputError
from jaxnas.network import Network, Variables
from jaxnas.strategies import controller
from jaxnas.strategies.controller import Controller, ControllerState
from jaxnas.supernet.source import Source
from jaxnas.supernet.trainer import Trainer, drawn_rows
from jaxnas.training.population import TrainingData

ROUNDS = 1000
"""So many draws in a row without a network say that the controller finds none."""


@dataclass(frozen=True)
class ENAS(Trainer):
    """ENAS (Pham et al., Efficient NAS via Parameter Sharing, arXiv:1802.03268).

    In turns: an epoch of the shared weights on paths that the controller draws, one a step; then
    `steps` updates of the controller, each on `samples` of its architectures, rewarded by their accuracy
    on one minibatch of `batch_size` validation images with batch norm by that batch's statistics. What
    is no architecture of the super-net (not valid, of another shape, without a path) is rewarded 0 and
    not trained. The network may read something else than the decisions, so that all spaces are served.
    """

    steps: int = 50
    samples: int = 10
    batch_size: int = 64
    hidden: int = 64
    learning_rate: float = 3.5e-4
    entropy_weight: float = 1e-4
    baseline_decay: float = 0.99

    paper: ClassVar[str] = "Pham et al., Efficient NAS via Parameter Sharing, arXiv:1802.03268"

    def controller(self, source: Source) -> Controller:
        """The controller of a space's decisions."""
        return Controller(
            tuple(source.space.choices.tolist()),
            hidden=self.hidden,
            learning_rate=self.learning_rate,
            entropy_weight=self.entropy_weight,
            baseline_decay=self.baseline_decay,
        )

    def init(self, source: Source, key: jax.Array) -> ControllerState:
        """A fresh controller."""
        return controller.init(self.controller(source), key)

    def draw(
        self, source: Source, policy: ControllerState, key: jax.Array, steps: int
    ) -> np.ndarray:
        """The controller's, `int32[steps, 1, D]`."""
        found = [np.zeros((0, len(source.space.decisions)), np.int32)]
        for round_ in range(ROUNDS):
            use = jax.random.fold_in(key, round_)
            archs = controller.sample(self.controller(source), policy.params, use, steps)
            found.append(np.asarray(archs)[source.holds(np.asarray(archs))])
            if sum(map(len, found)) >= steps:
                return np.concatenate(found)[:steps, None]
        raise InputError(
            f"Of {ROUNDS * steps:,} rows that enas's controller drew, {sum(map(len, found)):,} are "
            f"architectures of {source.space.name}, too few; spos draws valid ones only."
        )

    def turn(
        self,
        source: Source,
        network: Network,
        policy: ControllerState,
        variables: Variables,
        data: TrainingData,
        key: jax.Array,
    ) -> tuple[ControllerState, dict[str, float]]:
        """The controller's updates; reports the mean `reward` and `entropy` (nats)."""
        own = self.controller(source)
        rewards, entropies = [], []
        for step in range(self.steps):
            draw, batch = jax.random.split(jax.random.fold_in(key, step))
            archs = np.asarray(controller.sample(own, policy.params, draw, self.samples))
            held = source.holds(archs)
            reward = np.zeros(self.samples, np.float32)
            if held.any():
                # What is no network is measured as one that is, and that not counted.
                rows = drawn_rows(
                    source, archs[np.where(held, np.arange(len(archs)), held.argmax())]
                )
                size = min(self.batch_size, len(data.x_val))
                found = _accuracies(network, size, variables, rows, data.x_val, data.y_val, batch)
                reward = np.where(held, np.asarray(found), 0).astype(np.float32)
            entropies.append(float(controller.entropy(own, policy.params, archs).mean()))
            policy = controller.update(own, policy, archs, reward)
            rewards.append(float(reward.mean()))
        return policy, {"reward": float(np.mean(rewards)), "entropy": float(np.mean(entropies))}

    def propose(
        self, source: Source, policy: ControllerState, key: jax.Array, n: int
    ) -> np.ndarray:
        """Distinct ones that the controller draws; fewer where it has come to few."""
        archs = np.zeros((0, len(source.space.decisions)), np.int32)
        for step in range(8):
            more = self.draw(source, policy, jax.random.fold_in(key, step), n)[:, 0]
            archs = np.concatenate([archs, more])
            _, first = np.unique(source.space.pruned(archs), axis=0, return_index=True)
            archs = archs[np.sort(first)]
        return archs[:n]


@partial(jax.jit, static_argnames=("network", "size"))
def _accuracies(
    network: Network,
    size: int,
    variables: Variables,
    rows: jax.Array,
    x: jax.Array,
    y: jax.Array,
    key: jax.Array,
) -> jax.Array:
    """The accuracy of each of `rows: int32[N, P]` on one minibatch of `size` images, `float32[N]`."""
    batch: Any = jax.random.choice(key, x.shape[0], (size,), replace=False)
    images, labels = x[batch], y[batch]

    def one(row: jax.Array) -> jax.Array:
        logits = network.apply(variables, row, images).logits
        # NaN logits have an argmax too: they are no answer.
        right = (logits.argmax(-1) == labels) & jnp.isfinite(logits).all(-1)
        return right.mean()

    return lax.map(one, rows)
