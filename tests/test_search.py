"""The main job from end to end: what it writes, what it prints, and the same from Python."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from searching import FLAGS, TINY, fewer, finished_run, images, journal_of, result_of
from sklearn.datasets import load_digits

from jaxnas import pipeline
from jaxnas.command_line import parse
from jaxnas.config import build, read_yaml, to_dict
from jaxnas.data.load import load
from jaxnas.errors import InputError
from jaxnas.search import main, search
from jaxnas.spaces import Size

RANK_ONLY = {"stages": "rank", "quiet": True, "rank": {"channels": 4, "resolution": 8}}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return finished_run(tmp_path_factory)


@pytest.fixture(scope="module")
def ranking(run) -> pd.DataFrame:
    return pd.read_parquet(run / "ranking.parquet")


def test_result_json_holds_what_is_promised(run, space):
    result = result_of(run)
    assert set(result) == {
        *("arch", "index", "val_accuracy", "test_accuracy", "params", "macs", "multiply_adds"),
        *("seed", "versions", "config"),
    }
    arch = space.from_string(result["arch"])[None]
    assert space.index(arch) == result["index"]
    counts = space.network(Size(4, (1,), 8), classes=10, image_channels=1).count(arch)
    assert (result["params"], result["macs"]) == (counts.params[0], counts.macs[0])
    config = build(parse(FLAGS) or {})
    assert result["config"] == json.loads(json.dumps(to_dict(config)))
    assert result["seed"] == 0
    assert list(result["multiply_adds"]) == ["train", "finish"]
    assert {"jaxnas", "jax", "flax", "python"} <= result["versions"].keys()
    whole = json.loads((run / "result.json").read_text())
    assert whole["device"].startswith("cpu: ")
    seconds = whole["seconds"]
    assert list(seconds) == ["rank", "train", "finish"]
    assert all(s.keys() == {"run", "compile"} for s in seconds.values())
    assert all(value >= 0 for s in seconds.values() for value in s.values())


def test_accuracies_are_those_of_the_journal_and_test_was_looked_at_once(run):
    result, journal = result_of(run), journal_of(run)
    (test,) = [e for e in journal if "accuracy" in e]
    assert (test["stage"], test["unit"]) == ("finish", "test")
    assert result["test_accuracy"] == test["accuracy"][0]
    last = {}
    for (stage, batch), roles in TINY_ROLES.items():
        epochs = [
            e for e in journal if (e["stage"], e["unit"], e.get("batch")) == (stage, "epoch", batch)
        ]
        assert [e["epoch"] for e in epochs] == [1, 2]
        assert all(len(e["val_accuracy"]) == roles for e in epochs)
        last[batch] = epochs[-1]["val_accuracy"]
    assert result["val_accuracy"] == last[None][0]
    asked = [e["archs"] for e in journal if e["unit"] == "ask"]
    assert asked[0] == pd.read_parquet(run / "ranking.parquet")["arch"][:2].tolist()
    best = json.loads((run / "result.json").read_text())["arch"]
    reached = dict(zip(asked[0], last["1"][:2], strict=True)) | dict(
        zip(asked[1], last["2"], strict=True)
    )
    assert len(reached) == 4
    assert reached[best] == max(reached.values())


TINY_ROLES = {("train", "1"): 4, ("train", "2"): 2, ("finish", None): 1}
"""How many are trained: two candidates, the largest, a random one; two candidates; the winner."""


def test_ranking_parquet_has_one_row_an_architecture_best_first(ranking, space):
    assert list(ranking.columns) == ["index", "arch", "naswot", "params", "score", "rank"]
    assert ranking.shape[0] == space.size == 15625
    np.testing.assert_array_equal(np.sort(ranking["index"]), np.arange(15625))
    archs = space.all()[ranking["index"]]
    assert ranking["arch"].tolist() == [space.to_string(arch) for arch in archs]
    assert ranking["rank"].iloc[0] == 1
    assert ranking["rank"].is_monotonic_increasing
    best_first = ranking["score"].rank(method="min", ascending=False)
    np.testing.assert_array_equal(ranking["rank"], best_first)
    assert not ranking[["naswot", "params", "score"]].isna().any().any()


def test_unconnected_architectures_score_minus_infinity_and_rank_last(ranking, space):
    connected = space.connected(space.all()[ranking["index"]])
    assert 0 < (~connected).sum() < 15625
    for column in ("naswot", "params"):
        assert (np.isneginf(ranking[column]) == ~connected).all()
    assert ranking["rank"][~connected].min() > ranking["rank"][connected].max()


def test_the_report_and_the_checkpoints_are_there(run):
    page = (run / "report.html").read_text()
    assert result_of(run)["arch"] in page
    kept = {str(p.relative_to(run / "checkpoints")) for p in run.glob("checkpoints/*/*")}
    assert kept == {"finish/2"}
    assert {p.name for p in run.iterdir()} == {
        *(".lock", "checkpoints", "config.yaml", "journal.jsonl", "ranking.parquet"),
        *("report.html", "result.json"),
    }


def test_the_screen_says_the_cost_before_and_the_findings_after(run, ranking):
    said = (run.parent / "stderr").read_text()
    lines = said.splitlines()
    assert lines[0].startswith("nasbench201: 15,625 architectures; digits: 1,079 training, 359 ")
    assert lines[1].startswith("Run directory run; device cpu")
    assert lines[2].startswith("To do: 15,625 architectures to score without training; training ")
    assert lines[3:7] == ["rank ...", "train 1 ...", "train 2 ...", "finish ..."]
    assert lines[7].startswith("Strategy default asked for 4 trainings in 2 batches, of ")
    assert len(lines) == 8
    shown = (run.parent / "stdout").read_text()
    assert "\x1b" not in shown + said
    for rank, arch in zip(ranking["rank"][:10], ranking["arch"][:10], strict=True):
        assert re.search(rf"(?m)^ *{rank} +{re.escape(arch)} ", shown)
    result = result_of(run)
    assert f"Winner: {result['arch']}\n" in shown
    assert f"{result['params']:,} parameters, {result['macs']:,} multiply-adds" in shown
    assert f"test accuracy {result['test_accuracy']:.4f}" in shown
    assert re.search(r"seconds: rank .* \(of it compiling .*\), train .*, finish ", shown)
    assert re.search(r"(?m)^largest +1 ", shown)
    assert "Files: run/report.html, result.json" in shown


def test_config_yaml_given_back_finds_the_same_in_another_process(run, tmp_path, capfd):
    assert build(read_yaml(run / "config.yaml")) == build(parse(FLAGS) or {})
    assert main(["--config", str(run / "config.yaml"), "--out", str(tmp_path / "again")]) == 0
    assert result_of(tmp_path / "again") == result_of(run)
    for name in ("ranking.parquet", "config.yaml"):
        assert (tmp_path / "again" / name).read_bytes() == (run / name).read_bytes()


def test_python_says_nothing_when_quiet_and_returns_what_it_wrote(tmp_path, monkeypatch, capfd):
    fewer(monkeypatch, 60)
    pixels, labels = load_digits(return_X_y=True)
    arrays = (pixels.reshape(-1, 8, 8), labels)
    found = search("nasbench201", arrays, out=tmp_path / "run", quiet=True, **TINY)
    assert capfd.readouterr() == ("", "")
    assert found.directory == tmp_path / "run"
    assert found.values == json.loads((tmp_path / "run" / "result.json").read_text())
    assert (found.arch, found.test_accuracy) == (
        found.values["arch"],
        found.values["test_accuracy"],
    )
    assert found.val_accuracy == found.values["val_accuracy"]
    pd.testing.assert_frame_equal(found.ranking, pd.read_parquet(tmp_path / "run/ranking.parquet"))
    assert found.values["config"]["data"]["source"] == "arrays"


def test_a_space_object_and_a_data_set_are_used_as_they_are(tmp_path, monkeypatch, space):
    fewer(monkeypatch, 60)
    digits = load("digits")
    twice = dataclasses.replace(digits, name="twice", test=digits.val)
    found = search(space, twice, out=tmp_path / "run", quiet=True, **TINY)
    assert found.test_accuracy == found.val_accuracy
    assert found.values["config"]["data"]["source"] == "twice"


def test_arrays_may_bring_their_test_set(tmp_path, monkeypatch, capfd):
    fewer(monkeypatch, 60)
    arrays = (*images(120, 8, 8), *images(30, 8, 8, seed=1))
    options = RANK_ONLY | {"quiet": False, "batch_size": 16}
    search("nasbench201", arrays, out=tmp_path / "run", **options)
    said = "arrays: 96 training, 24 validation and 30 test images of 8x8x1, 3 classes"
    assert said in capfd.readouterr().err


def test_seeds(tmp_path, monkeypatch):
    fewer(monkeypatch, 60)

    def ranked(name, seed, split_seed=0):
        split = {"data.split_seed": split_seed}
        return search(out=tmp_path / name, seed=seed, **split, **RANK_ONLY).ranking

    def fingerprint(name):
        return journal_of(tmp_path / name)[0]["fingerprint"]

    first = ranked("first", 0)
    pd.testing.assert_frame_equal(ranked("same", 0), first)
    assert not ranked("seed", 1)["naswot"].equals(first["naswot"])
    assert not ranked("split", 0, split_seed=1)["naswot"].equals(first["naswot"])
    assert fingerprint("seed") == fingerprint("same") == fingerprint("first")
    assert fingerprint("split") != fingerprint("first")


def test_a_ranking_over_several_seeds_in_bfloat16(tmp_path, monkeypatch, capfd):
    fewer(monkeypatch, 60)
    monkeypatch.chdir(tmp_path)
    flags = "--stages rank --channels 4 --resolution 8 --repeats 2 --out run --rank.dtype bfloat16"
    assert main(flags.split()) == 0
    ranking = pd.read_parquet(tmp_path / "run" / "ranking.parquet")
    assert list(ranking.columns) == [
        *("index", "arch", "naswot", "params", "naswot_std", "params_std", "score", "rank")
    ]
    said = capfd.readouterr()
    assert "60 architectures to score without training, 2 times each." in said.err
    first = ranking.iloc[0]
    assert re.search(r"(?m)^rank +architecture +naswot ± +params +score", said.out)
    row = rf"{first['naswot']:.3f} ± {first['naswot_std']:.3f} +{first['params']:,.0f} "
    assert re.search(row, said.out)
    assert "naswot ±" in (tmp_path / "run" / "report.html").read_text()
    wide = search(out=tmp_path / "wide", seed=0, repeats=2, **RANK_ONLY).ranking
    assert not wide["naswot"].equals(ranking["naswot"])
    seeds = [search(out=tmp_path / f"{s}", seed=s, **RANK_ONLY).ranking for s in (0, 1)]
    first, second = (table.set_index("index").sort_index()["naswot"] for table in seeds)
    wide = wide.set_index("index").sort_index()["naswot"]
    np.testing.assert_allclose(wide, (first + second) / 2)


def test_stages_may_end_early(tmp_path, monkeypatch):
    fewer(monkeypatch, 60)
    ranked = search(out=tmp_path / "rank", **RANK_ONLY)
    assert (ranked.val_accuracy, ranked.test_accuracy) == (None, None)
    assert ranked.ranking["arch"][0] == ranked.arch
    assert (tmp_path / "rank" / "report.html").is_file()
    assert not (tmp_path / "rank" / "checkpoints").exists()
    options = TINY | {"stages": ["rank", "train"], "quiet": True}
    trained = search(out=tmp_path / "train", **options)
    first, last = (e for e in journal_of(tmp_path / "train") if e.get("epoch") == 2)
    assert (last["stage"], trained.test_accuracy) == ("train", None)
    assert trained.val_accuracy == max(first["val_accuracy"][:2] + last["val_accuracy"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"train": {"learning_rate": 1e30, "baselines": 1}},
            "every candidate diverged.*train.lear",
        ),
        ({"finish": {"learning_rate": 1e30}}, "winner's training diverged.*finish.learning_rate"),
    ],
)
def test_trainings_that_diverge_end_in_one_sentence(options, says, tmp_path, monkeypatch):
    fewer(monkeypatch, 60)
    with pytest.raises(InputError, match=says):
        search(out=tmp_path / "run", quiet=True, **TINY | options)


@pytest.mark.parametrize("shape", [(15, 15, 3), (9, 12, 4), (28, 28, 1), (16, 16, 2)])
def test_images_of_any_size_and_of_1_to_4_channels(shape, tmp_path, monkeypatch, capfd):
    fewer(monkeypatch, 60)
    monkeypatch.chdir(tmp_path)
    x, y = images(90, *shape)
    np.savez("odd.npz", x_train=x, y_train=y, x_test=x[:30], y_test=y[:30])
    # Through two reductions where sizes are odd all the way: 15, 8, 4 would hide that 15 is.
    flags = "--data odd.npz --out run --stages rank --batch-size 16 --channels 4"
    flags += " --cells 1,1,1 --resolution 13" if shape[0] == 15 else " --cells 1"
    assert main(flags.split()) == 0
    result = result_of(tmp_path / "run")
    # The full path, so that the run's config.yaml means this file wherever it is used.
    assert result["config"]["data"]["source"] == str(tmp_path / "odd.npz")
    assert "odd: 72 training, 18 validation and 30 test images" in capfd.readouterr().err


def test_a_path_may_be_a_path(tmp_path, monkeypatch):
    fewer(monkeypatch, 60)
    x, y = images(60, 8, 8)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y)
    found = search(data=tmp_path / "a.npz", out=tmp_path / "run", batch_size=16, **RANK_ONLY)
    assert found.values["config"]["data"]["source"] == str(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"topp": 3}, "Unknown key 'topp'; did you mean top"),
        ({"train": {"epoch": 3}}, "Unknown key 'train.epoch'; did you mean train.epochs"),
        ({"space": "nasbench"}, "Unknown search space 'nasbench'; did you mean nasbench101"),
        ({"data": 5}, "Data must be a name or path, .* got int"),
        ({"data": images(9, 8, 8)[:1]}, "Data must be a name or path, .* got tuple"),
        ({"data": (*images(9, 8, 8), None)}, "Data must be a name or path, .* got tuple"),
        ({"data": (np.zeros((9, 64)), np.arange(9))}, r"x has shape \(9, 64\)"),
        ({"proxies": ["naswot", "zicco"]}, "Unknown proxy 'zicco'; did you mean zico"),
        ({"proxies": "te_nas,params"}, "te_nas is a combination of proxies"),
        ({"proxies": "te_nas", "rank.combine": "vote"}, "te_nas combines its proxies by rank_mean"),
        (
            {"proxies": "dss"},
            "dss reads the weights of self-attention, and the networks of this sp",
        ),
        ({"space": "autoformer", "proxies": "naswot"}, "naswot reads the inputs of ReLUs, and the"),
        ({"rank.dtype": "half"}, "Unknown dtype 'half'; known: bfloat16, float32"),
        ({"epochs": None}, "train.epochs is None, expected a whole number"),
    ],
)
def test_bad_arguments_raise_input_errors_and_leave_nothing(arguments, says, tmp_path):
    with pytest.raises(InputError, match=says):
        search(out=tmp_path / "run", quiet=True, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_runs_that_begin_in_the_same_second_get_directories_of_their_own(tmp_path, monkeypatch):
    fewer(monkeypatch, 60)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline.time, "strftime", lambda form: "NOW")
    found = [search(**RANK_ONLY).directory for _ in range(3)]
    assert found == [Path("runs", f"nasbench201-digits-NOW{n}") for n in ("", "-2", "-3")]
    assert all((path / "result.json").is_file() for path in found)
