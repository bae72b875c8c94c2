"""What every proxy promises; a new one is tested by being in `PROXIES`, and has a line in `NOTHING`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_close, assert_trees_equal, compilations

from jaxnas.errors import InputError
from jaxnas.proxies import DEFAULT, PROXIES, get_proxies
from jaxnas.proxy import Batch, CountProxy, ForwardProxy, GradientProxy, evaluate
from jaxnas.scoring.per_architecture import score_per_architecture
from jaxnas.search_spaces.nasbench201 import CONV1, CONV3, NONE, POOL, SKIP
from jaxnas.spaces import Size

COMPUTED = [name for name, p in PROXIES.items() if not isinstance(p, CountProxy)]

ARCHS = np.array(
    [
        [NONE] * 6,
        [SKIP] * 6,
        [POOL] * 6,
        [CONV1] * 6,
        [CONV3] * 6,
        [CONV3, POOL, CONV1, SKIP, NONE, CONV3],
        [NONE, CONV1, CONV3, NONE, CONV1, SKIP],  # operations on nothing
        [CONV1, NONE, NONE, POOL, CONV3, NONE],
    ],
    np.int32,
)

NOTHING = {
    "naswot": -np.inf,  # all images have one code
    "swap": 1.0,  # all units have one pattern
    "swap_reg": pytest.approx(np.exp(-(((139 - 1051) / 1051) ** 2))),  # parameters, of how many
    "linear_regions": 1.0,
    "jacov": -np.inf,  # no image has a gradient, and so no correlation
    "epe_nas": -np.inf,
    "ntk": np.inf,  # the kernel is 0
    "vkdnw": 0.0,  # no layer bears on the output
    "meco": None,  # the stem has channels that differ
    "near": 0.0,  # what enters the one ReLU is 0
    "zen": -np.inf,  # no noise changes the features
    "zico": 0.0,  # no kernel has gradients that differ
    "gradsign": 0.0,
    "az_expressivity": -np.inf,  # the last features have no spectrum
    "az_progressivity": -np.inf,
    "az_trainability": -999998.0,  # 2 - 1 / 1e-6: no gradient comes back
    "az_complexity": 27 * 4 * 64 + 4 * 3,
    "params": (27 * 4 + 8) + 8 + (4 + 1) * 3,  # stem, last batch norm, classifier
    "macs": 27 * 4 * 64 + 4 * 3,
    "depth": 0,
    "grad_norm": 0.0,  # all features are 0
    "snip": 0.0,
    "plain": 0.0,
    "grasp": 0.0,
    "fisher": None,  # that of the classifier's bias
    "l2_norm": None,  # stem and classifier are there
    "synflow": -np.inf,  # ln 0
    "dss": 0.0,  # all features are 0
}
"""The documented score of an architecture that connects nothing; None: some number."""

BLIND = {
    "dss",
    "l2_norm",
    "synflow",
    "zen",
    "az_expressivity",
    "az_progressivity",
    "az_trainability",
}
"""Read weights on an input of their own: images have no part in the score."""

WEIGHTLESS = {"zen"}
"""Draw weights of their own by the batch's key."""

COARSE = {"swap", "linear_regions", "gradsign"}
"""Whole numbers, which two networks may have in common."""


def one(proxy, network, variables, batch, arch):
    """The score by the proxy's definition, without an executor."""
    if isinstance(proxy, ForwardProxy):
        images, tap = proxy.inputs(batch), proxy.tap_for(network)
        if proxy.weights is not None:
            variables = variables._replace(params=proxy.weights(variables.params, batch))
        passed = network.apply(variables, arch, images, tap=tap, batch_norm=proxy.batch_norm)
        return proxy.score(passed.carry, network, variables, arch)
    return evaluate([proxy], network, variables, arch, batch)[proxy.name]


@pytest.fixture(scope="module", params=PROXIES.values(), ids=PROXIES)
def proxy(request):
    return request.param


@pytest.fixture(scope="module")
def score(proxy, tiny, variables, batch):
    """`archs -> scores`, by the general executor."""

    def score(archs, network=tiny, variables=variables, batch=batch):
        return score_per_architecture(network, variables, archs, batch, [proxy])[proxy.name]

    return score


@pytest.fixture(scope="module")
def scores(score):
    return score(ARCHS)


def test_it_describes_itself(proxy):
    assert PROXIES[proxy.name] is proxy
    assert any(venue in proxy.paper for venue in ("arXiv", "ICLR", "NeurIPS"))
    assert proxy.sign in (-1, 1)
    assert isinstance(proxy, CountProxy | ForwardProxy | GradientProxy)
    assert hash(proxy) == hash(proxy)


def test_one_number_for_each_architecture(proxy, scores):
    assert scores.shape == (len(ARCHS),)
    assert scores.dtype == (np.float64 if isinstance(proxy, CountProxy) else np.float32)


def test_the_documented_score_of_nothing(proxy, scores):
    expected = NOTHING[proxy.name]
    assert np.isfinite(scores[0]) if expected is None else scores[0] == expected


def test_a_finite_score_of_everything_else(scores):
    assert np.isfinite(scores[1:]).all()


def test_the_same_twice_without_compiling(score, scores):
    with compilations() as compiled:
        assert_trees_equal(score(ARCHS), scores)
        assert_trees_equal(score(ARCHS[::-1]), scores[::-1])
    assert compiled == []


def test_a_network_built_alike_compiles_nothing(space, score, scores):
    again = space.network(Size(channels=4, cells=(1,), resolution=8), classes=3)
    with compilations() as compiled:
        assert_trees_equal(score(ARCHS, network=again), scores)
    assert compiled == []


def test_architectures_are_scored_apart(score, scores):
    order = [3, 7, 3, 5, 0, 6, 1, 1]
    assert_trees_equal(score(ARCHS[order]), scores[order])


QUICK = ("naswot", "jacov", "az_expressivity", "grad_norm")
"""Of these the programs compile in seconds; vmap computes every branch of every switch."""
SLOWLY = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in COMPUTED]


@pytest.mark.parametrize("name", SLOWLY)
def test_plain_jit_and_vmap_agree(name, tiny, variables, batch):
    score = partial(one, PROXIES[name], tiny, variables, batch)
    jitted = [jax.jit(score)(arch) for arch in ARCHS]
    assert all(s.shape == () and s.dtype == jnp.float32 for s in jitted)
    assert_trees_close(jax.jit(jax.vmap(score))(ARCHS), np.stack(jitted), rtol=1e-4)
    assert_trees_close(score(ARCHS[7]), jitted[7], rtol=1e-4)


@pytest.mark.parametrize("name", COMPUTED)
def test_the_executor_scores_by_definition(name, tiny, variables, batch):
    scores = score_per_architecture(tiny, variables, ARCHS, batch, [PROXIES[name]])[name]
    jitted = jax.jit(partial(one, PROXIES[name], tiny, variables, batch))
    assert_trees_close(scores, np.stack([jitted(arch) for arch in ARCHS]), rtol=1e-4)


def test_weights_and_images_bear_on_the_score_unless_it_is_a_count(
    proxy, score, scores, tiny, batch
):
    others = score(ARCHS, variables=tiny.init(jax.random.key(1)))
    weightless = isinstance(proxy, CountProxy) or proxy.name in WEIGHTLESS
    assert (others[1:] == scores[1:]).all() == weightless
    others = score(ARCHS, batch=batch._replace(images=batch.images[:, ::-1] ** 2))
    blind = isinstance(proxy, CountProxy) or proxy.name in BLIND
    assert (others[1:] == scores[1:]).all() == blind
    differ = others[1:] != scores[1:]
    enough = differ.any() if proxy.name in COARSE else differ.all()
    assert enough != blind


def test_labels_are_needed_where_it_says_so(proxy, score, scores, tiny, variables, batch):
    if isinstance(proxy, CountProxy):
        assert not proxy.needs_labels
        return
    if proxy.needs_labels:
        # Other images share a class, rather than the classes other names.
        rolled = score(ARCHS, batch=batch._replace(labels=jnp.roll(batch.labels, 1)))
        differ = rolled[1:] != scores[1:]
        assert differ.any() if proxy.name in COARSE else differ.all()
        return
    unlabelled = Batch(batch.images, None)
    jitted = jax.jit(partial(one, proxy, tiny, variables, unlabelled))
    assert_trees_close(jitted(ARCHS[5]), scores[5], rtol=1e-5)


def test_a_numerical_failure_is_nan_unless_it_is_a_count(proxy, score, variables, batch):
    sick = {"batch": Batch(batch.images.at[0].set(jnp.nan), batch.labels)}
    if proxy.name in BLIND:
        sick = {"variables": jax.tree.map(lambda a: a * jnp.nan, variables)}
    failed = np.isnan(score(ARCHS[[1, *range(1, 8)]], **sick))
    # What is drawn by the key alone cannot fail so.
    well = isinstance(proxy, CountProxy) or proxy.name in BLIND & WEIGHTLESS
    assert (~failed if well else failed).all()


def test_proxies_are_got_by_name_in_the_order_asked():
    assert [p.name for p in get_proxies(iter(["macs", "naswot"]))] == ["macs", "naswot"]
    assert [p.name for p in get_proxies(DEFAULT)] == ["naswot", "params"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "No proxy was given"),
        (["naswot", "parms"], "Unknown proxy 'parms'; did you mean params"),
        (["macs", "naswot", "macs"], "A proxy is named twice in macs,naswot,macs."),
    ],
)
def test_other_names_are_refused(names, message):
    with pytest.raises(InputError, match=message):
        get_proxies(names)
