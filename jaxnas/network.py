"""A network with choice points as pure functions: `init`, `apply`, closed-form counts and masks."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnas.errors import InputError
from jaxnas.nn.context import BatchNormMode, Block, Context, GradientTaps, Tap
from jaxnas.nn.depth import longest_chains
from jaxnas.nn.linear_maps import LinearMaps
from jaxnas.nn.masks import Masks
from jaxnas.nn.noise import Noise
from jaxnas.nn.nudge import Nudges, nudges_of
from jaxnas.nn.scaled import FlowContext, Scaled, ScaledContext
from jaxnas.nn.sizes import Sizes
from jaxnas.nn.survey import Survey, annotate_widths, number_decisions, take_survey


class Variables(NamedTuple):
    """A network's state: weights, and batch norm's running averages."""

    params: Any
    statistics: Any


class Outputs(NamedTuple):
    """What a forward pass gives: logits `[B, classes]`, the tap's carry, and renewed statistics.

    `blocks` are the values between blocks: the stem's and each block's.
    """

    logits: jax.Array
    carry: Any
    statistics: Any
    blocks: tuple[Block, ...] = ()


class Counts(NamedTuple):
    """Closed-form sizes of architectures, over operations that reach the output.

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
        """The sizes of `archs: int32[N, P]`."""
        ...

    @property
    def largest(self) -> int:
        """Parameters of the largest architecture, or a bound on them."""
        ...

    def depth(self, archs: np.ndarray) -> np.ndarray:
        """The longest chain of convolutions and linear layers in each of `archs`, `int64[N]`."""
        ...

    def apply(
        self,
        variables: Variables,
        arch: jax.Array | np.ndarray,
        images: jax.Array,
        *,
        batch_norm: BatchNormMode = "batch",
        tap: Tap | None = None,
        gradient_taps: GradientTaps | None = None,
        cuts: Sequence[jax.Array] | None = None,
        nudges: Nudges | None = None,
    ) -> Outputs:
        """Run the architecture `arch: int32[P]` on `images: [B, H, W, C]`.

        `nudges` (`jaxnas.nn.nudge`) ask for a batch norm that does not tie images to each other.
        """
        ...

    def apply_scaled(
        self,
        variables: Variables,
        arch: jax.Array | np.ndarray,
        images: jax.Array,
        *,
        batch_norm: BatchNormMode = "batch",
    ) -> Scaled:
        """The logits, which no floating-point number might hold."""
        ...

    def flow(
        self, variables: Variables, arch: jax.Array | np.ndarray, image: jax.Array
    ) -> Scaled | None:
        """Sum over weights of w dR/dw, R the sum of the logits of an image `[1, H, W, C]`.

        Without batch norm, for an image and parameters that are not negative. None where the network
        has layers that do not say how they let values through (`Layer.flow`).
        """
        ...

    def active(self, arch: jax.Array | np.ndarray) -> Any:
        """Masks like the parameters, of shapes that broadcast to them: 0 where there is no weight."""
        ...

    def units(self, kind: str) -> int:
        """How many units all reports of a kind have, for one image."""
        ...

    @property
    def linear_maps(self) -> LinearMaps:
        """Which of the parameters are weights of linear maps, those of self-attention apart."""
        ...


@dataclass(frozen=True, eq=False)
class Network:
    """A super-network: every branch of every choice point, each with weights of its own.

    `module` is an NNX module called as `module(images, ctx)` with images
    `[B, resolution, resolution, image_channels]`. An architecture is a row of integers that its
    choice points and widths read (`SearchSpace.rows` makes them from a space's own encoding).
    Decisions that go by name are given columns, in the order in which the network reads them.
    `prune`, where rows may hold what does not reach the output, removes it before they are counted.
    """

    module: nnx.Module
    resolution: int
    image_channels: int
    classes: int
    prune: Callable[[np.ndarray], np.ndarray] = np.asarray

    def __post_init__(self) -> None:
        # Now: the survey leaves notes in the module, which cannot be done while a program is traced.
        _ = self._surveyed

    @cached_property
    def _surveyed(self) -> tuple[Survey, tuple[str, ...]]:
        image = (self.resolution, self.resolution, self.image_channels)
        survey = take_survey(self.module, image)
        names = number_decisions(self.module, survey)
        if names:
            survey = take_survey(self.module, image)
        annotate_widths(survey)
        return survey, tuple(names)

    @property
    def survey(self) -> Survey:
        """What there is in the network, found by one walk through all branches."""
        return self._surveyed[0]

    @property
    def decision_names(self) -> tuple[str, ...]:
        """Of decisions that go by name, in the order of their columns."""
        return self._surveyed[1]

    @property
    def elastic(self) -> bool:
        """Whether there are widths that architectures choose, so that weights are masked."""
        return self.survey.elastic

    @cached_property
    def _split(self) -> tuple[Any, Any, Any]:
        graph, params, statistics = nnx.split(self.module, nnx.Param, nnx.BatchStat)
        return graph, params, statistics

    @cached_property
    def _masks(self) -> Masks:
        return Masks.of(self.module, self.survey)

    @cached_property
    def _sizes(self) -> Sizes:
        return Sizes.of(self.survey)

    def count(self, archs: np.ndarray) -> Counts:
        """The sizes of `archs: int32[N, P]`, from tables made once for the network."""
        return Counts(*self._sizes(self.prune(archs)))

    @property
    def largest(self) -> int:
        """Parameters of the largest architecture; of a larger one where decisions bear on each other."""
        return self._sizes.largest

    def depth(self, archs: np.ndarray) -> np.ndarray:
        """The longest chain of convolutions and linear layers in each of `archs: int32[N, P]`.

        From the images to the logits, `int64[N]`; 0 where nothing leads from one to the other.
        """
        return longest_chains(self.module, np.asarray(archs))

    def active(self, arch: jax.Array | np.ndarray) -> Any:
        """The weights that `arch: int32[P]` has: `float32` masks like the parameters.

        Each mask has a shape that broadcasts to its parameter; 1 where the weight is there, 0 in
        branches not taken and in channels beyond a chosen width. Their sum is `count`'s params.
        """
        return self._masks.active(self._split[1], arch)

    def units(self, kind: str) -> int:
        """How many units all reports of a kind have, for one image, whatever branches are taken."""
        return self.survey.reports.get(kind, 0)

    @property
    def linear_maps(self) -> LinearMaps:
        """Which of the parameters are weights of linear maps, those of self-attention apart."""
        return self._linear_maps

    @cached_property
    def _linear_maps(self) -> LinearMaps:
        return LinearMaps.of(self.module)

    def specialise(self, variables: Variables, arch: jax.Array | np.ndarray) -> Variables:
        """The variables that `arch: int32[P]` begins with.

        The same unless architectures choose widths: then masked weights are 0 and the others have
        the deviation that the architecture's own fan-in asks for, as if it had been built alone.
        """
        if not self.elastic:
            return variables
        return variables._replace(params=self._masks.fitted(variables.params, arch, scaled=True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Network) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @cached_property
    def _identity(self) -> tuple[Any, ...]:
        # Networks built alike are equal, so that what was compiled for one serves the next.
        rest = (self.resolution, self.image_channels, self.classes)
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
        gradient_taps: GradientTaps | None = None,
        cuts: Sequence[jax.Array] | None = None,
        nudges: Nudges | None = None,
        noise: Noise | None = None,
        distinct: jax.Array | float = 1.0,
    ) -> Outputs:
        """Run the architecture `arch: int32[P]` on `images: [B, H, W, C]`.

        With a traced `arch` one compiled program serves all architectures; with a NumPy one only that
        network is built. Channels beyond the widths it chose take no part, whatever their weights.
        `nudges` (`jaxnas.nn.nudge`) ask for a batch norm that does not tie images to each other;
        `noise` drops paths and features; `distinct` is the share of images that are not repetitions.
        """
        graph, _, _ = self._split
        params = variables.params
        if self.elastic:
            params = self._masks.fitted(params, arch, scaled=False)
        # A copy, so that the caller's variables are left as they are.
        module = nnx.merge(graph, params, variables.statistics, copy=True)
        ctx = Context(
            arch,
            batch_norm=batch_norm,
            tap=tap,
            gradient_taps=gradient_taps,
            cuts=cuts,
            batch=images.shape[0],
            noise=noise,
            distinct=distinct,
        )
        if nudges is not None:
            ctx.nudges = nudges_of(module, params, nudges)
        return _outputs(module, ctx, images)

    def apply_in(self, variables: Variables, ctx: Context, images: jax.Array) -> Outputs:
        """Run `images: [B, H, W, C]` in a context that gives choice points a meaning of its own.

        Such as `jaxnas.nn.mixed.MixedContext`, in which every branch is taken by its weight. The context
        is used up.

        Raises:
            InputError: architectures choose widths: then there is no one weight to be mixed.
        """
        if self.elastic:
            raise InputError(
                "The choices of a network whose architectures choose widths cannot be mixed; expected "
                "one that has choice points alone."
            )
        module: Any = nnx.merge(self._split[0], variables.params, variables.statistics, copy=True)
        return _outputs(module, ctx, images)

    def apply_scaled(
        self,
        variables: Variables,
        arch: jax.Array | np.ndarray,
        images: jax.Array,
        *,
        batch_norm: BatchNormMode = "batch",
    ) -> Scaled:
        """The logits of `apply`, however large (`jaxnas.nn.scaled`)."""
        return self._scaled(variables, images, ScaledContext(arch, batch_norm=batch_norm))

    def flow(
        self, variables: Variables, arch: jax.Array | np.ndarray, image: jax.Array
    ) -> Scaled | None:
        """Sum over weights of w dR/dw, R the sum of the logits of an image `[1, H, W, C]`.

        That is the slope of R where all weights are scaled together, so that one forward pass finds
        it, with a slope beside each value.
        """
        if not all(site.layer.flow for site in self.survey.sites):
            return None
        pair = jnp.concatenate([image, jnp.zeros_like(image)])
        logits, log = self._scaled(variables, pair, FlowContext(arch, batch_norm="none"))
        return Scaled(logits[1].astype(jnp.float32).sum(), log)

    def _scaled(self, variables: Variables, images: jax.Array, ctx: ScaledContext) -> Scaled:
        params = variables.params
        if self.elastic:
            params = self._masks.fitted(params, ctx.arch, scaled=False)
        module: Any = nnx.merge(self._split[0], params, variables.statistics, copy=True)
        return module(Scaled(images, jnp.zeros(())), ctx)

    def bound_module(self, variables: Variables) -> Any:
        """The module with `variables` in place, for executors that call it themselves."""
        return nnx.merge(self._split[0], *variables)


def _outputs(module: Any, ctx: Context, images: jax.Array) -> Outputs:
    logits = module(images, ctx)
    for norm, (mean, variance) in ctx.statistics.values():
        norm.mean[...] = mean
        norm.variance[...] = variance
    return Outputs(logits, ctx.carry, nnx.state(module, nnx.BatchStat), tuple(ctx.blocks))


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
