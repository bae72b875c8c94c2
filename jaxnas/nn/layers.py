"""The layers that spaces are written with: Flax NNX modules called as `layer(x, ctx)`.

Images are NHWC, kernels HWIO. Parameters are declared by shape alone and drawn all at once by
`jaxnas.network`, since many small draws cost about a second of compilation each.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnas.nn.context import Context
from jaxnas.nn.conv import conv2d
from jaxnas.nn.pooling import avg_pool, global_avg_pool, max_pool


def parameter(shape: tuple[int, ...], *, bound: float = 0.0, offset: float = 0.0) -> nnx.Param:
    """A parameter drawn from U(offset - bound, offset + bound) when the network is initialised."""
    spec = jax.ShapeDtypeStruct(shape, jnp.float32)
    return nnx.Param(spec, bound=float(bound), offset=float(offset))


class Layer(nnx.Module):
    """A layer without choice points: subclasses say in `forward` what they compute on an array."""

    keeps_zero: bool = False
    """Whether zeros in are always zeros out: lets the shared-prefix executor skip them."""

    def __call__(self, x: Any, ctx: Any) -> Any:
        """The output for `x`, whatever kind of value the context deals in."""
        return ctx.apply(self, x)

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """The layer's output for `x`."""
        raise TypeError(f"{type(self).__name__} defines no forward.")


class Conv(Layer):
    """Convolution, PyTorch's default initialisation: U(-b, b) with b = 1 / sqrt(fan_in)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        bound = (kernel * kernel * inputs // groups) ** -0.5
        self.kernel = parameter((kernel, kernel, inputs // groups, outputs), bound=bound)
        self.bias = parameter((outputs,), bound=bound) if bias else None
        self.stride, self.dilation, self.groups = stride, dilation, groups
        self.padding = dilation * (kernel - 1) // 2
        self.keeps_zero = not bias

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
    """Fully connected, PyTorch's default initialisation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        bound = inputs**-0.5
        self.kernel = parameter((inputs, outputs), bound=bound)
        self.bias = parameter((outputs,), bound=bound)

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, I] -> [B, O]`."""
        return x @ self.kernel[...] + self.bias[...][None]


class BatchNorm(Layer):
    """Batch normalisation (Ioffe and Szegedy, arXiv:1502.03167) over all axes but the last.

    Running averages move by `momentum` (PyTorch's sense: the weight of the new batch) and use the
    unbiased variance.
    """

    def __init__(self, channels: int, *, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        self.scale = parameter((channels,), offset=1.0)
        self.bias = parameter((channels,))
        self.mean = nnx.BatchStat(jnp.zeros((channels,)))
        self.variance = nnx.BatchStat(jnp.ones((channels,)))
        self.momentum, self.epsilon = momentum, epsilon

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, ..., C] -> [B, ..., C]`; statistics in float32 whatever `x` is."""
        if ctx.batch_norm == "running":
            mean, variance = self.mean[...], self.variance[...]
        else:
            axes = tuple(range(x.ndim - 1))
            wide = x.astype(jnp.float32)
            mean = wide.mean(axes)
            variance = jnp.square(wide - _like(mean, x)).mean(axes)
        if ctx.batch_norm == "update":
            n = x.size // x.shape[-1]
            unbiased = variance * (n / max(n - 1, 1))
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

    keeps_zero = True

    def __call__(self, x: Any, ctx: Any) -> Any:
        """The output for `x`, reported on the way."""
        ctx.report("pre_activation", x)
        return ctx.apply(self, x)

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """Elementwise."""
        return jax.nn.relu(x)


class AvgPool(Layer):
    """Average pooling that does not count padding.

    With stride 1 the size stays; with another it is divided and rounded up, as a convolution's, so
    that the two can be added.
    """

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

    keeps_zero = True

    def __init__(self, window: int = 3, *, stride: int = 1) -> None:
        self.window, self.stride = window, stride

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, H, W, C] -> [B, H', W', C]`."""
        return max_pool(x, window=self.window, stride=self.stride)


class GlobalAvgPool(Layer):
    """The mean over height and width."""

    keeps_zero = True

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, H, W, C] -> [B, C]`."""
        return global_avg_pool(x)


class Identity(Layer):
    """x itself."""

    keeps_zero = True

    def __call__(self, x: Any, ctx: Any) -> Any:
        """`x`."""
        return x


class Zero(Layer):
    """Zeros of x's shape: no connection."""

    keeps_zero = True

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """Elementwise."""
        return jnp.zeros_like(x)


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
    context: one branch, or all of those that somebody in a population takes.
    """

    def __init__(self, decision: int, branches: Sequence[Any]) -> None:
        self.decision = decision
        self.branches = nnx.List(branches)

    def __call__(self, x: Any, ctx: Any, *, onto: Any = None) -> Any:
        """What the context makes of the branches, added to `onto` if given."""
        return ctx.choose(self, x, onto)

    def batch_norms(self) -> list[BatchNorm]:
        """The batch norms inside the branches, in a fixed order."""
        return [m for _, m in nnx.iter_modules(self) if isinstance(m, BatchNorm)]
