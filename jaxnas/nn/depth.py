"""The longest chain of convolutions and linear layers from a network's input to its output.

Of a network with choice points for a whole population at once: its own code runs once, with the depth
at which each architecture has arrived in place of its activations. Of any other function from its jaxpr.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import JaxprEqn, Literal

from jaxnas.errors import InputError
from jaxnas.nn.context import BatchNormMode
from jaxnas.nn.layers import Choice, Layer, Zero
from jaxnas.nn.listen import inner_jaxprs, opened, scan_parts

UNREACHED = -1
"""The depth of a value that does not depend on the input."""


def longest_chains(module: Any, archs: np.ndarray) -> np.ndarray:
    """The depth of each of `archs: int[N, P]` in `module(images, ctx)`, `int64[N]`.

    0 where the output does not depend on the input. A layer counts as many as its `depth` says.
    """
    depths = module(np.zeros(len(archs), np.int64), DepthContext(archs))
    return np.maximum(depths, 0)


class DepthContext:
    """Values are the depths of the architectures in view, `int64[N]`."""

    def __init__(self, archs: np.ndarray) -> None:
        self._archs = archs
        self.batch_norm: BatchNormMode = "batch"

    def apply(self, layer: Layer, x: np.ndarray) -> np.ndarray:
        """What the layer makes of them."""
        if isinstance(layer, Zero):
            return np.full_like(x, UNREACHED)
        return np.where(x == UNREACHED, UNREACHED, x + layer.depth)

    def add(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """The longest chain that ends in one of the values."""
        return np.maximum.reduce(list(values))

    def report(self, kind: str, value: np.ndarray, layer: Layer) -> np.ndarray:
        """Reports are nobody's."""
        return value

    def boundary(self, value: np.ndarray, block: Any = None) -> np.ndarray:
        """A value between blocks is one like others."""
        return value

    def choose(self, choice: Choice, x: np.ndarray, onto: np.ndarray | None = None) -> np.ndarray:
        """Each architecture's own branch."""
        assert isinstance(choice.decision, int), "the network has not numbered its decisions"
        taken = self._archs[:, choice.decision]
        y = np.empty_like(x)
        for k in np.unique(taken):
            members = np.flatnonzero(taken == k)
            inner = copy.copy(self)
            inner._archs = self._archs[members]
            y[members] = choice.branches[int(k)](x[members], inner)
        return y if onto is None else self.add([onto, y])


def longest_chain(fn: Callable[..., Any], *args: Any) -> int:
    """The longest chain of convolutions and matrix products from the last of `args` to `fn`'s output.

    Found in the jaxpr, so `args` may be `jax.ShapeDtypeStruct`s. The body of a `scan` is passed
    `length` times, of a `cond` or `switch` each branch, the longest counting. Products of two
    activations, as in attention, count as those with weights do. 0 if there is no chain.

    Raises:
        InputError: there are some in a `while` loop, whose number of iterations nobody knows.
    """
    closed = jax.make_jaxpr(fn)(*args)
    last = len(jax.tree.leaves(args[-1]))
    first = len(opened(closed)[0].invars) - last
    depths = _through(closed, [UNREACHED] * first + [0] * last)
    return max(0, *depths)


_PRODUCTS = {"dot_general", "conv_general_dilated", "ragged_dot", "ragged_dot_general"}


def _through(closed: Any, depths: Sequence[int]) -> list[int]:
    """The depths of a jaxpr's outputs for those of its inputs."""
    jaxpr, _ = opened(closed)
    known: dict[Any, int] = dict(zip(jaxpr.invars, depths, strict=True))

    def read(atom: Any) -> int:
        return UNREACHED if isinstance(atom, Literal) else known.get(atom, UNREACHED)

    for eqn in jaxpr.eqns:
        found = _equation(eqn, [read(atom) for atom in eqn.invars])
        known.update(zip(eqn.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _equation(eqn: JaxprEqn, depths: list[int]) -> list[int]:
    name, inner = eqn.primitive.name, inner_jaxprs(eqn)
    if name == "cond":
        branches = [_through(closed, depths[1:]) for closed in inner]
        return [max(each) for each in zip(*branches, strict=True)]
    if name == "scan":
        return _scan(eqn, depths)
    if name == "while":
        _refuse_products(inner)
    elif len(inner) == 1 and len(opened(inner[0])[0].invars) == len(depths):
        return _through(inner[0], depths)
    elif inner:
        _refuse_products(inner)
    longest = max(depths, default=UNREACHED)
    if name in _PRODUCTS and longest != UNREACHED:
        longest += 1
    return [longest] * len(eqn.outvars)


def _scan(eqn: JaxprEqn, depths: list[int]) -> list[int]:
    (body,) = inner_jaxprs(eqn)
    first, last = scan_parts(eqn)
    carry, carried = depths[first:last], last - first
    stacked = [UNREACHED] * (len(eqn.outvars) - carried)
    for _ in range(eqn.params["length"]):
        before = carry
        found = _through(body, [*depths[:first], *carry, *depths[last:]])
        carry, now = found[:carried], found[carried:]
        stacked = [max(pair) for pair in zip(stacked, now, strict=True)]
        if carry == before:
            break
    return [*carry, *stacked]


def _refuse_products(inner: Sequence[Any]) -> None:
    if any(map(_mentions_products, inner)):
        raise InputError(
            "Convolutions or matrix products stand inside a while loop or a call that cannot be "
            "entered, and how many follow each other is not known beforehand."
        )


def _mentions_products(closed: Any) -> bool:
    return any(
        eqn.primitive.name in _PRODUCTS or any(map(_mentions_products, inner_jaxprs(eqn)))
        for eqn in opened(closed)[0].eqns
    )
