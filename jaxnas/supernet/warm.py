"""Candidates that begin where the super-net ended."""

import jax
import numpy as np

from jaxnas.network import Network, Variables
from jaxnas.supernet.inherited import recalibrated
from jaxnas.training.population import Population, population_of


def inherit(
    network: Network,
    variables: Variables,
    archs: np.ndarray,
    *,
    seeds: np.ndarray,
    calibration: jax.Array | None = None,
) -> Population:
    """A population, one candidate a row of `archs: int32[N, P]`, with the super-net's weights.

    Each computes what its path in the super-net does; from there `train_population` trains it by
    itself, its minibatches drawn from its own of `seeds: uint32[N]`. There is no momentum yet. With
    `calibration` batches (`calibration_batches`) running averages begin as its own, ready to be
    evaluated before any training; without, as the super-net's, which no path has moved.
    """
    if calibration is None:
        members = [variables] * len(archs)
    else:
        calibrate = jax.jit(recalibrated, static_argnums=0)
        rows = np.asarray(archs, np.int32)
        members = [calibrate(network, variables, row, calibration) for row in rows]
    return population_of(members, np.asarray(seeds, np.uint32))
