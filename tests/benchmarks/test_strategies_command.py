"""`python -m jaxnas.benchmarks strategies` on a small synthetic table."""

import json

import numpy as np
import pandas as pd
import pytest
from evaluation_fakes import NB201, accuracy, import_table, write_csv

from jaxnas.benchmarks.__main__ import main

ARCHS = NB201.all()[np.sort(np.random.default_rng(0).choice(15_625, 300, replace=False))]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strategies")
    good = accuracy(ARCHS)
    noise = np.random.default_rng(1).normal(0, 1, (2, 300))
    columns = {
        "c10v_valid": np.where(np.arange(300) % 50 == 7, np.nan, good),
        "c10_test": good + 0.2 * noise[0],
        "c10v_valid_ep12": good - 5 + noise[1],
        "hours_seconds": 100.0 + np.arange(300),
    }
    return import_table(write_csv(folder / "small.csv", ARCHS, **columns))


@pytest.fixture(scope="module")
def ranking(table):
    path = table.parent / "ranking.parquet"
    scores = accuracy(ARCHS) + np.random.default_rng(2).normal(0, 3, 300)
    order = np.argsort(-scores)
    frame = pd.DataFrame(
        {
            "index": order,
            "arch": [NB201.to_string(a) for a in ARCHS[order]],
            "naswot": scores[order],
            "score": scores[order],
        }
    )
    frame.to_parquet(path, index=False)
    return path


def command(table, out, *flags, strategies="random,regularized_evolution:population=5", **named):
    given = {
        "space": "nasbench201",
        "table": table,
        "target": "c10v_valid",
        "report": "c10_test",
        "strategies": strategies,
        "budget": 30,
        "runs": 12,
        "out": out,
    }
    given.update(named)
    pairs = [f"--{k.replace('_', '-')}={v}" for k, v in given.items()]
    return main(["strategies", *pairs, *flags])


def test_it_writes_curves_ranks_and_a_page(table, ranking, tmp_path, capsys):
    out = tmp_path / "out"
    names = "random,regularized_evolution:population=5,warm_evolution:population=5,hyperband"
    code = command(
        table, out, strategies=names, epochs=200, fidelity="12=c10v_valid_ep12",
        ranking=ranking, ranking_seconds=500,
    )  # fmt: skip
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "12 searches of 30 full trainings" in said.out
    assert "93.70 ± 0.36" in said.out
    assert "lacks 6 values: those trainings are told as failed" in " ".join(said.err.split())
    results = pd.read_csv(out / "results.csv").set_index("strategy")
    runs = pd.read_csv(out / "runs.csv")
    queries = pd.read_csv(out / "queries.csv")
    seconds = pd.read_csv(out / "seconds.csv")
    for name in names.split(","):
        mine = runs[runs["strategy"] == name]
        assert len(mine) == 12
        assert results.loc[name, "c10_test_mean"] == pytest.approx(mine["c10_test"].mean())
        assert results.loc[name, "c10v_valid_std"] == pytest.approx(mine["c10v_valid"].std(ddof=0))
        curve = queries[queries["strategy"] == name]["c10v_valid_mean"].to_numpy()
        assert len(curve) == 30
        if name != "hyperband":
            assert (np.diff(curve) >= -1e-9).all()
    warm = seconds[seconds["strategy"].str.startswith("warm")].dropna()
    assert warm["seconds"].min() > 600  # 500 for the ranking, 100 for the fastest training
    # Pairs are runs of one number: the mean rank is theirs.
    wide = runs.pivot(index="run", columns="strategy", values="c10_test")
    ranks = pd.read_csv(out / "ranks.csv").set_index("strategy")["rank"]
    pd.testing.assert_series_equal(
        wide.rank(axis=1, ascending=False).mean().sort_index(), ranks.sort_index(),
        check_names=False,
    )  # fmt: skip
    about = json.loads((out / "manifest.json").read_text())
    assert about["seconds"] == "seconds of a full training are the column hours_seconds"
    assert about["fidelities"] == {"c10v_valid_ep12": 12, "c10v_valid": 200}
    page = (out / "report.html").read_text()
    assert page.count("<svg") >= 4
    assert "<script" not in page
    assert (out / "regret-seconds-c10_test.svg").read_text().startswith("<svg")


def test_a_random_search_is_as_good_as_it_must_be(table, tmp_path):
    """The expected best of n drawn without replacement, of equal functions the first."""
    out = tmp_path / "out"
    assert command(table, out, strategies="random", budget=20, runs=600) == 0
    found = pd.read_csv(out / "queries.csv")["c10v_valid_mean"].to_numpy()
    values = np.where(np.arange(300) % 50 == 7, -np.inf, accuracy(ARCHS))
    classes = np.unique(NB201.canonical(ARCHS), axis=0, return_inverse=True)[1].reshape(-1)
    rng = np.random.default_rng(0)

    def draw():
        order = rng.permutation(300)
        _, first = np.unique(classes[order], return_index=True)
        return values[order[np.sort(first)[:20]]]

    drawn = np.stack([draw() for _ in range(4000)])
    best = np.maximum.accumulate(drawn, axis=1)[:, [4, 9, 19]].mean(0)
    np.testing.assert_allclose(found[[4, 9, 19]], best, atol=0.4)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"budget": 0}, "--budget is 0"),
        ({"runs": 0}, "--runs is 0"),
        ({"strategies": "regularised_evolution"}, "did you mean regularized_evolution"),
        ({"strategies": "random,random"}, "named twice"),
        ({"strategies": ","}, "No strategy was given"),
        ({"target": "c10v_vald"}, "did you mean c10v_valid"),
        ({"report": "c11_test"}, "did you mean"),
        ({"strategies": "hyperband"}, "name some by --fidelity EPOCHS=COLUMN"),
        ({"fidelity": "12=c10v_valid_ep12"}, "say so by --epochs"),
        ({"fidelity": "12=c10v_valid_ep13", "epochs": 200}, "did you mean c10v_valid_ep12"),
        ({"fidelity": "9=c10v_valid_ep12", "epochs": 200}, "is of 12 epochs, not 9"),
        ({"fidelity": "twelve", "epochs": 200}, "expected EPOCHS=COLUMN"),
        ({"fidelity": "12=c10v_valid_ep12", "epochs": 12}, "fewer than the 12"),
        ({"strategies": "proxy"}, "give images to rank on by --data"),
        ({"strategies": "proxy", "ranking": "nowhere.parquet"}, "no ranking nowhere.parquet"),
        ({"seconds": "hours_second"}, "did you mean hours_seconds"),
        ({"seconds_per_query": -3}, "expected a positive number"),
        ({"seconds": "hours_seconds", "seconds_per_query": 3}, "say the same"),
        ({"max_params": 10}, "the nearest costs"),
        ({"space": "nasbench_macro"}, "a table of nasbench201"),
    ],
)
def test_bad_input_is_one_sentence(named, said, table, tmp_path, capsys):
    assert command(table, tmp_path / "out", **named) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert said in lines[-1]
    assert lines[-1].startswith("error: ")
