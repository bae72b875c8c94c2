"""The PyTorch peer of the proxies is run by another interpreter; what can be checked without PyTorch."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxnas.benchmarks.speed.torch_forward_formulas as forward
import jaxnas.benchmarks.speed.torch_gradient_formulas as gradient
import jaxnas.benchmarks.speed.torch_proxies_peer as peer
from jaxnas.benchmarks.speed.peer_exchange import peer_weights
from jaxnas.benchmarks.speed.proxies_vs_torch import relative_difference
from jaxnas.search_spaces import get_space
from jaxnas.spaces import Size

SOURCE = Path(str(peer.__file__))
FILES = [Path(str(module.__file__)) for module in (peer, forward, gradient)]
SIBLINGS = {"torch_peer", "torch_forward_formulas", "torch_gradient_formulas"}
ARCH = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|none~2|"


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


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_imports_only_numpy_siblings_and_the_standard_library(file: Path):
    tree = ast.parse(file.read_text(), feature_version=(3, 11))
    assert imports(tree) - set(sys.stdlib_module_names) - SIBLINGS == {"numpy"}


def test_help_needs_no_torch(without_torch):
    done = without_torch("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for flag in ("--images", "--proxies", "--arch", "--serve", "--weights", "--no-reachable"):
        assert flag in done.stdout


def test_missing_torch_is_one_line(without_torch):
    done = without_torch("--images", "absent.npz", "--serve")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "PyTorch" in done.stderr


@pytest.mark.parametrize(
    "options",
    [[], ["--arch", ARCH], ["--proxies", "snip"], ["--serve", "--arch", ARCH, "--proxies", "snip"]],
)
def test_serve_or_arch_and_proxies(without_torch, options: list[str]):
    done = without_torch("--images", "a.npz", *options)
    assert done.returncode == 2
    assert "--arch and --proxies" in done.stderr


def test_the_proxies_of_the_two_files_differ():
    assert not set(forward.FORMULAS) & set(gradient.FORMULAS)
    assert set(peer.FORMULAS) > gradient.NEEDS_LABELS
    assert {"synflow", "grad_norm", "snip", "jacov", "fisher", "grasp"} < set(peer.FORMULAS)
    assert all(formula.__doc__ for formula in peer.FORMULAS.values())


def test_unknown_proxies_and_missing_labels_are_refused():
    with pytest.raises(peer.base.BadInputError, match=r"Unknown proxy 'snipe'; known: .*snip,"):
        peer.check_proxy("snipe", labels=True)
    with pytest.raises(peer.base.BadInputError, match="snip needs labels"):
        peer.check_proxy("snip", labels=False)
    peer.check_proxy("synflow", labels=False)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (np.zeros(3, np.int64), "4 integers, got int64 of shape"),
        (np.zeros(4, np.float32), "4 integers, got float32"),
        (np.array([0, 1, 2, 3]), r"0 to 2, got 0\.\.3"),
        (np.array([0, -1, 2, 2]), r"0 to 2, got -1\.\.2"),
    ],
)
def test_bad_labels_are_refused(y: np.ndarray, said: str):
    with pytest.raises(peer.base.BadInputError, match=said):
        peer.read_labels({"y": y}, 4, 3)


def test_labels_are_read_and_may_be_absent():
    y = peer.read_labels({"y": np.array([2, 0, 1, 1], np.uint8)}, 4, 3)
    assert y is not None
    assert y.dtype == np.int64
    np.testing.assert_array_equal(y, [2, 0, 1, 1])
    assert peer.read_labels({"x": np.zeros(4)}, 4, 3) is None


def test_serve_answers_every_line(monkeypatch, capsys):
    class Refusing:
        def score(self, arch: str, proxy: str) -> dict:
            peer.check_proxy(proxy, labels=False)
            return {"score": len(peer.base.parse_arch(arch))}

    lines = [
        "{",
        "[]",
        json.dumps({"arch": ARCH}),
        json.dumps({"arch": ARCH, "proxy": "snip"}),
        json.dumps({"arch": "|none~0|", "proxy": "naswot"}),
        json.dumps({"arch": ARCH, "proxy": "naswot"}),
    ]
    monkeypatch.setattr(sys, "stdin", iter(lines))
    peer.serve(Refusing())  # pyright: ignore[reportArgumentType]
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [set(answer) for answer in answers] == [{"error"}] * 5 + [{"score"}]
    assert "needs labels" in answers[3]["error"]
    assert "of the form" in answers[4]["error"]
    assert answers[5] == {"score": 6}


def test_weights_are_exchanged_under_the_peers_names():
    space, size = get_space("nasbench201"), Size(channels=4, cells=(1, 2), resolution=8)
    variables = space.network(size, classes=3).init(jax.random.key(0))
    found = peer_weights(variables, size)
    edges = {
        f"stages.{s}.{n}.edges.{e}.{op}.conv"
        for s, n in ((0, 0), (1, 0), (1, 1))
        for e in range(6)
        for op in ("nor_conv_1x1", "nor_conv_3x3")
    }
    parts = {f"reductions.0.{part}" for part in ("conv_a", "conv_b", "shortcut")}
    assert set(found) == edges | parts | {"stem.conv", "classifier.kernel", "classifier.bias"}
    assert found["reductions.0.conv_a"].shape == (3, 3, 4, 8)
    assert found["reductions.0.shortcut"].shape == (1, 1, 4, 8)
    # Blocks: cell, reduction, cell, cell.
    ours = variables.params["blocks"][3]["edges"][2]["branches"][3]["modules"][1]["kernel"]
    np.testing.assert_array_equal(
        found["stages.1.1.edges.2.nor_conv_3x3.conv"], np.asarray(jax.tree.leaves(ours)[0])
    )


def test_relative_difference():
    inf, nan = np.inf, np.nan
    ours, theirs = np.array([2.0, -inf, nan, 0.0, -inf]), np.array([1.0, -inf, nan, 0.0, 3.0])
    found = relative_difference(ours, theirs)
    np.testing.assert_array_equal(found[:4], [0.5, 0, 0, 0])
    assert np.isnan(found[4])
