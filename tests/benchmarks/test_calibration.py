"""Calibration: a sample trained on the data itself, and every score compared with what it reached."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau
from searching import images

from jaxnas.benchmarks.__main__ import main
from jaxnas.benchmarks.calibration.run import LEAST, applicable, compare, scores
from jaxnas.search_spaces import get_space


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    x, y = images(300, 8, 8, 1)
    path = tmp_path_factory.mktemp("data") / "mine.npz"
    np.savez(path, x_train=x, y_train=y)
    return path


def calibrated(archive, out, *flags):
    given = ["--space", "nasbench201", "--data", str(archive), "--out", str(out)]
    small = ["--proxies", "params,macs,depth", "--channels", "2", "--epochs", "1", "--sample", "10"]
    return main(["calibrate", *given, *small, *flags])


def test_kendall_is_scipys_and_the_best_comes_first():
    rng = np.random.default_rng(0)
    scored = pd.DataFrame(rng.integers(0, 6, (20, 3)), columns=["a", "b", "c"]).astype(float)
    scored.index = pd.Index([f"arch {i}" for i in range(20)])
    reached = {f"arch {i}": float(v) for i, v in enumerate(scored["b"] + rng.normal(0, 1, 20))}
    table = compare(scored, {k: reached[k] for k in list(reached)[:15]} | {"unknown": 0.5}, 200)
    assert table["name"][0] == "b"
    assert (table["kendall"].diff().dropna() <= 0).all()
    labels = list(reached.values())[:15]
    for row in table.to_dict("records"):
        expected = kendalltau(scored[row["name"]][:15], labels).statistic
        assert row["kendall"] == pytest.approx(expected)
        assert row["low"] < row["kendall"] < row["high"]
        assert row["n"] == 15


def test_higher_is_better_in_every_column():
    space = get_space("nasbench201")
    archs = [space.to_string(arch) for arch in space.all()[-3:]]
    ranking = pd.DataFrame(
        {"arch": archs, "ntk": [3.0, -np.inf, 1.0], "linear_regions": [1.0, 2.0, 3.0]}
    )
    table = scores(space, ranking, ["ntk", "linear_regions"])
    by_arch = dict(zip(archs, table["ntk"], strict=True))
    assert [by_arch[arch] for arch in archs] == [-3.0, -np.inf, -1.0]
    assert table["te_nas"].to_numpy() == pytest.approx(np.array([1.5, 1.5, 3.0]) / 3)


def test_what_a_space_has_is_scored():
    assert "dss" in applicable(get_space("autoformer"))
    convolutional = applicable(get_space("nasbench201"))
    assert "dss" not in convolutional
    assert {"naswot", "synflow", "params"} <= set(convolutional)


def test_a_sample_is_trained_and_a_score_recommended(archive, tmp_path, capsys):
    assert calibrated(archive, tmp_path / "run") == 0
    said = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "run" / "calibration.csv")
    assert set(table["name"]) == {"params", "macs", "depth"}
    assert (table["n"] >= LEAST).all()
    assert f"Use {table['name'][0]} here" in said
    # Finished before: nothing is trained again.
    journal = (tmp_path / "run" / "journal.jsonl").read_text()
    assert calibrated(archive, tmp_path / "run") == 0
    assert (tmp_path / "run" / "journal.jsonl").read_text().count("epoch") == journal.count("epoch")
    assert pd.read_csv(tmp_path / "run" / "calibration.csv").equals(table)


def test_too_small_a_sample_is_refused(archive, tmp_path, capsys):
    assert calibrated(archive, tmp_path / "run", "--sample", "5") == 2
    assert "--sample is 5, expected at least 8 architectures." in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
