"""A walk through a network that visits every branch: its decisions, its sizes, what is masked.

The network's own code runs once with `Probe` values in place of arrays. Nothing is computed.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxnas.errors import InputError
from jaxnas.nn.context import BatchNormMode, Context
from jaxnas.nn.layers import Choice, Layer
from jaxnas.nn.width import Width

type Condition = tuple[int | str, int]
"""A decision and the branch that it must take."""


@dataclass(frozen=True)
class Probe:
    """The shape of a value `[1, ..., C]`, and how many of its channels there are if that is chosen."""

    shape: tuple[int, ...]
    width: Width | None = None

    @property
    def channels(self) -> int | Width:
        """Built or chosen."""
        return self.shape[-1] if self.width is None else self.width


@dataclass(frozen=True)
class Site:
    """One application of a layer, in architectures that meet all conditions."""

    layer: Layer
    conditions: tuple[Condition, ...]
    x: Probe
    y: Probe


@dataclass
class Survey:
    """What there is in a network: decisions with the names of their choices, layers and reports."""

    decisions: dict[int | str, tuple[str, ...]] = field(default_factory=dict)
    needs: dict[int | str, list[tuple[Condition, ...]]] = field(default_factory=dict)
    """The conditions under which something depends on a decision; any one of them."""
    sites: list[Site] = field(default_factory=list)
    reports: dict[str, int] = field(default_factory=dict)
    """The kinds of what is reported, and how many units all reports of a kind have."""
    outputs: Probe = field(default_factory=lambda: Probe(()))

    @property
    def elastic(self) -> bool:
        """Whether any channels are masked."""
        return any(site.x.width or site.y.width for site in self.sites)

    def meet(self, decision: int | str, names: tuple[str, ...], met: tuple[Condition, ...]) -> None:
        """A decision is read under these conditions."""
        known = self.decisions.setdefault(decision, names)
        if len(known) != len(names):
            raise InputError(
                f"Decision {decision!r} has {len(known)} choices in one place ({', '.join(known)}) "
                f"and {len(names)} in another ({', '.join(names)})."
            )
        self.needs.setdefault(decision, []).append(met)


class SurveyContext:
    """Gives choice points the meaning "every branch"."""

    def __init__(self) -> None:
        self.survey = Survey()
        self.batch_norm: BatchNormMode = "batch"
        self._met: tuple[Condition, ...] = ()

    def apply(self, layer: Layer, x: Probe) -> Probe:
        """The output's shape; the layer is noted."""
        for width in (x.width, layer.outputs):
            if isinstance(width, Width):
                self.survey.meet(width.decision, tuple(map(str, width.values)), self._met)
        outputs = layer.outputs if layer.outputs is not None else x.channels
        y = Probe(output_shape(layer, x.shape), outputs if isinstance(outputs, Width) else None)
        self.survey.sites.append(Site(layer, self._met, x, y))
        return self._noted("affine", y) if layer.affine else y

    def add(self, values: Sequence[Probe]) -> Probe:
        """One of the values, which must be alike."""
        for value in values[1:]:
            self._alike(values[0], value, "are added")
        return values[0]

    def report(self, kind: str, value: Probe, layer: Layer) -> Probe:
        """Note that there are such reports."""
        return self._noted(kind, value)

    def boundary(self, value: Probe, block: Any = None) -> Probe:
        """Note that there are blocks."""
        return self._noted("block", value)

    def choose(self, choice: Choice, x: Probe, onto: Probe | None = None) -> Probe:
        """Visit every branch."""
        self.survey.meet(choice.decision, choice.names, self._met)
        results = []
        for k, branch in enumerate(choice.branches):
            inner = copy.copy(self)
            inner._met = (*self._met, (choice.decision, k))
            results.append(branch(x, inner))
            self._alike(results[0], results[-1], f"are branches of decision {choice.decision!r}")
        return results[0] if onto is None else self.add([onto, results[0]])

    def _noted(self, kind: str, value: Probe) -> Probe:
        known = self.survey.reports
        known[kind] = known.get(kind, 0) + math.prod(value.shape[1:])
        return value

    @staticmethod
    def _alike(a: Probe, b: Probe, what: str) -> None:
        if a != b:
            raise InputError(f"Two values that {what} differ: {_words(a)} and {_words(b)}.")


def _words(x: Probe) -> str:
    shape = " x ".join(map(str, x.shape[1:]))
    return shape if x.width is None else f"{shape} of width {x.width.values}"


def take_survey(module: nnx.Module, image: tuple[int, ...]) -> Survey:
    """Walk through `module(images, ctx)` with images of shape `(H, W, C)`."""
    ctx = SurveyContext()
    called: Any = module
    ctx.survey.outputs = called(Probe((1, *image)), ctx)
    return ctx.survey


def number_decisions(module: nnx.Module, survey: Survey) -> list[str]:
    """Give decisions that go by name a column each, in the order in which the network reads them.

    The module's choice points and widths are changed; the names are returned in order of columns.
    """
    names = [d for d in survey.decisions if isinstance(d, str)]
    if not names:
        return []
    column: dict[int | str, int] = {name: i for i, name in enumerate(names)}
    if len(names) < len(survey.decisions):
        raise InputError("A network's decisions go either all by name or all by number.")

    def numbered(width: Any) -> Any:
        return replace(width, decision=column.get(width.decision, width.decision))

    for _, node in nnx.iter_modules(module):
        if isinstance(node, Choice):
            node.decision = column.get(node.decision, node.decision)
        if isinstance(node, Layer) and isinstance(node.outputs, Width):
            node.outputs = numbered(node.outputs)
    return names


def annotate_widths(survey: Survey) -> None:
    """Let layers whose input is partly masked know of it."""
    for site in survey.sites:
        if site.x.width is not None:
            if site.layer.width not in (None, site.x.width):
                raise InputError(
                    f"One {type(site.layer).__name__} is used on values of two widths: "
                    f"{site.layer.width} and {site.x.width}."
                )
            site.layer.width = site.x.width


def output_shape(layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    """What the layer makes of a value of this shape."""
    settings = tuple(
        (name, value.get_value().shape if isinstance(value, nnx.Variable) else value)
        for name, value in sorted(vars(layer).items())
        if not name.startswith("_") and name != "width"
    )
    try:
        return _cached_shape(_Applied(layer, (type(layer), settings)), shape)
    except TypeError:  # a setting that is not hashable
        return _shape(layer, shape)


class _Applied:
    """A layer that equals others of the same settings."""

    def __init__(self, layer: Layer, identity: Any) -> None:
        self.layer, self.identity = layer, identity
        hash(identity)

    def __hash__(self) -> int:
        return hash(self.identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Applied) and self.identity == other.identity


@cache
def _cached_shape(applied: _Applied, shape: tuple[int, ...]) -> tuple[int, ...]:
    return _shape(applied.layer, shape)


def _shape(layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    graph, state = nnx.split(layer)
    x = jax.ShapeDtypeStruct(shape, np.float32)
    return jax.eval_shape(lambda s, x: nnx.merge(graph, s).forward(x, Context()), state, x).shape
