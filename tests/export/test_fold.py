import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from jaxnas.export.fold import Folded, folded

TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)


def symbolic(*shape: int) -> jax.ShapeDtypeStruct:
    (batch,) = jax_export.symbolic_shape("batch")
    return jax.ShapeDtypeStruct((batch, *shape), jnp.float32)


def names(program) -> list[str]:
    return [step.equation.primitive.name for step in program.steps]


def check(function, like: jax.ShapeDtypeStruct, *sizes: int) -> Folded:
    """The folded function, which gives for batches of these sizes what the function gives."""
    program = folded(function, like)
    exported = jax_export.export(jax.jit(program))(like)
    for n in sizes:
        x = jnp.asarray(np.random.default_rng(n).normal(size=(n, *like.shape[1:])), jnp.float32)
        for y, z in zip(jax.tree.leaves(function(x)), exported.call(x), strict=True):
            np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-6)
    return program


def test_constants_are_computed_beforehand():
    def function(x):
        mask = (jnp.arange(3) < 2).astype(jnp.float32)
        weights = jnp.asarray(TABLE) * mask[None] @ jax.nn.softmax(jnp.ones((3, 3)))
        return x @ weights + jax.lax.rsqrt(jnp.float32(4.0))

    program = check(function, symbolic(4), 1, 5)
    assert names(program) == ["dot_general", "add"]


def test_calls_are_opened_and_what_nobody_needs_is_left_out():
    @jax.jit
    def inner(x):
        jnp.sort(x)
        return jax.checkpoint(jax.nn.relu)(x) * 2.0

    def function(x):
        jnp.cumsum(x)
        return inner(inner(x)), x.sum(), jnp.ones(3)

    program = check(function, symbolic(4), 2)
    assert sorted(names(program)) == ["max", "max", "mul", "mul", "reduce_sum"]


def test_what_depends_on_the_batch_stays():
    def function(x):
        return x + jnp.zeros((x.shape[0], 4)), x * x.shape[0]

    check(function, symbolic(4), 1, 3)


def test_selects_that_are_known_are_made():
    def function(x):
        mask = jnp.arange(3) < 1
        chosen = jax.lax.select(jnp.int32(3) < 5, x, jnp.exp(x))
        return chosen, jnp.where(mask[None], x, -x)

    program = check(function, symbolic(3), 2)
    assert "exp" not in names(program)
    assert names(program).count("select_n") == 1


def test_indices_into_a_batch_of_any_size():
    def function(x):
        return jax.lax.dynamic_slice(x, (jnp.int32(0), jnp.int32(1)), (1, 2))

    program = check(function, symbolic(4), 1, 3)
    assert names(program) == ["dynamic_slice"]
