"""Cells found by gradient, looked up: what is run, what is compared, and what is not done twice."""

import json

import numpy as np
import pytest
from evaluation_fakes import NB201, accuracy, make_table
from helpers import compilations
from searching import images

from jaxnas.benchmarks import differentiable

SMALL = ("--channels", "2", "--cells", "1", "--resolution", "8", "--epochs", "2")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("differentiable")
    x, y = images(80, 8, 8, 1)
    np.savez(folder / "mine.npz", x_train=x, y_train=y)
    table = make_table(folder, NB201.all())
    files = ("--data", str(folder / "mine.npz"), "--table", str(table), "--target", "c10_test")
    return [*files, *SMALL, "--strategies", "gdas", "--batch-size", "16"]


def test_each_seed_is_searched_looked_up_and_kept(given, tmp_path, capsys, monkeypatch):
    out = tmp_path / "found.json"
    assert differentiable.main([*given, "--seeds", "1", "--out", str(out)]) == 0
    with compilations() as compiled:
        assert differentiable.main([*given, "--seeds", "2", "--out", str(out)]) == 0
    assert not [name for name in compiled if "search_epoch" in name]
    report = json.loads(out.read_text())
    assert [(run["strategy"], run["seed"]) for run in report["runs"]] == [("gdas", 0), ("gdas", 1)]
    for run in report["runs"]:
        arch = NB201.from_string(run["arch"])
        assert run["target"] == accuracy(arch[None])[0]
        reached = NB201.pruned(arch[None])[0]
        connections = reached[reached > 0]
        skips = (connections == 1).mean() if len(connections) else 0
        assert run["share_of_skips"] == pytest.approx(skips)
        assert len(run["epochs"]) == 2
        assert run["epochs"][-1]["target"] == pytest.approx(run["target"], abs=1e-3)
    said = capsys.readouterr().out
    values = [run["target"] for run in report["runs"]]
    assert f"{np.mean(values):6.2f} ({min(values):.2f} to {max(values):.2f})" in said
    assert "93.51 (arXiv:2001.00326)" in said

    def again(*args, **settings):
        raise AssertionError("was done before")

    monkeypatch.setattr(differentiable, "search", again)
    assert differentiable.main([*given, "--seeds", "2", "--out", str(out)]) == 0
    assert json.loads(out.read_text()) == report


def test_what_needs_no_search_is_compared_with(given, tmp_path, capsys):
    out = tmp_path / "none.json"
    assert differentiable.main([*given, "--seeds", "0", "--out", str(out)]) == 0
    every = NB201.all()
    values = accuracy(every)
    mean = values[NB201.connected(every)].mean()
    convolutions = accuracy(np.full((1, 6), 3))[0]
    said = capsys.readouterr().out
    random = float(said.split("random connected cell ")[1].split()[0])
    assert random == pytest.approx(mean, abs=0.3)
    assert f"most parameters {convolutions:.2f}, the best {values.max():.2f}" in said


def test_what_does_not_fit_is_said(given, tmp_path, capsys):
    out = tmp_path / "other.json"
    out.write_text(json.dumps({"settings": {"epochs": 9}, "runs": []}))
    assert differentiable.main([*given, "--out", str(out)]) == 2
    assert "holds runs with other settings" in capsys.readouterr().err
    assert differentiable.main([*given, "--strategies", "gads", "--out", str(out)]) == 2
    assert "did you mean gdas" in capsys.readouterr().err
