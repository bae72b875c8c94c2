"""Strict fairness: every choice of every decision once a step."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from jaxnas.errors import InputError
from jaxnas.supernet.source import Source
from jaxnas.supernet.trainer import Trainer


@dataclass(frozen=True)
class FairNAS(Trainer):
    """FairNAS (Chu et al., Rethinking Evaluation Fairness of Weight Sharing NAS, arXiv:1907.01845).

    A step takes as many paths as the decision of most choices has, m, on one minibatch. Path k takes
    choice pi_d(k) at decision d, pi_d a fresh random permutation: each choice exactly once. The m
    gradients are summed for one update. A decision of c < m choices strings random permutations
    together and takes the first m of them: each choice floor(m / c) or ceil(m / c) times.

    Paths that do not connect input and output are part of the permutations, and are taken: they move
    what follows the last decision. Only where decisions are free is there such a thing: every row valid,
    one shape class, and the network reading the decisions themselves.
    """

    paper: ClassVar[str] = (
        "Chu et al., Rethinking Evaluation Fairness of Weight Sharing NAS, arXiv:1907.01845"
    )

    def check(self, source: Source) -> None:
        """`InputError` where decisions are not free."""
        space = source.space
        archs = np.asarray(space.sample(jax.random.key(0), 256))
        rows, pruned = space.rows(archs), space.pruned(archs)
        own = rows.shape == pruned.shape and bool((rows == pruned).all())
        if not own or space.programs > 1 or space.size != int(np.prod(space.choices, dtype=object)):
            raise InputError(
                f"fairnas takes every choice of every decision equally often, but the decisions of "
                f"{space.name} are not free: not every combination is a network of its own; spos, random "
                "and enas train it."
            )

    def draw(self, source: Source, policy: Any, key: jax.Array, steps: int) -> np.ndarray:
        """`int32[steps, m, D]`."""
        choices = source.space.choices.tolist()
        most = max(choices)
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        columns = []
        for c in choices:
            strung = np.tile(np.arange(c, dtype=np.int32), (steps, -(-most // c), 1))
            columns.append(rng.permuted(strung, axis=2).reshape(steps, -1)[:, :most])
        return np.stack(columns, axis=2)
