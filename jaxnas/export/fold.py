"""A function with all that does not depend on its argument computed beforehand.

A network whose architecture is fixed still masks its widths, makes batch norm's factors and embeds its
positions. Other runtimes need none of that: what they get is arithmetic on images, with constants.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var

INLINED = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat": "jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}
"""Primitives that call a function, and which of their parameters it is: forward they are its body."""
PASSED_ON = frozenset({"name", "stop_gradient", "copy", "copy_p", "optimization_barrier"})
"""Primitives that hand on what they are given."""


@dataclass(frozen=True)
class Known:
    """A value that does not depend on the argument."""

    value: Any


type Atom = Known | Var
"""A constant, or a variable that a step before has set."""
type Bind = Callable[[JaxprEqn, Sequence[Any]], Sequence[Any]]
"""What computes the outputs of an equation from its inputs."""


@dataclass(frozen=True, eq=False)
class _Step:
    equation: JaxprEqn
    inputs: tuple[Atom, ...]
    outputs: tuple[Var, ...]


@dataclass(frozen=True, eq=False)
class Folded:
    """A function of one array as the steps that are left of it; `results` are its outputs."""

    argument: Var
    steps: tuple[_Step, ...]
    results: tuple[Atom, ...]

    def __call__(self, x: jax.Array) -> tuple[Any, ...]:
        """The outputs for `x`, in order."""
        return self.run(x, {})

    def run(self, x: jax.Array, others: Mapping[str, Bind]) -> tuple[Any, ...]:
        """The outputs for `x`; primitives named in `others` are computed by these functions instead."""
        values: dict[Var, Any] = {self.argument: x}

        def read(atom: Atom) -> Any:
            return atom.value if isinstance(atom, Known) else values[atom]

        for step in self.steps:
            bind = others.get(step.equation.primitive.name, _bound)
            found = bind(step.equation, [read(atom) for atom in step.inputs])
            values.update(zip(step.outputs, found, strict=True))
        return tuple(read(atom) for atom in self.results)


def folded(function: Callable[[jax.Array], Any], like: jax.ShapeDtypeStruct) -> Folded:
    """`function` of one array, without calls and with its constants computed.

    What is left are primitives whose value depends on the argument and on which an output depends.
    The shape of `like` may be symbolic (`jax.export.symbolic_shape`). Equal to `function` up to the
    rounding of constants that a compiler would have computed in another order.
    """
    closed = jax.make_jaxpr(function)(like)
    steps: list[_Step] = []
    argument = closed.jaxpr.invars[0]
    results = _walked(closed.jaxpr, [Known(c) for c in closed.consts], [argument], steps)
    return Folded(argument, tuple(_needed(steps, results)), tuple(results))


def _walked(
    jaxpr: Jaxpr, consts: Sequence[Atom], inputs: Sequence[Atom], steps: list[_Step]
) -> list[Atom]:
    """What the outputs of a jaxpr are, the steps that make them added to `steps`."""
    known: dict[Var, Atom] = dict(zip(jaxpr.constvars, consts, strict=True))
    known |= dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Atom:
        return Known(atom.val) if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        arguments = [read(atom) for atom in equation.invars]
        outputs = _outputs(equation, arguments, steps)
        known.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _outputs(equation: JaxprEqn, arguments: list[Atom], steps: list[_Step]) -> list[Atom]:
    name = equation.primitive.name
    if name in PASSED_ON:
        return arguments
    if name in INLINED:
        inner = equation.params[INLINED[name]]
        body, consts = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
        return _walked(body, [Known(c) for c in consts], arguments, steps)
    if name == "select_n" and (taken := _taken(arguments)) is not None:
        return [taken]
    values = [a.value for a in arguments if isinstance(a, Known)]
    if len(values) == len(arguments) and _fixed(equation):
        return [Known(value) for value in _computed(equation, values)]
    # A call that occurs twice is one jaxpr: each occurrence needs variables of its own.
    fresh = tuple(Var(v.aval) for v in equation.outvars)
    steps.append(_Step(equation, tuple(arguments), fresh))
    return list(fresh)


def _taken(arguments: list[Atom]) -> Atom | None:
    """The case of a select that is taken everywhere; None: that is not known.

    Indices are selected from themselves and themselves plus a size, which may be the batch's.
    """
    which, *cases = arguments
    if not isinstance(which, Known):
        return None
    numbers = np.unique(np.asarray(which.value))
    return cases[int(numbers[0])] if len(numbers) == 1 else None


def _fixed(equation: JaxprEqn) -> bool:
    """Whether what is computed depends on no symbol, such as the size of a batch."""
    if equation.primitive.name == "dim_as_value":
        return False
    shapes = [getattr(v.aval, "shape", ()) for v in equation.outvars]
    return all(isinstance(n, int) for shape in shapes for n in shape)


def _computed(equation: JaxprEqn, values: Sequence[Any]) -> list[Any]:
    with jax.ensure_compile_time_eval():
        found = _bound(equation, values)
    return [np.asarray(value) for value in found]


def _bound(equation: JaxprEqn, values: Sequence[Any]) -> list[Any]:
    found = equation.primitive.bind(*values, **equation.params)
    return list(found) if equation.primitive.multiple_results else [found]


def _needed(steps: Sequence[_Step], results: Sequence[Atom]) -> list[_Step]:
    wanted = {atom for atom in results if isinstance(atom, Var)}
    kept = []
    for step in reversed(steps):
        if wanted.intersection(step.outputs):
            kept.append(step)
            wanted.update(atom for atom in step.inputs if isinstance(atom, Var))
    return kept[::-1]
