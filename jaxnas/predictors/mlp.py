"""An ensemble of multilayer perceptrons."""

import itertools
from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np
from flax import nnx

from jaxnas.predictor import Candidates
from jaxnas.predictors.encodings import encode
from jaxnas.predictors.ensemble import fitted_ensemble
from jaxnas.predictors.regressor import Fitted, Regressor


class Perceptron(nnx.Module):
    """Dense layers with ReLU and one number at the end."""

    def __init__(self, inputs: int, widths: tuple[int, ...], rngs: nnx.Rngs) -> None:
        sizes = (inputs, *widths)
        self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)])
        self.out = nnx.Linear(sizes[-1], 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`float32[n]` of `x: float32[n, F]`."""
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return self.out(x)[:, 0]


@dataclass(frozen=True)
class _Make:
    inputs: int
    widths: tuple[int, ...]

    def __call__(self, rngs: nnx.Rngs) -> Perceptron:
        return Perceptron(self.inputs, self.widths, rngs)


@dataclass(frozen=True)
class MLPEnsemble(Regressor):
    """Mean and standard deviation over networks of other initial weights, all trained by one program.

    White et al.'s meta network, with fewer layers. The deviation is that of the members, which knows
    nothing of the labels' noise.

    Args:
        encoding: of the architectures.
        members: how many networks.
        widths: of the hidden layers.
        steps: of AdamW, full batch.
        rate: its learning rate at first.
    """

    name: ClassVar[str] = "mlp_ensemble"
    paper: ClassVar[str] = "White et al., BANANAS, arXiv:1910.11858"
    calibrated: ClassVar[bool] = False

    encoding: str = "known"
    members: int = 5
    widths: tuple[int, ...] = (64, 64)
    steps: int = 200
    rate: float = 3e-3

    def learn(self, pool: Candidates, rows: np.ndarray, z: np.ndarray, *, seed: int) -> Fitted:
        """See `Regressor.learn`."""
        x = encode(self.encoding, pool).astype(np.float32)
        return fitted_ensemble(
            _Make(x.shape[1], self.widths),
            (x,),
            rows,
            z,
            seed=seed,
            members=self.members,
            steps=self.steps,
            rate=self.rate,
        )
