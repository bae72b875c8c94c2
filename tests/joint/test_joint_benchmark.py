"""Joint runs beside stages one after another: what they cost, and what is not done twice."""

import argparse
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.benchmarks import joint, joint_cost
from jaxnas.joint import Settings
from jaxnas.training.population import TrainingData


@pytest.fixture(scope="module")
def task(space, tiny):
    images = jnp.zeros((20, 8, 8, 3)), jnp.zeros(20, jnp.int32)
    return joint_cost.Task(argparse.Namespace(), space, tiny, None, TrainingData(*images, *images))


class TestCost:
    def test_paths_are_counted_as_drawn(self, task, space, tiny):
        every = tiny.count(space.all()).macs
        even = joint_cost.mean_macs(task, np.full((6, 5), 0.2), 0)
        spread = every.std() / np.sqrt(joint_cost.DRAWN)
        assert abs(even - every.mean()) < 4 * spread
        assert joint_cost.mean_macs(task, np.eye(5)[[3, 2, 1, 0, 3, 3]], 0) == pytest.approx(
            tiny.count(np.array([[3, 2, 1, 0, 3, 3]])).macs[0]
        )

    def test_as_many_epochs_as_are_paid_for(self, task):
        settings, macs = Settings(fixed_after=0.5, settled_after=0.75), 5000
        mean = joint_cost.mean_macs(task, np.zeros((6, 0)), 0)
        # Of 8 epochs 4 are drawn, 2 fixed and 2 settled; 20 images each.
        eight = 20 * (4 * 10 * mean + 2 * 10 * macs + 2 * 3 * macs)
        for budget, epochs in ((eight, 8), (eight - 1, 7), (0, 1)):
            staged = {"macs": macs, "multiply_adds": budget}
            assert joint_cost.affordable(task, settings, staged) == epochs


@pytest.fixture
def given(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = rng.integers(0, 120, (120, 8, 8, 3))
    np.savez(tmp_path / "mine.npz", x_train=x.astype(np.uint8), y_train=y)
    return ["--data", str(tmp_path / "mine.npz"), "--out", str(tmp_path / "joint.json")]


def fake(found, asked):
    def run(task, seed, staged):
        asked.append((found["arch"], seed, staged.get("arch")))
        if (found["arch"], seed) == ("b", 1) and len(asked) == 4:
            raise KeyboardInterrupt
        cost = {"multiply_adds": 1e9 * (seed + 1), "seconds": 2.0}
        return {**found, **cost, "test_accuracy": found["test_accuracy"] + seed / 100}

    return run


def test_what_is_finished_is_not_done_again(given, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(joint, "_staged", fake({"arch": "a", "test_accuracy": 0.5}, asked))
    monkeypatch.setattr(joint, "_joint", fake({"arch": "b", "test_accuracy": 0.6}, asked))
    with pytest.raises(KeyboardInterrupt):
        joint.main([*given, "--seeds", "0,1"])
    assert asked == [("a", 0, None), ("b", 0, "a"), ("a", 1, None), ("b", 1, "a")]
    assert joint.main([*given, "--seeds", "0,1"]) == 0
    assert asked[4:] == [("b", 1, "a")]
    runs = json.loads(Path(given[3]).read_text())["runs"]
    assert [(r["seed"], r["method"]) for r in runs] == [
        (0, "stages"),
        (0, "diffautoml"),
        (1, "stages"),
        (1, "diffautoml"),
    ]
    said = capsys.readouterr().out
    assert "stages     0.5050 (0.5000 to 0.5100), 2 seeds; 2 G, 2 s" in said
    assert "diffautoml 0.6050 (0.6000 to 0.6100), 2 seeds" in said
    assert joint.main([*given, "--channels", "8"]) == 2
    assert "holds runs with other settings" in capsys.readouterr().err
    assert joint.main([*given, "--seeds", "0;1"]) == 2
    assert "expected whole numbers" in capsys.readouterr().err


@pytest.mark.slow
def test_both_are_run(given, capsys):
    small = "--channels 4 --cells 1 --batch-size 24 --budget 2 --train-epochs 1 --tune-epochs 1"
    more = "--augment-epochs 1 --finish-epochs 2 --proxies params --sample 20 --seeds 0"
    assert joint.main([*given, *small.split(), *more.split()]) == 0
    staged, found = json.loads(Path(given[3]).read_text())["runs"]
    assert found["multiply_adds"] < 2 * staged["multiply_adds"]
    # 2 candidates, 8 members, 4 policies and the winner, of one size at most.
    largest = 8_000_000
    assert 0 < staged["multiply_adds"] < 3 * (2 + 8 + 4 + 2) * 77 * largest
    for run in (staged, found):
        assert 0 <= run["test_accuracy"] <= 1
