"""Values shared by a population: recipes, hash-consing and their evaluation in chunks of one shape."""

import copy
import itertools
import weakref
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnas import backend
from jaxnas.nn.context import BatchNormMode, Context, SumTap, Tap, Taps, absent_choices
from jaxnas.nn.layers import Choice, Layer, Zero

_serials = itertools.count()
_NOTHING: Any = np.zeros(())


class BoundLayer(NamedTuple):
    """A layer split into structure and variables.

    `structure` numbers the structure: hashing the structure itself is slow. `identity` says which
    applications are the same.
    """

    graph: Any
    state: Any
    structure: int
    identity: tuple[int, int]


class Value:
    """One intermediate result: an array, or a recipe (a layer of one parent, or a sum of several)."""

    __slots__ = (
        "__weakref__",
        "array",
        "contributions",
        "layer",
        "ledger",
        "parents",
        "serial",
        "shape",
        "zero",
    )

    def __init__(
        self,
        shape: jax.ShapeDtypeStruct,
        parents: "tuple[Value, ...]" = (),
        layer: BoundLayer | None = None,
        *,
        zero: bool = False,
    ) -> None:
        self.shape, self.parents, self.layer, self.zero = shape, parents, layer, zero
        self.serial = next(_serials)
        self.array: jax.Array | None = None
        self.contributions: dict[str, Contribution] = {}
        self.ledger: _Ledger | None = None

    def __del__(self) -> None:
        if self.ledger is not None:
            self.ledger.live -= _bytes(self.shape)


@dataclass(eq=False)
class Contribution:
    """What a reported value adds to the tap's carry: row `row` of an evaluated chunk."""

    chunk: Any = None
    row: int = 0


@dataclass
class Shared:
    """A value for each architecture in view: `values[index[i]]`, then `layers`, is that of the i-th.

    Layers wait until somebody needs their outputs, so that what nobody needs costs nothing.
    """

    values: list[Value]
    index: np.ndarray
    layers: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class Plan:
    """How a chunk of values is computed; everything a compiled program depends on.

    The head is the sum of `arity` arrays, `graphs` the layers that follow; `reports[i]` holds the kinds
    reported of the head (i = 0) or of layer i's output.
    """

    arity: int
    graphs: tuple[Any, ...]
    reports: tuple[tuple[str, ...], ...]
    tap: Tap
    batch_norm: BatchNormMode
    output: bool


@dataclass(eq=False)
class _Site:
    """One report: which architectures made it, ascending, and each one's contribution."""

    kind: str
    rows: np.ndarray
    index: np.ndarray
    contributions: list[Contribution]


@dataclass
class _Ledger:
    """Bytes that values would hold, in a pass that computes nothing."""

    live: int = 0
    peak: int = 0

    def hold(self, value: Value) -> None:
        value.ledger = self
        self.live += _bytes(value.shape)
        self.peak = max(self.peak, self.live)


@dataclass
class _Evaluation:
    """What all views of one pass share."""

    known: "weakref.WeakValueDictionary[Any, Value]" = field(
        default_factory=weakref.WeakValueDictionary
    )
    bound: dict[int, tuple[Layer, BoundLayer]] = field(default_factory=dict)
    structures: dict[Any, int] = field(default_factory=dict)
    shapes: dict[Any, jax.ShapeDtypeStruct] = field(default_factory=dict)
    sites: list[_Site] = field(default_factory=list)
    waiting: list[Value] = field(default_factory=list)
    host: dict[tuple[int, int | None], list[np.ndarray]] = field(default_factory=dict)


class SharedContext:
    """Gives choice points the meaning "everything that somebody in the population takes".

    Stands where `jaxnas.nn.Context` stands for one architecture; batch norm uses the statistics of the
    batch. A `dry` pass computes nothing and finds out how much memory a real one would take.
    """

    def __init__(
        self,
        archs: np.ndarray,
        tap: Tap,
        *,
        batch_norm: BatchNormMode = "batch",
        dry: bool = False,
    ) -> None:
        self._archs, self._tap = archs, tap
        self.batch_norm: BatchNormMode = batch_norm
        self._rows = np.arange(len(archs))
        self._all = _Evaluation()
        self._ledger = _Ledger() if dry else None

    @property
    def peak_bytes(self) -> int:
        """After a dry pass: the most that values would hold at once."""
        return self._ledger.peak if self._ledger else 0

    def input(self, images: jax.Array) -> Shared:
        """The images, the same for every architecture."""
        value = Value(jax.ShapeDtypeStruct(images.shape, images.dtype))
        value.array = images
        return Shared([value], np.zeros(len(self._rows), np.int64))

    def apply(self, layer: Layer, x: Shared) -> Shared:
        """The layer, to be applied to each distinct value."""
        y = Shared(x.values, x.index, (*x.layers, layer))
        return self.report("affine", y) if layer.affine else y

    def add(self, values: Sequence[Shared]) -> Shared:
        """A recipe for each distinct combination; zeros drop out."""
        values = [self._settled(x) for x in values]
        code = np.zeros(len(self._rows), np.int64)
        for x in values:
            code = code * len(x.values) + x.index
        _, first, index = np.unique(code, return_index=True, return_inverse=True)
        sums = [self._sum([x.values[x.index[i]] for x in values]) for i in first]
        return Shared(sums, index)

    def report(self, kind: str, x: Shared, layer: Layer | None = None) -> Shared:
        """Remember that these architectures report these values."""
        if kind in self._tap.kinds:
            x = self._settled(x)
            self._remember(kind, x, np.ones(len(self._rows), bool))
        return x

    def boundary(self, x: Shared, block: Any = None) -> Shared:
        """Remember the value between blocks, for those architectures that have `block`."""
        if "block" in self._tap.kinds:
            x = self._settled(x)
            absent = absent_choices(block)
            there = np.ones(len(self._rows), bool)
            if absent:
                there = ~np.isin(self._archs[self._rows, block.decision], absent)
            self._remember("block", x, there)
        return x

    def _remember(self, kind: str, x: Shared, there: np.ndarray) -> None:
        used, index = np.unique(x.index[there], return_inverse=True)
        values = [x.values[i] for i in used]
        for value in values:
            if kind not in value.contributions:
                value.contributions[kind] = Contribution()
                self._all.waiting.append(value)
        contributions = [v.contributions[kind] for v in values]
        self._all.sites.append(_Site(kind, self._rows[there], index, contributions))

    def choose(self, choice: Choice, x: Shared, onto: Shared | None = None) -> Shared:
        """Send each value into the branches that are taken from it, and evaluate what comes out."""
        x = self._settled(x)
        self._evaluate(x.values)
        assert isinstance(choice.decision, int), "the network has not numbered its decisions"
        taken = self._archs[self._rows, choice.decision]
        values: list[Value] = []
        index = np.empty(len(self._rows), np.int64)
        for k in np.unique(taken):
            members = np.flatnonzero(taken == k)
            used, inverse = np.unique(x.index[members], return_inverse=True)
            inner = copy.copy(self)
            inner._rows = self._rows[members]
            y = choice.branches[int(k)](Shared([x.values[u] for u in used], inverse), inner)
            y = self._settled(y)
            index[members] = y.index + len(values)
            values.extend(y.values)
        self._evaluate(values)
        y = Shared(values, index)
        return y if onto is None else self.add([onto, y])

    def outputs(self, x: Shared) -> np.ndarray:
        """Each architecture's array of `x`, `[N, ...]`."""
        x = self._settled(x)
        self._evaluate(x.values)
        return np.stack([np.asarray(_array(v)) for v in x.values])[x.index]

    def settle(self) -> None:
        """Compute what reports still wait for."""
        self._run(self._all.waiting, output=False)

    def carry(self, batch: int, rows: slice) -> Any:
        """The tap's carry of these architectures, leaves `[rows, ...]`, once all is settled."""
        several = isinstance(self._tap, Taps)
        parts = self._tap.taps if isinstance(self._tap, Taps) else (self._tap,)
        carries = tuple(
            self._folded(part, i if several else None, batch, rows) for i, part in enumerate(parts)
        )
        return carries if several else carries[0]

    def _folded(self, tap: Tap, place: int | None, batch: int, rows: slice) -> Any:
        """One tap's carry; its contributions are member `place` of what a site has, or all."""
        n = rows.stop - rows.start
        init = jax.tree.map(np.asarray, tap.init(batch))
        carry = jax.tree.map(lambda leaf: np.repeat(leaf[None], n, axis=0), init)
        for site in self._all.sites:
            first, last = np.searchsorted(site.rows, [rows.start, rows.stop])
            used, inverse = np.unique(site.index[first:last], return_inverse=True)
            if not len(used) or site.kind not in tap.kinds:
                continue
            stacked = self._stacked([site.contributions[u] for u in used], place)
            where = site.rows[first:last] - rows.start
            if isinstance(tap, SumTap):
                for total, more in zip(*map(jax.tree.leaves, (carry, stacked)), strict=True):
                    total[where] += more[inverse]
            else:
                which = np.full(n, -1)
                which[where] = inverse
                more = jax.tree.map(lambda a, w=which: a[np.maximum(w, 0)], stacked)
                carry = fold_where(tap, carry, more, which >= 0)
        return carry

    def _stacked(self, contributions: list[Contribution], place: int | None) -> Any:
        host = self._all.host
        for c in contributions:
            if (id(c.chunk), place) not in host:
                part = c.chunk if place is None else c.chunk[place]
                host[id(c.chunk), place] = [np.asarray(leaf) for leaf in jax.tree.leaves(part)]
        found = [(host[id(c.chunk), place], c.row) for c in contributions]
        first = contributions[0].chunk
        tree = jax.tree.structure(first if place is None else first[place])
        stacked = [
            np.stack([leaves[i][row] for leaves, row in found]) for i in range(tree.num_leaves)
        ]
        return jax.tree.unflatten(tree, stacked)

    def _settled(self, x: Shared) -> Shared:
        """`x` itself, with a recipe for each distinct value in place of the waiting layers."""
        for layer in x.layers:
            bound = self._bind(layer)
            x.values = [self._applied(layer, bound, v) for v in x.values]
        x.layers = ()
        return x

    def _bind(self, layer: Layer) -> BoundLayer:
        known = self._all.bound
        if id(layer) not in known:
            graph, state = nnx.split(layer)
            # Two 1x1 convolutions may have one structure and kernels of different shapes.
            key = (graph, tuple(a.shape for a in jax.tree.leaves(state)))
            structure = self._all.structures.setdefault(key, len(self._all.structures))
            own = id(layer) if jax.tree.leaves(state) else 0
            # The layer is kept beside, so that its id stays its own.
            known[id(layer)] = (layer, BoundLayer(graph, state, structure, (structure, own)))
        return known[id(layer)][1]

    def _applied(self, layer: Layer, bound: BoundLayer, parent: Value) -> Value:
        shape = self._output_shape(bound, parent.shape)
        if isinstance(layer, Zero) or (parent.zero and layer.keeps_zero):
            return self._cons(("zero", shape.shape, shape.dtype), lambda: Value(shape, zero=True))
        key = (bound.identity, parent.serial)
        return self._cons(key, lambda: Value(shape, (parent,), bound))

    def _sum(self, parts: list[Value]) -> Value:
        terms = [p for p in parts if not p.zero] or parts[:1]
        if len(terms) == 1:
            return terms[0]
        key = ("sum", *(t.serial for t in terms))
        return self._cons(key, lambda: Value(terms[0].shape, tuple(terms)))

    def _cons(self, key: Any, make: Any) -> Value:
        value = self._all.known.get(key)
        if value is None:
            value = self._all.known[key] = make()
        return value

    def _output_shape(self, bound: BoundLayer, shape: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        key = (bound.structure, shape.shape, shape.dtype)
        if key not in self._all.shapes:
            self._all.shapes[key] = jax.eval_shape(
                lambda state, x: nnx.merge(bound.graph, state).forward(x, Context()),
                bound.state,
                shape,
            )
        return self._all.shapes[key]

    def _evaluate(self, values: Iterable[Value]) -> None:
        """Turn recipes into arrays, and hand reported values that are arrays to the tap."""
        self._run([v for v in values if v.array is None and not v.zero], output=True)
        ready = [v for v in self._all.waiting if v.array is not None or v.zero]
        self._run(ready, output=False)

    def _run(self, targets: Sequence[Value], *, output: bool) -> None:
        targets = list({v.serial: v for v in targets}.values())
        heads = [_chain(v)[0] for v in targets]
        inner = [p for head in heads for p in head.parents if p.array is None and not p.zero]
        if inner:
            self._run(inner, output=True)
        groups: dict[Any, list[tuple[Value, list[Value]]]] = defaultdict(list)
        for target in targets:
            head, chain = _chain(target)
            steps = [(v.layer.identity, _due(v)) for v in chain if v.layer is not None]
            key = (_arity(head), *steps, _due(head))
            groups[key].append((head, chain))
        for members in groups.values():
            if self._ledger is None:
                self._run_group(members, output=output)
            else:
                _pretend(members, self._ledger)
        self._all.waiting = [v for v in self._all.waiting if _due(v)]

    def _run_group(self, members: list[tuple[Value, list[Value]]], *, output: bool) -> None:
        head, chain = members[0]
        layers = [v.layer for v in chain if v.layer is not None]
        reports = tuple(_due(v) for v in (head, *chain))
        graphs = tuple(b.graph for b in layers)
        plan = Plan(_arity(head), graphs, reports, self._tap, self.batch_norm, output)
        states = tuple(b.state for b in layers)
        size = backend.choices().shared_prefix_rows
        for start in range(0, len(members), size):
            chunk = members[start : start + size]
            padded = chunk + chunk[-1:] * (size - len(chunk))
            rows = tuple(tuple(_array(p) for p in _operands(head)) for head, _ in padded)
            arrays, contributions = run_chunk(plan, states, rows)
            for i, (head, chain) in enumerate(chunk):
                steps = (head, *chain)
                _settle(steps, reports, contributions, i)
                if output:
                    steps[-1].array, steps[-1].parents = arrays[i], ()


@partial(jax.jit, static_argnames="plan")
def run_chunk(plan: Plan, states: tuple[Any, ...], rows: tuple[tuple[jax.Array, ...], ...]) -> Any:
    """Outputs, a tuple of one array a row, and the contributions of each report, leaves `[R, ...]`."""

    def one(*operands: jax.Array) -> Any:
        ctx = Context(batch_norm=plan.batch_norm)
        x = ctx.add(operands)
        found = [[plan.tap.contribution(kind, x) for kind in plan.reports[0]]]
        for graph, state, kinds in zip(plan.graphs, states, plan.reports[1:], strict=True):
            x = nnx.merge(graph, state).forward(x, ctx)
            found.append([plan.tap.contribution(kind, x) for kind in kinds])
        return x if plan.output else None, found

    if backend.choices().unroll_shared_rows:
        results = [one(*row) for row in rows]
        outputs = tuple(x for x, _ in results) if plan.output else ()
        return outputs, jax.tree.map(lambda *a: jnp.stack(a), *(found for _, found in results))
    stacked = [jnp.stack([row[i] for row in rows]) for i in range(plan.arity)]
    x, found = jax.vmap(one)(*stacked)
    return (tuple(x[i] for i in range(len(rows))) if plan.output else ()), found


@partial(jax.jit, static_argnames="tap")
def fold_where(tap: Tap, carry: Any, contribution: Any, there: jax.Array) -> Any:
    """Each row's carry after its contribution, for the rows that are there."""
    after = jax.vmap(tap.fold)(carry, contribution)

    def kept(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(there.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    return jax.tree.map(kept, after, carry)


def _pretend(members: list[tuple[Value, list[Value]]], ledger: _Ledger) -> None:
    for head, chain in members:
        value = (head, *chain)[-1]
        value.array, value.parents = _NOTHING, ()
        ledger.hold(value)


def _bytes(shape: jax.ShapeDtypeStruct) -> int:
    return shape.size * shape.dtype.itemsize


def _chain(value: Value) -> tuple[Value, list[Value]]:
    """The array or sum that a value is computed from, and the layers' outputs from there to it."""
    chain: list[Value] = []
    while value.array is None and not value.zero and value.layer is not None:
        chain.append(value)
        value = value.parents[0]
    return value, chain[::-1]


def _operands(head: Value) -> tuple[Value, ...]:
    return head.parents if head.array is None and not head.zero else (head,)


def _arity(head: Value) -> int:
    return len(_operands(head))


def _due(value: Value) -> tuple[str, ...]:
    return tuple(kind for kind, c in value.contributions.items() if c.chunk is None)


def _settle(
    steps: tuple[Value, ...], reports: tuple[tuple[str, ...], ...], found: Any, row: int
) -> None:
    for value, kinds, chunks in zip(steps, reports, found, strict=True):
        for kind, chunk in zip(kinds, chunks, strict=True):
            contribution = value.contributions[kind]
            contribution.chunk, contribution.row = chunk, row


def _array(value: Value) -> jax.Array:
    if value.array is None:
        value.array = jnp.zeros(value.shape.shape, value.shape.dtype)
    return value.array
