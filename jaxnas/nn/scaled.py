"""Passes whose values no floating-point number could hold: arrays with a common factor set apart.

The network's own code runs with `Scaled` values in place of arrays, in `FlowContext` together with their
slopes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.nn.attention import LayerNorm
from jaxnas.nn.context import Context
from jaxnas.nn.layers import BatchNorm, Layer, Zero

LARGE = 1e13
"""Arrays are brought down to this. What does not grow with them, such as biases, is lost beside it."""


class Scaled(NamedTuple):
    """The value `array * exp(log)`. `log: float32[]` is a constant to differentiation.

    It is 0 until a value has been larger than `LARGE`.
    """

    array: jax.Array
    log: jax.Array


class ScaledContext(Context):
    """Follows one architecture as `Context` does, through values of any magnitude.

    Exact where layers are homogeneous, f(c x) = c f(x): convolutions, ReLU, pooling. Others see `array`
    for an input beyond `LARGE`, which is exact to floating point where they are homogeneous in the end:
    biases, GELU, hard swish, squeeze-and-excite. Normalisation by the value's own statistics
    gives what it gives for any magnitude. Taps hear nothing.
    """

    def apply(self, layer: Layer, x: Any) -> Any:
        """Compute one layer."""
        y, log = self._forward(layer, x.array), x.log
        if isinstance(layer, LayerNorm | Zero) or (
            isinstance(layer, BatchNorm) and self.batch_norm in ("batch", "halves", "update")
        ):
            log = jnp.zeros_like(log)
        if not layer.affine:
            return Scaled(y, log)
        largest = lax.stop_gradient(jnp.max(jnp.abs(y))).astype(jnp.float32)
        factor = jnp.maximum(largest / LARGE, 1)
        return Scaled(y / factor.astype(y.dtype), log + jnp.log(factor))

    def add(self, values: Sequence[Any]) -> Any:
        """The sum, as multiples of the largest factor."""
        log = values[0].log
        for value in values[1:]:
            log = jnp.maximum(log, value.log)
        arrays = [v.array * jnp.exp(v.log - log).astype(v.array.dtype) for v in values]
        return Scaled(super().add(arrays), log)

    def report(self, kind: str, value: Any, layer: Layer) -> Any:
        """`value`."""
        return value

    def boundary(self, value: Any, block: Any = None) -> Any:
        """`value`."""
        return value

    def _forward(self, layer: Layer, x: jax.Array) -> jax.Array:
        return layer.forward(x, self)

    def _inside(self, carry: Any) -> "ScaledContext":
        return type(self)(self.arch, batch_norm=self.batch_norm)


class FlowContext(ScaledContext):
    """The same, of values and weights that are not negative, with the values' slopes.

    The slope of a value v is that of v(t) at t = 1, t being a factor of all weights. Arrays are
    `[2, ...]`: the value of one image, and its slope. Layers have to say what their `flow` is.
    """

    def _forward(self, layer: Layer, x: jax.Array) -> jax.Array:
        if layer.flow == "increasing":
            return jnp.concatenate(jax.jvp(lambda v: layer.forward(v, self), (x[:1],), (x[1:],)))
        y = layer.forward(x, self)
        if not layer.affine:
            return y
        # (t W) x(t) + b has the slope W x + W x'.
        bias = getattr(layer, "bias", None)
        constant = 0 if bias is None else bias[...].reshape((1,) * (y.ndim - 1) + (-1,))
        return jnp.concatenate([y[:1], y[1:] + y[:1] - 2 * constant])
