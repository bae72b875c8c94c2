"""Mixtures of a part of the channels: PC-DARTS's partial channel connections."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnas.errors import InputError
from jaxnas.nn.factorized import FactorizedReduce
from jaxnas.nn.layers import BatchNorm, Layer
from jaxnas.nn.mixed import MixedContext
from jaxnas.nn.pooling import max_pool
from jaxnas.nn.survey import Probe, SurveyContext

if TYPE_CHECKING:
    from jaxnas.nn.layers import Choice


class PartialContext(MixedContext):
    """1 / `share` of the channels are mixed, the rest passes by (Xu et al., PC-DARTS, arXiv:1907.05737).

    Of x's C channels the first C / share go through the branches, narrowed to as many: of each weight the
    first 1 / share of its input and output channels. The others are put behind, halved by 2x2
    max-pooling where the branches halve the resolution, and the channels shuffled (`shuffled`). A choice
    that changes the number of channels, or whose channels `share` does not divide, is mixed whole.
    Further arguments as of `MixedContext`.
    """

    def __init__(self, weights: jax.Array, *, share: int, **settings: Any) -> None:
        super().__init__(weights, **settings)
        self.share = share
        self._narrow = False
        self._originals: dict[int, tuple[BatchNorm, BatchNorm]] = {}

    def mixture(self, choice: "Choice", branches: Sequence[Any], x: Any) -> Any:
        """The mixture of part of the channels, shuffled with the rest."""
        channels = x.shape[-1]
        if self._narrow or channels % self.share or _outputs(choice, x) != channels:
            return super().mixture(choice, branches, x)
        part = channels // self.share
        thin = [narrowed(branch, self.share) for branch in branches]
        for narrow, whole in zip(thin, branches, strict=True):
            for a, b in zip(_norms(narrow), _norms(whole), strict=True):
                self._originals[id(a)] = (a, b)
        self._narrow = True
        y = super().mixture(choice, thin, x[..., :part])
        self._narrow = False
        rest = _halved(x[..., part:], y.shape[1:-1])
        return shuffled(jnp.concatenate([y, rest], axis=-1), self.share)

    def update_statistics(self, norm: BatchNorm, mean: jax.Array, variance: jax.Array) -> None:
        """Those of a narrowed layer are the first of the whole one's."""
        if id(norm) in self._originals:
            n = mean.shape[0]
            norm = self._originals[id(norm)][1]
            mean = norm.mean[...].at[:n].set(mean)
            variance = norm.variance[...].at[:n].set(variance)
        super().update_statistics(norm, mean, variance)


def shuffled(x: jax.Array, groups: int) -> jax.Array:
    """Channel g C / groups + c of `x: [..., C]` at place c groups + g."""
    shape = (*x.shape[:-1], groups, x.shape[-1] // groups)
    return jnp.swapaxes(x.reshape(shape), -1, -2).reshape(x.shape)


def narrowed(branch: Any, share: int) -> Any:
    """A copy of a module with the first 1 / `share` of all its layers' channels.

    Raises:
        InputError: a layer does not say which axes of its parameters run over channels.
    """
    graph, state = nnx.split(branch)
    module = nnx.merge(graph, state, copy=True)
    for _, layer in nnx.iter_modules(module):
        if isinstance(layer, Layer):
            _narrow(layer, share)
    return module


def _narrow(layer: Layer, share: int) -> None:
    named = dict(layer.channel_axes())
    if isinstance(layer, FactorizedReduce):
        named["kernel"] = ((0, "in"), (1, "out"))
    if isinstance(layer, BatchNorm):
        named |= {"mean": ((0, "in"),), "variance": ((0, "in"),)}
    values = {n: v for n, v in vars(layer).items() if isinstance(v, nnx.Variable)}
    groups = getattr(layer, "groups", 1)
    if set(values) - set(named) or (groups > 1 and not getattr(layer, "depthwise", False)):
        raise InputError(
            f"Partial channels need layers that can be narrowed, but a {type(layer).__name__} does not "
            "say which axes of its parameters run over channels."
        )
    for name, variable in values.items():
        value = variable.get_value()
        for axis, _ in named[name]:
            value = jax.lax.slice_in_dim(value, 0, value.shape[axis] // share, axis=axis)
        setattr(layer, name, type(variable)(value))
    if groups > 1:
        layer.groups = groups // share  # type: ignore[attr-defined]
    if isinstance(layer.outputs, int):
        layer.outputs //= share


def _outputs(choice: "Choice", x: jax.Array) -> int:
    return choice.branches[0](Probe((1, *x.shape[1:])), SurveyContext()).shape[-1]


def _norms(module: Any) -> list[BatchNorm]:
    return [m for _, m in nnx.iter_modules(module) if isinstance(m, BatchNorm)]


def _halved(x: jax.Array, sides: tuple[int, ...]) -> jax.Array:
    """`x: [B, H, W, C]` where it has these sides, else their maxima over 2x2 pixels."""
    if x.shape[1:-1] == sides:
        return x
    padding = [(0, -side % 2) for side in x.shape[1:3]]
    return max_pool(x, window=2, stride=2, padding=padding)
