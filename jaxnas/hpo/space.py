"""Hyper-parameter spaces: a row is a point of the unit cube, and decodes to named values."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.errors import InputError, unknown
from jaxnas.hpo.ranges import Made
from jaxnas.language import (
    Bool,
    Category,
    Condition,
    Description,
    Parameter,
    Samples,
    load_description,
)

CELLS = 100_000
"""A grid has at most so many points."""


@dataclass(frozen=True, eq=False)
class Space:
    """A space of P hyper-parameters, one column of the unit cube each: rows are `float64[n, P]`.

    Args:
        description: parameters, conditions and forbidden combinations (`jaxnas.language`).
        inactive: the value that a parameter has where it is inactive, by name; the one at the middle of
            the cube if it is not given.

    Raises:
        InputError: a parameter that is an array, or an inactive value of a name that is not there.
    """

    description: Description
    inactive: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for parameter in self.description.parameters:
            if parameter.shape or parameter.columns != 1:
                raise InputError(
                    f"{parameter.key} is of type {parameter.type}, an array; expected a single value."
                )
        for name in self.inactive:
            if name not in self.names:
                raise unknown("hyper-parameter", name, self.names)

    @classmethod
    def of(
        cls,
        parameters: Mapping[str, Made],
        conditions: Sequence[Condition] = (),
        *,
        forbidden: Sequence[Mapping[str, Any]] = (),
        inactive: Mapping[str, float] | None = None,
    ) -> "Space":
        """A space made in Python: `Space.of({"rate": log_uniform(1e-3, 1), "on": choice(True)})`."""
        made = tuple(make(name) for name, make in parameters.items())
        return cls(Description(made, tuple(conditions), tuple(forbidden)), inactive or {})

    @classmethod
    def read(cls, path: str | Path, *, inactive: Mapping[str, float] | None = None) -> "Space":
        """The `search_space` of a YAML file in the project's language (`jaxnas.language`)."""
        return cls(load_description(path).description, inactive or {})

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters in the order of their columns."""
        return self.description.parameters

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the hyper-parameters, in the order of their columns."""
        return self.description.names

    @property
    def dimensions(self) -> int:
        """P, the number of columns."""
        return len(self.parameters)

    @cached_property
    def unordered(self) -> np.ndarray:
        """`bool[P]`: parameters whose values have no order, words and truth values."""
        return np.array([type(p) in (Category, Bool) for p in self.parameters])

    @cached_property
    def counts(self) -> np.ndarray:
        """`int64[P]`: how many values each has; 0: a continuum."""
        return np.array([p.count or 0 for p in self.parameters], np.int64)

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """`n` canonical rows, uniform in what is allowed; advances `rng`."""
        return self.canonical(self.description.sample(rng, n))

    def decode(self, rows: np.ndarray) -> Samples:
        """Values and activity by name, `[n]` each, as `jaxnas.language` has them."""
        return self.description.decode(np.asarray(rows, float))

    def canonical(self, rows: np.ndarray) -> np.ndarray:
        """The one row of each configuration: the middle of a value's bin, .5 where it is inactive."""
        rows = np.array(rows, float)
        samples = self.decode(rows)
        for i, parameter in enumerate(self.parameters):
            if parameter.count is not None:
                rows[:, i : i + 1] = parameter.encode(samples.values[parameter.key])
            rows[~samples.active[parameter.key], i] = 0.5
        return rows

    def allowed(self, rows: np.ndarray) -> np.ndarray:
        """`bool[n]`: which rows have no forbidden combination."""
        return self.description.allowed(self.decode(rows))

    def active(self, rows: np.ndarray) -> np.ndarray:
        """`bool[n, P]`: which parameters are active."""
        samples = self.decode(rows)
        return np.stack([samples.active[name] for name in self.names], axis=1)

    def values(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What a program reads of each row, `float32[n]` by name.

        A word is its place among the choices, a truth value 0 or 1. Where a parameter is inactive it is
        `inactive[name]`, or the value at the middle of the cube.
        """
        samples = self.decode(rows)
        found = {}
        for parameter in self.parameters:
            name = parameter.key
            values = samples.values[name]
            if type(parameter) is Category:
                values = np.argmax(values[:, None] == parameter.all()[None], axis=1)
            values = np.array(values, np.float32)
            if name in self.inactive:
                values[~samples.active[name]] = self.inactive[name]
            found[name] = values
        return found

    def encode(self, configurations: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Rows of configurations by name, as `configurations` gives them; others are inactive.

        Raises:
            InputError: a name that is not there, or a value outside its range.
        """
        for given in configurations:
            for name in given:
                if name not in self.names:
                    raise unknown("hyper-parameter", str(name), self.names)
        rows = np.full((len(configurations), self.dimensions), 0.5)
        for i, parameter in enumerate(self.parameters):
            on = [j for j, given in enumerate(configurations) if parameter.key in given]
            values = [configurations[j][parameter.key] for j in on]
            kind = object if parameter.kinds == "O" else None
            if on:
                rows[on, i : i + 1] = parameter.encode(np.array(values, kind))
        return self.canonical(rows)

    def configurations(self, rows: np.ndarray) -> list[dict[str, Any]]:
        """The active values of each row, plain Python, by name."""
        samples = self.decode(rows)
        plain = {name: samples.values[name].tolist() for name in self.names}
        return [
            {name: plain[name][i] for name in self.names if samples.active[name][i]}
            for i in range(len(rows))
        ]

    def grid(self, levels: int) -> np.ndarray:
        """The product of `levels` values of each parameter, canonical rows, each configuration once.

        A continuum has equally spaced ones with both ends, at its middle if `levels` is 1; a list or
        whole numbers have all if they are no more than `levels`, else equally spaced ones; what has no
        order has all.

        Raises:
            InputError: `levels` below 1, or a grid of more than `CELLS` points.
        """
        if levels < 1:
            raise InputError(f"A grid has {levels} levels, expected at least 1.")
        spaced = np.linspace(0, 1, levels) if levels > 1 else np.array([0.5])
        axes = []
        for count, unordered in zip(self.counts.tolist(), self.unordered, strict=True):
            few = count and (unordered or count <= levels)
            axes.append((np.arange(count) + 0.5) / count if few else spaced)
        if np.prod([float(len(axis)) for axis in axes]) > CELLS:
            raise InputError(f"A grid of {levels} levels has more than {CELLS:,} points.")
        rows = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
        rows = self.canonical(rows)
        first = np.sort(np.unique(rows, axis=0, return_index=True)[1])
        rows = rows[first]
        return rows[self.allowed(rows)]

    def features(self, rows: np.ndarray) -> np.ndarray:
        """Columns `float64[n, F]` whose distances mean something.

        An ordered parameter is its column; one without order is one column a value, 1 / sqrt(2) at the
        value it has, so that two different values are 1 apart.
        """
        rows = self.canonical(rows)
        columns = []
        for i, count in enumerate(self.counts.tolist()):
            if self.unordered[i]:
                place = np.minimum((rows[:, i] * count).astype(int), count - 1)
                columns.append(np.eye(count)[place] / np.sqrt(2))
            else:
                columns.append(rows[:, i : i + 1])
        return np.concatenate(columns, axis=1)

    def identity(self) -> str:
        """What the space is, as one line of JSON: equal where spaces are."""
        d = self.description
        parts = {
            "parameters": [_identity(p) for p in d.parameters],
            "conditions": [[c.child, c.parent, c.type, repr(c.values)] for c in d.conditions],
            "forbidden": [sorted((k, repr(v)) for k, v in each.items()) for each in d.forbidden],
            "inactive": sorted((k, float(v)) for k, v in self.inactive.items()),
        }
        return json.dumps(parts)


def _identity(parameter: Parameter) -> list[str]:
    rest = (repr(value) for field, value in sorted(vars(parameter).items()) if field != "key")
    return [parameter.type, parameter.key, *rest]
