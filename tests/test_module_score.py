"""`score` of plain NNX modules against slow references in NumPy and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax

from jaxnas.data.dataset import channel_statistics
from jaxnas.errors import InputError
from jaxnas.module_score import as_network, score
from jaxnas.nn.context import Context
from jaxnas.proxies import PROXIES, get_proxies
from jaxnas.proxy import Batch, ForwardProxy
from jaxnas.scoring.per_architecture import score_per_architecture
from jaxnas.search_spaces.nasbench201 import NASBench201
from jaxnas.spaces import Size

CHANNELS, CLASSES, BATCH, SIDE, DEPTH = 4, 3, 6, 5, 2
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (BATCH, SIDE, SIDE, 2), dtype=np.uint8)
LABELS = np.arange(BATCH) % CLASSES


class Block(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(CHANNELS, CHANNELS, (3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(CHANNELS, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.conv(nnx.relu(x)))


class Net(nnx.Module):
    """Stem, a rematerialised residual block, a scan of blocks, a cond, dropout, classifier."""

    traces = 0

    def __init__(self, seed=0):
        rngs = nnx.Rngs(seed)
        self.stem = nnx.Conv(2, CHANNELS, (3, 3), strides=1, rngs=rngs)
        self.block = Block(rngs)
        make = nnx.split_rngs(splits=DEPTH)(nnx.vmap(Block, in_axes=(0,), out_axes=0))
        self.blocks = make(rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.classifier = nnx.Linear(CHANNELS, CLASSES, rngs=rngs)

    def __call__(self, x):
        Net.traces += 1
        x = self.stem(x)
        x = x + nnx.remat(lambda block, x: block(x))(self.block, x)

        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def deep(x, block):
            return x + block(x)

        x = deep(x, self.blocks)
        x = lax.cond(x.mean() > -100, lambda x: jnp.maximum(x, 0), jnp.sin, x)
        x = self.dropout(x).mean((1, 2))
        return self.classifier(x)


def convolved(x, kernel, bias=0.0):
    """3x3, stride 1, zeros around."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = np.zeros((*x.shape[:3], kernel.shape[3])) + bias
    for i in range(SIDE):
        for j in range(SIDE):
            for o in range(kernel.shape[3]):
                window = padded[:, i : i + 3, j : j + 3]
                y[:, i, j, o] += (window * kernel[..., o]).sum((1, 2, 3))
    return y


def block(x, conv, norm):
    y = convolved(np.maximum(x, 0), conv)
    mean, variance = y.mean((0, 1, 2)), y.var((0, 1, 2))
    return (y - mean) / np.sqrt(variance + 1e-5) * norm["scale"] + norm["bias"]


def pre_activations(net, x):
    p = jax.tree.map(np.float64, nnx.to_pure_dict(nnx.state(net, nnx.Param)))
    values = [convolved(x, p["stem"]["kernel"], p["stem"]["bias"])]
    values.append(values[-1] + block(values[-1], p["block"]["conv"]["kernel"], p["block"]["norm"]))
    for i in range(DEPTH):
        norm = {k: v[i] for k, v in p["blocks"]["norm"].items()}
        y = block(values[-1], p["blocks"]["conv"]["kernel"][i], norm)
        values.append(values[-1] + y)
    return values


def naswot(values):
    """The definition: K[i, j] is the number of units whose codes agree."""
    codes = np.concatenate([(v > 0).reshape(BATCH, -1) for v in values], axis=1)
    kernel = np.zeros((BATCH, BATCH))
    for i in range(BATCH):
        for j in range(BATCH):
            kernel[i, j] = sum(a == b for a, b in zip(codes[i], codes[j], strict=True))
    return np.linalg.slogdet(kernel)[1]


def standardised(images):
    x = images.astype(np.float64) / 255
    return (x - x.mean((0, 1, 2))) / x.std((0, 1, 2))


@pytest.fixture(scope="module")
def net():
    net = Net()
    net.stem.bias[...] = jnp.linspace(-0.5, 0.5, CHANNELS)
    return net


@pytest.fixture(scope="module")
def scores(net):
    return score(net, IMAGES, LABELS, proxies=["naswot", "params", "macs", "grad_norm"])


def test_naswot_is_the_definition_in_numpy(net, scores):
    reference = naswot(pre_activations(net, standardised(IMAGES)))
    assert np.isfinite(reference)
    np.testing.assert_allclose(scores["naswot"], reference, rtol=1e-5)


def test_sizes_are_the_counts_by_hand(scores):
    convs = 2 * CHANNELS * 9, CHANNELS**2 * 9
    stem, blocks = convs[0] + CHANNELS, (1 + DEPTH) * (convs[1] + 2 * CHANNELS)
    assert scores["params"] == stem + blocks + (CHANNELS + 1) * CLASSES
    pixels = SIDE**2
    macs = convs[0] * pixels + (1 + DEPTH) * convs[1] * pixels + CHANNELS * CLASSES
    assert scores["macs"] == macs


def test_grad_norm_is_the_gradient_by_hand(net, scores):
    train = nnx.clone(net)
    train.dropout.deterministic = True
    graph, params, rest = nnx.split(train, nnx.Param, ...)
    x = jnp.asarray(standardised(IMAGES), jnp.float32)

    @jax.jit
    @jax.grad
    def gradient(params):
        logits = nnx.merge(graph, params, rest, copy=True)(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()

    g = nnx.to_pure_dict(gradient(params))
    kernels = [
        g["stem"]["kernel"],
        g["block"]["conv"]["kernel"],
        g["blocks"]["conv"]["kernel"],
        g["blocks"]["norm"]["scale"],
        g["blocks"]["norm"]["bias"],
        g["classifier"]["kernel"],
    ]
    by_hand = sum(float(np.linalg.norm(np.ravel(k))) for k in kernels)
    np.testing.assert_allclose(scores["grad_norm"], by_hand, rtol=1e-4)


def test_scores_are_plain_floats_in_the_order_asked_for(net, scores):
    assert {type(v) for v in scores.values()} == {float}
    assert list(scores) == ["naswot", "params", "macs", "grad_norm"]
    assert list(score(net, IMAGES, proxies="macs,params")) == ["macs", "params"]
    assert list(score(net, IMAGES)) == ["naswot", "params"]


@pytest.mark.parametrize("name", PROXIES)
def test_every_proxy_scores_a_module_alone_as_in_company(net, scores, name):
    p = PROXIES[name]
    reads = getattr(p, "reports", frozenset())
    if isinstance(p, ForwardProxy):
        reads = p.tap_for(as_network(net, IMAGES.shape[1:])[0]).kinds
    if reads - {"pre_activation"} or getattr(p, "reads_attention", False):
        with pytest.raises(InputError, match=f"{name} reads .* (only networks of|has no)"):
            score(net, IMAGES, LABELS, proxies=[name])
        return
    alone = score(net, IMAGES, LABELS, proxies=[name])
    assert list(alone) == [name]
    assert np.isfinite(alone[name])
    if name in scores:
        np.testing.assert_allclose(alone[name], scores[name], rtol=1e-5)


def snapshot(module):
    graph, state = nnx.split(module)
    leaves = [
        np.asarray(jax.random.key_data(v) if jnp.issubdtype(v.dtype, jax.dtypes.prng_key) else v)
        for v in jax.tree.leaves(state)
    ]
    return graph, leaves


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_module_is_left_as_it_is_and_its_mode_does_not_matter(net, scores, mode):
    module = nnx.clone(net)
    getattr(module, mode)()
    before, traces = snapshot(module), Net.traces
    assert score(module, IMAGES, LABELS, proxies=list(scores)) == scores
    assert Net.traces == traces, "training and evaluation mode compile apart"
    after = snapshot(module)
    assert after[0] == before[0]
    for a, b in zip(after[1], before[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert module.block.norm.use_running_average is (mode == "eval")
    assert module.dropout.deterministic is (mode == "eval")


def test_a_second_module_of_the_same_structure_compiles_and_traces_nothing(scores):
    compilations = []

    def listener(event, duration, **_):
        if "backend_compile" in event:
            compilations.append(event)

    other = Net(seed=1)
    traces = Net.traces
    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        again = score(other, IMAGES, LABELS, proxies=list(scores))
        assert compilations == []
        assert Net.traces == traces
        score(other, IMAGES[:-1], proxies=["naswot"])
        assert compilations, "the listener hears nothing"
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
    assert again["naswot"] != scores["naswot"]
    assert again["params"] == scores["params"]


class Listed(nnx.Module):
    """Keeps a plain list, which has no hash."""

    def __init__(self):
        self.widths = [3, 2]
        self.linear = nnx.Linear(2, 4, rngs=nnx.Rngs(0))

    def __call__(self, x):
        x = nnx.relu(self.linear(x)).mean((1, 2))
        return x[:, : self.widths[0]]


def test_a_module_that_changes_is_scored_as_it_is():
    module = Listed()
    first = score(module, IMAGES, LABELS, proxies=["grad_norm"])["grad_norm"]
    module.widths[0] = 4
    second = score(module, IMAGES, LABELS, proxies=["grad_norm"])["grad_norm"]
    assert first != second
    assert second == score(module, IMAGES, LABELS, proxies=["grad_norm"])["grad_norm"]


class Noisy(nnx.Module):
    """Draws numbers in evaluation too."""

    def __init__(self, seed):
        self.rngs = nnx.Rngs(noise=seed, other=seed)

    def __call__(self, x):
        x = nnx.relu(x + jax.random.normal(self.rngs.noise(), x.shape))
        return x.mean((1, 2)) + jax.random.normal(self.rngs.other(), (2,))[None]


def test_seed_starts_the_random_streams():
    value = score(Noisy(0), IMAGES, proxies=["naswot"], seed=5)
    assert value == score(Noisy(1), IMAGES, proxies=["naswot"], seed=5)
    assert value != score(Noisy(0), IMAGES, proxies=["naswot"], seed=6)


def test_nan_stays_nan():
    module = Net()
    module.classifier.bias[...] = jnp.full(CLASSES, jnp.nan)
    assert np.isnan(score(module, IMAGES, LABELS, proxies=["grad_norm"])["grad_norm"])


def test_images_are_standardised_by_channel():
    module = Listed()
    grey = np.random.default_rng(1).random((4, 6, 6), dtype=np.float32)
    with pytest.raises(InputError, match="images of shape"):
        score(module, grey)
    values = [score(module, x) for x in (IMAGES, IMAGES / 255, standardised(IMAGES) * 3 + 1)]
    for value in values[1:]:
        np.testing.assert_allclose(value["naswot"], values[0]["naswot"], rtol=1e-5)


def test_batch_norm_modes_of_the_network():
    network, variables = as_network(Net(), IMAGES.shape[1:])
    x = jnp.asarray(standardised(IMAGES), jnp.float32)
    modes = ("batch", "update", "running")
    run = {m: network.apply(variables, np.zeros(0), x, batch_norm=m) for m in modes}
    np.testing.assert_allclose(run["batch"].logits, run["update"].logits, rtol=1e-5)
    assert not np.allclose(run["running"].logits, run["batch"].logits)
    mean = {m: run[m].statistics["block"]["norm"]["mean"][...] for m in modes}
    assert not mean["batch"].any()
    assert not mean["running"].any()
    assert mean["update"].any()


class Plain(nnx.Module):
    """One architecture of a super-network, as any module of the user's own."""

    def __init__(self, network, variables, arch):
        self.network = network.bound_module(variables)
        self.arch = tuple(int(k) for k in arch)

    def __call__(self, images):
        return self.network(images, Context(np.array(self.arch)))


def test_an_architecture_of_a_space_scores_as_in_its_space():
    space = NASBench201()
    network = space.network(Size(channels=4, cells=(1,), resolution=8), classes=3)
    variables = network.init(jax.random.key(0))
    images = np.random.default_rng(2).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    mean, std = channel_statistics(images)
    batch = Batch(jnp.asarray((images / np.float32(255) - mean) / std), jnp.arange(8) % 3)
    archs = space.pruned(space.all()[[6111, 3000]])
    expected = score_per_architecture(network, variables, archs, batch, get_proxies(["naswot"]))
    for arch, value in zip(archs, expected["naswot"], strict=True):
        got = score(Plain(network, variables, arch), images, proxies=["naswot"])
        np.testing.assert_allclose(got["naswot"], value, rtol=1e-5)


def test_an_architecture_of_a_space_has_its_multiply_adds():
    space = NASBench201()
    network = space.network(Size(channels=4, cells=(1, 1), resolution=8), classes=3)
    arch = np.full(6, 3, np.int32)
    module = Plain(network, network.init(jax.random.key(0)), arch)
    macs = score(module, np.random.default_rng(0).random((2, 8, 8, 3)), proxies=["macs"])["macs"]
    assert macs == network.count(arch[None]).macs[0]


class Returns(nnx.Module):
    def __init__(self, fn):
        self.fn = fn

    def __call__(self, x):
        return self.fn(x)


def mean(x):
    return x.mean((1, 2))


WRONG = {
    "unknown proxy": (Net, (IMAGES,), {"proxies": ["nasswot"]}, "did you mean naswot"),
    "no proxy": (Net, (IMAGES,), {"proxies": []}, "No proxy"),
    "labels needed": (Net, (IMAGES,), {"proxies": ["grad_norm"]}, "grad_norm needs labels"),
    "label range": (Net, (IMAGES, LABELS + 1), {}, "label 3 at position 2; with 3 classes"),
    "labels' length": (Net, (IMAGES, LABELS[1:]), {}, "5 labels for 6 images"),
    "nan": (Net, (IMAGES * np.float32(np.nan),), {}, "NaN or infinite"),
    "two axes": (Net, (IMAGES[0, 0],), {}, r"expected \[n, H, W, C\]"),
    "channels": (Net, (IMAGES[..., :1],), {}, r"images of shape \(6, 5, 5, 1\)"),
    "class": (lambda: Net, (IMAGES,), {}, "the class Net; expected an instance"),
    "function": (lambda: mean, (IMAGES,), {}, "is function; expected an instance"),
    "arguments": (lambda: Returns(lambda: 3), (IMAGES,), {}, "failed on module.images.*argument"),
    "fixed batch": (
        lambda: Returns(lambda x: nnx.relu(x).reshape(6, -1)),
        (IMAGES,),
        {"proxies": ["macs"]},
        r"images of shape \(1, 5, 5, 2\)",
    ),
    "feature map": (lambda: Returns(nnx.relu), (IMAGES,), {}, r"shape \(6, 5, 5, 2\); expected"),
    "no batch": (lambda: Returns(jnp.sum), (IMAGES,), {}, r"shape \(\); expected logits .*\(6, cl"),
    "tuple": (lambda: Returns(lambda x: (x, x)), (IMAGES,), {}, "gave a tuple; expected logits"),
    "nothing": (lambda: Returns(lambda x: None), (IMAGES,), {}, "gave a NoneType"),
    "integers": (lambda: Returns(lambda x: mean(x).astype(int)), (IMAGES,), {}, "type int32"),
    "no relu": (lambda: Returns(mean), (IMAGES,), {}, "naswot reads .* ReLUs.* has none"),
    "relu in a while": (
        lambda: Returns(
            lambda x: lax.while_loop(lambda c: c.sum() > 1, lambda c: nnx.relu(c) / 2, mean(x))
        ),
        (IMAGES,),
        {},
        "inside a while loop",
    ),
    "without values": (
        lambda: NASBench201().network(Size(4, (1,), 5), classes=3).module,
        (IMAGES,),
        {},
        "variables without values",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_sentence(case):
    make, arguments, options, says = WRONG[case]
    with pytest.raises(InputError, match=says) as caught:
        score(make(), *arguments, **options)
    assert "\n" not in str(caught.value)


def test_a_module_without_relus_has_its_other_scores():
    assert score(Returns(mean), IMAGES, proxies=["params", "macs"]) == {"params": 0, "macs": 0}
