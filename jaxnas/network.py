"""A network with choice points as pure functions: `init`, `apply` and closed-form counts."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnas.nn.context import BatchNormMode, Context, Tap


class Variables(NamedTuple):
    """A network's state: weights, and batch norm's running averages."""

    params: Any
    statistics: Any


class Outputs(NamedTuple):
    """What a forward pass gives: logits `[B, classes]`, the tap's carry, and renewed statistics."""

    logits: jax.Array
    carry: Any
    statistics: Any


class Counts(NamedTuple):
    """Closed-form sizes of architectures, over operations that lie on a path to the output.

    `params` counts weights and batch norm's scale and shift; `macs` the multiply-adds of convolutions
    and classifier for one image. Both `int64[N]`.
    """

    params: np.ndarray
    macs: np.ndarray


class Scorable(Protocol):
    """What proxies ask of a network: `Network`, or a plain module (`jaxnas.module_score`).

    Equal ones of equal hash share compiled programs.
    """

    @property
    def count(self) -> Callable[[np.ndarray], Counts]:
        """The sizes of `archs: int32[N, D]`."""
        ...

    def apply(
        self,
        variables: Variables,
        arch: jax.Array | np.ndarray,
        images: jax.Array,
        *,
        batch_norm: BatchNormMode = "batch",
        tap: Tap | None = None,
    ) -> Outputs:
        """Run the architecture `arch: int32[D]` on `images: [B, H, W, C]`."""
        ...


@dataclass(frozen=True, eq=False)
class Network:
    """A super-network: every branch of every choice point, each with weights of its own.

    `module` is an NNX module called as `module(images, ctx)`; `count(archs)` gives `Counts`; images are
    `[B, resolution, resolution, image_channels]`.
    """

    module: nnx.Module
    decisions: int
    resolution: int
    image_channels: int
    classes: int
    count: Callable[[np.ndarray], Counts]

    @cached_property
    def _split(self) -> tuple[Any, Any, Any]:
        graph, params, statistics = nnx.split(self.module, nnx.Param, nnx.BatchStat)
        return graph, params, statistics

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Network) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @cached_property
    def _identity(self) -> tuple[Any, ...]:
        # Networks built alike are equal, so that what was compiled for one serves the next.
        rest = (self.decisions, self.resolution, self.image_channels, self.classes)
        return (self._split[0], *rest)

    def init(self, key: jax.Array) -> Variables:
        """Fresh variables; the key is consumed. One flat draw, cut up and scaled."""
        _, params, statistics = self._split
        return Variables(_draw(key, params), jax.tree.map(jnp.asarray, statistics))

    def apply(
        self,
        variables: Variables,
        arch: jax.Array | np.ndarray,
        images: jax.Array,
        *,
        batch_norm: BatchNormMode = "batch",
        tap: Tap | None = None,
    ) -> Outputs:
        """Run the architecture `arch: int32[D]` on `images: [B, H, W, C]`.

        With a traced `arch` one compiled program serves all architectures; with a NumPy one only that
        network is built.
        """
        graph, _, _ = self._split
        # A copy, so that the caller's variables are left as they are.
        module = nnx.merge(graph, variables.params, variables.statistics, copy=True)
        ctx = Context(arch, batch_norm=batch_norm, tap=tap, batch=images.shape[0])
        logits = module(images, ctx)
        for norm, (mean, variance) in ctx.statistics.values():
            norm.mean[...] = mean
            norm.variance[...] = variance
        return Outputs(logits, ctx.carry, nnx.state(module, nnx.BatchStat))

    def bound_module(self, variables: Variables) -> Any:
        """The module with `variables` in place, for executors that call it themselves."""
        return nnx.merge(self._split[0], *variables)


def _draw(key: jax.Array, params: Any) -> Any:
    variables, tree = jax.tree.flatten(params, is_leaf=lambda v: isinstance(v, nnx.Variable))
    shapes = [v.get_value().shape for v in variables]
    sizes = [int(np.prod(shape)) for shape in shapes]
    starts = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    bounds = np.repeat([v.bound for v in variables], sizes).astype(np.float32)
    offsets = np.repeat([v.offset for v in variables], sizes).astype(np.float32)
    flat = _scaled_uniform(key, bounds, offsets)
    cut = [
        variable.replace(value=part.reshape(shape))
        for variable, part, shape in zip(
            variables,
            [flat[a:b] for a, b in itertools.pairwise(starts)],
            shapes,
            strict=True,
        )
    ]
    return jax.tree.unflatten(tree, cut)


@jax.jit
def _scaled_uniform(key: jax.Array, bounds: jax.Array, offsets: jax.Array) -> jax.Array:
    return offsets + bounds * jax.random.uniform(key, bounds.shape, minval=-1.0, maxval=1.0)
