"""A graph network over operations, with flow attention."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnas.predictor import Candidates
from jaxnas.predictors.dags import dags, padded
from jaxnas.predictors.encodings import encode
from jaxnas.predictors.ensemble import fitted_ensemble
from jaxnas.predictors.regressor import Fitted, Regressor


class Flow(nnx.Module):
    """The mean of FLAN's two layers, both gated by the operation `o_i` of the vertex that reads.

    Dense graph flow: sigmoid(W_o o_i) * sum_j A_ij W_f x_j + W_f x_i. Graph attention:
    LN(sigmoid(W_p o_i) * sum_j a_ij W_v x_j), a_ij the softmax over j with A_ij of
    LeakyReLU(a'[W_v x_i * W_v x_j]).
    """

    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        self.flow = nnx.Linear(width, width, rngs=rngs)
        self.flow_gate = nnx.Linear(width, width, rngs=rngs)
        self.value = nnx.Linear(width, width, rngs=rngs)
        self.attention = nnx.Linear(width, 1, use_bias=False, rngs=rngs)
        self.value_gate = nnx.Linear(width, width, rngs=rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)

    def __call__(self, x: jax.Array, operations: jax.Array, reads: jax.Array) -> jax.Array:
        """`float32[n, V, width]` of vertices `x`, their operations, and who reads whom `[n, V, V]`."""
        flow = self.flow(x)
        sums = nnx.sigmoid(self.flow_gate(operations)) * (reads @ flow) + flow
        value = self.value(x)
        score = nnx.leaky_relu(self.attention(value[:, :, None] * value[:, None, :])[..., 0], 0.2)
        # The softmax by hand: inputs read nothing, and their sum is 0.
        score = jnp.where(reads > 0, score - jax.lax.stop_gradient(score.max()), -jnp.inf)
        share = jnp.exp(score)
        share = share / jnp.maximum(share.sum(axis=-1, keepdims=True), 1e-9)
        attended = self.norm(nnx.sigmoid(self.value_gate(operations)) * (share @ value))
        return nnx.relu((sums + attended) / 2)


class GraphNetwork(nnx.Module):
    """Embedded operations, `depth` flow layers, and a perceptron on their mean and other features."""

    def __init__(self, labels: int, extra: int, width: int, depth: int, rngs: nnx.Rngs) -> None:
        self.embedding = nnx.Embed(labels, width, rngs=rngs)
        self.layers = nnx.List([Flow(width, rngs) for _ in range(depth)])
        self.hidden = nnx.Linear(2 * width + extra, width, rngs=rngs)
        self.out = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, labels: jax.Array, reads: jax.Array, extra: jax.Array) -> jax.Array:
        """`float32[n]` of padded graphs (`jaxnas.predictors.dags.Padded`) and features `[n, F]`."""
        there = (labels > 0).astype(jnp.float32)[..., None]
        links = reads.astype(jnp.float32)
        operations = self.embedding(labels) * there
        x = operations
        for layer in self.layers:
            x = layer(x, operations, links) * there
        mean = x.sum(axis=1) / jnp.maximum(there.sum(axis=1), 1.0)
        ends = there * (links.sum(axis=1) == 0)[..., None]
        read_out = (x * ends).sum(axis=1)
        both = jnp.concatenate([mean, read_out, extra], axis=1)
        return self.out(nnx.relu(self.hidden(both)))[:, 0]


@dataclass(frozen=True)
class _Make:
    labels: int
    extra: int
    width: int
    depth: int

    def __call__(self, rngs: nnx.Rngs) -> GraphNetwork:
        return GraphNetwork(self.labels, self.extra, self.width, self.depth, rngs)


@dataclass(frozen=True)
class GNN(Regressor):
    """A small ensemble of graph networks on the architecture's operations, with flow attention.

    FLAN's encoder without its pre-training on other spaces, fitted by squared error on normal scores (the
    paper's loss compares pairs). The deviation is that of the members, which knows nothing of the noise.

    Args:
        members: how many networks.
        width: of their vertices.
        depth: flow layers.
        steps: of AdamW, full batch.
        rate: its learning rate at first.
    """

    name: ClassVar[str] = "gnn"
    paper: ClassVar[str] = "Akhauri and Abdelfattah, FLAN, arXiv:2403.02484"
    calibrated: ClassVar[bool] = False

    members: int = 3
    width: int = 24
    depth: int = 2
    steps: int = 150
    rate: float = 5e-3

    def learn(self, pool: Candidates, rows: np.ndarray, z: np.ndarray, *, seed: int) -> Fitted:
        """See `Regressor.learn`."""
        graphs = padded(dags(pool))
        names = [
            *(["ranks"] if pool.scores else []),
            *(["prior"] if pool.prior is not None else []),
        ]
        extra = encode("+".join(names), pool) if names else np.zeros((len(pool), 0))
        return fitted_ensemble(
            _Make(graphs.vocabulary, extra.shape[1], self.width, self.depth),
            (graphs.labels, graphs.reads, extra.astype(np.float32)),
            rows,
            z,
            seed=seed,
            members=self.members,
            steps=self.steps,
            rate=self.rate,
        )
