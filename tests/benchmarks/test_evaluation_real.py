"""Evaluations with real networks: on digits, and on real accuracies where this machine has them."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evaluation_fakes import NB201, import_table, make_table

from jaxnas import ranking
from jaxnas.benchmarks.__main__ import main
from jaxnas.benchmarks.evaluation.ceiling import deviations
from jaxnas.benchmarks.evaluation.run import evaluate
from jaxnas.benchmarks.tables import load_table
from jaxnas.data.load import load
from jaxnas.proxies import get_proxies


def test_scores_are_those_of_the_ranking_and_timed_alone(tmp_path):
    """NASWOT and the gradient norm of 12 cells on digits."""
    table = make_table(tmp_path, NB201.all()[:40])
    flags = ["--target", "c10_test", "--proxies", "naswot,grad_norm", "--sample", "12"]
    flags += ["--seeds", "1", "--bootstrap", "10", "--timed", "12", "--channels", "4"]
    flags += ["--out", str(tmp_path / "out"), "--data", "digits", "--table", str(table)]
    assert main(["proxies", "--space", "nasbench201", *flags]) == 0
    scores = pd.read_csv(tmp_path / "out" / "scores.csv.gz")
    archs = np.stack([NB201.from_string(text) for text in scores["arch"]])
    train = load("digits").train
    for name in ("naswot", "grad_norm"):
        expected = ranking.score_archs(
            NB201,
            archs,
            train.x,
            train.y,
            proxies=get_proxies([name]),
            size=replace(NB201.proxy_size, channels=4, resolution=8),
            executor="per_architecture",
        )
        np.testing.assert_allclose(scores[f"{name}:float32:0"], expected[name], rtol=1e-3)
    results = pd.read_csv(tmp_path / "out" / "results.csv")
    assert (results["seconds_per_arch"] > 0).all()
    journal = (tmp_path / "out" / "journal.jsonl").read_text().splitlines()
    timed = [json.loads(line) for line in journal if '"cost"' in line]
    assert {entry["unit"] for entry in timed} == {"naswot", "grad_norm"}
    assert all(entry["timing"]["archs"] == 12 for entry in timed)


@pytest.fixture(scope="module")
def real_table(shared, tmp_path_factory):
    source = tmp_path_factory.mktemp("real") / "nasbench201.csv"
    pd.read_csv(shared / "nasbench201_accuracy.csv.gz").to_csv(source, index=False)
    return import_table(source)


def test_the_pages_import_command(shared, tmp_path):
    """docs/benchmark.md's mapping makes a table that knows its noise."""
    page = (Path(__file__).parents[2] / "docs" / "benchmark.md").read_text(encoding="utf-8")
    joined = page.replace("\\\n", " ")
    line = next(text for text in joined.splitlines() if "--map" in text and "ACCURACY" in text)
    names = {
        "ACCURACY.csv.gz": shared / "nasbench201_accuracy.csv.gz",
        "T.parquet": tmp_path / "T.parquet",
    }
    words = [str(names.get(word, word)) for word in shlex.split(line)]
    assert words[:3] == ["python", "-m", "jaxnas.benchmarks"]
    assert main(words[3:]) == 0
    table = load_table(tmp_path / "T.parquet")
    column = table.column("c10_test")
    assert (column.split, column.epochs) == ("test", 200)
    sigma, seeds = deviations(table, column, np.arange(15625))
    assert set(seeds.tolist()) == {1, 2, 3}
    assert 0.1 < np.median(sigma) < 0.5


def evaluated(shared, table, proxies, **options):
    images = shared / "cifar10_10k.npz"
    options = {"seeds": 1, "bootstrap": 0, "timed": 0} | options
    return evaluate("nasbench201", table, "c10_test", proxies, images, **options)


def test_the_whole_of_nasbench201(shared, real_table):
    """The size's .82, and what is best."""
    found = evaluated(shared, real_table, "params", also=["c10v_valid"]).set_index("target")
    assert found["n"].eq(15625).all()
    # Over all operations, also those that do not reach the output, it would be .752.
    assert found.loc["c10_test", "spearman"] == pytest.approx(0.8215, abs=1e-3)
    best = found["best_100"] + found["regret_100"]
    assert best["c10_test"] == pytest.approx(94.3733)
    assert best["c10v_valid"] == pytest.approx(91.6067)


def test_naswot_on_a_sample(shared, real_table):
    found = evaluated(shared, real_table, "naswot", sample=2000)
    assert found["spearman"].item() == pytest.approx(0.80, abs=0.03)


def test_the_published_subset(shared, real_table):
    found = evaluated(shared, real_table, "params", subset="reachable")
    assert found["n"].item() == 9445
    assert found["spearman"].item() == pytest.approx(0.798, abs=1e-3)  # the published column's own
