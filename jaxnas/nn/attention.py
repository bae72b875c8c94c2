"""Vision transformers' layers: patches, class token, positions, layer norm, self-attention.

Tokens are `[B, T, C]`. Widths that architectures choose are respected: what is masked takes no part in
layer norm's statistics, and heads beyond the chosen number are zero.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.nn.context import Context
from jaxnas.nn.layers import Axes, Layer, parameter
from jaxnas.nn.width import Width, largest

EMBEDDING_BOUND = 0.02 * 3**0.5
"""Of a uniform draw with the deviation 0.02 that vision transformers draw embeddings with."""


class Patches(Layer):
    """Images cut into squares of `side` pixels, row by row; short ones at the edge end in zeros.

    With a `Linear` after it this is a convolution of that kernel and stride.
    """

    keeps_zero = True

    def __init__(self, side: int) -> None:
        self.side = side

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, H, W, C] -> [B, ceil(H / side) ceil(W / side), side side C]`."""
        b, h, w, c = x.shape
        rows, columns = -(-h // self.side), -(-w // self.side)
        missing = ((0, 0), (0, rows * self.side - h), (0, columns * self.side - w), (0, 0))
        x = jnp.pad(x, missing).reshape(b, rows, self.side, columns, self.side, c)
        return x.swapaxes(2, 3).reshape(b, rows * columns, self.side * self.side * c)


class ClassToken(Layer):
    """A learned token put before the others."""

    def __init__(self, channels: int | Width) -> None:
        self.token = parameter((largest(channels),), bound=EMBEDDING_BOUND)

    def channel_axes(self) -> dict[str, Axes]:
        """One number a channel."""
        return {"token": ((0, "in"),)}

    def count(self, inputs: Any, outputs: Any, positions: int) -> tuple[Any, Any]:
        """One number a channel."""
        return inputs, 0

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, T, C] -> [B, 1 + T, C]`."""
        token = self.token[...].astype(x.dtype)[None, None]
        return jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, x.shape[2])), x], axis=1)


class PositionEmbedding(Layer):
    """A learned vector added to each of `tokens` tokens."""

    def __init__(self, tokens: int, channels: int | Width) -> None:
        self.embedding = parameter((tokens, largest(channels)), bound=EMBEDDING_BOUND)

    def channel_axes(self) -> dict[str, Axes]:
        """A vector of the input's channels for each token."""
        return {"embedding": ((1, "in"),)}

    def count(self, inputs: Any, outputs: Any, positions: int) -> tuple[Any, Any]:
        """A vector for each token."""
        return positions * inputs, 0

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, T, C] -> [B, T, C]`."""
        return x + self.embedding[...].astype(x.dtype)[None]


class LayerNorm(Layer):
    """Layer normalisation (Ba et al., arXiv:1607.06450) over the channels that are there."""

    def __init__(self, channels: int | Width, *, epsilon: float = 1e-5) -> None:
        self.scale = parameter((largest(channels),), offset=1.0)
        self.bias = parameter((largest(channels),))
        self.epsilon = epsilon

    def channel_axes(self) -> dict[str, Axes]:
        """One scale and one shift a channel."""
        return {"scale": ((0, "in"),), "bias": ((0, "in"),)}

    def count(self, inputs: Any, outputs: Any, positions: int) -> tuple[Any, Any]:
        """A scale and a shift for each channel."""
        return 2 * inputs, 0

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[..., C] -> [..., C]`; statistics in float32 whatever `x` is."""
        active = ctx.active(self)
        there = jnp.ones(x.shape[-1]) if active is None else active
        there = there.reshape((1,) * (x.ndim - 1) + there.shape)
        number = there.sum()
        wide = x.astype(jnp.float32)
        mean = (wide * there).sum(-1, keepdims=True) / number
        centred = (wide - mean) * there
        variance = jnp.square(centred).sum(-1, keepdims=True) / number
        normal = centred * jax.lax.rsqrt(variance + self.epsilon)
        scale, bias = (p[...].reshape(there.shape) for p in (self.scale, self.bias))
        return (normal * scale + bias).astype(x.dtype)


BIASES = ("query_bias", "key_bias", "value_bias")


class QueryKeyValue(Layer):
    """Three linear layers with biases, of queries, keys and values."""

    affine = True
    parts = 3
    role = "attention"
    fan_in_drawn: ClassVar[tuple[str, ...]] = ("kernel", *BIASES)

    def __init__(self, inputs: int | Width, outputs: int | Width) -> None:
        bound = largest(inputs) ** -0.5
        self.kernel = parameter((largest(inputs), 3, largest(outputs)), bound=bound)
        # Three vectors: a matrix would be taken for weights by weight decay and by gradient norms.
        self.query_bias = parameter((largest(outputs),), bound=bound)
        self.key_bias = parameter((largest(outputs),), bound=bound)
        self.value_bias = parameter((largest(outputs),), bound=bound)
        self.outputs = outputs

    def channel_axes(self) -> dict[str, Axes]:
        """The inputs, and the outputs of each of the three."""
        return {"kernel": ((0, "in"), (2, "out")), **dict.fromkeys(BIASES, ((0, "out"),))}

    def count(self, inputs: Any, outputs: Any, positions: int) -> tuple[Any, Any]:
        """3 (I + 1) O parameters; `positions` are tokens times three."""
        return 3 * (inputs + 1) * outputs, inputs * outputs * positions

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, T, I] -> [B, T, 3, O]`."""
        biases = jnp.stack([self.query_bias[...], self.key_bias[...], self.value_bias[...]])
        return jnp.einsum("bti,ino->btno", x, self.kernel[...]) + biases[None, None]


class SelfAttention(Layer):
    """What each head's queries find: `softmax(q k' / sqrt(d)) v`, heads of d channels side by side.

    With `grid`, the side of the square of patches after the class token, keys and values have relative
    positions (Shaw et al., arXiv:1803.02155), in two dimensions as AutoFormer has them: the vector of a
    pair of tokens is that of their vertical plus that of their horizontal distance, clipped at `reach`,
    and a vector of its own wherever the class token is one of the two. All heads share them.
    """

    keeps_zero = False

    def __init__(self, head_channels: int, *, grid: int | None = None, reach: int = 14) -> None:
        self.head_channels, self.grid, self.reach = head_channels, grid, reach
        shape = (2, 2 * reach + 2, head_channels)
        positions = None if grid is None else parameter(shape, bound=EMBEDDING_BOUND)
        self.key_positions = positions
        self.value_positions = None if grid is None else parameter(shape, bound=EMBEDDING_BOUND)

    def count(self, inputs: Any, outputs: Any, positions: int) -> tuple[Any, Any]:
        """The tables of positions; multiply-adds of q k' and of attention times v.

        `positions` are tokens. The products with relative positions are not counted, nor does the
        field count them.
        """
        held, _ = super().count(inputs, outputs, positions)
        tokens = positions
        return held, 2 * tokens**2 * outputs

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, T, 3, heads d] -> [B, T, heads d]`."""
        b, t, _, channels = x.shape
        heads = x.reshape(b, t, 3, channels // self.head_channels, self.head_channels)
        q, k, v = heads[:, :, 0], heads[:, :, 1], heads[:, :, 2]
        scores = jnp.einsum("bihd,bjhd->bhij", q, k)
        if self.key_positions is not None:
            scores += jnp.einsum("bihd,ijd->bhij", q, self._pairs(self.key_positions[...]))
        attention = jax.nn.softmax(scores.astype(jnp.float32) * self.head_channels**-0.5)
        attention = attention.astype(x.dtype)
        found = jnp.einsum("bhij,bjhd->bihd", attention, v)
        if self.value_positions is not None:
            pairs = self._pairs(self.value_positions[...])
            found += jnp.einsum("bhij,ijd->bihd", attention, pairs)
        return self._there(found.reshape(b, t, channels), ctx)

    def _pairs(self, table: jax.Array) -> jax.Array:
        """`[2, 2 reach + 2, d] -> [T, T, d]`: the vector of each pair of tokens."""
        assert self.grid is not None
        place = np.stack(np.divmod(np.arange(self.grid**2), self.grid))
        distance = np.clip(place[:, None, :] - place[:, :, None], -self.reach, self.reach)
        index = np.zeros((2, 1 + self.grid**2, 1 + self.grid**2), np.int32)
        index[:, 1:, 1:] = distance + self.reach + 1
        return table[0][index[0]] + table[1][index[1]]

    def _there(self, found: jax.Array, ctx: Context) -> jax.Array:
        """Without what heads that are not there, all zero, find in the positions of values."""
        active = ctx.active(self)
        return found if active is None else found * active.astype(found.dtype)[None, None]


class TokenMean(Layer):
    """The mean over all tokens but the first, the class token."""

    keeps_zero = True

    def forward(self, x: jax.Array, ctx: Context) -> jax.Array:
        """`[B, 1 + T, C] -> [B, C]`."""
        return x[:, 1:].mean(axis=1)
