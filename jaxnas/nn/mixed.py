"""Contexts in which choices are relaxed: every branch by its weight, or the branch that was drawn.

The network and its weights are those that `Context` follows one architecture through; only what a choice
point means is another.
"""

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnas import backend
from jaxnas.nn.context import BatchNormMode, Context, Tap, kept
from jaxnas.nn.conv import conv2d
from jaxnas.nn.layers import Conv, Zero

if TYPE_CHECKING:
    from jaxnas.nn.layers import Choice, Layer

DIAGONAL_CHANNELS = 32
"""A convolution of as many channels takes XLA:CPU hardly longer than one of 8."""


class SkipDropout(NamedTuple):
    """Dropout on what skip connections give: the rate `float32[]`, and a key that is consumed."""

    rate: jax.Array
    key: jax.Array


class RelaxedContext(Context):
    """What contexts of relaxed choices do so that programs of hundreds of branches compile soon."""

    @property
    def loops(self) -> bool:
        """Whether edges that are alike are computed in a loop (`jaxnas.nn.wired`)."""
        return not self.tap.kinds

    def apply(self, layer: "Layer", x: Any) -> Any:
        """Compute one layer: on CPUs a depthwise convolution of few channels by a diagonal kernel.

        A sum of shifted images, which is as fast, takes 9 to 25 times as many operations to write.
        """
        if not (self.loops and backend.choices().custom_conv_gradient and _few_channels(layer, x)):
            return super().apply(layer, x)
        conv: Any = layer
        kernel = conv.kernel[...]
        diagonal = jnp.eye(x.shape[-1], dtype=kernel.dtype)[None, None]
        return kept(
            conv2d(
                x,
                kernel * diagonal,
                stride=conv.stride,
                padding=conv.padding,
                dilation=conv.dilation,
            )
        )


def _few_channels(layer: "Layer", x: jax.Array) -> bool:
    if not isinstance(layer, Conv) or not layer.depthwise or layer.bias is not None:
        return False
    return layer.kernel.get_value().shape[3] == x.shape[-1] <= DIAGONAL_CHANNELS


class MixedContext(RelaxedContext):
    """A choice is the weighted sum of all its branches (Liu et al., DARTS, arXiv:1806.09055).

    At decision d, y = edges[d] sum_k weights[d, k] branch_k(x).

    Args:
        weights: `float[P, K]`, one row a column that choice points read; further choices are not read.
        edges: `float[P]`, a factor for each choice point; None: 1.
        skip_dropout: dropout on branches that are nothing but their input (P-DARTS); None: none.
        batch_norm: as in `Context`; statistics of all branches move.
        tap: hears of all branches, in order.
        batch: the number of images, for the tap.
    """

    def __init__(
        self,
        weights: jax.Array,
        *,
        edges: jax.Array | None = None,
        skip_dropout: SkipDropout | None = None,
        batch_norm: BatchNormMode = "batch",
        tap: Tap | None = None,
        batch: int = 0,
    ) -> None:
        super().__init__(batch_norm=batch_norm, tap=tap, batch=batch)
        self.weights, self.edges = weights, edges
        self._dropout = skip_dropout
        self._dropped = [0]

    def choose(self, choice: "Choice", x: Any, onto: Any = None) -> Any:
        """The weighted sum of the branches, added to `onto` if given."""
        assert not isinstance(choice.decision, str), "the network has not numbered its decisions"
        y = self.mixture(choice, choice.branches, x)
        if self.edges is not None:
            y = self.edges[choice.decision].astype(y.dtype) * y
        return y if onto is None else self.add([onto, y])

    def mixture(self, choice: "Choice", branches: Sequence[Any], x: Any) -> Any:
        """sum_k weights[d, k] branches[k](x)."""
        weights = self.weights[choice.decision]
        skips = choice.identities()
        terms = []
        for k, branch in enumerate(branches):
            # Zeros need not be added up, but for their shape where there is nothing else.
            if isinstance(branch, Zero) and len(branches) > 1:
                continue
            y = self._branch(branch, x)
            y = self._with_dropout(y) if k in skips else y
            terms.append(weights[k].astype(y.dtype) * y)
        return self.add(terms)

    def repeated(self) -> Callable[[jax.Array], "MixedContext"]:
        """For each repetition, by its number, a context with statistics and dropout of its own."""
        self._dropped[0] += 1
        turn = self._dropped[0]

        def inner(number: jax.Array) -> MixedContext:
            own = copy.copy(self)
            own.statistics, own._dropped = {}, [0]
            if self._dropout is not None:
                key = jax.random.fold_in(jax.random.fold_in(self._dropout.key, turn), number)
                own._dropout = self._dropout._replace(key=key)
            return own

        return inner

    def _branch(self, branch: Any, x: Any) -> Any:
        # Statistics are kept in common; blocks inside a choice point are nobody's.
        inner = copy.copy(self)
        inner.blocks = []
        y = branch(x, inner)
        self.carry = inner.carry
        return y

    def _with_dropout(self, y: jax.Array) -> jax.Array:
        if self._dropout is None:
            return y
        rate, key = self._dropout
        self._dropped[0] += 1
        use = jax.random.fold_in(key, self._dropped[0])
        stays = jax.random.bernoulli(use, 1 - rate, y.shape)
        return jnp.where(stays, y / (1 - rate).astype(y.dtype), 0)


class SampledContext(RelaxedContext):
    """A choice is the branch that was drawn, times a weight (Dong and Yang, GDAS, arXiv:1910.04465).

    At decision d, y = weights[d, drawn[d]] branch_drawn[d](x), and no other branch is computed. The
    weight carries the gradient: with w = 1 + p - stop_gradient(p) its value is 1, and dy/dp is the
    branch's output.

    Args:
        drawn: `int32[P]`, the branch of each decision; traced, one program serves all.
        weights: `float[P, K]`.
        batch_norm: as in `Context`; statistics of the branch drawn move.
        tap: hears of the branch drawn.
        batch: the number of images, for the tap.
    """

    def __init__(
        self,
        drawn: jax.Array,
        weights: jax.Array,
        *,
        batch_norm: BatchNormMode = "batch",
        tap: Tap | None = None,
        batch: int = 0,
    ) -> None:
        super().__init__(drawn, batch_norm=batch_norm, tap=tap, batch=batch)
        self.weights = weights

    def choose(self, choice: "Choice", x: Any, onto: Any = None) -> Any:
        """The branch drawn, weighted, added to `onto` if given."""
        y = super().choose(choice, x)
        assert self.arch is not None
        y = self.weights[choice.decision, self.arch[choice.decision]].astype(y.dtype) * y
        return y if onto is None else self.add([onto, y])

    def repeated(self) -> Callable[[jax.Array], "SampledContext"]:
        """For each repetition a context with statistics of its own."""

        def inner(number: jax.Array) -> SampledContext:
            own = copy.copy(self)
            own.statistics = {}
            return own

        return inner

    def _inside(self, carry: Any) -> "Context":
        assert isinstance(self.arch, jax.Array)
        inner = SampledContext(self.arch, self.weights, batch_norm=self.batch_norm)
        inner.tap, inner.carry = self.tap, carry
        return inner
