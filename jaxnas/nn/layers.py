"""The layers that spaces are written with: Flax NNX modules called as `layer(x, ctx)`.

Images are NHWC, kernels HWIO. Parameters are declared by shape alone and drawn all at once by
`jaxnas.network`, since many small draws cost about a second of compilation each.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnas.nn.context import Context, kept
from jaxnas.nn.conv import conv2d
from jaxnas.nn.pooling import Pair, avg_pool, global_avg_pool, max_pool
from jaxnas.nn.width import Width, largest

type Side = str | Width | None
"""Channels of a layer's input ("in") or output ("out"), or of a width of its own."""
type Axes = tuple[tuple[int, Side], ...]


def parameter(shape: tuple[int, ...], *, bound: float = 0.0, offset: float = 0.0) -> nnx.Param:
    """A parameter drawn from U(offset - bound, offset + bound) when the network is initialised."""
    spec = jax.ShapeDtypeStruct(shape, jnp.float32)
    return nnx.Param(spec, bound=float(bound), offset=float(offset))


class Layer(nnx.Module):
    """A layer without choice points: subclasses say in `forward` what they compute on an array.

    `outputs` is the number of channels that it makes, None where it keeps that of its input.
    """

    keeps_zero: bool = False
    """Whether zeros in are always zeros out: lets the shared-prefix executor skip them."""
    outputs: int | Width | None = None
    width: Width | None = None
    """How many of its input's channels there are, where architectures choose; set by the network."""
    fan_in_drawn: ClassVar[tuple[str, ...]] = ()
    """Parameters that are drawn with a deviation of 1 / sqrt(fan-in)."""
    affine: ClassVar[bool] = False
    """Whether it is a convolution or a linear layer, whose output is reported as `affine`."""
    parts: ClassVar[int] = 1
    """How many outputs it makes beside each other, along the axis before the channels'."""
    flow: ClassVar[Literal["", "linear", "increasing"]] = ""
    """What it does to values and weights that are not negative: `linear` in both, or `increasing` and
    without weights; anything else, or nobody knows: empty. Biases aside; batch norm being left out."""
    plain: ClassVar[bool] = False
    """Whether it computes nothing, so that dropping paths at random leaves it."""
    role: str = ""
    """`attention` for the linear layers of self-attention, which some proxies read apart."""

    @property
    def depth(self) -> int:
        """How many convolutions and linear layers follow each other in it."""
        return int(self.affine)

    def __call__(self, x: Any, ctx: Any) -> Any:
        """The output for `x`, whatever kind of value the context deals in."""
        return ctx.apply(self, x)

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """The layer's output for `x`."""
        raise TypeError(f"{type(self).__name__} defines no forward.")

    def channel_axes(self) -> dict[str, Axes]:
        """Which axes of its parameters run over channels of its input ("in") or output ("out")."""
        return {}

    def fan_in(self) -> dict[str, Side]:
        """The channels that the deviation of each of `fan_in_drawn` depends on."""
        return dict.fromkeys(self.fan_in_drawn, "in")

    def count(self, inputs: Any, outputs: Any, positions: int) -> tuple[Any, Any]:
        """Parameters and multiply-adds of one image, in closed form.

        `inputs` and `outputs` are numbers of channels, or arrays of them that broadcast against each
        other; `positions` is the number of places at which the output is computed. Layers with
        multiply-adds of their own say so here.
        """
        held = jax.tree.leaves(nnx.state(self, nnx.Param))
        return sum(int(np.prod(leaf.shape)) for leaf in held), 0


class Conv(Layer):
    """Convolution, PyTorch's default initialisation: U(-b, b) with b = 1 / sqrt(fan_in).

    `kernel` and `stride` are one number for both axes, or (height, width). With as many groups as
    inputs it is depthwise; other numbers of groups want fixed widths.
    """

    flow = "linear"
    affine = True
    fan_in_drawn: ClassVar[tuple[str, ...]] = ("kernel", "bias")

    def __init__(
        self,
        inputs: int | Width,
        outputs: int | Width,
        kernel: int | Pair,
        *,
        stride: int | Pair = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        bound = (height * width * largest(inputs) // groups) ** -0.5
        shape = (height, width, largest(inputs) // groups, largest(outputs))
        self.kernel = parameter(shape, bound=bound)
        self.bias = parameter((largest(outputs),), bound=bound) if bias else None
        self.outputs = outputs
        self.stride, self.dilation, self.groups = stride, dilation, groups
        self.padding = tuple((dilation * (side - 1) // 2,) * 2 for side in (height, width))
        self.keeps_zero = not bias

    @property
    def depthwise(self) -> bool:
        """Whether each channel is convolved by itself."""
        return self.groups > 1 and self.kernel.get_value().shape[2] == 1

    def channel_axes(self) -> dict[str, Axes]:
        """Of a depthwise kernel, only the outputs."""
        inner: Axes = () if self.groups > 1 else ((2, "in"),)
        return {"kernel": (*inner, (3, "out")), "bias": ((0, "out"),)}

    def fan_in(self) -> dict[str, Side]:
        """Of a depthwise convolution it does not depend on channels."""
        return {} if self.groups > 1 else super().fan_in()

    def count(self, inputs: Any, outputs: Any, positions: int) -> tuple[Any, Any]:
        """kh kw I O / groups weights, each used at every position, and the biases."""
        fan_in = 1 if self.depthwise else inputs // self.groups
        weights = math.prod(self.kernel.get_value().shape[:2]) * fan_in * outputs
        return weights + (0 if self.bias is None else outputs), weights * positions

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, H, W, I] -> [B, ceil(H / stride), ceil(W / stride), O]`, padded as PyTorch does."""
        y = conv2d(
            x,
            self.kernel[...],
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        return y if self.bias is None else y + self.bias[...][None, None, None]


class Linear(Layer):
    """Fully connected, PyTorch's default initialisation. `role` is that of `Layer`."""

    flow = "linear"
    affine = True
    fan_in_drawn: ClassVar[tuple[str, ...]] = ("kernel", "bias")

    def __init__(
        self, inputs: int | Width, outputs: int | Width, *, bias: bool = True, role: str = ""
    ) -> None:
        self.role = role
        bound = largest(inputs) ** -0.5
        self.kernel = parameter((largest(inputs), largest(outputs)), bound=bound)
        self.bias = parameter((largest(outputs),), bound=bound) if bias else None
        self.outputs = outputs
        self.keeps_zero = not bias

    def channel_axes(self) -> dict[str, Axes]:
        """As PyTorch's, transposed."""
        return {"kernel": ((0, "in"), (1, "out")), "bias": ((0, "out"),)}

    def count(self, inputs: Any, outputs: Any, positions: int) -> tuple[Any, Any]:
        """I O weights, each used at every position, and O biases."""
        weights = inputs * outputs
        return weights + (0 if self.bias is None else outputs), weights * positions

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, ..., I] -> [B, ..., O]`."""
        y = x @ self.kernel[...]
        return y if self.bias is None else y + _like(self.bias[...], y)


class BatchNorm(Layer):
    """Batch normalisation (Ioffe and Szegedy, arXiv:1502.03167) over all axes but the last.

    Running averages move by `momentum` (PyTorch's sense: the weight of the new batch) and use the
    unbiased variance. Reports its input as `batch_norm`.
    """

    flow = "linear"

    def __init__(
        self, channels: int | Width, *, momentum: float = 0.1, epsilon: float = 1e-5
    ) -> None:
        built = largest(channels)
        self.scale = parameter((built,), offset=1.0)
        self.bias = parameter((built,))
        self.mean = nnx.BatchStat(jnp.zeros((built,)))
        self.variance = nnx.BatchStat(jnp.ones((built,)))
        self.momentum, self.epsilon = momentum, epsilon

    def channel_axes(self) -> dict[str, Axes]:
        """One scale and one shift a channel."""
        return {"scale": ((0, "in"),), "bias": ((0, "in"),)}

    def count(self, inputs: Any, outputs: Any, positions: int) -> tuple[Any, Any]:
        """A scale and a shift for each channel."""
        return 2 * inputs, 0

    def __call__(self, x: Any, ctx: Any) -> Any:
        """The output for `x`, reported on the way."""
        return ctx.apply(self, ctx.report("batch_norm", x, self))

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, ..., C] -> [B, ..., C]`; statistics in float32 whatever `x` is."""
        if ctx.batch_norm == "none":
            return x
        if ctx.batch_norm == "halves":
            whole = Context()
            return jnp.concatenate([self.forward(half, whole) for half in jnp.split(x, 2)])
        if ctx.batch_norm == "running":
            mean, variance = self.mean[...], self.variance[...]
        else:
            axes = tuple(range(x.ndim - 1))
            wide = x.astype(jnp.float32)
            mean = wide.mean(axes)
            variance = jnp.square(wide - _like(mean, x)).mean(axes)
            mean, variance = kept(mean), kept(variance)
        if ctx.batch_norm == "update":
            n = x.size // x.shape[-1] * ctx.distinct
            unbiased = variance * (n / jnp.maximum(n - 1, 1))
            m = self.momentum
            ctx.update_statistics(
                self,
                (1 - m) * self.mean[...] + m * jax.lax.stop_gradient(mean),
                (1 - m) * self.variance[...] + m * jax.lax.stop_gradient(unbiased),
            )
        factor = self.scale[...] * jax.lax.rsqrt(variance + self.epsilon)
        shift = self.bias[...] - mean * factor
        return x * _like(factor, x).astype(x.dtype) + _like(shift, x).astype(x.dtype)


def _like(vector: jax.Array, x: jax.Array) -> jax.Array:
    return vector.reshape((1,) * (x.ndim - 1) + vector.shape)


class ReLU(Layer):
    """max(x, 0); reports its input as a `pre_activation`."""

    flow = "linear"
    keeps_zero = True

    def __call__(self, x: Any, ctx: Any) -> Any:
        """The output for `x`, reported on the way."""
        return ctx.apply(self, ctx.report("pre_activation", x, self))

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """Elementwise."""
        return jax.nn.relu(x)


class AvgPool(Layer):
    """Average pooling that does not count padding.

    With stride 1 the size stays; with another it is divided and rounded up, as a convolution's, so
    that the two can be added.
    """

    flow = "linear"
    keeps_zero = True

    def __init__(self, window: int = 3, *, stride: int = 1) -> None:
        self.window, self.stride = window, stride

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), C]`."""
        padding = [self._padding(side) for side in x.shape[1:3]]
        return avg_pool(x, window=self.window, stride=self.stride, padding=padding)

    def _padding(self, side: int) -> tuple[int, int]:
        before = (self.window - 1) // 2
        reach = (-(-side // self.stride) - 1) * self.stride + self.window
        return before, max(reach - side - before, 0)


class MaxPool(Layer):
    """Maximum pooling; padding never wins."""

    flow = "increasing"
    keeps_zero = True

    def __init__(self, window: int = 3, *, stride: int = 1) -> None:
        self.window, self.stride = window, stride

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, H, W, C] -> [B, H', W', C]`."""
        return max_pool(x, window=self.window, stride=self.stride)


class GlobalAvgPool(Layer):
    """The mean over height and width; reports its input as `features`. Dropout comes after it."""

    flow = "linear"
    keeps_zero = True

    def __call__(self, x: Any, ctx: Any) -> Any:
        """The output for `x`, reported on the way."""
        return ctx.apply(self, ctx.report("features", x, self))

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, H, W, C] -> [B, C]`."""
        y = global_avg_pool(x)
        return y if ctx.noise is None else ctx.noise.features(y)


class Identity(Layer):
    """x itself."""

    plain = True
    flow = "linear"
    keeps_zero = True

    def __call__(self, x: Any, ctx: Any) -> Any:
        """`x`."""
        return x


class Zero(Layer):
    """Zeros: no connection. Of x's shape, or of what a convolution of this stride would give."""

    plain = True
    flow = "linear"
    keeps_zero = True

    def __init__(self, outputs: int | Width | None = None, *, stride: int = 1) -> None:
        self.outputs, self.stride = outputs, stride

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), outputs]`."""
        channels = x.shape[-1] if self.outputs is None else largest(self.outputs)
        sides = tuple(-(-side // self.stride) for side in x.shape[1:-1])
        return jnp.zeros((x.shape[0], *sides, channels), x.dtype)


class Place(Layer):
    """x's first `channels` channels, put at `offset` among `outputs` channels that are else 0.

    A concatenation is the sum of what is placed, which every context understands.
    """

    flow = "linear"
    keeps_zero = True

    def __init__(self, offset: int, channels: int, outputs: int | Width) -> None:
        self.offset, self.channels, self.outputs = offset, channels, outputs

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[..., C] -> [..., outputs]`."""
        after = largest(self.outputs or 0) - self.offset - self.channels
        around = [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x[..., : self.channels], [*around, (self.offset, after)])


class Sequential(nnx.Module):
    """Modules one after another."""

    def __init__(self, *modules: Any) -> None:
        self.modules = nnx.List(modules)

    def __call__(self, x: Any, ctx: Any) -> Any:
        """The last one's output."""
        for module in self.modules:
            x = module(x, ctx)
        return x


class Choice(nnx.Module):
    """A choice point: "at decision `decision`, one of these branches".

    Every branch maps the same input shape to the same output shape. What choosing means is up to the
    context: one branch, or all of those that somebody in a population takes. `decision` is a column
    of the network's rows, or a name; `branches` a sequence, or a mapping that names them.
    """

    def __init__(self, decision: int | str, branches: Sequence[Any] | Mapping[Any, Any]) -> None:
        self.decision = decision
        named = branches if isinstance(branches, Mapping) else dict(enumerate(branches))
        self.names = tuple(str(name) for name in named)
        self.branches = nnx.List(named.values())

    def __call__(self, x: Any, ctx: Any, *, onto: Any = None) -> Any:
        """What the context makes of the branches, added to `onto` if given."""
        return ctx.choose(self, x, onto)

    def identities(self) -> tuple[int, ...]:
        """The branches that are nothing but their input."""
        nothing = (Identity, Place)
        return tuple(k for k, branch in enumerate(self.branches) if isinstance(branch, nothing))

    def batch_norms(self) -> list[BatchNorm]:
        """The batch norms inside the branches, in a fixed order."""
        return [m for _, m in nnx.iter_modules(self) if isinstance(m, BatchNorm)]
