"""A super-net of single paths on every registered space. Slow: each is a training program to compile."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.search_spaces import SPACES, get_space
from jaxnas.supernet.inherited import calibration_batches, evaluate_inherited
from jaxnas.supernet.source import Source
from jaxnas.supernet.train import train_supernet
from jaxnas.training.hyper import Hyper
from jaxnas.training.population import TrainingData

sys.path.append(str(Path(__file__).parents[1] / "search_spaces"))
from test_space_contract import images_for, small_network


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_single_paths_train_and_are_evaluated(name):
    space = get_space(name)
    network = small_network(space)
    x = images_for(network, 24)
    data = TrainingData(x, jnp.arange(24, dtype=jnp.int32) % 3, x[:12], jnp.arange(12) % 3)
    losses = []
    state = train_supernet(
        "spos",
        space,
        network,
        data,
        Hyper.constant(1, learning_rate=0.01),
        epochs=6,
        batch_size=8,
        on_epoch=lambda epoch, state, metrics: losses.append(metrics.train_loss),
    )
    assert np.isfinite(losses).all()
    assert losses[-1] != losses[0]
    archs = Source(space).distinct(jax.random.key(1), 3)
    found = evaluate_inherited(
        network,
        state.variables,
        space.rows(archs),
        data.x_val,
        data.y_val,
        calibration=calibration_batches(data.x, images=24, batch_size=24),
    )
    assert np.isfinite(found.loss).all()
    assert ((found.accuracy >= 0) & (found.accuracy <= 1)).all()
    assert len(np.unique(found.loss)) > 1
