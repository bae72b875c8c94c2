"""Listening to functions that know nothing of taps: ReLUs and multiply-adds, found in the jaxpr.

`jaxnas.nn` modules report their ReLUs themselves, through `Context`. Any other function `listen`
traces and evaluates equation by equation, with a tap at every ReLU.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from jaxnas.errors import InputError
from jaxnas.nn.context import NoTap, Tap

_INLINED = {"jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint"}
_CUSTOM = {"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_vmap_call"}
_MOVES = {"broadcast_in_dim", "convert_element_type", "copy", "reshape", "squeeze", "transpose"}
# Functions of jax.nn and jax.numpy that hold a max(x, 0) and are other activations.
_NOT_RELU = {"hard_sigmoid", "hard_silu", "hard_swish", "logaddexp", "softplus", "sparse_sigmoid"}


def listen[**P, R](fn: Callable[P, R], tap: Tap) -> Callable[P, tuple[R, Any]]:
    """Make `fn` report each ReLU's input to `tap` as a `pre_activation`.

    A ReLU is `max(x, 0)` or `max(0, x)` of floating `x`: what `jax.nn.relu`, `nnx.relu`,
    `jnp.maximum(x, 0)`, `relu6` and `clip(x, 0, ...)` become. Left out are those inside softplus,
    hard sigmoid and hard swish; variances clipped at 0, as Flax's normalisations compute them; and
    what does not depend on the arguments (close over weights rather than pass them). Every ReLU
    that is computed counts, whether or not the output needs it.

    Branches of `cond` and `switch` report where they are taken, the body of a `scan` in every
    iteration. The result can be jitted, vmapped and differentiated where `fn` can; jit it, as
    otherwise each operation runs by itself.

    Args:
        fn: a function of arrays; the leading axis of its first array is the batch, B.
        tap: hears `[B, ...]` values of two or more axes.

    Returns:
        A function of the same arguments that gives `(fn's output, the tap's carry)`.

    Raises:
        InputError: (when called) a ReLU stands in a `while` loop, whose number of iterations nobody
            knows, or in an operation that cannot be entered; or its input is not `[B, ...]`.
    """

    def heard(*args: P.args, **kwargs: P.kwargs) -> tuple[R, Any]:
        closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*args, **kwargs)
        leaves = jax.tree.leaves((args, kwargs))
        batch = leaves[0].shape[0]
        listener = _Listener(tap, batch, tap.init(batch))
        outputs = listener.run(closed, [_Value(x, images=True) for x in leaves])
        arrays = [value.array for value in outputs]
        return jax.tree.unflatten(jax.tree.structure(shapes), arrays), listener.carry

    return heard


def relu_units(fn: Callable[..., Any], *args: Any) -> int:
    """How many inputs `fn`'s ReLUs have for one image, those that `listen` hears; 0: there are none.

    `args` may be `jax.ShapeDtypeStruct`s, the first array's leading axis being the batch. The body of
    a `scan` counts `length` times, all branches of a `cond` or `switch`.
    """

    def count(*args: Any) -> None:
        leaves = jax.tree.leaves(args)
        listener = _Listener(NoTap(), leaves[0].shape[0], ())
        listener.run(jax.make_jaxpr(fn)(*args), [_Value(x, images=True) for x in leaves])
        found.append(listener.units)

    found: list[int] = []
    jax.eval_shape(count, *args)
    return found[0]


def multiply_adds(fn: Callable[..., Any], *args: Any) -> int:
    """The multiply-adds of `fn`'s convolutions and matrix products, in one call.

    Counted from the jaxpr, so `args` may be `jax.ShapeDtypeStruct`s: output elements times the
    terms of each, positions in the padding included, the zeros that a transposed convolution puts
    between its inputs not. The body of a `scan` counts `length` times, of a `cond` or `switch` the
    largest branch.

    Raises:
        InputError: there are some in a `while` loop, whose number of iterations nobody knows.
    """
    return _multiply_adds(jax.make_jaxpr(fn)(*args))


class _Value(NamedTuple):
    """An array of the evaluation, and what is known of it."""

    array: Any
    images: bool = False
    """Whether it depends on the arguments."""
    role: str = ""
    """`zero`, `square` or `variance` (a difference whose subtrahend is a square), if it is one."""


@dataclass
class _Listener:
    """Evaluates jaxprs; `carry` is the tap's so far, `units` those of all ReLUs met, for one image."""

    tap: Tap
    batch: int
    carry: Any
    units: int = 0

    def run(self, closed: Any, inputs: Sequence[_Value]) -> list[_Value]:
        """The jaxpr's outputs."""
        jaxpr, consts = opened(closed)
        env: dict[Any, _Value] = {}

        def read(atom: Any) -> _Value:
            if not isinstance(atom, Literal):
                return env[atom]
            is_zero = _aval(atom).shape == () and atom.val == 0
            return _Value(atom.val, role="zero" if is_zero else "")

        env.update(zip(jaxpr.constvars, map(_Value, consts), strict=True))
        env.update(zip(jaxpr.invars, inputs, strict=True))
        for eqn in jaxpr.eqns:
            outputs = self._equation(eqn, [read(atom) for atom in eqn.invars])
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, eqn: JaxprEqn, inputs: list[_Value]) -> list[_Value]:
        name = eqn.primitive.name
        if name == "max":
            self._hear_max(*inputs)
        if not any(map(_mentions_max, inner_jaxprs(eqn))) or eqn.params.get("name") in _NOT_RELU:
            return _bind(eqn, inputs)
        if name in _INLINED:
            return self.run(inner_jaxprs(eqn)[0], inputs)
        if name in _CUSTOM:
            # Entered for what the tap hears; the outputs keep the function's own rules.
            self.run(inner_jaxprs(eqn)[0], inputs)
            return _bind(eqn, inputs)
        if name == "scan":
            return self._scan(eqn, inputs)
        if name == "cond":
            return self._cond(eqn, inputs)
        return self._closed_to_taps(eqn, inputs)

    def _hear_max(self, a: _Value, b: _Value) -> None:
        if a.role != "zero" and b.role != "zero":
            return
        x = b if a.role == "zero" else a
        if not x.images or x.role == "variance" or not jnp.issubdtype(x.array.dtype, jnp.floating):
            return
        shape = x.array.shape
        if sum(n > 1 for n in shape) <= 1 and not (len(shape) > 1 and shape[0] == self.batch):
            return  # A statistic of the batch, one number or one a channel: not of any one image.
        if len(shape) < 2 or shape[0] != self.batch:
            raise InputError(
                f"A ReLU has an input of shape {shape}, whose first axis is not the {self.batch} "
                "images; ReLUs are read as [B, ...]."
            )
        self.units += math.prod(shape[1:])
        if "pre_activation" in self.tap.kinds:
            more = self.tap.contribution("pre_activation", x.array)
            self.carry = self.tap.fold(self.carry, more)

    def _within(self, carry: Any) -> "_Listener":
        return _Listener(self.tap, self.batch, carry)

    def _scan(self, eqn: JaxprEqn, inputs: list[_Value]) -> list[_Value]:
        (body,) = inner_jaxprs(eqn)
        first, last = scan_parts(eqn)
        carried = last - first
        consts, carry, xs = inputs[:first], inputs[first:last], inputs[last:]
        images = any(value.images for value in inputs)
        units: list[int] = []

        def step(state: Any, sliced: Any) -> Any:
            inner = self._within(state[0])
            middle = [_Value(x, images) for x in state[1]]
            now = [_Value(x, value.images) for x, value in zip(sliced, xs, strict=True)]
            outputs = [value.array for value in inner.run(body, [*consts, *middle, *now])]
            units.append(inner.units)
            return (inner.carry, outputs[:carried]), outputs[carried:]

        start = (self.carry, [value.array for value in carry])
        options = {key: eqn.params[key] for key in ("length", "reverse", "unroll")}
        (self.carry, final), ys = lax.scan(step, start, [value.array for value in xs], **options)
        self.units += eqn.params["length"] * max(units)
        return [_Value(x, images) for x in (*final, *ys)]

    def _cond(self, eqn: JaxprEqn, inputs: list[_Value]) -> list[_Value]:
        images = any(value.images for value in inputs)
        index, *operands = inputs

        def branch(closed: Any) -> Callable[..., Any]:
            def run(carry: Any, *arrays: Any) -> Any:
                inner = self._within(carry)
                values = [v._replace(array=x) for v, x in zip(operands, arrays, strict=True)]
                outputs = [value.array for value in inner.run(closed, values)]
                self.units += inner.units
                return inner.carry, outputs

            return run

        branches = [branch(closed) for closed in eqn.params["branches"]]
        arrays = [value.array for value in operands]
        self.carry, outputs = lax.switch(index.array, branches, self.carry, *arrays)
        return [_Value(x, images) for x in outputs]

    def _closed_to_taps(self, eqn: JaxprEqn, inputs: list[_Value]) -> list[_Value]:
        name = eqn.primitive.name
        if name != "while":
            raise InputError(f"A maximum stands inside {name}, where ReLUs cannot be looked for.")
        inner = self._within(self.carry)
        values = inputs[eqn.params["cond_nconsts"] :]
        images = any(value.images for value in values)
        fixed = eqn.params["body_nconsts"]

        def body(*arrays: Any) -> Any:
            given = [v._replace(array=x) for v, x in zip(values, arrays, strict=True)]
            given[fixed:] = [_Value(x, images) for x in arrays[fixed:]]
            return [value.array for value in inner.run(eqn.params["body_jaxpr"], given)]

        jax.eval_shape(body, *(value.array for value in values))
        if inner.units:
            raise InputError(
                "A ReLU stands inside a while loop, whose number of iterations is not known "
                "beforehand; write the loop as a scan (lax.scan, or fori_loop of fixed bounds)."
            )
        return _bind(eqn, inputs)


def _bind(eqn: JaxprEqn, inputs: list[_Value]) -> list[_Value]:
    """The equation as it is."""
    bound: Any = eqn.primitive.get_bind_params(eqn.params)
    # JAX up to some version hands functions back apart from the other parameters.
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    with eqn.ctx.manager:
        result = eqn.primitive.bind(*functions, *(value.array for value in inputs), **params)
    results = result if eqn.primitive.multiple_results else [result]
    images, role = any(value.images for value in inputs), _role(eqn, inputs)
    return [_Value(x, images, role) for x in results]


def _role(eqn: JaxprEqn, inputs: list[_Value]) -> str:
    name = eqn.primitive.name
    if name in _MOVES:
        return inputs[0].role
    if name == "square" or (name == "integer_pow" and eqn.params["y"] == 2):
        return "square"
    if name == "mul" and eqn.invars[0] is eqn.invars[1]:
        return "square"
    if name == "sub" and inputs[1].role == "square":
        return "variance"
    return ""


def scan_parts(eqn: JaxprEqn) -> tuple[int, int]:
    """Where the inputs of a `scan` end to be constants, and where they end to be carried."""
    # Told from the shapes, as the parameter that says it differs between versions of JAX.
    jaxpr, _ = opened(inner_jaxprs(eqn)[0])
    sliced = sum(
        _aval(i).ndim > _aval(v).ndim for i, v in zip(eqn.invars, jaxpr.invars, strict=True)
    )
    carried = sum(
        _aval(o).ndim == _aval(v).ndim for o, v in zip(eqn.outvars, jaxpr.outvars, strict=True)
    )
    return len(eqn.invars) - sliced - carried, len(eqn.invars) - sliced


def opened(closed: Any) -> tuple[Jaxpr, Sequence[Any]]:
    """A jaxpr and its constants; versions of JAX differ in whether the two are one object."""
    return getattr(closed, "jaxpr", closed), getattr(closed, "consts", ())


def _aval(atom: Any) -> Any:
    return atom.aval


def inner_jaxprs(eqn: JaxprEqn) -> list[Any]:
    """The jaxprs among an equation's parameters."""
    members = [
        member
        for value in eqn.params.values()
        for member in (value if isinstance(value, tuple | list) else (value,))
    ]
    return [member for member in members if hasattr(opened(member)[0], "eqns")]


def _mentions_max(closed: Any) -> bool:
    """Whether there is an elementwise maximum of arrays anywhere inside."""
    return any(
        (eqn.primitive.name == "max" and _aval(eqn.outvars[0]).ndim > 0)
        or any(map(_mentions_max, inner_jaxprs(eqn)))
        for eqn in opened(closed)[0].eqns
    )


def _multiply_adds(closed: Any) -> int:
    return sum(map(_multiply_adds_of, opened(closed)[0].eqns))


def _multiply_adds_of(eqn: JaxprEqn) -> int:
    name = eqn.primitive.name
    if name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        terms = math.prod(_aval(eqn.invars[0]).shape[axis] for axis in contracted)
        return _aval(eqn.outvars[0]).size * terms
    if name == "conv_general_dilated":
        kernel = _aval(eqn.invars[1])
        terms = kernel.size // kernel.shape[eqn.params["dimension_numbers"].rhs_spec[0]]
        return _aval(eqn.outvars[0]).size * terms // math.prod(eqn.params["lhs_dilation"])
    inner = [_multiply_adds(closed) for closed in inner_jaxprs(eqn)]
    if not any(inner):
        return 0
    if name == "cond":
        return max(inner)
    if name == "scan":
        return eqn.params["length"] * sum(inner)
    if name in _INLINED | _CUSTOM:
        return sum(inner)
    raise InputError(
        f"Convolutions or matrix products stand inside a {name} loop or call, and how often they "
        "are computed is not known beforehand."
    )
