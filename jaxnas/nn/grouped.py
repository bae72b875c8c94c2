"""Convolutions in groups whose channels architectures choose, and concatenation at a chosen place."""

from dataclasses import replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxnas.nn.context import Context
from jaxnas.nn.conv import conv2d
from jaxnas.nn.layers import Axes, Layer, Side, parameter
from jaxnas.nn.width import Width, largest


class GroupedConv(Layer):
    """A 3x3 convolution in a number of groups: channel c, going in or out, is of group c mod groups.

    That is a usual grouped convolution but for the order of channels, and here the first channels, be
    there as many as they may, are spread evenly over the groups. Widths are multiples of `groups`.
    """

    flow = "linear"
    affine = True
    keeps_zero = True
    fan_in_drawn: ClassVar[tuple[str, ...]] = ("kernel",)

    def __init__(
        self, inputs: int | Width, outputs: int | Width, *, groups: int, stride: int = 1
    ) -> None:
        per_group = largest(inputs) // groups
        shape = (3, 3, per_group, largest(outputs))
        self.kernel = parameter(shape, bound=(9 * per_group) ** -0.5)
        self.outputs, self.groups, self.stride = outputs, groups, stride

    def channel_axes(self) -> dict[str, Axes]:
        """The inputs of one group, and the outputs of all."""
        inner: Side = None
        if self.width is not None:
            values = tuple(v // self.groups for v in self.width.values)
            inner = replace(self.width, values=values)
        return {"kernel": ((2, inner), (3, "out"))}

    def count(self, inputs: Any, outputs: Any, positions: int) -> tuple[Any, Any]:
        """9 I O / groups weights, each used at every position."""
        weights = 9 * (inputs // self.groups) * outputs
        return weights, weights * positions

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, H, W, I] -> [B, ceil(H / stride), ceil(W / stride), O]`."""
        x, kernel = self._by_group(x), self._by_group(self.kernel[...])
        y = conv2d(x, kernel, stride=self.stride, padding=1, groups=self.groups)
        side_by_side = y.reshape(*y.shape[:-1], self.groups, -1)
        return side_by_side.swapaxes(-1, -2).reshape(y.shape)

    def _by_group(self, x: jax.Array) -> jax.Array:
        """The last axis reordered from channel by channel to group by group."""
        return x.reshape(*x.shape[:-1], -1, self.groups).swapaxes(-1, -2).reshape(x.shape)


class GroupWidthConv(Layer):
    """A 3x3 convolution in as many groups of `group_width` inputs as there are inputs.

    Output o is of group o mod groups. Inputs are a multiple of `group_width`, outputs of the number of
    groups; with a group width of 1 the convolution is depthwise, of multiplier O / I.
    """

    flow = "linear"
    affine = True
    keeps_zero = True

    def __init__(
        self, inputs: int | Width, outputs: int | Width, *, group_width: int, stride: int = 1
    ) -> None:
        shape = (3, 3, group_width, largest(outputs))
        self.kernel = parameter(shape, bound=(9 * group_width) ** -0.5)
        self.outputs, self.group_width, self.stride = outputs, group_width, stride

    def channel_axes(self) -> dict[str, Axes]:
        """As many inputs as a group has, whatever the width."""
        return {"kernel": ((3, "out"),)}

    def count(self, inputs: Any, outputs: Any, positions: int) -> tuple[Any, Any]:
        """9 times the group width for each output."""
        weights = 9 * self.group_width * outputs + 0 * inputs
        return weights, weights * positions

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, H, W, I] -> [B, ceil(H / stride), ceil(W / stride), O]`."""
        there = x.shape[-1]
        if self.width is not None and ctx.arch is not None:
            there = self.width.of(ctx.arch)
        groups = there // self.group_width
        kernel = self.kernel[...]
        inputs, outputs = jnp.arange(x.shape[-1]), jnp.arange(kernel.shape[-1])
        reads = inputs[:, None] // self.group_width == (outputs % groups)[None]
        if self.group_width == 1:
            x = x @ reads.astype(x.dtype)
            return conv2d(x, kernel, stride=self.stride, padding=1, groups=x.shape[-1])
        # How many groups there are is traced, so that the convolution is written without groups.
        repeats = x.shape[-1] // self.group_width
        kernel = jnp.tile(kernel, (1, 1, repeats, 1)) * reads.astype(kernel.dtype)[None, None]
        return conv2d(x, kernel, stride=self.stride, padding=1)


class Shift(Layer):
    """x put at an offset among the outputs that architectures choose, the rest being 0.

    `offset` is chosen like a width, but may be 0; added to what stands before the offset, it is a
    concatenation.
    """

    flow = "linear"
    keeps_zero = True

    def __init__(self, decision: int, offsets: tuple[int, ...], outputs: Width) -> None:
        self.decision, self.offsets, self.outputs = decision, offsets, outputs

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[..., C] -> [..., outputs.largest]`."""
        missing = largest(self.outputs or 0) - x.shape[-1]
        x = jnp.pad(x, [*[(0, 0)] * (x.ndim - 1), (0, missing)])
        if ctx.arch is None:
            return x
        offset = jnp.asarray(self.offsets)[ctx.arch[self.decision]]
        return jnp.roll(x, offset, axis=-1)
