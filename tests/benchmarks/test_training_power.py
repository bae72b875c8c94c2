"""How well short trainings rank a table: draws, correlations, and what is not done twice."""

import json

import numpy as np
import pytest
from evaluation_fakes import NB201, accuracy, make_table
from scipy.stats import kendalltau
from searching import images

from jaxnas.benchmarks import training_power


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("power")
    x, y = images(200, 8, 8, 1)
    np.savez(folder / "mine.npz", x_train=x, y_train=y)
    table = make_table(folder, NB201.all())
    small = [
        "--archs",
        "5",
        "--channels",
        "2",
        "--resolution",
        "8",
        "--epochs",
        "2",
        "--batch-size",
        "32",
    ]
    return [
        *("--data", str(folder / "mine.npz"), "--table", str(table), "--target", "c10_test"),
        *("--proxies", "params", *small),
    ]


def test_draws_are_trained_and_compared_epoch_by_epoch(given, tmp_path, capsys, monkeypatch):
    out = tmp_path / "power.json"
    asked = []
    chosen = training_power._chosen

    def spy(*args):
        asked.append(chosen(*args))
        return asked[-1]

    monkeypatch.setattr(training_power, "_chosen", spy)
    assert training_power.main([*given, "--draws", "1", "--out", str(out)]) == 0
    draws = json.loads(out.read_text())["draws"]
    assert [(d["pool"], d["seed"]) for d in draws] == [("top", 0), ("random", 0)]
    for draw, drawn in zip(draws, asked, strict=True):
        archs = np.stack([NB201.from_string(a) for a in drawn["arch"]])
        expected = kendalltau(drawn["params"], accuracy(archs)).statistic
        assert draw["without_labels"]["params"] == pytest.approx(expected, nan_ok=True)
        assert [e["epoch"] for e in draw["curve"]] == [1, 2]
        assert 0 < draw["curve"][0]["seconds"] < draw["curve"][1]["seconds"]
        assert {"last_seen", "sotl", "sotl_e", "val_loss", "together"} <= draw["curve"][0].keys()
    assert asked[0]["rank"].max() <= 0.1 * 15_625 < asked[1]["rank"].max()
    said = capsys.readouterr().out
    assert "top, 1 draws: Kendall at the end" in said
    # One more draw: the first ones are taken from the file.
    assert training_power.main([*given, "--draws", "2", "--from", "top", "--out", str(out)]) == 0
    assert len(asked) == 3
    assert json.loads(out.read_text())["draws"][:2] == draws


def test_other_settings_do_not_mix(given, tmp_path, capsys):
    out = tmp_path / "power.json"
    out.write_text(json.dumps({"settings": {"epochs": 9}, "draws": []}))
    assert training_power.main([*given, "--out", str(out)]) == 2
    assert "holds draws with other settings" in capsys.readouterr().err
    assert training_power.main([*given, "--from", "best", "--out", str(tmp_path / "o")]) == 2
    assert "Unknown pool 'best'" in capsys.readouterr().err
