"""The protocol of a training-free proxy. Proxies themselves live in `proxies/`, one file a family."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.network import Scorable, Variables
from jaxnas.nn.context import BatchNormMode, GradientTap, Tap
from jaxnas.passes import PLAIN, Batch, Forward, Passes, images_of

__all__ = ["Batch", "CountProxy", "ForwardProxy", "GradientProxy", "Passes", "Proxy", "evaluate"]

SHARED = {"loss_gradient", "loss_curvature", "image_gradient", "sample_gradients"}
"""What proxies may need that is computed from one forward pass of the images."""


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A training-free score of an architecture; see the three kinds below.

    `sign` is +1 where a higher value promises higher accuracy, -1 where a lower one does. `formula` is
    the score in one line, and `protocol` what it is computed on, where that is not one batch of images.
    """

    name: str
    paper: str
    formula: str = ""
    protocol: str = "images"
    sign: int = 1
    needs_labels: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """What has to be computed for it, in the words of `python -m jaxnas.proxies`."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class CountProxy(Proxy):
    """Counted from the architecture alone: `count(network, archs) -> [N]`."""

    count: Callable[[Scorable, np.ndarray], np.ndarray]

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing: no pass through the network."""
        return ()


@dataclass(frozen=True, kw_only=True)
class ForwardProxy(Proxy):
    """Read off one forward pass: `finish` turns the carry that the tap has folded into the score.

    `tap` is a tap, or a function that makes one for a network. `inputs` makes of a batch the images
    that are passed, and `weights`, if given, of the parameters and the batch the parameters that are
    used. Those that agree in these and `batch_norm` share one pass. `adjust`, if given, makes the score
    of what `finish` gives, the network, its variables and the architecture.
    """

    tap: Tap | Callable[[Scorable], Tap]
    finish: Callable[[Any], jax.Array]
    inputs: Callable[[Batch], jax.Array] = images_of
    batch_norm: BatchNormMode = "batch"
    weights: Callable[[Any, Batch], Any] | None = None
    adjust: Callable[[jax.Array, Scorable, Variables, jax.Array], jax.Array] | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """One forward pass."""
        return ("forward",)

    def forward(self, network: Scorable) -> Forward:
        """The forward pass that it reads."""
        return Forward(self.inputs, self.batch_norm, self.tap_for(network), self.weights)

    def score(
        self, carry: Any, network: Scorable, variables: Variables, arch: jax.Array
    ) -> jax.Array:
        """The score `float32[]` of `arch`, whose pass has left this carry."""
        score = jnp.asarray(self.finish(carry), jnp.float32)
        return score if self.adjust is None else self.adjust(score, network, variables, arch)

    def image_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """`(H, W, C)` of the images that are passed where those of the batch have this shape."""
        images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
        return jax.eval_shape(lambda x: self.inputs(Batch(x, None)), images).shape[1:]

    def tap_for(self, network: Scorable) -> Tap:
        """The tap that listens to this network."""
        # A protocol's instance may be a class with __call__; taps are told by what they promise.
        return self.tap if hasattr(self.tap, "contribution") else self.tap(network)  # pyright: ignore


@dataclass(frozen=True, kw_only=True)
class GradientProxy(Proxy):
    """Anything else: a pure function `score(passes) -> float32[]` of one architecture's `Passes`.

    `needs` names what it asks of the passes: `loss_gradient` and `image_gradient` are shared by all
    proxies that name them, and so is their forward pass; whatever else it says is its own business.
    `gradient_tap`, if given, listens to the loss's gradients at activations. With `reads_attention` it
    reads the matrices of self-attention, and is refused where there are none.
    """

    score: Callable[[Passes], jax.Array]
    needs: tuple[str, ...] = ("forward", "loss_gradient")  # pyright: ignore
    gradient_tap: GradientTap | None = None
    reads_blocks: bool = False
    reads_attention: bool = False

    @property
    def reports(self) -> frozenset[str]:
        """The kinds of report that it reads."""
        tapped = self.gradient_tap.kinds if self.gradient_tap else frozenset[str]()
        return tapped | ({"block"} if self.reads_blocks else frozenset())


def evaluate(
    proxies: Sequence[Proxy],
    network: Scorable,
    variables: Variables,
    arch: jax.Array,
    batch: Batch,
) -> dict[str, jax.Array]:
    """The scores `float32[]` of one architecture by the proxies that are computed, by name.

    What several of them need is computed once.
    """
    forward = {p.name: p.forward(network) for p in proxies if isinstance(p, ForwardProxy)}
    graded = [p for p in proxies if isinstance(p, GradientProxy)]
    passes = Passes(
        network,
        variables,
        arch,
        batch,
        forwards=tuple(forward.values()),
        gradient_taps=[p.gradient_tap for p in graded if p.gradient_tap is not None],
        gradients=any(SHARED & set(p.needs) for p in graded),
        curvature=any("loss_curvature" in p.needs for p in graded),
    )
    found: dict[str, jax.Array] = {}
    for p in proxies:
        if isinstance(p, ForwardProxy):
            carry = passes.carry(forward[p.name])
            found[p.name] = p.score(carry, network, variables, arch)
        elif isinstance(p, GradientProxy):
            found[p.name] = p.score(passes)
    return {name: _number(name, score) for name, score in found.items()}


def programs(proxies: Sequence[Proxy], network: Scorable) -> list[tuple[Proxy, ...]]:
    """The proxies that are computed, in groups that share a pass; groups share nothing.

    Compiled apart they take as long to run and much less to compile.
    """
    groups: dict[Any, list[Proxy]] = {}
    for p in proxies:
        if isinstance(p, ForwardProxy):
            groups.setdefault(p.forward(network).key, []).append(p)
        elif isinstance(p, GradientProxy):
            groups.setdefault(PLAIN if SHARED & set(p.needs) else p.needs, []).append(p)
    return [tuple(group) for group in groups.values()]


def _number(name: str, score: Any) -> jax.Array:
    """`float32[]`, or a sentence on what a user's own function has given instead."""
    shape = getattr(score, "shape", () if isinstance(score, float | int) else None)
    if shape != ():
        got = f"a {type(score).__name__}" if shape is None else f"an array of shape {shape}"
        raise InputError(f"The proxy {name} gives {got}; expected one number.")
    return jnp.asarray(score, jnp.float32)
