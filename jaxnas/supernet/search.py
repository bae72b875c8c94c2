"""The search by inherited weights: propose, evaluate, take the best."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jaxnas.network import Network
from jaxnas.spaces import SearchSpace
from jaxnas.supernet.inherited import Inherited, evaluate_inherited
from jaxnas.supernet.shared import SuperNet
from jaxnas.supernet.source import Source
from jaxnas.supernet.train import get_trainer
from jaxnas.supernet.trainer import Trainer, drawn_rows
from jaxnas.training.population import TrainingData


class Found(NamedTuple):
    """The architectures evaluated, best first `int32[N, D]`, and what they reached."""

    archs: np.ndarray
    inherited: Inherited


def search_inherited(
    trainer: str | Trainer,
    space: SearchSpace,
    network: Network,
    state: SuperNet,
    data: TrainingData,
    *,
    sample: int,
    calibration: jax.Array,
    seed: int = 0,
    shape_classes: tuple[int, ...] = (0,),
    on_chunk: Callable[[int, int, Inherited], None] = lambda done, all_, found: None,
) -> Found:
    """Evaluate up to `sample` distinct architectures that the trainer proposes, by inherited weights.

    Ranked by validation accuracy, equal ones by validation loss. `spos`, `fairnas` and `random` propose
    a uniform sample, all there are if they are fewer; `enas` what its controller draws.
    """
    source = Source(space, shape_classes)
    archs = get_trainer(trainer).propose(source, state.policy, jax.random.key(seed), sample)
    found = evaluate_inherited(
        network,
        state.variables,
        drawn_rows(source, archs),
        data.x_val,
        data.y_val,
        calibration=calibration,
        on_chunk=on_chunk,
    )
    order = np.lexsort((found.loss, -found.accuracy))
    return Found(archs[order], Inherited(*(values[order] for values in found)))
