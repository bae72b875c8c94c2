"""The protocol of a training-free proxy. Proxies themselves live in `proxies/`, one file a family."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnas.network import Scorable, Variables
from jaxnas.nn.context import Tap


class Batch(NamedTuple):
    """One minibatch: images `[B, H, W, C]`, standardised, and labels `int32[B]` or None."""

    images: jax.Array
    labels: jax.Array | None


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A training-free score of an architecture; see the three kinds below.

    `sign` is +1 where a higher value promises higher accuracy, -1 where a lower one does.
    """

    name: str
    paper: str
    sign: int = 1
    needs_labels: bool = False


@dataclass(frozen=True, kw_only=True)
class CountProxy(Proxy):
    """Counted from the architecture alone: `count(network, archs) -> [N]`."""

    count: Callable[[Scorable, np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class ForwardProxy(Proxy):
    """Read off one forward pass: `finish` turns the carry that `tap` summed up into the score."""

    tap: Tap
    finish: Callable[[Any], jax.Array]


@dataclass(frozen=True, kw_only=True)
class GradientProxy(Proxy):
    """Anything else: a pure function `score(network, variables, arch, batch) -> float32[]`."""

    score: Callable[[Scorable, Variables, jax.Array, Batch], jax.Array]
