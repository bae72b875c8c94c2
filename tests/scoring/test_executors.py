"""The two executors: that they agree, with each other and whatever else they are told, and what is
compiled of them. That they score by a proxy's definition is tested with the proxies."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_trees_close, assert_trees_equal, compilations

from jaxnas import backend
from jaxnas.nn import Choice, Identity, Linear, NoTap, Sequential, SumTap, Zero
from jaxnas.proxies import PROXIES
from jaxnas.proxies.az_nas import az_expressivity, az_progressivity
from jaxnas.proxies.expressivity import zen
from jaxnas.proxies.features import meco, near
from jaxnas.proxies.regions import linear_regions
from jaxnas.proxies.relu_overlap import naswot, swap
from jaxnas.proxies.size import params
from jaxnas.proxy import Batch, ForwardProxy
from jaxnas.scoring import per_architecture, shared_prefix, shared_values
from jaxnas.scoring.per_architecture import score_chunk, score_per_architecture
from jaxnas.scoring.shared_prefix import score_shared_prefix
from jaxnas.spaces import Size

EXECUTORS = [score_per_architecture, score_shared_prefix]


@dataclass(frozen=True)
class Moments(SumTap):
    """Sum, and sum of squares, of what is reported."""

    kinds: frozenset[str]
    label: str = ""

    def init(self, batch):
        return {"sum": jnp.zeros(()), "squares": jnp.zeros(batch)}

    def contribution(self, kind, value, active=None):
        # Spread over the cells, so that values in wrong places are noticed.
        cells = value.reshape(len(value), -1) * jnp.linspace(0, 1, value[0].size)[None]
        return {"sum": cells.sum() / len(value), "squares": jnp.square(cells).sum(1)}


def moments(*kinds, label=""):
    """A proxy that reads floats, where naswot reads signs."""
    return ForwardProxy(
        name=f"moments of {' and '.join(kinds)}{label}",
        paper="",
        tap=Moments(frozenset(kinds), label),
        finish=lambda carry: carry["sum"] + jnp.sqrt(carry["squares"]).sum(),
    )


FORWARD = [
    naswot,
    moments("block", "pre_activation"),
    swap,
    linear_regions,
    meco,
    near,
    zen,
    az_expressivity,
    az_progressivity,
]

DEGENERATE = [
    [0, 0, 0, 0, 0, 0],
    [1, 1, 1, 1, 1, 1],
    [4, 4, 4, 4, 4, 4],
    [3, 0, 0, 1, 0, 0],  # a convolution that leads nowhere
    [0, 0, 3, 2, 3, 0],  # two that get nothing
    [0, 3, 2, 0, 0, 0],  # no path, yet operations
    [3, 3, 3, 3, 3, 3],
]


@pytest.fixture(scope="module")
def archs(space):
    drawn = space.sample(jax.random.key(5), 33)
    return np.concatenate([np.array(DEGENERATE, np.int32), drawn])


@pytest.fixture(scope="module", params=[(1,), (1, 1), (2, 1, 1)], ids=str)
def case(request, space, archs, batch):
    """A network, its variables and what the general executor says."""
    size = Size(channels=4, cells=request.param, resolution=8)
    network = space.network(size, classes=3)
    variables = network.init(jax.random.key(4))
    # As trained: batch norm makes something of nothing.
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda a: a + 0.1 * jnp.asarray(rng.standard_normal(a.shape), a.dtype), variables.params
    )
    variables = variables._replace(params=params)
    # The largest network by two of them: programs of spectra in many cells take minutes to compile.
    proxies = FORWARD if len(request.param) < 3 else FORWARD[:2]
    expected = score_per_architecture(network, variables, archs, batch, proxies)
    return network, variables, expected, proxies


class TestAgreement:
    @pytest.mark.parametrize("group", [None, 1, 7])
    def test_of_both_executors(self, case, archs, batch, group):
        network, variables, expected, proxies = case
        if group == 1:  # every row apart: the first ones are enough
            archs, expected = archs[:9], {name: s[:9] for name, s in expected.items()}
        shared = score_shared_prefix(network, variables, archs, batch, proxies, group=group)
        assert list(shared) == list(expected)
        for name, scores in shared.items():
            assert scores.dtype == np.float32
            assert_trees_close(scores, expected[name], rtol=2e-4)

    def test_architectures_differ(self, case, archs):
        for name, scores in case[2].items():
            # Patterns over 8 small images are few, and some proxies see convolutions alone.
            enough = len(archs) / 2 if name in ("naswot", FORWARD[1].name) else 4
            assert len(np.unique(scores)) >= enough

    def test_where_little_is_held_at_once(self, tiny, variables, archs, batch, monkeypatch):
        expected = score_shared_prefix(tiny, variables, archs, batch, FORWARD)
        monkeypatch.setattr(shared_prefix, "GROUP_BYTES", 1e5)
        size = shared_prefix.group_size(tiny, variables, archs, batch.images)
        assert size < len(archs)
        sizes = []
        scores = score_shared_prefix(
            tiny, variables, archs, batch, FORWARD, chunk=lambda s: sizes.append(len(s["naswot"]))
        )
        assert sizes[0] == size
        assert_trees_close(scores, expected)


class TestBothExecutors:
    @pytest.mark.parametrize("execute", EXECUTORS)
    def test_a_second_call_compiles_nothing(self, tiny, variables, archs, batch, execute):
        first = execute(tiny, variables, archs, batch, FORWARD)
        with compilations() as compiled:
            second = execute(tiny, variables, archs, batch, FORWARD)
        assert compiled == []
        assert_trees_equal(second, first)

    @pytest.mark.parametrize("execute", EXECUTORS)
    def test_chunks_come_in_order_and_make_up_the_whole(
        self, tiny, variables, archs, batch, execute, monkeypatch
    ):
        monkeypatch.setattr(per_architecture, "ARCHS_PER_CALL", 8)
        settings = {"group": 9} if execute is score_shared_prefix else {}
        chunks = []
        scores = execute(
            tiny, variables, archs, batch, [params, naswot], chunk=chunks.append, **settings
        )
        assert len(chunks) == 5
        for name in ("params", "naswot"):
            assert_trees_equal(np.concatenate([c[name] for c in chunks]), scores[name])
        np.testing.assert_array_equal(scores["params"], tiny.count(archs).params)

    @pytest.mark.parametrize("execute", EXECUTORS)
    def test_no_rows_give_no_scores(self, tiny, variables, archs, batch, execute):
        chunks = []
        scores = execute(tiny, variables, archs[:0], batch, [params, naswot], chunk=chunks.append)
        assert {name: s.shape for name, s in scores.items()} == {"params": (0,), "naswot": (0,)}
        assert chunks == []

    @pytest.mark.parametrize("execute", EXECUTORS)
    def test_proxies_do_not_disturb_each_other(self, tiny, variables, archs, batch, execute):
        together = execute(tiny, variables, archs, batch, FORWARD)
        alone = execute(tiny, variables, archs, batch, FORWARD[1:2])
        name = FORWARD[1].name
        assert_trees_close(alone[name], together[name])

    @pytest.mark.parametrize("execute", EXECUTORS)
    def test_the_program_for_accelerators_gives_the_same(
        self, tiny, variables, archs, batch, execute, monkeypatch
    ):
        usual = execute(tiny, variables, archs, batch, [moments("block")])
        gpu = replace(backend.choices("gpu"), shared_prefix_rows=8)
        monkeypatch.setattr(backend, "choices", lambda platform=None: gpu)
        # Under another name, so that what was compiled before does not serve.
        renamed = moments("block", label=" elsewhere")
        with compilations() as compiled:
            scores = execute(tiny, variables, archs, batch, [renamed])
        assert compiled
        assert_trees_close(scores[renamed.name], usual["moments of block"], rtol=1e-4)


class TestPerArchitecture:
    @pytest.mark.parametrize("name", ["naswot", "grad_norm"])
    def test_on_a_cpu_choices_are_left_as_conditionals(self, tiny, variables, archs, batch, name):
        device = jax.devices()[0]
        if device.platform != "cpu":
            pytest.skip("elsewhere architectures are vmapped, which computes every branch")
        settings = (tiny, (PROXIES[name],), (device,), variables, archs[:8], np.ones(8, bool))
        program = score_chunk.lower(*settings, batch)
        # One each edge, one more for each in the gradient, and one for places left out.
        edges = 7 if name == "naswot" else 13
        assert str(program.compile().as_text()).count(" conditional(") >= edges

    def test_populations_of_every_size_are_one_program(self, tiny, variables, archs, batch):
        proxies = [PROXIES["grad_norm"], naswot]
        whole = score_per_architecture(tiny, variables, archs, batch, proxies)
        with compilations() as compiled:
            for n in (1, 7, 33):
                part = score_per_architecture(tiny, variables, archs[:n], batch, proxies)
                assert_trees_close(part, {k: v[:n] for k, v in whole.items()})
        assert compiled == []

    def test_gradients_and_forward_passes_go_together(self, tiny, variables, archs, batch):
        both = [PROXIES["grad_norm"], params, naswot]
        scores = score_per_architecture(tiny, variables, archs[:8], batch, both)
        assert list(scores) == ["grad_norm", "params", "naswot"]
        for proxy in both:
            alone = score_per_architecture(tiny, variables, archs[:8], batch, [proxy])
            assert_trees_close(scores[proxy.name], alone[proxy.name])


class Twins(nnx.Module):
    """Two layers that differ in their weights alone, of one value; one of them is used twice."""

    def __init__(self):
        self.one, self.other = Linear(3, 3), Linear(3, 3)
        self.choice = Choice(0, [Zero(), Identity(), Sequential(Zero(), self.other)])

    def __call__(self, x, ctx):
        return self.choice(ctx.add([self.one(x, ctx), self.other(x, ctx), self.other(x, ctx)]), ctx)


class TestSharedPrefix:
    def test_layers_are_told_apart_by_their_weights(self):
        module, x = Twins(), jnp.arange(6.0).reshape(2, 3)
        for layer, factor in ((module.one, 1.0), (module.other, 10.0)):
            layer.kernel = layer.kernel.replace(value=factor * jnp.eye(3))
            layer.bias = layer.bias.replace(value=jnp.full(3, factor))
        ctx = shared_values.SharedContext(np.array([[1], [0], [2], [1]], np.int32), NoTap())
        outputs = ctx.outputs(module(ctx.input(x), ctx))
        total = 21.0 * (np.asarray(x) + 1)
        assert_trees_close(outputs, np.stack([total, 0 * total, 0 * total + 10, total]))

    def test_gradients_are_refused(self, tiny, variables, archs, batch):
        with pytest.raises(ValueError, match="grad_norm needs more than a forward pass"):
            score_shared_prefix(tiny, variables, archs, batch, [naswot, PROXIES["grad_norm"]])

    def test_each_distinct_value_is_computed_once(self, space, tiny, variables, batch, monkeypatch):
        computed = []

        def counting(plan, states, rows):
            computed.extend({tuple(map(id, row)) for row in rows})
            return run_chunk(plan, states, rows)

        run_chunk = shared_values.run_chunk
        monkeypatch.setattr(shared_values, "run_chunk", counting)
        # Nothing is listened to, so only what choices are made from is computed. Node 1 is one of
        # 4 values, node 2 of 77, 60 of them sums. Poolings are the same on every edge.
        deaf = replace(moments(), tap=Moments(frozenset()))
        rows = np.unique(space.pruned(space.all()), axis=0)
        score_shared_prefix(tiny, variables, rows, batch, [deaf])
        convolutions = 2 * (1 + 1 + 4 + 1 + 4 + 77)
        poolings = 1 + 3 + (77 - 4)
        assert len(rows) == 9445
        assert len(computed) <= convolutions + poolings + 60 + 1

    def test_values_are_not_held_longer_than_needed(self, space, tiny, variables, batch):
        images = batch.images
        archs = space.all()
        archs = archs[np.lexsort(archs.T[::-1])]

        def peak(archs):
            ctx = shared_values.SharedContext(archs, Moments(frozenset()), dry=True)
            tiny.bound_module(variables)(ctx.input(images), ctx)
            return ctx.peak_bytes

        value = 8 * 8 * 8 * 4 * 4
        assert peak(archs[:1]) <= 2 * value
        assert peak(archs[-1:]) <= 8 * value
        assert peak(archs) < 1000 * value


def test_stages_of_another_width_at_one_pixel(space):
    """Layers alike but for the shape of their kernels are not taken for one another."""
    network = space.network(Size(4, (1, 1, 1), 2), classes=3)
    variables = network.init(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (4, 2, 2, 3))
    rows = space.pruned(space.all()[:6])
    both = [
        score(network, variables, rows, Batch(images, None), [naswot])["naswot"]
        for score in (score_shared_prefix, score_per_architecture)
    ]
    np.testing.assert_allclose(*both, rtol=1e-5)
