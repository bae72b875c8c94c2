"""Any JAX model as a population: three functions of the user's become one compiled program."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.errors import InputError
from jaxnas.training.layout import Layout, spread


class Members(NamedTuple):
    """N members: parameters with N as their first axis, `seeds: uint32[N]`, `steps: int32[N]` behind."""

    params: Any
    seeds: jax.Array
    steps: jax.Array


class FunctionTrials:
    """A population of a user's model, trained and evaluated in one compiled program each.

    Another number of units, other hyper-parameters or other members compile nothing. Seeds make a
    member's parameters and, where batches are drawn, its batches.

    Args:
        init: `init(key) -> params`, any pytree, optimiser state included.
        step: `step(params, hyper, batch) -> params`; `hyper` holds a float32 scalar by name.
        evaluate: `evaluate(params) -> fitness`, a scalar, more is better.
        batches: a pytree whose leaves have the batches as their first axis, taken in turn; or
            `batches(key) -> batch`, drawn for each step; or None: there are none.
        steps: how many steps a unit is; 0: one pass over the batches that are given, else 1.
        layout: "map": one member after another, which CPUs are better at; "vmap": all at once.

    Raises:
        InputError: another layout, no batch in the batches, or leaves with unequally many.
    """

    def __init__(
        self,
        init: Callable[[jax.Array], Any],
        step: Callable[[Any, dict[str, jax.Array], Any], Any],
        evaluate: Callable[[Any], jax.Array],
        batches: Any = None,
        *,
        steps: int = 0,
        layout: str = "map",
    ) -> None:
        if layout not in ("map", "vmap"):
            raise InputError(f"The layout is {layout!r}, expected 'map' or 'vmap'.")
        given = None if callable(batches) or batches is None else batches
        count = 1 if given is None else _batches_in(given)
        self._init_one, self._step, self._evaluate_one = init, step, evaluate
        self._draw = batches if callable(batches) else None
        self._batches = jax.tree.map(jnp.asarray, given)
        self._count, self._steps, self._whole = count, steps or count, layout == "vmap"
        self._fresh = jax.jit(self._fresh_members)
        self._gathered = jax.jit(self._gathered_members)
        self._trained = jax.jit(self._trained_members, donate_argnums=0)
        self._evaluated = jax.jit(self._fitness)

    def init(self, seeds: np.ndarray) -> Members:
        """Fresh members, one a seed; equal seeds give equal members."""
        return self._fresh(np.asarray(seeds, np.uint32))

    def train(
        self, state: Members, values: Mapping[str, np.ndarray], which: np.ndarray, units: int
    ) -> Members:
        """The members `which: bool[N]` after `units` times `steps` steps; `state` is used up."""
        hyper = {name: np.asarray(v, np.float32) for name, v in values.items()}
        units = np.int32(units)  # type: ignore[assignment]
        return self._trained(state, hyper, self._batches, np.asarray(which, bool), units)

    def evaluate(self, state: Members) -> np.ndarray:
        """Fitness `float32[N]`."""
        return np.asarray(self._evaluated(state.params))

    def gather(self, state: Members, rows: np.ndarray, seeds: np.ndarray) -> Members:
        """Member i is a copy of member `rows[i]`, or a fresh one of `seeds[i]` where that is -1.

        A copy goes on with its own seed and as many steps as it copied.
        """
        rows = np.asarray(rows, np.int32)
        found = self._gathered(state, np.where(rows < 0, np.arange(len(rows)), rows))
        if (rows >= 0).all():
            return found
        fresh = self.init(np.where(rows < 0, np.asarray(seeds, np.uint32), 0))
        return _chosen(rows < 0, fresh, found)

    def _fresh_members(self, seeds: jax.Array) -> Members:
        params = self._each(lambda seed: self._init_one(jax.random.key(seed)), seeds)
        return Members(params, seeds, jnp.zeros(len(seeds), jnp.int32))

    def _gathered_members(self, state: Members, rows: jax.Array) -> Members:
        taken = jax.tree.map(lambda a: a[rows], state)
        return taken._replace(seeds=state.seeds)

    def _trained_members(
        self,
        state: Members,
        hyper: dict[str, jax.Array],
        batches: Any,
        which: jax.Array,
        units: jax.Array,
    ) -> Members:
        layout = Layout(len(which) if self._whole else None, tuple(jax.local_devices()[:1]))
        return spread(self._one, layout, state, hyper, (batches, units), which)

    def _one(self, member: Members, hyper: dict[str, jax.Array], shared: Any) -> Members:
        batches, units = shared

        def body(i: jax.Array, params: Any) -> Any:
            at = member.steps + i
            if self._draw is not None:
                # Apart from the parameters' draw, which has the seed's key itself.
                batch = self._draw(jax.random.fold_in(jax.random.key(member.seeds), at))
            else:
                batch = jax.tree.map(lambda a: a[at % self._count], batches)
            return self._step(params, hyper, batch)

        steps = units * self._steps
        params = lax.fori_loop(0, steps, body, member.params)
        return Members(params, member.seeds, member.steps + steps)

    def _fitness(self, params: Any) -> jax.Array:
        return self._each(lambda p: jnp.asarray(self._evaluate_one(p), jnp.float32), params)

    def _each(self, one: Callable[[Any], Any], members: Any) -> Any:
        return jax.vmap(one)(members) if self._whole else lax.map(one, members)


def _batches_in(given: Any) -> int:
    counts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(given)}
    if len(counts) != 1 or not all(counts) or not all(n for (n,) in counts):
        said = ", ".join(sorted(str(n[0]) if n else "no axis" for n in counts)) or "none"
        raise InputError(
            f"Batches are the first axis of all leaves, equally many and at least one; got {said}."
        )
    ((count,),) = counts
    return count


@jax.jit
def _chosen(which: jax.Array, a: Any, b: Any) -> Any:
    def one(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.where(which.reshape(-1, *[1] * (x.ndim - 1)), x, y)

    return jax.tree.map(one, a, b)
