"""Evaluations from end to end on made-up scores: numbers, files, continuing, and bad input."""

import json

import numpy as np
import pandas as pd
import pytest
from evaluation_fakes import NB201, Scorer, accuracy, import_table, make_table, write_csv
from scipy.stats import kendalltau, spearmanr

from jaxnas import ranking
from jaxnas.benchmarks.__main__ import main
from jaxnas.benchmarks.evaluation import population
from jaxnas.benchmarks.evaluation.files import FILES
from jaxnas.benchmarks.evaluation.run import evaluate
from jaxnas.benchmarks.tables import load_table
from jaxnas.errors import InputError
from jaxnas.proxies.presets import PRESETS, Preset
from jaxnas.scoring.combine import log_rank, ranks

QUICK = {"seeds": 2, "bootstrap": 20, "timed": 0}


@pytest.fixture(scope="module")
def archs():
    return NB201.all()[:300]


@pytest.fixture(scope="module")
def table(archs, tmp_path_factory):
    return make_table(tmp_path_factory.mktemp("tables"), archs)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((40, 8, 8, 3), np.float32), np.arange(40) % 4


@pytest.fixture
def scorer(monkeypatch):
    fake = Scorer()
    monkeypatch.setattr(ranking, "score_archs", fake)
    return fake


def command(table, out, *flags, data="digits"):
    base = ["proxies", "--space", "nasbench201", "--table", str(table), "--data", data]
    base += ["--out", str(out), "--seeds", "2", "--bootstrap", "20", "--timed", "8"]
    return [*base, *flags]


def test_numbers_are_those_of_the_scores(scorer, archs, table, images):
    found = evaluate(
        "nasbench201", table, "c10_test", "naswot,params", images, also=["c100_test"], **QUICK
    )
    assert found[["target", "name"]].to_numpy().tolist() == [
        [t, n] for t in ("c10_test", "c100_test") for n in ("naswot", "params")
    ]
    target = accuracy(archs)
    for row, there in ((0, slice(None)), (2, slice(3, None))):
        values = target if row == 0 else target[::-1]
        for k, correlate in (("spearman", spearmanr), ("kendall", kendalltau)):
            each = []
            for seed in (0, 1):
                scores = Scorer()(
                    NB201, archs, None, proxies=found_proxies("naswot"), seed=seed, dtype="float32"
                )["naswot"]
                each.append(correlate(ranks(scores[there]), values[there]).statistic)
            assert found.loc[row, k] == pytest.approx(np.mean(each))
            assert found.loc[row, f"{k}_std"] == pytest.approx(np.std(each, ddof=1))
            assert found.loc[row, f"{k}_low"] < found.loc[row, k] < found.loc[row, f"{k}_high"]
    assert found["n"].tolist() == [300, 300, 297, 297]
    assert found.loc[1, "stability_20"] == 1  # counting knows no seed
    assert found.loc[0, "stability_20"] < 1
    assert any("lacks 3 of 300" in note for note in found.attrs["notes"])
    assert any("15,325 are not evaluated" in note for note in found.attrs["notes"])
    assert found.loc[0, "published"] == 0.77
    assert len(scorer.calls) == 2  # one scoring for two targets


def found_proxies(*names):
    from jaxnas.proxies import get_proxies

    return get_proxies(names)


def test_presets_are_made_of_scores_computed_once(scorer, archs, table, images, monkeypatch):
    preset = Preset("pair", ("naswot", "grad_norm"), "log_rank", "a test")
    monkeypatch.setitem(PRESETS, "pair", preset)
    found = evaluate("nasbench201", table, "c10_test", "pair,naswot", images, seeds=1, **{
        k: v for k, v in QUICK.items() if k != "seeds"
    })  # fmt: skip
    assert [c[0] for c in scorer.calls] == [("naswot",), ("grad_norm",)]
    raw = Scorer()(
        NB201, archs, None, proxies=found_proxies("naswot", "grad_norm"), seed=0, dtype="float32"
    )
    expected = spearmanr(ranks(log_rank(raw)), accuracy(archs)).statistic
    assert found.set_index("name").loc["pair", "spearman"] == pytest.approx(expected)


def test_a_proxy_of_negative_sign_is_turned_and_no_path_stays_last(
    scorer, archs, table, images, monkeypatch
):
    from dataclasses import replace

    import jaxnas.proxies

    turned = replace(jaxnas.proxies.PROXIES["naswot"], sign=-1)
    before = evaluate("nasbench201", table, "c10_test", "naswot", images, **QUICK)
    monkeypatch.setitem(jaxnas.proxies.PROXIES, "naswot", turned)
    after = evaluate("nasbench201", table, "c10_test", "naswot", images, **QUICK)
    assert after["spearman"].item() == before["spearman"].item() > 0


def test_numerical_failures_are_counted_and_rank_last(monkeypatch, archs, table, images):
    monkeypatch.setattr(ranking, "score_archs", Scorer(nan_rows=7))
    found = evaluate("nasbench201", table, "c10_test", "naswot,default", images, **QUICK)
    assert found["nan"].tolist() == [14, 14]
    assert any("naswot failed numerically (NaN) on 14 of 600" in n for n in found.attrs["notes"])


def test_two_dtypes_are_compared(scorer, archs, table, images):
    found = evaluate(
        "nasbench201", table, "c10_test", "naswot", images, dtypes="float32,bfloat16", **QUICK
    )
    assert found["dtype"].tolist() == ["float32", "bfloat16"]
    rho = []
    for seed in (0, 1):
        a, b = (
            Scorer()(NB201, archs, None, proxies=found_proxies("naswot"), seed=seed, dtype=d)
            for d in ("float32", "bfloat16")
        )
        rho.append(spearmanr(ranks(a["naswot"]), ranks(b["naswot"])).statistic)
    assert np.isnan(found.loc[0, "dtype_spearman"])
    assert found.loc[1, "dtype_spearman"] == pytest.approx(np.mean(rho))


def test_the_command_writes_everything(scorer, table, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("jaxnas.benchmarks.evaluation.scoring.LEAST_SECONDS", 1e-3)
    out = tmp_path / "out"
    flags = ["--target", "c10_test", "--also", "c100_test", "--proxies", "naswot,params,default"]
    assert main(command(table, out, *flags, "--dtypes", "float32,bfloat16")) == 0
    printed = capsys.readouterr().out
    for words in ("Rank correlation with c10_test", "noise ceiling", "published", "default"):
        assert words in printed
    names = {p.name for p in out.iterdir()}
    assert set(FILES) <= names
    assert {"scores-naswot.svg", "scores-default.svg", "correlations.svg", "cost.svg"} <= names
    results = pd.read_csv(out / "results.csv")
    assert len(results) == 3 * 2 * 2
    assert (results["seconds_per_arch"] >= 1e-3).all()
    plain = json.loads((out / "results.json").read_text())
    assert plain["results"][0]["spearman"] == pytest.approx(results.loc[0, "spearman"])
    scores = pd.read_csv(out / "scores.csv.gz")
    assert len(scores) == 300
    assert (
        np.isneginf(scores["naswot:bfloat16:1"]).sum()
        == (~NB201.connected(NB201.all()[:300])).sum()
    )
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["n"] == 300
    assert manifest["data"]["split"] == "train"
    assert manifest["data"]["images"] == 1079
    assert manifest["size"] == {"channels": 16, "cells": [1], "resolution": 8}
    assert manifest["seeds"] == [0, 1]
    assert len(manifest["table"]["sha256"]) == 64
    assert set(manifest["versions"]) >= {"jax", "jaxnas", "python"}
    assert "--proxies naswot,params,default" in manifest["command"]
    baselines = pd.read_csv(out / "baselines.csv").set_index(["target", "name"])
    assert baselines.loc[("c10_test", "random"), "precision_20"] == pytest.approx(20 / 300)
    ceiling, once = (
        baselines.loc[("c10_test", n), "spearman"] for n in ("ceiling", "one_training")
    )
    assert 0.9 < once < ceiling < 1
    assert ("c100_test", "ceiling") not in baselines.index


def test_an_interrupted_run_continues_and_another_manifest_is_refused(
    table, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "out"
    flags = ["--target", "c10_test", "--proxies", "naswot,grad_norm", "--timed", "0"]
    failing = Scorer(fail_at=3)
    monkeypatch.setattr(ranking, "score_archs", failing)
    with pytest.raises(KeyboardInterrupt):
        main(command(table, out, *flags))
    second = Scorer()
    monkeypatch.setattr(ranking, "score_archs", second)
    assert main(command(table, out, *flags)) == 0
    assert [c[:2] for c in second.calls] == [(("naswot",), 1), (("grad_norm",), 1)]
    results = (out / "results.csv").read_text()
    assert main(command(table, tmp_path / "whole", *flags)) == 0
    assert (tmp_path / "whole" / "results.csv").read_text() == results

    # A file that is not what was journalled is made again, and nothing else.
    (out / "scores-float32-seed0-forward.npz").write_bytes(b"damaged")
    third = Scorer()
    monkeypatch.setattr(ranking, "score_archs", third)
    assert main(command(table, out, *flags)) == 0
    assert [c[:2] for c in third.calls] == [(("naswot",), 0)]
    assert (out / "results.csv").read_text() == results

    capsys.readouterr()
    assert main(command(table, out, *flags, "--seeds", "1")) == 2
    said = capsys.readouterr().err
    assert "another manifest, seeds [0, 1] and not [0]" in said
    assert main(command(table, out, *flags, "--subset", "reachable")) == 2
    assert "subset all and not reachable" in capsys.readouterr().err


def test_a_long_unit_goes_on_where_it_was(table, tmp_path, monkeypatch):
    """Networks really scored, 50 architectures in chunks of 32, interrupted after the first."""
    monkeypatch.setattr("jaxnas.benchmarks.evaluation.store.KEEP_SECONDS", 0.0)
    flags = ["--target", "c10_test", "--proxies", "grad_norm", "--sample", "50", "--timed", "0"]
    flags += ["--channels", "2", "--seeds", "1"]
    real, seen = ranking.score_archs, []

    def interrupted(*args, progress, **options):
        def chunk(scores):
            progress.chunk(scores)
            raise KeyboardInterrupt

        return real(*args, progress=ranking.Progress(progress.finished, chunk), **options)

    def watched(*args, progress, **options):
        seen.append(len(next(iter(progress.finished.values()), ())))
        return real(*args, progress=progress, **options)

    monkeypatch.setattr(ranking, "score_archs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main(command(table, tmp_path / "out", *flags))
    monkeypatch.setattr(ranking, "score_archs", watched)
    assert main(command(table, tmp_path / "out", *flags)) == 0
    assert main(command(table, tmp_path / "whole", *flags)) == 0
    assert seen[0] >= 32
    assert seen[1] == 0
    broken, whole = (tmp_path / name / "results.csv" for name in ("out", "whole"))
    assert broken.read_text() == whole.read_text()


def test_a_directory_of_something_else_is_refused(scorer, table, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    flags = ["--target", "c10_test", "--proxies", "naswot"]
    assert main(command(table, tmp_path, *flags)) == 2
    assert "holds 'notes.txt' and no benchmark" in capsys.readouterr().err
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("space: nasbench201\n")
    assert main(command(table, tmp_path / "run", *flags)) == 2
    assert "another kind of run" in capsys.readouterr().err
    assert not scorer.calls


def test_bad_input_before_anything_was_finished_does_not_block_the_directory(table, tmp_path):
    flags = ["--target", "c10_test", "--proxies", "params", "--timed", "0"]
    assert main(command(table, tmp_path / "out", *flags, "--executor", "fastest")) == 2
    assert main(command(table, tmp_path / "out", *flags)) == 0


def test_subsets(archs, table):
    table = load_table(table)
    chosen = {
        name: population.choose(NB201, table, asked_space="nasbench201", subset=name).archs
        for name in population.SUBSETS
    }
    np.testing.assert_array_equal(chosen["all"], archs)
    kept = {tuple(a) for a in chosen["reachable"]}
    assert kept == {tuple(a) for a in archs if (NB201.pruned(a[None])[0] == a).all()}
    classes = [tuple(c) for c in NB201.canonical(chosen["unique"])]
    assert len(classes) == len(set(classes)) == len({tuple(c) for c in NB201.canonical(archs)})
    present = {tuple(a) for a in archs}
    for arch, form in zip(chosen["unique"], classes, strict=True):
        assert tuple(arch) == form or form not in present


def test_the_whole_space_has_9445_reachable_and_4660_unique(tmp_path):
    archs = NB201.all()
    rows = np.asarray(archs)
    assert len(population.SUBSETS["reachable"](NB201, rows)) == 9445
    unique = population.SUBSETS["unique"](NB201, rows)
    assert len(unique) == 4660
    np.testing.assert_array_equal(NB201.canonical(rows[unique]), rows[unique])


def test_a_sample_is_the_same_each_time(table):
    one, other = (
        population.choose(NB201, load_table(table), asked_space="nasbench201", sample=50)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.places, other.places)
    assert len(set(one.places.tolist())) == 50


REFUSED = {
    "a missing target": (["--target", "c10_tset"], "did you mean c10_test"),
    "a constant target": (["--target", "flat_test"], "constant, 50"),
    "a target without numbers": (["--target", "empty_test"], "holds no numbers"),
    "a target twice": (["--also", "c10_test"], "named twice"),
    "an unknown proxy": (["--proxies", "nazwot"], "Unknown proxy or preset 'nazwot'; did you mean"),
    "a proxy twice": (["--proxies", "naswot,naswot"], "named twice"),
    "a large sample": (["--sample", "301"], "expected 3 to 300"),
    "a small sample": (["--sample", "2"], "expected 3 to 300"),
    "an unknown subset": (["--subset", "reached"], "did you mean reachable"),
    "an unknown dtype": (["--dtypes", "float23"], "did you mean float32"),
    "no seeds": (["--seeds", "0"], "number of seeds is 0"),
    "no table": (["--table", "nowhere.parquet"], "There is no table nowhere.parquet"),
    "odd cells": (["--cells", "a,b"], "expected whole numbers as in 5,5,5"),
    "a large batch": (["--batch-size", "5000"], "larger than the 1079 images"),
    "another space": (["--space", "nasbench_macro"], "is a table of nasbench201, expected one of"),
    "CSV": (["--table", "A.csv.gz"], "tables import A.csv.gz --format csv --space nasbench201"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_sentence(case, scorer, table, tmp_path, capsys):
    flags, said = REFUSED[case]
    full = command(table, tmp_path / "out", "--target", "c10_test", "--proxies", "naswot", *flags)
    assert main(full) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.startswith("error: ")
    assert "\n" not in error.removeprefix("error: ")
    assert not scorer.calls
    assert not (tmp_path / "out").exists()


def test_a_proxy_that_needs_labels_without_any(scorer, table, images):
    with pytest.raises(InputError, match="grad_norm needs labels, and the data has none"):
        evaluate("nasbench201", table, "c10_test", "naswot,grad_norm", images[0], **QUICK)
    assert len(evaluate("nasbench201", table, "c10_test", "naswot", images[0], **QUICK)) == 1


def test_architectures_that_do_not_belong_or_come_twice(scorer, archs, images, tmp_path):
    texts = [NB201.to_string(a) for a in archs[:10]]
    for name, extra, said in (
        ("strange", ["|conv~0|", "|odd~0|"], r"2 of 12 architectures .* for example '\|conv~0\|'"),
        ("twice", [texts[3] + " "], r"1 of 11 rows .* repeat an architecture, .* rows 4 and 11"),
    ):
        frame = pd.DataFrame({"arch": texts + extra})
        frame["c10_test"] = np.arange(len(frame)) + 0.5
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        table = import_table(tmp_path / f"{name}.csv", space="none")
        with pytest.raises(InputError, match=said):
            evaluate("nasbench201", table, "c10_test", "naswot", images, **QUICK)


def test_a_table_of_strings_alone_serves_where_they_belong(scorer, archs, images, tmp_path):
    path = write_csv(tmp_path / "plain.csv", archs[:50], c10_test=accuracy(archs[:50]))
    found = evaluate(
        "nasbench201", import_table(path, space="none"), "c10_test", "naswot", images, **QUICK
    )
    assert found["n"].item() == 50


def test_too_few_rows_that_belong(scorer, archs, images, tmp_path):
    path = write_csv(tmp_path / "few.csv", archs[:2], c10_test=[1.0, 2.0])
    with pytest.raises(InputError, match=r"has 2 architectures of the subset 'all'"):
        evaluate("nasbench201", import_table(path), "c10_test", "naswot", images, **QUICK)
