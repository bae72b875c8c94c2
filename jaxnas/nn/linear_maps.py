"""Which parameters are the weights of linear maps, and which of those maps are parts of self-attention.

Layers say so themselves: those of `jaxnas.nn` by `affine` and `role`, Flax's by their class.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnas.nn.layers import Layer

_FLAX = (nnx.Linear, nnx.LinearGeneral, nnx.Einsum, nnx.Conv, nnx.ConvTranspose)


class Matrix(NamedTuple):
    """A matrix `[inputs, outputs]` made of parameters: the places among leaves of those that it joins.

    The first `input_axes` axes of each are its inputs; side by side they are its outputs.
    """

    places: tuple[int, ...]
    input_axes: int = 1

    def of(self, leaves: Sequence[jax.Array]) -> jax.Array:
        """The matrix, of something for each parameter."""
        parts = [leaves[place] for place in self.places]
        inputs = math.prod(parts[0].shape[: self.input_axes])
        return jnp.concatenate([part.reshape(inputs, -1) for part in parts], axis=1)


@dataclass(frozen=True)
class LinearMaps:
    """The weights of a network's linear maps and convolutions, by their places among the leaves.

    `attention` are the matrices of self-attention: of queries, keys and values together, and of the
    projection of what is found. `others` are the weights of all other layers.
    """

    attention: tuple[Matrix, ...] = ()
    others: tuple[int, ...] = ()

    @classmethod
    def of(cls, module: nnx.Module) -> "LinearMaps":
        """Found by one walk through a module; its parameters may be shapes alone."""
        found = {id(node): path for path, node in nnx.iter_graph(module)}
        state = nnx.to_flat_state(nnx.split(module, nnx.Param, ...)[1])
        place = {path: k for k, (path, _) in enumerate(state)}

        def placed(param: nnx.Param) -> int:
            return place[found[id(param)]]

        attention: list[Matrix] = []
        for _, node in nnx.iter_modules(module):
            if isinstance(node, Layer) and node.role == "attention":
                attention += [Matrix((placed(kernel),)) for kernel in _kernels(node)]
            elif isinstance(node, nnx.MultiHeadAttention):
                attention += _matrices(node, placed)
        taken = {k for matrix in attention for k in matrix.places}
        layers = (node for _, node in nnx.iter_modules(module) if _is_linear(node))
        weights = dict.fromkeys(placed(kernel) for layer in layers for kernel in _kernels(layer))
        return cls(tuple(attention), tuple(k for k in weights if k not in taken))


def _is_linear(node: nnx.Module) -> bool:
    return node.affine if isinstance(node, Layer) else isinstance(node, _FLAX)


def _kernels(layer: Any) -> list[nnx.Param]:
    """The layer's weights: no biases, which Flax's attention has as matrices too."""
    if not isinstance(layer, Layer):
        return [layer.kernel]
    params = [value for value in vars(layer).values() if isinstance(value, nnx.Param)]
    return [param for param in params if len(param.get_value().shape) > 1]


def _matrices(layer: nnx.MultiHeadAttention, placed: Callable[[nnx.Param], int]) -> list[Matrix]:
    """Queries, keys and values read `[inputs, heads, d]`, joined where their inputs are as many."""
    joined: dict[int, list[int]] = defaultdict(list)
    for part in (layer.query, layer.key, layer.value):
        joined[part.kernel.get_value().shape[0]].append(placed(part.kernel))
    matrices = [Matrix(tuple(dict.fromkeys(places))) for places in joined.values()]
    return [*matrices, Matrix((placed(layer.out.kernel),), input_axes=2)]
