"""A user's own proxies: functions by themselves, registered, and as `module:function`."""

import itertools
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from helpers import compilations
from searching import fewer, images, program

import jaxnas
from jaxnas.errors import InputError
from jaxnas.proxies import PRESETS, PROXIES, get_proxies
from jaxnas.proxies.presets import Preset, resolve
from jaxnas.proxy import Batch, GradientProxy
from jaxnas.scoring.combine import COMBINATIONS
from jaxnas.scoring.per_architecture import score_per_architecture
from jaxnas.search import search
from jaxnas.search_spaces import get_space
from jaxnas.spaces import Size

SIZE = Size(channels=4, cells=(1,), resolution=8)
MINE = '''
"""What a user has written."""

import jax.numpy as jnp

import jaxnas


def score(network, variables, arch, batch):
    """The spread of the logits."""
    return jnp.std(network.apply(variables, arch, batch.images).logits)


def of_passes(passes, power=2):
    return sum(jnp.sum(jnp.abs(w * g) ** power) for w, g in zip(passes.weights, passes.loss_gradients))


lower = jaxnas.as_proxy(score, "lower", sign=-1)
also_lower = jaxnas.as_proxy(of_passes, "lower")
as_index = jaxnas.as_proxy(score, "index")


class Group:
    @staticmethod
    def score(passes):
        return passes.logits.std()


def two(network, variables):
    return 0.0


def vector(passes):
    return passes.logits.mean(1)


def nothing(passes):
    return None


number = 3.0
'''


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module of a name of its own, importable."""
    name = f"mine_{next(_NUMBERS)}"
    (tmp_path / f"{name}.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def data():
    return images(40, 8, 8, 3)


def spread(network, variables, arch, batch):
    return jnp.std(network.apply(variables, arch, batch.images).logits)


def spread_of_passes(passes):
    return jnp.std(passes.logits)


def expected_of(network, variables, batch, archs):
    logits = [network.apply(variables, arch, batch.images).logits for arch in archs]
    return [np.std(np.asarray(values)) for values in logits]


def test_a_function_of_four_arguments_or_of_passes(tiny, variables, batch, space):
    archs = space.all()[[77, 15000]]
    proxies = [jaxnas.as_proxy(spread), jaxnas.as_proxy(spread_of_passes)]
    found = score_per_architecture(tiny, variables, archs, batch, proxies)
    expected = expected_of(tiny, variables, batch, archs)
    assert list(found) == ["spread", "spread_of_passes"]
    for scores in found.values():
        np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_what_is_said_about_it_and_its_name():
    proxy = jaxnas.as_proxy(spread, "mine", sign=-1, needs_labels=True, paper="none")
    assert isinstance(proxy, GradientProxy)
    assert (proxy.name, proxy.sign, proxy.needs_labels, proxy.paper) == ("mine", -1, True, "none")
    assert jaxnas.as_proxy(spread).sign == 1
    assert jaxnas.as_proxy(partial(spread), "part").name == "part"


def test_equal_functions_are_equal_proxies():
    assert jaxnas.as_proxy(spread) == jaxnas.as_proxy(spread)
    assert hash(jaxnas.as_proxy(spread)) == hash(jaxnas.as_proxy(spread))
    assert jaxnas.as_proxy(spread) != jaxnas.as_proxy(spread_of_passes, "spread")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda a, b: a, "takes 2 arguments; expected four, (network, variables, arch, batch), or"),
        (lambda: 0.0, "takes 0 arguments"),
        (Batch, "is a class; expected a function"),
        (3.0, "The proxy float is a float; expected a function"),
        (max, "The proxy max does not tell what arguments it takes"),
    ],
)
def test_other_objects_are_no_proxies(function, said):
    with pytest.raises(InputError) as caught:
        jaxnas.as_proxy(function)
    assert said in str(caught.value)


def test_it_ranks_by_its_path_and_compiles_once(mine, data, space, monkeypatch):
    fewer(monkeypatch, 60)
    ranked = partial(jaxnas.rank, space, *data, size=SIZE)
    table = ranked(proxies=f"{mine}:score,params")
    assert list(table.columns) == ["index", "arch", f"{mine}:score", "params", "score", "rank"]
    finite = table[f"{mine}:score"].replace(-np.inf, np.nan).dropna()
    assert finite.nunique() > 10
    with compilations() as compiled:
        pd.testing.assert_frame_equal(ranked(proxies=[f"{mine}:score", "params"]), table)
    assert [name for name in compiled if "score" in name] == []


def test_what_has_a_name_of_its_own_goes_by_it(mine, data, space, monkeypatch):
    fewer(monkeypatch, 60)
    table, raised = (
        jaxnas.rank(space, *data, size=SIZE, proxies=[f"{mine}:{name}"])
        for name in ("lower", "score")
    )
    assert "lower" in table.columns
    connected = np.isfinite(table["lower"])
    assert table["lower"][connected].is_monotonic_increasing
    assert raised[f"{mine}:score"][connected].is_monotonic_decreasing
    (grouped,) = get_proxies([f"{mine}:Group.score"])
    assert grouped.name == f"{mine}:Group.score"


def test_functions_and_proxies_rank_as_they_are_and_registered(data, space, monkeypatch):
    fewer(monkeypatch, 60)
    monkeypatch.setitem(PROXIES, "spread", jaxnas.as_proxy(spread))
    ranked = partial(jaxnas.rank, space, *data, size=SIZE)
    expected = ranked(proxies="spread,params")
    pd.testing.assert_frame_equal(ranked(proxies=[spread, "params"]), expected)
    proxies = [jaxnas.as_proxy(spread), PROXIES["params"]]
    pd.testing.assert_frame_equal(ranked(proxies=proxies), expected)


def test_a_module_of_flax_is_scored_by_it(mine, data):
    from flax import nnx

    net = nnx.Sequential(lambda x: x.mean((1, 2)), nnx.Linear(3, 4, rngs=nnx.Rngs(0)))
    found = jaxnas.score(net, *data, proxies=[f"{mine}:score", f"{mine}:of_passes", spread])
    assert 0 < found[f"{mine}:score"] == pytest.approx(found["spread"])
    assert found[f"{mine}:of_passes"] > 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{}x:score", "The proxy {0}x:score cannot be imported: No module named '{0}x'."),
        ("{}:scor", "The proxy {0}:scor: Unknown attribute of {0} 'scor'; did you mean score"),
        ("{}:Group.scor", "'scor'; did you mean score"),
        ("{}:number", "The proxy {0}:number is a float; expected a function."),
        ("{}:Group", "The proxy {0}:Group is a class; expected a function."),
        ("{}:two", "The proxy {0}:two takes 2 arguments; expected four"),
        ("{}:", "The proxy '{0}:' is no module:function, as mine:score for score in mine.py."),
        (":score", "The proxy ':score' is no module:function"),
        (".{}:score", "The proxy '.{0}:score' is no module:function"),
        ("{}:score:x", "The proxy '{0}:score:x' is no module:function"),
        ("{}/{}.py:score", "is no module:function"),
        ("{}:as_index", "A proxy goes by the name index, which is a column of rankings"),
        ("{0}:lower,{0}:also_lower", "A proxy is named twice in lower,lower."),
        ("{0}:score,{0}:score", "A proxy is named twice in {0}:score,{0}:score."),
    ],
)
def test_a_bad_path_is_one_sentence(name, said, mine):
    path = name.format(mine, mine)
    with pytest.raises(InputError) as caught:
        get_proxies(path.split(","))
    assert said.format(mine) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vector", "gives an array of shape (32,); expected one number."),
        ("nothing", "gives a NoneType; expected one number."),
        ("of_passes", "A proxy reads labels, and none were given."),
    ],
)
def test_what_it_gives_is_checked(name, said, mine, data, space, monkeypatch):
    fewer(monkeypatch, 4)
    with pytest.raises(InputError) as caught:
        jaxnas.rank(space, data[0], size=SIZE, proxies=f"{mine}:{name}")
    assert said in str(caught.value)


FLAGS = [
    *("--stages", "rank", "--channels", "4", "--cells", "1", "--resolution", "8"),
    *("--sample", "40", "--out", "run"),
]


def test_on_the_command_line_from_the_folder_where_it_is(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    flags = ["--proxies", "mine:score,params", *FLAGS]
    done = program(*flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mine:score" in done.stdout
    ranking = pd.read_parquet(tmp_path / "run" / "ranking.parquet")
    assert ranking["mine:score"].nunique() > 10
    assert (tmp_path / "run" / "report.html").read_text().count("mine:score") > 0
    # A run that was interrupted after its first rows: what follows is made again, with the same result.
    journal = tmp_path / "run" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    kept = next(k for k, line in enumerate(lines) if '"rows"' in line) + 1
    journal.write_text("".join(lines[:kept]))
    (tmp_path / "run" / "ranking.parquet").unlink()
    again = program("--resume", "--out", "run", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "run/ranking.parquet"), ranking)
    (tmp_path / "elsewhere").mkdir()
    lost = program("--resume", "--out", "../run", cwd=tmp_path / "elsewhere")
    assert lost.returncode == 2
    said = "error: The proxy mine:score cannot be imported: No module named 'mine'."
    assert lost.stderr.strip().splitlines()[-1] == said


class TestPresets:
    """A name that stands for several proxies and their combination."""

    def test_it_stands_for_its_members(self):
        assert resolve(["zero_cost_vote"])[:2] == (("synflow", "jacov", "snip"), "vote")
        assert resolve(["te_nas"])[:2] == (("ntk", "linear_regions"), "rank_mean")
        assert resolve(["default"], "log_rank")[:2] == (PRESETS["default"].proxies, "log_rank")
        assert resolve(["naswot", "params"])[:2] == (("naswot", "params"), "log_rank")
        assert resolve(["naswot"], "vote")[:2] == (("naswot",), "vote")
        assert resolve([spread])[:2] == ((spread,), "log_rank")

    def test_it_brings_its_protocol_unless_told_otherwise(self):
        space = get_space("nasbench201")
        default = resolve(["default"])
        assert default.size(space) == space.deep_size
        assert resolve(["naswot"]).size(space) == space.proxy_size
        assert default.size(get_space("nasbench_macro")) == get_space("nasbench_macro").proxy_size
        assert (default.batch_size, default.repeats) == (32, 1)
        asked = resolve(["default"], batch_size=8, repeats=3)
        assert (asked.batch_size, asked.repeats, asked.deep) == (8, 3, True)

    @pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
    def test_its_members_exist(self, preset):
        assert [p.name for p in get_proxies(preset.proxies)] == list(preset.proxies)
        assert preset.combine in COMBINATIONS
        assert preset.name not in PROXIES
        assert "arXiv" in preset.paper or "jaxnas" in preset.paper

    @pytest.mark.parametrize(
        ("names", "combine", "said"),
        [
            (
                ["te_nas", "params"],
                None,
                "te_nas is a combination of proxies (ntk,linear_regions) and",
            ),
            (["params", "te_nas"], None, "cannot be combined again, as in params,te_nas."),
            ([spread, "te_nas"], None, "te_nas is a combination"),
            (["te_nas"], "vote", "te_nas combines its proxies by rank_mean; got combine=vote."),
        ],
    )
    def test_it_stands_alone(self, names, combine, said):
        with pytest.raises(InputError) as caught:
            resolve(names, combine)
        assert said in str(caught.value)

    def test_a_name_that_is_nearly_one(self):
        with pytest.raises(InputError, match="Unknown proxy 'te_na'; did you mean te_nas"):
            get_proxies(resolve(["te_na"]).proxies)
        with pytest.raises(InputError, match=r"name its members: ntk,linear_regions\."):
            get_proxies(["te_nas"])

    def test_a_search_ranks_by_it(self, tmp_path, monkeypatch, data):
        fewer(monkeypatch, 40)
        preset = Preset(
            name="mine", proxies=("params", "naswot", "macs"), combine="vote", paper="jaxnas"
        )
        monkeypatch.setitem(PRESETS, "mine", preset)
        options = {"stages": "rank", "quiet": True, "rank": {"channels": 4, "resolution": 8}}
        found = search(
            "nasbench201", data, out=tmp_path / "run", proxies="mine", batch_size=16, **options
        )
        assert {"params", "naswot", "macs"} < set(found.ranking.columns)
        best = found.ranking["score"].max()
        assert best == int(best) or best == int(best) + 0.5  # wins
        assert found.values["config"]["rank"]["proxies"] == ["mine"]
        with pytest.raises(InputError, match="mine combines its proxies by vote; got combine=log"):
            search(proxies="mine", out=tmp_path / "other", **options | {"rank.combine": "log_rank"})
        assert not (tmp_path / "other").exists()
        table = jaxnas.rank("nasbench201", data[0], size=SIZE, proxies="mine")
        assert list(table.columns)[2:5] == ["params", "naswot", "macs"]


def test_a_key_begins_noise_of_its_own(data):
    def noise(passes):
        return jax.random.normal(passes.batch.random_key)

    from flax import nnx

    net = nnx.Sequential(lambda x: x.mean((1, 2)), nnx.Linear(3, 4, rngs=nnx.Rngs(0)))
    drawn = [jaxnas.score(net, *data, proxies=[noise], seed=seed)["noise"] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
