"""`jaxnas.rank`: a whole space ranked from Python, and going on where a ranking was interrupted."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from searching import fewer, images

import jaxnas
from jaxnas import ranking
from jaxnas.errors import InputError
from jaxnas.proxies import PROXIES, get_proxies
from jaxnas.proxy import Batch, CountProxy, GradientProxy
from jaxnas.ranking import Progress, fit_size, pick_batch, rank, rank_population, score_rows
from jaxnas.spaces import Size

SIZE = Size(channels=4, cells=(1,), resolution=8)


@pytest.fixture
def few(monkeypatch):
    fewer(monkeypatch, 80)


@pytest.fixture(scope="module")
def x():
    return images(40, 8, 8, 3)[0]


def of_all(space, network, batch, proxies, **options):
    """The ranking of all architectures by one network and batch."""
    return rank_population(
        space, space.all(), lambda kind: network, lambda side, seed: batch, proxies, **options
    )


def test_one_row_an_architecture_best_first(few, x, space):
    table = jaxnas.rank("nasbench201", x, size=SIZE)
    assert list(table.columns) == ["index", "arch", "naswot", "params", "score", "rank"]
    assert sorted(table["index"]) == list(range(80))
    archs = space.all()[table["index"]]
    assert table["arch"].tolist() == [space.to_string(arch) for arch in archs]
    np.testing.assert_array_equal(table["rank"], table["score"].rank(method="min", ascending=False))
    assert table["rank"].is_monotonic_increasing
    connected = space.connected(archs)
    for name in ("naswot", "params"):
        assert (np.isneginf(table[name]) == ~connected).all()
    params = space.count(archs, SIZE, classes=10).params
    np.testing.assert_array_equal(table["params"][connected], params[connected])


def test_a_sample_and_a_population_of_ones_own(x, space):
    table = rank(space, x, size=SIZE, sample=30, proxies="params")
    assert sorted(table["index"]) == list(range(30))
    pd.testing.assert_frame_equal(rank(space, x, size=SIZE, sample=30, proxies="params"), table)
    archs = space.all()[[5, 100, 7]]
    mine = rank(space, x, size=SIZE, archs=archs, proxies="params").set_index("index")
    assert [mine["arch"][i] for i in range(3)] == [space.to_string(a) for a in archs]
    with pytest.raises(InputError, match="1 of 3 rows of the population do not belong"):
        rank(space, x, size=SIZE, archs=archs + np.array([[0] * 6, [5] * 6, [0] * 6]))


def test_unreachable_operations_do_not_count(few, x, space):
    table = rank(space, x, size=SIZE).set_index("index")
    pruned = space.pruned(space.all())
    for i, arch in enumerate(space.all()):
        twins = np.flatnonzero((pruned == pruned[i]).all(1))
        assert table["score"][twins].nunique() == 1, space.to_string(arch)


def test_the_same_seed_ranks_the_same_and_another_does_not(few, x, space):
    first = rank(space, x, size=SIZE)
    pd.testing.assert_frame_equal(rank("nasbench201", x, size=SIZE), first)
    other = rank(space, x, size=SIZE, seed=1).set_index("index").loc[first["index"]]
    assert (other["naswot"].to_numpy() != first["naswot"].to_numpy()).mean() > 0.5
    np.testing.assert_array_equal(other["params"], first["params"])


def test_scale_does_not_matter_as_images_are_standardised(few, x, space):
    bytes_, floats = (rank(space, a, size=SIZE) for a in (x, x.astype(np.float32) * 7 - 100))
    np.testing.assert_allclose(bytes_["naswot"], floats["naswot"], rtol=1e-3)


def test_grey_images_without_a_channel_axis(few, x, space):
    grey = x[..., 0]
    pd.testing.assert_frame_equal(
        rank(space, grey, size=SIZE), rank(space, grey[..., None], size=SIZE)
    )


@pytest.mark.parametrize(
    ("combine", "of_ranks"), [("log_rank", np.log), ("rank_mean", np.positive)]
)
def test_scores_are_combined_by_their_ranks(combine, of_ranks, few, x, space):
    table = rank(space, x, size=SIZE, combine=combine)
    expected = of_ranks(table[["naswot", "params"]].rank()).sum(axis=1)
    assert table["score"].rank().corr(expected.round(9).rank()) == pytest.approx(1)


def test_a_proxy_that_is_better_when_lower_ranks_the_other_way_round(few, x, space, monkeypatch):
    table = rank(space, x, size=SIZE, proxies=["params"])
    lower = dataclasses.replace(PROXIES["params"], sign=-1)
    monkeypatch.setitem(PROXIES, "params", lower)
    reverse = rank(space, x, size=SIZE, proxies=["params"])
    finite = np.isfinite(table["params"])
    assert table["params"][finite].is_monotonic_decreasing
    assert reverse["params"][finite].is_monotonic_increasing
    assert np.isneginf(reverse["params"][~finite]).all()  # not connected: last either way


def test_numerical_failures_rank_last_and_are_counted(few, x, space, monkeypatch):
    def count(network, archs):
        counts = PROXIES["macs"].count(network, archs).astype(float)
        return np.where(archs[:, 0] == 3, np.nan, counts)

    sick = CountProxy(name="sick", paper="none", count=count)
    monkeypatch.setitem(PROXIES, "sick", sick)
    table = rank(space, x, size=SIZE, proxies=["sick"])
    failed = table["sick"].isna()
    assert 0 < failed.sum() == table.attrs["nan"]["sick"]
    fine = np.isfinite(table["sick"])
    assert table["rank"][failed].min() > table["rank"][fine].max()
    assert rank(space, x, size=SIZE, proxies=["params"]).attrs["nan"] == {"params": 0}


def test_both_executors_rank_alike(few, x, space):
    shared, single = (
        rank(space, x, size=SIZE, executor=e, proxies=["naswot"]).set_index("index").sort_index()
        for e in ("shared_prefix", "per_architecture")
    )
    np.testing.assert_allclose(shared["naswot"], single["naswot"], rtol=2e-3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"space": "nasbench"}, "Unknown search space 'nasbench'; did you mean nasbench101"),
        ({"proxies": ["naswott"]}, "Unknown proxy 'naswott'; did you mean naswot"),
        ({"proxies": []}, "No proxy was given"),
        ({"combine": "mean"}, "Unknown combination 'mean'; did you mean rank_mean"),
        ({"repeats": 0}, "repeats is 0, expected at least 1"),
        ({"dtype": "float16"}, "Unknown dtype 'float16'; did you mean bfloat16 or float32"),
        ({"proxies": ["te_nas", "params"]}, "te_nas is a combination of proxies"),
        ({"batch_size": 41}, "The batch size 41 is larger than the 40 images there are"),
        ({"images": np.zeros((40, 64))}, r"images has shape \(40, 64\)"),
        ({"images": np.full((40, 8, 8, 3), np.nan)}, "images has 7680 values that are NaN"),
        ({"images": np.zeros((40, 8, 8, 7), np.uint8)}, "images has 7 channels"),
        ({"labels": np.arange(39)}, "labels has 39 labels for 40 images"),
        ({"proxies": ["grad_norm"]}, "grad_norm needs labels, and none were given"),
        (
            {"proxies": ["grad_norm"], "executor": "shared_prefix", "labels": np.arange(40) % 2},
            "shared_prefix executor has no gradients, which grad_norm needs",
        ),
    ],
)
def test_bad_input_is_one_sentence(arguments, says, few, x):
    with pytest.raises(InputError, match=says):
        rank(**{"space": "nasbench201", "images": x} | arguments)


def test_the_default_size_fits_the_images(space):
    assert fit_size(space.proxy_size, 8).resolution == 8
    assert fit_size(space.proxy_size, 32) == space.proxy_size


def test_images_are_picked_without_repetition():
    picked = pick_batch(50, 40, 3)
    assert len(set(picked)) == 40
    np.testing.assert_array_equal(picked, pick_batch(50, 40, 3))
    assert not np.array_equal(picked, pick_batch(50, 40, 4))


def sum_of_choices(passes):
    return jnp.sum(passes.arch).astype(jnp.float32)


@pytest.mark.parametrize("executor", ["shared_prefix", "per_architecture"])
def test_a_ranking_goes_on_after_what_was_finished(executor, tiny, batch, space, monkeypatch):
    fewer(monkeypatch, 80)
    proxies = get_proxies(["naswot", "params"])
    options = {"seed": 0, "executor": executor}
    whole = of_all(space, tiny, batch, proxies, **options)
    rows = ranking.Scoring.of(space, space.all()).rows
    expected = score_rows(tiny, batch, rows, proxies, **options)
    for done in (30, len(rows)):
        heard = []
        finished = {name: scores[:done] for name, scores in expected.items()}
        progress = Progress(finished, heard.append)
        table = of_all(space, tiny, batch, proxies, progress=progress, **options)
        pd.testing.assert_frame_equal(table, whole, rtol=1e-4)
        assert sum(len(part["naswot"]) for part in heard) == len(rows) - done


class TestRepeats:
    """Several initialisations and batches: means, deviations, and going on in the middle."""

    OPTIONS: ClassVar = {"size": SIZE, "proxies": ["naswot", "params"], "batch_size": 16}

    def test_scores_are_means_over_the_following_seeds(self, few, x, space):
        table = rank(space, x, seed=4, repeats=3, **self.OPTIONS)
        assert list(table.columns) == [
            *("index", "arch", "naswot", "params", "naswot_std", "params_std", "score", "rank")
        ]
        singles = [
            rank(space, x, seed=seed, **self.OPTIONS).set_index("index").loc[table["index"]]
            for seed in (4, 5, 6)
        ]
        scores = np.stack([single["naswot"] for single in singles])
        assert len({tuple(row) for row in scores}) == 3
        connected = np.isfinite(table["params"])
        np.testing.assert_allclose(table["naswot"], scores.mean(0))
        finite = np.isfinite(scores).all(axis=0)  # a singular kernel is none, though connected
        deviations = table["naswot_std"]
        np.testing.assert_allclose(deviations[finite], scores[:, finite].std(0, ddof=1), rtol=1e-6)
        assert (deviations[finite] > 0).sum() > 60
        assert deviations[~finite].isna().all()
        assert (table["params_std"][connected] == 0).all()
        assert table.loc[~connected, ["naswot_std", "params_std"]].isna().all(axis=None)
        assert np.isneginf(table.loc[~connected, ["naswot", "params", "score"]]).all(axis=None)
        ranks = table[["naswot", "params"]].rank() / len(table)
        np.testing.assert_allclose(
            table["score"][connected], np.log(ranks).sum(axis=1)[connected], rtol=1e-6
        )

    def test_one_repeat_is_no_repeat(self, few, x, space):
        once = rank(space, x, repeats=1, **self.OPTIONS)
        pd.testing.assert_frame_equal(once, rank(space, x, **self.OPTIONS))
        assert "naswot_std" not in once.columns

    def test_a_failure_in_one_repeat_is_a_failure(self, few, x, space, monkeypatch):
        def count(network, archs):
            calls.append(len(archs))
            values = archs.sum(1).astype(float)
            return np.where(archs[:, 0] == len(calls), np.nan, values)

        calls: list[int] = []
        sick = CountProxy(name="sick", paper="none", count=count)
        table = rank(space, x, repeats=2, executor="shared_prefix", size=SIZE, proxies=[sick])
        first = np.stack([space.from_string(arch) for arch in table["arch"]])
        failed = table["sick"].isna()
        assert len(calls) == 2
        assert failed.sum() == table.attrs["nan"]["sick"] > 0
        assert table["sick_std"][failed].isna().all()
        assert len(first) == len(table)

    @pytest.mark.parametrize("executor", ["shared_prefix", "per_architecture"])
    def test_it_goes_on_in_the_middle(self, executor, tiny, batch, space, monkeypatch):
        fewer(monkeypatch, 80)

        def batches(side, seed):
            return batch._replace(images=batch.images * jnp.float32(seed + 1) - seed)

        def ranked(progress=None):
            proxies, options = get_proxies(["naswot", "params"]), {"executor": executor}
            archs, network = space.all(), lambda kind: tiny
            options |= {"repeats": 3, "seed": 2, "progress": progress}
            return rank_population(space, archs, network, batches, proxies, **options)

        parts = []
        whole = ranked(Progress({}, parts.append))
        rows = len(ranking.Scoring.of(space, space.all()).rows)
        scores = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
        assert len(scores["naswot"]) == 3 * rows
        assert whole["naswot_std"].max() > 0
        for done in (30, rows, rows + 30, 2 * rows + 1, 3 * rows):
            heard = []
            finished = {name: values[:done] for name, values in scores.items()}
            table = ranked(Progress(finished, heard.append))
            pd.testing.assert_frame_equal(table, whole, rtol=1e-4)
            assert sum(len(part["naswot"]) for part in heard) == 3 * rows - done


class TestTypes:
    """What networks are computed in, and what is added up in float32 all the same."""

    @pytest.mark.parametrize("name", ["naswot", "grad_norm"])
    def test_bfloat16_is_close_and_not_the_same(self, name, few, x, space):
        options = {"size": SIZE, "proxies": [name], "labels": np.arange(40) % 4}
        wide = rank(space, x, **options).set_index("index").sort_index()[name]
        narrow = rank(space, x, dtype="bfloat16", **options).set_index("index").sort_index()[name]
        finite = np.isfinite(wide) & np.isfinite(narrow)
        assert finite.sum() > 60
        assert (narrow[finite] != wide[finite]).mean() > 0.9
        off = np.abs(narrow[finite] / wide[finite] - 1)
        assert off.median() < {"naswot": 0.005, "grad_norm": 0.1}[name]
        assert narrow[finite].rank().corr(wide[finite].rank()) > 0.9
        pd.testing.assert_series_equal(
            rank(space, x, dtype="float32", **options).set_index("index").sort_index()[name], wide
        )

    def test_networks_are_computed_in_it_and_determinants_in_float32(self, x, space, monkeypatch):
        archs = space.all()[[15000, 9000]]
        seen = []
        proxy = PROXIES["naswot"]

        def finish(kernel):
            seen.append(kernel.dtype)
            return proxy.finish(kernel)

        def largest(kernel):
            return kernel.max()

        spied = dataclasses.replace(proxy, name="spied", finish=finish)
        options = {"size": SIZE, "archs": archs, "dtype": "bfloat16", "batch_size": 8}
        table = rank(space, x, proxies=[spied], executor="per_architecture", **options)
        assert seen == [jnp.float32]
        kernels = [
            dataclasses.replace(proxy, name=f"k{i}{j}", finish=lambda k, i=i, j=j: k[i, j])
            for i in range(8)
            for j in range(8)
        ]
        entries = rank(space, x, proxies=kernels, executor="per_architecture", **options)
        for index, score in zip(table["index"], table["spied"], strict=True):
            row = entries[entries["index"] == index].iloc[0]
            kernel = np.array([[row[f"k{i}{j}"] for j in range(8)] for i in range(8)], np.float64)
            assert (kernel == np.round(kernel)).all()
            assert kernel.max() > 256  # which bfloat16 could not count to
            assert score == pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-5)

    def test_weights_and_images_are_of_the_type(self, x, space):
        def kinds(passes):
            assert passes.batch.images.dtype == jnp.bfloat16
            leaves = jax.tree.leaves(passes.variables.params)
            assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.bfloat16)}
            assert passes.weights[0].dtype == jnp.float32
            return passes.logits.sum()

        table = rank(space, x, size=SIZE, archs=space.all()[:2], proxies=[kinds], dtype="bfloat16")
        assert len(table) == 2


def test_gradients_are_left_to_the_executor_that_has_them(tiny, batch, space):
    own = GradientProxy(name="own", paper="none", score=sum_of_choices)
    rows = space.all()[:5]
    scores = score_rows(tiny, batch, rows, [own], seed=0)
    np.testing.assert_array_equal(scores["own"], rows.sum(1))


def test_labels_are_only_asked_for_where_needed(tiny, batch, space, monkeypatch):
    fewer(monkeypatch, 10)
    unlabelled = Batch(batch.images, None)
    of_all(space, tiny, unlabelled, get_proxies(["params"]))
    with pytest.raises(InputError, match="grad_norm needs labels"):
        of_all(space, tiny, unlabelled, get_proxies(["params", "grad_norm"]))


def test_a_batch_is_on_the_device_in_the_types_that_programs_take():
    made = ranking.make_batch(np.zeros((2, 4, 4, 1), np.float64), np.array([0, 1], np.int64))
    assert made.labels is not None
    assert (made.images.dtype, made.labels.dtype) == (jnp.float32, jnp.int32)
    assert isinstance(made.images, jax.Array)


def test_bad_settings_are_refused_with_one_sentence(x, space):
    for settings, said in (
        ({"executor": "shared"}, "Unknown executor 'shared'; did you mean shared_prefix"),
        ({"seed": -1}, "seed is -1"),
        ({"batch_size": 0}, "batch size is 0"),
    ):
        with pytest.raises(InputError, match=said):
            rank(space, x, size=SIZE, **settings)


def test_no_path_scores_minus_infinity_and_proxies_may_be_one_text(few, x, space):
    table = rank(space, x, size=SIZE, proxies="naswot,params")
    connected = space.connected(np.stack([space.from_string(a) for a in table["arch"]]))
    assert (np.isneginf(table["score"]) == ~connected).all()
