"""A super-network whose choices are the mean of the branches that are left, as proxies see it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.network import Counts, Network, Outputs, Variables
from jaxnas.nn.context import BatchNormMode, Tap
from jaxnas.nn.linear_maps import LinearMaps
from jaxnas.nn.mixed import MixedContext
from jaxnas.proxy import Batch, CountProxy, GradientProxy, Proxy
from jaxnas.scoring.per_architecture import score_per_architecture

type Masks = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Scores of `masks: bool[n, P, K]`, the branches left of each choice, by name, higher being better."""


def branches(network: Network) -> np.ndarray:
    """Which branches there are, `bool[P, K]`, of a network's P choices of up to K.

    Raises:
        InputError: architectures choose widths or nothing, or rows hold what no choice point reads.
    """
    found = {int(d): len(names) for d, names in network.survey.decisions.items()}
    if network.elastic or not found or sorted(found) != list(range(len(found))):
        raise InputError(
            "Pruning and perturbation need a network of choice points alone, whose rows hold one column "
            f"for each; got columns {sorted(found)}{' and widths' if network.elastic else ''}."
        )
    counts = np.array([found[d] for d in range(len(found))])
    return np.arange(counts.max()) < counts[:, None]


@dataclass(frozen=True)
class Relaxed:
    """A network as proxies ask it, the architecture being a flat mask `int32[P K]`.

    A choice is the mean of the branches left, y = sum_k m_k branch_k(x) / sum_k m_k. Gradients of
    branches that are gone are 0. Taps hear of all branches, those that are gone included: a proxy that
    reads reports learns of a branch that went by what it does further on.
    """

    network: Network
    shape: tuple[int, int]

    def apply(
        self,
        variables: Variables,
        arch: jax.Array | np.ndarray,
        images: jax.Array,
        *,
        batch_norm: BatchNormMode = "batch",
        tap: Tap | None = None,
        gradient_taps: Any = None,
        cuts: Any = None,
        nudges: Any = None,
    ) -> Outputs:
        """Logits and the tap's carry; there are no gradient taps, cuts or nudges here."""
        if cuts is not None or nudges is not None or (gradient_taps and gradient_taps.taps):
            raise InputError("This proxy reads what a network of mixed choices does not report.")
        mask = jnp.asarray(arch, images.dtype).reshape(self.shape)
        weights = mask / jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
        ctx = MixedContext(weights, batch_norm=batch_norm, tap=tap, batch=images.shape[0])
        return self.network.apply_in(variables, ctx, images)

    def apply_scaled(self, *args: Any, **kwargs: Any) -> Any:
        """Mixed choices have no logits beyond floating point."""
        raise InputError("This proxy needs scaled values, which mixed choices do not have.")

    def flow(self, *args: Any) -> Any:
        """As `apply_scaled`."""
        raise InputError("This proxy needs scaled values, which mixed choices do not have.")

    def count(self, archs: np.ndarray) -> Counts:
        """Sizes are of architectures."""
        raise InputError("A size is counted of an architecture, not of mixed choices.")

    @property
    def largest(self) -> int:
        """That of the network."""
        return self.network.largest

    def depth(self, archs: np.ndarray) -> np.ndarray:
        """That of architectures."""
        raise InputError("A depth is that of an architecture, not of mixed choices.")

    def specialise(self, variables: Variables, arch: Any) -> Variables:
        """The variables as they are."""
        return variables

    def active(self, arch: Any) -> Any:
        """All parameters; the gradients of branches that are gone are 0 by themselves."""
        params = jax.eval_shape(self.network.init, jax.random.key(0)).params
        return jax.tree.map(lambda p: jnp.ones((1,) * len(p.shape)), params)

    def units(self, kind: str) -> int:
        """Those of all branches."""
        return self.network.units(kind)

    @property
    def linear_maps(self) -> LinearMaps:
        """Those of the network."""
        return self.network.linear_maps


def relaxed_scores(
    network: Network, batch: Batch, proxies: Sequence[Proxy], *, seed: int = 0
) -> Masks:
    """A function that scores masks of a network's choices by proxies, one compiled program for all.

    Raises:
        InputError: a network whose choices cannot be mixed, or a proxy that is counted or that listens
            to gradients at activations.
    """
    shape = branches(network).shape
    for p in proxies:
        if isinstance(p, CountProxy) or (isinstance(p, GradientProxy) and p.gradient_tap):
            raise InputError(
                f"{p.name} is not defined for mixed choices; near: ntk, linear_regions."
            )
    relaxed: Any = Relaxed(network, (int(shape[0]), int(shape[1])))
    variables = network.init(jax.random.key(seed))

    def score(masks: np.ndarray) -> dict[str, np.ndarray]:
        flat = np.asarray(masks, np.int32).reshape(len(masks), -1)
        found = score_per_architecture(relaxed, variables, flat, batch, proxies)
        return {p.name: p.sign * found[p.name].astype(np.float64) for p in proxies}

    return score
