"""A task that only one operation can solve: every trainer finds it, whatever the seed."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnas.module_space import ModuleSpace
from jaxnas.nn import (
    BatchNorm,
    Choice,
    Conv,
    GlobalAvgPool,
    Identity,
    Linear,
    ReLU,
    Sequential,
    Zero,
)
from jaxnas.spaces import Size
from jaxnas.strategies import controller
from jaxnas.supernet.enas import ENAS
from jaxnas.supernet.inherited import calibration_batches
from jaxnas.supernet.search import search_inherited
from jaxnas.supernet.source import Source
from jaxnas.supernet.train import TRAINERS, train_supernet
from jaxnas.training.hyper import Hyper
from jaxnas.training.population import TrainingData

SEEDS = range(10)
BEST = [3, 0]


def conv(channels, kernel):
    return Sequential(Conv(channels, channels, kernel), BatchNorm(channels), ReLU())


class Stripes(nnx.Module):
    """Pixels by themselves say nothing: it takes a 3x3 convolution, and a way to the output."""

    def __init__(self, size, classes, image_channels):
        c = size.channels
        self.stem = Sequential(Conv(image_channels, c, 1), BatchNorm(c))
        self.operation = Choice("operation", [Zero(), Identity(), conv(c, 1), conv(c, 3)])
        self.gate = Choice("gate", [Identity(), Zero()])
        self.head = Sequential(GlobalAvgPool(), Linear(c, classes))

    def __call__(self, x, ctx):
        """Logits."""
        for part in (self.stem, self.operation, self.gate, self.head):
            x = part(x, ctx)
        return x


SPACE = ModuleSpace(Stripes, size=Size(4, (1,), 6))
NETWORK = SPACE.network(SPACE.train_size, classes=2, image_channels=1)


def stripes(n, seed):
    """Across or upright, either phase, on some noise: half of all pixels are bright in both classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    across = np.tile(np.array([1.0, -1.0]), 3)[:, None] * np.ones((6, 6))
    x = np.where(y[:, None, None] == 0, across, across.T) * rng.choice([-1, 1], (n, 1, 1))
    x = x + 0.2 * rng.standard_normal(x.shape)
    return jnp.asarray(x[..., None], jnp.float32), jnp.asarray(y, jnp.int32)


DATA = TrainingData(*stripes(64, 0), *stripes(64, 1))
CONTROLLER = {"learning_rate": 0.01, "entropy_weight": 0.02, "hidden": 16}
OWN = {"enas": ENAS(steps=15, samples=8, batch_size=32, **CONTROLLER)}


@pytest.mark.parametrize("name", TRAINERS)
def test_the_best_is_found_by_ten_seeds_of_ten(name):
    trainer = OWN.get(name, TRAINERS[name])
    hyper = Hyper.constant(1, learning_rate=0.05 if name == "fairnas" else 0.1)
    for seed in SEEDS:
        state = train_supernet(
            trainer, SPACE, NETWORK, DATA, hyper, epochs=20, batch_size=16, seed=seed
        )
        found = search_inherited(
            trainer,
            SPACE,
            NETWORK,
            state,
            DATA,
            sample=8,
            calibration=calibration_batches(DATA.x, images=64, batch_size=32),
            seed=seed,
        )
        assert found.archs[0].tolist() == BEST, f"seed {seed}"
        assert found.inherited.accuracy[0] > 0.9
        assert (found.inherited.accuracy[1:] < 0.8).all()
        if name == "enas":
            every, own = SPACE.all(), trainer.controller(Source(SPACE))
            likely = every[int(np.argmax(controller.log_prob(own, state.policy.params, every)))]
            assert likely.tolist() == BEST, f"seed {seed}"


def test_no_other_architecture_can_solve_it():
    # The mean over pixels of what depends on one pixel is about the same for both classes.
    x, y = stripes(2000, 2)
    x, y = np.asarray(x)[..., 0], np.asarray(y)
    for power in (1, 2, 3):
        means = (x**power).mean((1, 2))
        assert abs(means[y == 0].mean() - means[y == 1].mean()) < 3 * means.std() / np.sqrt(1000)
