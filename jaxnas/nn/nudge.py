"""Each image's own derivatives by single weights, without a gradient of all weights for each image.

A nudge is a number for each image, 0 as a rule, that is added to the first entry of a weight. A layer
is linear in it near 0, so its output moves by the nudge times the layer's derivative by that entry, a
tensor like the output, computed once. The gradient at the nudges then takes no gradient of weights.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

type Nudges = Sequence[jax.Array]
"""`float32[B]` for each parameter of two axes and more, in the order of the leaves."""


def nudges_of(module: nnx.Module, params: Any, nudges: Nudges) -> dict[int, jax.Array]:
    """The nudges by the identities of a module's variables, `params` being its parameters."""
    places = {path: id(node) for path, node in nnx.iter_graph(module)}
    leaves = zip(nnx.to_flat_state(params), jax.tree.leaves(params), strict=True)
    weights = [places[path] for (path, _), leaf in leaves if leaf.ndim > 1]
    return dict(zip(weights, nudges, strict=True))


def nudged(
    layer: Any, x: jax.Array, y: jax.Array, ctx: Any, nudges: Mapping[int, jax.Array]
) -> jax.Array:
    """`y = layer.forward(x, ctx)`, `[B, ...]`, as it is where the layer's weights are nudged."""
    for path, node in nnx.iter_graph(layer):
        if id(node) not in nudges:
            continue

        def output(weight: jax.Array, path: Any = path) -> jax.Array:
            other = nnx.clone(layer)
            dict(nnx.iter_graph(other))[path][...] = weight
            return other.forward(x, ctx)

        weight = node[...]
        first = jnp.zeros(weight.size, weight.dtype).at[0].set(1).reshape(weight.shape)
        slope = jax.lax.stop_gradient(_directional(output, weight, first))
        by_image = nudges[id(node)].reshape(-1, *(1,) * (y.ndim - 1))
        y = y + by_image.astype(y.dtype) * slope
    return y


def image_by_image(
    logits: Callable[[Any, jax.Array], jax.Array], params: Any, images: jax.Array, nudges: Nudges
) -> jax.Array:
    """The nudged logits `[B, classes]` of any function `logits(params, images)`, slowly."""
    leaves, tree = jax.tree.flatten(params)

    def one(image: jax.Array, own: Nudges) -> jax.Array:
        left = iter(own)
        moved = [p.at[(0,) * p.ndim].add(next(left)) if p.ndim > 1 else p for p in leaves]
        return logits(jax.tree.unflatten(tree, moved), image[None])[0]

    return jax.lax.map(lambda each: one(*each), (images, tuple(nudges)))


def _directional(function: Callable[[Any], jax.Array], at: jax.Array, along: jax.Array) -> Any:
    """The derivative of `function` at `at` along `along`.

    As a gradient of a gradient, which is linear in its cotangent: `conv2d` refuses forward mode.
    """
    y, pull = jax.vjp(function, at)
    _, push = jax.vjp(lambda cotangent: pull(cotangent)[0], jnp.zeros_like(y))
    return push(along)[0]
