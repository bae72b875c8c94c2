"""The command `predictors` on a made-up table: numbers, files, going on, and bad input."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from jaxnas.benchmarks.__main__ import main
from jaxnas.benchmarks.predictors.cells import RANKING, Drawn
from jaxnas.predictors.linear import Ridge
from jaxnas.search_spaces.nasbench201 import NASBench201

NB201 = NASBench201()
ARCHS = NB201.all()[:300]


def accuracy(archs: np.ndarray) -> np.ndarray:
    """Grows with the convolutions that reach the output, and a little with the place of each."""
    pruned = NB201.pruned(archs)
    gain = 3.0 * (pruned == 3).sum(1) + 1.5 * (pruned == 2).sum(1)
    return 60 + gain + (archs @ np.array([7, 13, 29, 5, 11, 3])) % 17 / 10


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A table, and a ranking of its architectures by what is nearly the accuracy."""
    folder = tmp_path_factory.mktemp("predictors")
    texts = [NB201.to_string(arch) for arch in ARCHS]
    source, table = folder / "t.csv", folder / "t.parquet"
    pd.DataFrame({"arch": texts, "acc": accuracy(ARCHS)}).to_csv(source, index=False)
    flags = ["--format", "csv", "--space", "nasbench201", "-o", str(table)]
    assert main(["tables", "import", str(source), *flags]) == 0
    naswot = accuracy(ARCHS) + 3 * np.random.default_rng(0).standard_normal(300)
    ranking = folder / "ranking.parquet"
    pd.DataFrame({"arch": texts, "naswot": naswot, "score": naswot}).to_parquet(ranking)
    return table, ranking


def run(files, out, *flags):
    table, ranking = files
    base = ["predictors", "--space", "nasbench201", "--table", str(table), "--target", "acc"]
    base += ["--ranking", str(ranking), "--out", str(out), "--labels", "10,30", "--seeds", "2"]
    return main([*base, "--predictors", "ridge", *flags])


def test_numbers_are_those_of_a_fit_by_hand(files, tmp_path, capsys):
    assert run(files, tmp_path / "o") == 0
    printed = capsys.readouterr().out
    results = pd.read_csv(tmp_path / "o" / "results.csv").set_index(["predictor", "labels"])
    cells = pd.read_csv(tmp_path / "o" / "cells.csv").set_index(["predictor", "labels", "seed"])
    kept = NB201.connected(ARCHS)
    fitness = accuracy(ARCHS)[kept]
    prior = pd.read_parquet(files[1])["score"].to_numpy()[kept]
    for seed in range(2):
        drawn = Drawn.of(len(fitness), 30, seed)
        assert len(drawn.rows) == 30
        assert not set(drawn.rows) & set(drawn.rest)
        tau = kendalltau(prior[drawn.rest], fitness[drawn.rest])[0]
        assert cells.loc[(RANKING, 30, seed), "kendall"] == pytest.approx(tau)
    both = cells.loc["ridge"].loc[30]["kendall"]
    assert results.loc[("ridge", 30), "kendall"] == pytest.approx(both.mean())
    assert results.loc[("ridge", 30), "kendall_std"] == pytest.approx(both.std())
    assert f"{both.mean():.3f} ± {both.std():.3f}" in printed
    assert f"{len(fitness)} connected" in printed
    kept_json = json.loads((tmp_path / "o" / "results.json").read_text())
    assert kept_json["results"][0]["within_68"] is None
    for name in ("kendall.svg", "coverage.svg"):
        assert "ridge" in (tmp_path / "o" / name).read_text()


def test_what_was_fitted_is_not_fitted_again(files, tmp_path, monkeypatch):
    assert run(files, tmp_path / "o") == 0
    before = pd.read_csv(tmp_path / "o" / "cells.csv")

    def never(*_, **__):
        raise AssertionError("fitted again")

    monkeypatch.setattr(Ridge, "fit", never)
    assert run(files, tmp_path / "o") == 0
    pd.testing.assert_frame_equal(before, pd.read_csv(tmp_path / "o" / "cells.csv"))
    with pytest.raises(AssertionError, match="fitted again"):
        run(files, tmp_path / "o", "--labels", "11")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--predictors", "ridgee"], "did you mean ridge"),
        (["--labels", "10,5000"], "5,000 labels were asked for, and the pool has"),
        (["--labels", "0"], "from 1 on"),
        (["--labels", "ten"], "--labels is 'ten'"),
        (["--seeds", "0"], "number of seeds is 0"),
        (["--target", "ac"], "acc"),
        (["--predictors", "curve"], "needs learning curves"),
        (["--ranking", "nowhere.parquet"], "There is no ranking nowhere.parquet"),
    ],
)
def test_bad_input_is_one_sentence(files, tmp_path, capsys, flags, said):
    assert run(files, tmp_path / "o", *flags) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("error:") == 1
