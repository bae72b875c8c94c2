"""How well inherited weights rank a table: what is trained, evaluated and reported."""

import json

import numpy as np
from evaluation_fakes import NB201, accuracy, make_table
from scipy.stats import kendalltau
from searching import images

from jaxnas.benchmarks import supernet


def test_one_super_net_ranks_a_sample(tmp_path, capsys):
    x, y = images(120, 8, 8, 1)
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y)
    table, out = make_table(tmp_path, NB201.all()), tmp_path / "supernet.json"
    flags = [
        *("--data", str(tmp_path / "mine.npz"), "--table", str(table), "--target", "c10_test"),
        *("--channels", "2", "--cells", "1", "--resolution", "8", "--batch-size", "16"),
        *("--trainers", "spos", "--minutes", "0", "--sample", "8", "--calibration", "32"),
    ]
    assert supernet.main([*flags, "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    (result,) = report["results"]
    assert (result["trainer"], result["cells"], result["epochs"]) == ("spos", 8, 1)
    best = NB201.from_string(result["best"]["arch"])
    assert result["best"]["target"] == accuracy(best[None])[0]
    assert all(low <= tau <= high for tau, low, high in result["ranking"]["params"].values())
    assert "spos: 1 epochs" in capsys.readouterr().out
    assert report["command"].startswith("python -m jaxnas.benchmarks.supernet --data")
    assert supernet.main([*flags, "--trainers", "sops"]) == 2
    assert "did you mean spos" in capsys.readouterr().err


def test_correlations_are_kendalls_of_the_sample():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 40))
    found = supernet._correlations(a, a + b)["kendall"]
    assert abs(found[0] - kendalltau(a, a + b).statistic) < 1e-4
    assert found[1] < found[0] < found[2]
