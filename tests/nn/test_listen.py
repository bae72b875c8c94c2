"""`listen` finds exactly the ReLUs, wherever they stand; `multiply_adds` counts by hand's count."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jaxnas.errors import InputError
from jaxnas.nn.context import NoTap, SumTap, Taps
from jaxnas.nn.listen import listen, multiply_adds


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_rank_promotion("raise"):
        yield


@dataclass(frozen=True)
class Log(SumTap):
    """Sums over reports: how many, and per image the input's sum and sum of squares."""

    kinds: frozenset[str] = frozenset({"pre_activation"})

    def init(self, batch):
        return jnp.zeros(()), jnp.zeros((batch, 2))

    def contribution(self, kind, value, active=None):
        rows = value.reshape(value.shape[0], -1).astype(jnp.float32)
        return jnp.ones(()), jnp.stack([rows.sum(1), jnp.square(rows).sum(1)], axis=1)


def expected(values, batch):
    rows = [np.asarray(v, np.float64).reshape(batch, -1) for v in values]
    sums = [np.stack([r.sum(1), (r**2).sum(1)], axis=1) for r in rows]
    return len(rows), sum(sums, np.zeros((batch, 2)))


X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((5, 4, 4)).astype(np.float32) / 2


def relu(x):
    return np.maximum(x, 0)


def check(fn, values, x=X):
    """`fn` on `x` reports `values`, in whatever order, and gives what it gives unheard."""
    outputs, (count, sums) = jax.jit(listen(fn, Log()))(x)
    n, by_hand = expected(values, len(x))
    assert count == n
    np.testing.assert_allclose(sums, by_hand, rtol=1e-5, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), outputs, jax.jit(fn)(x))


RELUS = {
    "jax.nn.relu": jax.nn.relu,
    "nnx.relu": nnx.relu,
    "maximum": lambda x: jnp.maximum(x, 0),
    "maximum of zero": lambda x: jnp.maximum(0.0, x),
    "maximum with zeros": lambda x: jnp.maximum(x, jnp.zeros_like(x)),
    "lax.max": lambda x: lax.max(x, jnp.zeros(x.shape)),
    "relu6": jax.nn.relu6,
    "clip": lambda x: jnp.clip(x, 0, 1),
    "clip from below": lambda x: jnp.clip(x, min=0),
    "bfloat16": lambda x: nnx.relu(x.astype(jnp.bfloat16)).astype(jnp.float32),
    "output not needed": lambda x: (nnx.relu(x), x)[1],
}


@pytest.mark.parametrize("name", RELUS)
def test_every_way_to_write_a_relu_is_heard_once(name):
    x = X.astype(jnp.bfloat16).astype(np.float32) if name == "bfloat16" else X
    check(RELUS[name], [x], x)


def normalised(module, shape):
    graph, state = nnx.split(module)
    return lambda x: nnx.merge(graph, state, copy=True)(x.reshape(shape))


WEIGHTS = np.ones((3, 4), np.float32)
RNGS = nnx.Rngs(0)
NOT_RELUS = {
    "leaky_relu": jax.nn.leaky_relu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
    "softplus": jax.nn.softplus,
    "hard_swish": jax.nn.hard_swish,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "softmax": jax.nn.softmax,
    "maximum with one": lambda x: jnp.maximum(x, 1.0),
    "maximum of two": lambda x: jnp.maximum(x, -x),
    "clip at the square": lambda x: jnp.maximum(jnp.square(x), 0.5),
    "maximum of integers": lambda x: jnp.maximum(x.astype(jnp.int32), 0),
    "max pooling": lambda x: nnx.max_pool(x.reshape(3, 2, 2, 1), (2, 2)),
    "of weights": lambda x: x + jax.nn.relu(jnp.asarray(WEIGHTS)),
    "of a scalar": lambda x: x * jax.nn.relu(x.mean()),
    "of a vector of statistics": lambda x: x * jax.nn.relu(x.mean(0))[None],
    "of weights in a scan": lambda x: lax.scan(
        lambda c, w: (c * nnx.relu(w), None), x, jnp.asarray([WEIGHTS, WEIGHTS])
    )[0],
    "batch norm": normalised(nnx.BatchNorm(3, use_running_average=False, rngs=RNGS), (4, 3)),
    "layer norm": normalised(nnx.LayerNorm(2, rngs=RNGS), (3, 2, 2)),
    "group norm": normalised(nnx.GroupNorm(4, num_groups=2, rngs=RNGS), (3, 1, 4)),
    "while without": lambda x: lax.while_loop(lambda c: c.sum() < 9, lambda c: c + 1, x),
    "while with a running maximum": lambda x: lax.while_loop(
        lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.maximum(c[1], x)), (0, jnp.zeros((3, 4)))
    ),
}


@pytest.mark.parametrize("name", NOT_RELUS)
def test_what_is_not_a_relu_is_not_heard(name):
    check(NOT_RELUS[name], [])


@jax.custom_vjp
def straight_through(x):
    return jax.nn.relu(x)


straight_through.defvjp(lambda x: (straight_through(x), None), lambda _, g: (7 * g,))


@jax.custom_batching.custom_vmap
def in_batches(x):
    return jax.nn.relu(x)


in_batches.def_vmap(lambda size, batched, x: (jax.nn.relu(x), True))


def layers(x, step=lambda c, w: (jax.nn.relu(c @ w), c.sum()), reverse=False):
    return lax.scan(step, x, jnp.asarray(W), reverse=reverse)


def unrolled(x, order=range(5)):
    inputs = []
    for i in order:
        inputs.append(x @ W[i])
        x = relu(inputs[-1])
    return inputs


def nested(x):
    def step(c, w):
        inner = jax.jit(lambda c: lax.switch(w[1], [jax.nn.relu, jnp.sin, jax.nn.relu6], c))
        return jax.checkpoint(inner)(c * 2), None

    return lax.scan(step, x, (jnp.zeros(3), jnp.array([2, 1, 0])))[0]


def nested_inputs(x):
    first = 2 * x
    third = 2 * np.sin(2 * np.clip(first, 0, 6))
    return [first, third]


WRAPPED = {
    "jit": (jax.jit(jax.nn.relu), [X]),
    "remat": (jax.checkpoint(lambda x: jax.nn.relu(jnp.sin(x))), [np.sin(X)]),
    "custom_vjp": (straight_through, [X]),
    "custom_vmap": (in_batches, [X]),
    "vmap": (jax.vmap(lambda row: nnx.relu(row @ W[0])), [X @ W[0]]),
    "twice the same": (lambda x: jax.nn.relu(jax.nn.relu(x) - 1), [X, relu(X) - 1]),
    "clip by a jitted argument": (
        lambda x: jax.jit(lambda x, low: jnp.maximum(x, low))(jnp.clip(x, -1, 9), 0),
        [np.clip(X, -1, 9)],
    ),
    "cond taken": (lambda x: lax.cond(x[0, 0] < 9, jax.nn.relu, jnp.sin, x), [X]),
    "cond not taken": (lambda x: lax.cond(x[0, 0] > 9, jax.nn.relu, jnp.sin, x), []),
    "scan over layers": (layers, unrolled(X)),
    "reversed scan": (lambda x: layers(x, reverse=True), unrolled(X, range(4, -1, -1))),
    "fori_loop": (
        lambda x: lax.fori_loop(0, 3, lambda i, c: jax.nn.relu(c) - i, x),
        [X, relu(X), relu(relu(X)) - 1],
    ),
    "all at once": (nested, nested_inputs(X)),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_relus_are_heard_inside(name):
    fn, values = WRAPPED[name]
    check(fn, values)


def test_vmap_over_batches_equals_one_batch_after_another():
    xs = jnp.stack([X, -X, 2 * X])
    heard = listen(lambda x: lax.cond(x[0, 0] > 0, nested, lambda x: layers(x)[0], x), Log())
    one_by_one = [jax.jit(heard)(x) for x in xs]
    together = jax.jit(jax.vmap(heard))(xs)
    for i, one in enumerate(one_by_one):
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=2e-5, atol=2e-5),
            together,
            one,
        )


@pytest.mark.parametrize(
    "fn", [straight_through, lambda x: layers(x)[0], nested, lambda x: jax.nn.relu(x - x)]
)
def test_outputs_keep_their_gradient(fn):
    def loss(fn):
        return jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(fn(x)))))(X)

    np.testing.assert_allclose(loss(lambda x: listen(fn, Log())(x)[0]), loss(fn), rtol=1e-6)


def test_the_carry_has_a_gradient():
    heard = listen(lambda x: layers(x)[0], Log())
    gradient = jax.jit(jax.grad(lambda x: heard(x)[1][1][:, 1].sum()))(X)
    shifted = [jax.jit(heard)(X + e * 1e-2 * np.ones((3, 4), np.float32))[1] for e in (1, -1)]
    slope = (shifted[0][1][:, 1].sum() - shifted[1][1][:, 1].sum()) / 2e-2
    np.testing.assert_allclose(gradient.sum(), slope, rtol=2e-2)


def test_a_second_call_traces_nothing():
    traces = []

    def fn(x):
        traces.append(x.shape)
        return jax.nn.relu(x)

    heard = jax.jit(listen(fn, Log()))
    heard(X)
    heard(2 * X)
    assert traces == [(3, 4)]


def test_structured_arguments_outputs_and_several_taps():
    def fn(inputs, *, scale):
        return {"y": jax.nn.relu(inputs["x"] * scale), "n": 3}

    outputs, carry = listen(fn, Taps((Log(), NoTap(), Log())))({"x": X}, scale=2.0)
    assert outputs["n"] == 3
    np.testing.assert_allclose(outputs["y"], relu(2 * X))
    assert [len(c) for c in carry] == [2, 0, 2]
    np.testing.assert_allclose(carry[2][1], expected([2 * X], 3)[1], rtol=1e-5)


def in_while(x):
    return lax.while_loop(lambda c: c.sum() > 1, lambda c: jax.nn.relu(c) / 2, x)


REFUSED = {
    "while": (in_while, "inside a while loop"),
    "while in a scan": (
        lambda x: lax.scan(lambda c, _: (in_while(c), None), x, length=2),
        "inside a while loop",
    ),
    "while of bounds computed": (
        lambda x: lax.fori_loop(0, x.sum().astype(int), lambda i, c: jax.nn.relu(c), x),
        "inside a while loop",
    ),
    "batch on another axis": (lambda x: jax.nn.relu(x.T), r"shape \(4, 3\).* not the 3 images"),
    "image by image": (
        lambda x: lax.map(lambda row: jax.nn.relu(row[None] * jnp.ones((2, 1))), x),
        r"shape \(2, 4\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_relus_that_cannot_be_read_are_refused(name):
    fn, says = REFUSED[name]
    with pytest.raises(InputError, match=says):
        jax.jit(listen(fn, Log()))(X)


def conv(x, kernel, stride=1, padding="SAME", **options):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=numbers, **options
    )


IMAGES = jax.ShapeDtypeStruct((2, 8, 8, 6), jnp.float32)


def kernel(*shape):
    return jnp.zeros(shape)


def product(x):
    return x @ kernel(6, 5)


COUNTS = {
    "conv": (lambda x: conv(x, kernel(3, 3, 6, 4)), 2 * 64 * 4 * 9 * 6),
    "strided": (lambda x: conv(x, kernel(3, 3, 6, 4), 2), 2 * 16 * 4 * 9 * 6),
    "valid": (lambda x: conv(x, kernel(3, 3, 6, 4), 1, "VALID"), 2 * 36 * 4 * 9 * 6),
    "dilated": (lambda x: conv(x, kernel(3, 3, 6, 4), rhs_dilation=(2, 2)), 2 * 64 * 4 * 9 * 6),
    "grouped": (lambda x: conv(x, kernel(3, 3, 2, 9), feature_group_count=3), 2 * 64 * 9 * 9 * 2),
    "depthwise": (lambda x: conv(x, kernel(5, 5, 1, 6), feature_group_count=6), 2 * 64 * 6 * 25),
    "transposed": (
        lambda x: lax.conv_transpose(x, kernel(2, 2, 6, 4), (2, 2), "SAME"),
        2 * 64 * 6 * 4 * 4,
    ),
    "product": (product, 2 * 64 * 6 * 5),
    "attention": (lambda x: jnp.einsum("bijc,bklc->bijkl", x, x), 2 * 64 * 64 * 6),
    "vmap": (jax.vmap(product), 2 * 64 * 6 * 5),
    "jit and remat": (jax.jit(jax.checkpoint(product)), 2 * 64 * 6 * 5),
    "scan": (
        lambda x: lax.scan(lambda c, w: (c @ w, None), x, kernel(7, 6, 6))[0],
        7 * 2 * 64 * 36,
    ),
    "map": (lambda x: lax.map(product, x), 2 * 64 * 6 * 5),
    "cond: the largest": (
        lambda x: lax.cond(x.sum() > 0, lambda x: x @ kernel(6, 6), lambda x: (x @ x.mT) @ x, x),
        2 * 8 * 2 * 8 * 8 * 6,
    ),
    "elementwise": (lambda x: jnp.sin(x) * x, 0),
    "two of them": (lambda x: (product(x), conv(x, kernel(1, 1, 6, 2))), 2 * 64 * 6 * 7),
}


@pytest.mark.parametrize("name", COUNTS)
def test_multiply_adds_equal_the_count_by_hand(name):
    fn, count = COUNTS[name]
    assert multiply_adds(fn, IMAGES) == count


def test_multiply_adds_in_a_while_loop_are_refused():
    with pytest.raises(InputError, match="inside a while loop"):
        multiply_adds(
            lambda x: lax.while_loop(lambda c: c.sum() < 1, lambda c: c @ kernel(6, 6), x), IMAGES
        )
