"""The nodes of a cell, each the sum of edges from nodes before it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxnas.nn.layers import Choice
from jaxnas.nn.survey import Probe, SurveyContext

type Wiring = Sequence[tuple[int, int]]


def wired(edges: Sequence[Choice], wiring: Wiring, inputs: Sequence[Any], ctx: Any) -> list[Any]:
    """The values of all nodes: `inputs`, then for each node the sum of its edges' values.

    Edge e goes from node a to node b, (a, b) = `wiring[e]`; edges come in the order of b, and all nodes
    but the inputs have some. Contexts that say `loops` compute edges that are alike by one piece of
    program, again and again: written out, a cell of 14 edges that are each computed 8 ways takes minutes
    to compile.
    """
    if getattr(ctx, "loops", False):
        groups = _groups(edges, wiring, inputs)
        if groups is not None:
            return _looped(edges, wiring, inputs, ctx, groups)
    nodes = list(inputs)
    for node in range(len(inputs), 1 + max(b for _, b in wiring)):
        total = None
        for edge, (a, b) in zip(edges, wiring, strict=True):
            if b == node:
                total = edge(nodes[a], ctx, onto=total)
        nodes.append(total)
    return nodes


class _Group(NamedTuple):
    """Edges that differ in their numbers alone, what they have in common, and each one's variables."""

    members: list[int]
    graph: Any
    states: list[Any]


def _groups(edges: Sequence[Choice], wiring: Wiring, inputs: Sequence[Any]) -> list[_Group] | None:
    """Groups that can be computed one after another; None: there is no such order, or no use."""
    found: list[_Group] = []
    for e, edge in enumerate(edges):
        graph, state = nnx.split(edge.branches)
        known = next((g for g in found if g.graph == graph), None)
        if known is None:
            known = _Group([], graph, [])
            found.append(known)
        known.members.append(e)
        known.states.append(state)
    place = {e: k for k, group in enumerate(found) for e in group.members}
    ordered = all(
        place[before] <= place[e]
        for e, (a, _) in enumerate(wiring)
        for before, (_, b) in enumerate(wiring)
        if b == a
    )
    alike = len({x.shape for x in inputs}) == 1
    return found if ordered and alike and len(found) < len(edges) else None


def _looped(
    edges: Sequence[Choice], wiring: Wiring, inputs: Sequence[Any], ctx: Any, groups: list[_Group]
) -> list[Any]:
    given = jnp.stack(inputs)
    probe = Probe((1, *given.shape[2:]))
    shape = (given.shape[1], *SurveyContext().choose(edges[0], probe).shape[1:])
    within = shape == given.shape[1:]
    # Where nodes are smaller than inputs, the inputs' places stay empty.
    nodes = jnp.zeros((1 + max(b for _, b in wiring), *shape), given.dtype)
    nodes = nodes.at[: len(inputs)].set(given) if within else nodes
    for group in groups:
        own = not within and wiring[group.members[0]][0] < len(inputs)
        nodes = _group_added(edges, wiring, group, ctx, given if own else None, nodes)
    return [*inputs, *nodes[len(inputs) :]]


def _group_added(
    edges: Sequence[Choice],
    wiring: Wiring,
    group: _Group,
    ctx: Any,
    given: jax.Array | None,
    nodes: jax.Array,
) -> jax.Array:
    """The nodes when the group's edges are added, which read `given` or, if None, the nodes."""
    names, repeats = edges[group.members[0]].names, ctx.repeated()

    def add(nodes: jax.Array, edge: Any) -> tuple[jax.Array, Any]:
        state, decision, source, node, number = edge
        branches = nnx.merge(group.graph, state)
        choice = Choice(decision, dict(zip(names, branches, strict=True)))
        inner = repeats(number)
        y = choice((nodes if given is None else given)[source], inner)
        norms = choice.batch_norms() if inner.statistics else []
        return nodes.at[node].add(y), [inner.statistics[id(norm)][1] for norm in norms]

    states = jax.tree.map(lambda *each: jnp.stack(each), *group.states)
    columns = [(edges[e].decision, *wiring[e], k) for k, e in enumerate(group.members)]
    nodes, statistics = lax.scan(add, nodes, (states, *jnp.array(columns, jnp.int32).T))
    for k, e in enumerate(group.members):
        for norm, moved in zip(
            edges[e].batch_norms() if statistics else [], statistics, strict=True
        ):
            ctx.update_statistics(norm, *(value[k] for value in moved))
    return nodes
