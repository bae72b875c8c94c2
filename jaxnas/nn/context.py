"""What a forward pass carries: who decides at choice points, and who hears of what passes by.

A network is written once, with `jaxnas.nn.Choice` where architectures differ. Its modules are called as
`module(x, ctx)`, and the context gives the choice points their meaning: `Context` follows one
architecture; `jaxnas.scoring.shared_prefix` follows a whole population at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxnas.nn.noise import Noise
from jaxnas.nn.nudge import nudged

if TYPE_CHECKING:
    from jaxnas.nn.layers import BatchNorm, Choice, Layer
    from jaxnas.nn.width import Width

BatchNormMode = Literal["batch", "halves", "update", "running", "none"]
"""`batch`: the batch's own statistics; `halves`: each half of the batch its own, as in two passes;
`update`: the batch's own, and running averages move; `running`: the running averages; `none`: batch
normalisation is left out, its scale and shift too."""

REPORTS = ("pre_activation", "affine", "block", "batch_norm", "features")
"""What networks report: the inputs of ReLUs, the outputs of convolutions and linear layers, the values
between blocks (the stem's output and each block's, in order), the inputs of batch normalisation, and the
features, which are the input of the global pooling."""


class Tap(Protocol):
    """A reducer over what a network reports while it runs: a fold over sites, of one fixed shape."""

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of report it listens to, of `REPORTS`."""
        ...

    def init(self, batch: int) -> Any:
        """The carry before any report, for a batch of `batch` images: a pytree of zeros."""
        ...

    def contribution(self, kind: str, value: jax.Array, active: jax.Array | None = None) -> Any:
        """What one site adds to the carry; `kind` is one of `kinds` and `value` is `[B, ..., C]`.

        `active: float32[C]` is 0 for channels that are built but not there; None: all are there.
        """
        ...

    def fold(self, carry: Any, contribution: Any) -> Any:
        """The carry after a site, sites coming in the order in which the network reports."""
        ...


class SumTap:
    """A tap whose carry is the sum of its contributions."""

    def fold(self, carry: Any, contribution: Any) -> Any:
        """The sum of the two."""
        return jax.tree.map(jnp.add, carry, contribution)


class GradientTap(Protocol):
    """A reducer over reported values and the gradients that arrive at them: a sum over sites."""

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of report it listens to, of `REPORTS`."""
        ...

    def contribution(
        self,
        kind: str,
        value: jax.Array,
        gradient: jax.Array,
        active: jax.Array | None,
        fan_in: jax.Array,
    ) -> jax.Array:
        """What one site adds, `float32[]`; `value` and `gradient` are `[B, ..., C]`.

        `fan_in: float32[]` is the number of weights that make a channel of an `affine` report, else 1.
        """
        ...


class GradientTaps(NamedTuple):
    """Gradient taps, and a zero `float32[]` for each, whose gradient is what the tap has summed up."""

    taps: tuple[GradientTap, ...]
    zeros: tuple[jax.Array, ...]


def kept[T](x: T) -> T:
    """`x`, which a choice point's gradient does not compute again.

    Whatever else a branch computes on the way it computes again: a `lax.switch` hands all that is
    kept by any of its branches from one pass to the other, filled with zeros by the others.
    """
    return checkpoint_name(x, "kept")


_KEPT = jax.checkpoint_policies.save_only_these_names("kept")


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _tapped(
    tap: GradientTap, kind: str, value: jax.Array, zero: jax.Array, site: tuple[Any, jax.Array]
) -> jax.Array:
    """`value`; backwards, the tap's contribution arrives at `zero`."""
    return value


def _tapped_backward(tap: GradientTap, kind: str, kept: Any, gradient: jax.Array) -> Any:
    value, site = kept
    heard = tap.contribution(kind, value, gradient, *site).astype(jnp.float32)
    return gradient, heard, jax.tree.map(jnp.zeros_like, site)


_tapped.defvjp(lambda tap, kind, value, zero, site: (value, (value, site)), _tapped_backward)


@dataclass(frozen=True)
class Taps:
    """Several taps in one pass; the carry is a tuple, one member a tap."""

    taps: tuple[Tap, ...]

    @property
    def kinds(self) -> frozenset[str]:  # noqa: D102
        return frozenset().union(*(tap.kinds for tap in self.taps))

    def init(self, batch: int) -> Any:  # noqa: D102
        return tuple(tap.init(batch) for tap in self.taps)

    def contribution(  # noqa: D102
        self, kind: str, value: jax.Array, active: jax.Array | None = None
    ) -> Any:
        return tuple(
            tap.contribution(kind, value, active) if kind in tap.kinds else None
            for tap in self.taps
        )

    def fold(self, carry: Any, contribution: Any) -> Any:  # noqa: D102
        return tuple(
            c if more is None else tap.fold(c, more)
            for tap, c, more in zip(self.taps, carry, contribution, strict=True)
        )


@dataclass(frozen=True)
class NoTap(SumTap):
    """Listens to nothing."""

    kinds: frozenset[str] = frozenset()

    def init(self, batch: int) -> Any:  # noqa: D102
        return ()

    def contribution(  # noqa: D102
        self, kind: str, value: jax.Array, active: jax.Array | None = None
    ) -> Any:
        raise AssertionError("NoTap listens to nothing")


def absent_choices(block: Any) -> tuple[int, ...]:
    """The choices of a block that is a choice point with which it is not there."""
    return block.identities() if hasattr(block, "identities") else ()


def branch_is_plain(branch: Any) -> bool:
    """Whether a branch computes nothing: a skip connection, or no connection."""
    return getattr(branch, "plain", False)


class Block(NamedTuple):
    """A value between blocks `[B, ..., C]`, and whether the block is there, `bool[]`; None: it is."""

    value: jax.Array
    present: jax.Array | None


class Context:
    """Follows one architecture: at each choice point one branch is computed.

    `arch` is `int32[D]`. Traced, a choice is a `lax.switch`, so one program serves every architecture;
    as a NumPy array it is decided while tracing, and only that network is compiled. `None` suits parts
    of a network that have no choice points.

    `cuts`, one array for each block, cut the network into its blocks: each block reads, instead of
    what the one before gave, that value as a constant plus the array. `noise` drops paths and features
    at random. `distinct`, where images are repeated, is the share of them that are not repetitions.
    """

    def __init__(
        self,
        arch: jax.Array | np.ndarray | None = None,
        *,
        batch_norm: BatchNormMode = "batch",
        tap: Tap | None = None,
        gradient_taps: GradientTaps | None = None,
        cuts: Sequence[jax.Array] | None = None,
        batch: int = 0,
        noise: Noise | None = None,
        distinct: jax.Array | float = 1.0,
    ) -> None:
        self.arch = arch
        self.noise, self.distinct, self.inside = noise, distinct, False
        self.batch_norm: BatchNormMode = batch_norm
        self.tap: Tap = tap if tap is not None else NoTap()
        self.gradient_taps = gradient_taps
        self.cuts = cuts
        self.nudges: Mapping[int, jax.Array] = {}
        self.carry = self.tap.init(batch)
        self.statistics: dict[int, tuple[BatchNorm, tuple[jax.Array, jax.Array]]] = {}
        self.blocks: list[Block] = []

    def apply(self, layer: "Layer", x: Any) -> Any:
        """Compute one layer."""
        y = layer.forward(x, self)
        if self.nudges:
            y = nudged(layer, x, y, self, self.nudges)
        if layer.affine:
            y = kept(y)
            width = layer.outputs
            active = None if width is None or isinstance(width, int) else self._mask(width)
            y = self._heard("affine", y, active, partial(self._fan_in, layer, x), layer.parts)
        return y

    def add(self, values: Sequence[Any]) -> Any:
        """The sum of the values that meet in a node."""
        total = values[0]
        for value in values[1:]:
            total = total + value
        return total

    def report(self, kind: str, value: Any, layer: "Layer") -> Any:
        """Let taps hear of a value, the input of `layer`; what is returned is to be used instead."""
        return self._heard(kind, value, self.active(layer))

    def boundary(self, value: Any, block: Any = None) -> Any:
        """Report a value between blocks, made by `block`; what is returned is to be used instead.

        A choice point that takes an `Identity` makes no block. Inside choice points a boundary is
        heard by taps alone: it is no member of `blocks` and cuts nothing.
        """
        present = self._present(block)
        if "block" in self.tap.kinds:
            after = self.tap.fold(self.carry, self.tap.contribution("block", value))
            if present is not None:
                after = jax.tree.map(partial(jnp.where, present), after, self.carry)
            self.carry = after
        self.blocks.append(Block(value, present))
        if self.noise is not None and not self.inside:
            distorted = self.noise.block(len(self.blocks), value)
            value = distorted if present is None else jnp.where(present, distorted, value)
        if self.cuts is not None:
            value = lax.stop_gradient(value) + self.cuts[len(self.blocks) - 1]
        return value

    def active(self, layer: "Layer") -> jax.Array | None:
        """`float32[C]`, 0 for channels of the layer's input that are masked; None: there are none."""
        return None if layer.width is None else self._mask(layer.width)

    def update_statistics(self, norm: "BatchNorm", mean: jax.Array, variance: jax.Array) -> None:
        """Keep a batch-norm layer's new running averages until the pass is over."""
        self.statistics[id(norm)] = (norm, (mean, variance))

    def _heard(
        self,
        kind: str,
        value: Any,
        active: jax.Array | None,
        fan_in: Callable[[], jax.Array] = lambda: jnp.ones(()),
        parts: int = 1,
    ) -> Any:
        if kind in self.tap.kinds:
            more = self.tap.contribution(kind, value, active)
            self.carry = self.tap.fold(self.carry, more)
        pairs = zip(*(self.gradient_taps or ((), ())), strict=True)
        taps = [(tap, zero) for tap, zero in pairs if kind in tap.kinds]
        if not taps:
            return value
        shape = value.shape
        if parts > 1:
            value = value.reshape(*shape[:-2], -1)
            active = None if active is None else jnp.tile(active, parts)
        for tap, zero in taps:
            value = _tapped(tap, kind, value, zero, (active, fan_in()))
        return value.reshape(shape)

    def _fan_in(self, layer: "Layer", x: jax.Array) -> jax.Array:
        active = self.active(layer)
        inputs = x.shape[-1] if active is None else active.sum()
        # The multiply-adds of one output.
        return jnp.asarray(layer.count(inputs, 1, 1)[1], jnp.float32)

    def _mask(self, width: "Width") -> jax.Array | None:
        return None if self.arch is None else width.mask(self.arch)

    def _present(self, block: Any) -> jax.Array | None:
        absent = absent_choices(block)
        if not absent or self.arch is None:
            return None
        return jnp.all(self.arch[block.decision] != jnp.asarray(absent))

    def choose(self, choice: "Choice", x: Any, onto: Any = None) -> Any:
        """Compute the branch that the architecture takes at `choice`, added to `onto` if given.

        The sum is made inside the branch, where "no connection" costs nothing.
        """
        if self.arch is None:
            raise ValueError("A network with choice points needs an architecture.")
        assert not isinstance(choice.decision, str), "the network has not numbered its decisions"
        index = self.arch[choice.decision]
        if not isinstance(index, jax.Array):
            branch = choice.branches[int(index)]
            return self._onto(choice, branch, branch(x, self), onto)
        # A switch wants the same outputs from every branch: a branch hands back the statistics of
        # all the choice's batch norms, its own renewed and the others as they were.
        norms = choice.batch_norms() if self.batch_norm == "update" else []
        before = [(norm.mean[...], norm.variance[...]) for norm in norms]

        def run(branch: Any) -> Any:
            @partial(jax.checkpoint, prevent_cse=False, policy=_KEPT)
            def branch_fn(x: Any, onto: Any, carry: Any, statistics: Any) -> Any:
                inner = self._inside(carry)
                y = branch(x, inner)
                y = inner._onto(choice, branch, y, onto)
                after = [
                    inner.statistics[id(norm)][1] if id(norm) in inner.statistics else old
                    for norm, old in zip(norms, statistics, strict=True)
                ]
                return y, inner.carry, after

            return branch_fn

        branches = [run(branch) for branch in choice.branches]
        y, self.carry, after = lax.switch(index, branches, x, onto, self.carry, before)
        for norm, (mean, variance) in zip(norms, after, strict=True):
            self.update_statistics(norm, mean, variance)
        return y

    def _onto(self, choice: "Choice", branch: Any, y: Any, onto: Any) -> Any:
        """`y` added to what has arrived in a node; as a path that is left at times, if it computes."""
        if onto is None:
            return y
        if self.noise is not None and not branch_is_plain(branch):
            assert isinstance(choice.decision, int)
            y = self.noise.path(choice.decision, y)
        return self.add([onto, y])

    def _inside(self, carry: Any) -> "Context":
        inner = Context(self.arch, batch_norm=self.batch_norm, gradient_taps=self.gradient_taps)
        inner.noise, inner.distinct, inner.inside = self.noise, self.distinct, True
        inner.tap, inner.carry, inner.nudges = self.tap, carry, self.nudges
        return inner
