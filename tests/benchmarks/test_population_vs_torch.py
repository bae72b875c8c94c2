"""Training against PyTorch: the peer's script as far as it goes without PyTorch, and our side of it."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxnas.benchmarks.speed.torch_training_peer as peer
from jaxnas.benchmarks.speed.population_sides import Ours
from jaxnas.benchmarks.speed.population_vs_torch import _args, compiled, timed
from jaxnas.training.hyper import Hyper, schedule
from jaxnas.training.population import TrainingData, init_population, train_population

SOURCE = Path(str(peer.__file__))
CHAIN = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|"
DIRECT = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
MIXED = "|nor_conv_1x1~0|+|avg_pool_3x3~0|none~1|+|none~0|nor_conv_1x1~1|skip_connect~2|"
TINY = ["--images", "100", "--channels", "2", "--batch", "32", "--runs", "2"]


def imports(node: ast.AST) -> set[str]:
    """Top-level names of the modules imported anywhere below `node`; siblings by their own."""
    found = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            found |= {alias.name.split(".")[0] for alias in child.names}
        elif isinstance(child, ast.ImportFrom) and child.level:
            found |= {child.module} if child.module else {alias.name for alias in child.names}
        elif isinstance(child, ast.ImportFrom):
            found.add((child.module or "").split(".")[0])
    return found


@pytest.fixture
def without_torch(tmp_path: Path):
    """Runs the script by path where importing torch fails, whether it is installed or not."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('hidden by the test')\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SOURCE), *args]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    return run


class TestPeer:
    def test_imports_only_numpy_its_sibling_and_the_standard_library(self):
        tree = ast.parse(SOURCE.read_text(), feature_version=(3, 11))
        assert imports(tree) - set(sys.stdlib_module_names) == {"numpy", "torch_peer"}

    def test_help_needs_no_torch(self, without_torch):
        done = without_torch("--help")
        assert (done.returncode, done.stderr) == (0, "")
        for flag in ("--data", "--archs", "--weights", "--batch", "--momentum", "--threads"):
            assert flag in done.stdout

    def test_missing_torch_is_one_line(self, without_torch):
        done = without_torch("--data", "absent.npz", "--archs", "absent")
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
        assert "PyTorch" in done.stderr

    def test_the_learning_rates_are_ours(self):
        hyper = Hyper.constant(1, learning_rate=0.3, warmup=0.0).rows(0)
        theirs = [rate for epoch in range(3) for rate in peer.cosine(0.3, epoch, 4, 3)]
        ours = [float(schedule(hyper, np.float32((t + 0.5) / 12))) for t in range(12)]
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-7)

    @pytest.mark.parametrize(
        "orders",
        [
            None,
            np.arange(4).reshape(1, 1, 4),
            np.tile(np.arange(5), (2, 1, 1)),
            np.zeros((2, 1, 4), int),
        ],
    )
    def test_bad_orders_are_refused(self, orders: np.ndarray | None):
        arrays = {} if orders is None else {"orders": orders}
        with pytest.raises(peer.base.BadInputError, match="orders"):
            peer.read_orders(arrays, 2, 4)

    def test_weights_are_told_apart_by_candidate(self):
        weights = {name: np.array(i) for i, name in enumerate(["1/a", "11/a", "2/1/a", "1/b"])}
        assert peer.own_weights(weights, 1) == {"a": np.array(0), "b": np.array(3)}

    def test_serve_answers_every_line(self, monkeypatch, capsys):
        class Trainer:
            def epoch(self, number: int) -> dict:
                if number > 1:
                    raise peer.base.BadInputError("There are epochs 0 to 1.")
                return {"steps": number}

        lines = ["{", "[]", "{}", json.dumps({"epoch": 2}), json.dumps({"epoch": 1})]
        monkeypatch.setattr(sys, "stdin", iter(lines))
        peer.serve(Trainer())
        answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [set(answer) for answer in answers] == [{"error"}] * 4 + [{"steps"}]


def tiny(*archs: str, **changed: str) -> Ours:
    options = [part for name, value in changed.items() for part in (f"--{name}", value)]
    return Ours(_args([*TINY, "--archs", ",".join(archs), *options]))


class TestOurs:
    def test_epochs_and_steps_are_counted(self, capsys):
        counted = timed(_args([*TINY, "--archs", f"{CHAIN},{MIXED}"]))
        # Two epochs that count, two candidates, 100 // 32 steps each.
        assert [epoch.steps for epoch in counted["jaxnas"]] == [6, 6]
        assert all(epoch.losses.shape == (2,) for epoch in counted["jaxnas"])
        assert "candidate-steps/s median" in capsys.readouterr().out

    def test_as_many_steps_are_made_as_are_counted(self):
        # With equal images and no learning every step sees the same batch, and a running mean,
        # which starts at 0, is m (1 - .9^k) after k steps.
        after = {}
        for images in ("32", "100"):
            ours = tiny(CHAIN, images=images, **{"learning-rate": "0"})
            ours.x = ours.x.at[:].set(ours.x[0])
            assert ours.epoch(0).steps == int(images) // 32
            assert ours.population is not None
            leaves = jax.tree.leaves_with_path(ours.population.variables.statistics)
            stem = [v for k, v in leaves if "stem" in str(k) and "mean" in str(k)]
            after[images] = np.asarray(stem[0])
        np.testing.assert_allclose(after["100"], after["32"] * (1 - 0.9**3) / 0.1, rtol=1e-4)

    def test_the_same_as_a_population_trained_by_the_library(self):
        ours = tiny(CHAIN, MIXED)
        losses = [ours.epoch(number).losses for number in range(3)]
        heard = []
        train_population(
            ours.network,
            ours.archs,
            ours.hyper,
            TrainingData(ours.x, ours.y, ours.x[:8], ours.y[:8]),
            epochs=3,
            batch_size=32,
            population=init_population(ours.network, ours.seeds, ours.archs),
            on_epoch=lambda epoch, population, metrics: heard.append(metrics.train_loss),
        )
        np.testing.assert_allclose(losses, heard, rtol=1e-4)

    def test_compiling_trains_nobody(self):
        ours = tiny(DIRECT)
        before = jax.tree.map(np.array, ours.start())
        assert ours.epoch(0, train=False).steps == 0
        jax.tree.map(np.testing.assert_array_equal, before, ours.population)
        seconds = compiled(_args([*TINY, "--archs", DIRECT]))
        assert set(seconds) == {"init", "epoch", "evaluation"}

    def test_orders_are_permutations_of_each_candidates_own(self):
        orders = tiny(CHAIN, MIXED).orders()
        assert orders.shape == (2, 3, 100)
        np.testing.assert_array_equal(np.sort(orders), np.broadcast_to(np.arange(100), (2, 3, 100)))
        assert len(np.unique(orders.reshape(6, 100), axis=0)) == 6

    def test_the_peer_is_given_each_candidates_weights(self):
        weights = tiny(CHAIN, MIXED).weights()
        assert {name.split("/")[0] for name in weights} == {"0", "1"}
        assert weights["0/stem.conv"].shape == (3, 3, 1, 2)
        assert not np.array_equal(weights["0/stem.conv"], weights["1/stem.conv"])

    def test_architectures_without_a_path_are_refused(self):
        with pytest.raises(SystemExit, match="no path"):
            tiny(CHAIN.replace("nor_conv_3x3~1", "none~1"))

    def test_settings_follow_the_data(self):
        digits, images = _args([]), _args(["--data", "x.npz", "--channels", "4"])
        shown = ("candidates", "resolution", "channels", "batch")
        assert [getattr(digits, name) for name in shown] == [16, 8, 8, 64]
        assert [getattr(images, name) for name in shown] == [8, 32, 4, 64]
