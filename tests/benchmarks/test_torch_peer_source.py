"""The PyTorch peer is run by another interpreter; what can be checked of it without PyTorch."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxnas.benchmarks.speed.torch_peer as peer

SOURCE = Path(str(peer.__file__))
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|none~2|"


def imports(node: ast.AST) -> set[str]:
    """Top-level names of the modules imported anywhere below `node`."""
    found = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            found |= {alias.name.split(".")[0] for alias in child.names}
        if isinstance(child, ast.ImportFrom):
            found.add("." if child.level else (child.module or "").split(".")[0])
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


def test_imports_only_torch_numpy_and_the_standard_library():
    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 11))
    assert imports(tree) - set(sys.stdlib_module_names) == {"torch", "numpy"}


def test_torch_is_imported_inside_functions_only():
    tree = ast.parse(SOURCE.read_text())
    top = [node for node in tree.body if not isinstance(node, ast.FunctionDef)]
    assert "torch" not in set().union(*(imports(node) for node in top))


def test_help_needs_no_torch(without_torch):
    done = without_torch("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for flag in ("--images", "--archs", "--serve", "--cells", "--weights", "--no-channels-last"):
        assert flag in done.stdout


def test_missing_torch_is_one_line(without_torch):
    done = without_torch("--images", "absent.npz", "--serve")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "PyTorch" in done.stderr


def test_archs_or_serve_but_not_both(without_torch):
    assert without_torch("--images", "a.npz").returncode == 2
    assert "--archs or --serve" in without_torch("--images", "a", "--archs", "b", "--serve").stderr


def test_architectures_are_read_in_the_order_of_the_string():
    ops = ("nor_conv_3x3", "nor_conv_3x3", "nor_conv_3x3", "skip_connect", "nor_conv_3x3", "none")
    assert peer.parse_arch(BEST) == ops


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "of the form"),
        (BEST + "|", "of the form"),
        (BEST.replace("none~2", "none~1"), "of the form"),
        (BEST.replace("|+|", "+", 1), "of the form"),
        (BEST.replace("none", "max_pool_3x3"), "'max_pool_3x3'; known: none"),
    ],
)
def test_malformed_architectures_are_refused(text: str, said: str):
    with pytest.raises(peer.BadInputError, match=said):
        peer.parse_arch(text)


@pytest.mark.parametrize(
    ("ops", "live"),
    [
        ("ccc" + "ccc", "111111"),  # everything used
        ("ccc" + "ccn", "100110"),  # node 2 leads nowhere
        ("ncc" + "ccc", "010101"),  # node 1 gets nothing
        ("ccc" + "nnn", "000000"),  # nothing reaches the output
        ("csn" + "nnp", "010001"),  # skips and pools conduct
    ],
)
def test_live_edges(ops: str, live: str):
    names = {"n": "none", "s": "skip_connect", "c": "nor_conv_3x3", "p": "avg_pool_3x3"}
    assert peer.live_edges(tuple(names[o] for o in ops)) == [bit == "1" for bit in live]


def test_both_image_layouts_are_read_the_same(tmp_path: Path):
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    np.savez(tmp_path / "nhwc.npz", x=x)
    np.savez(tmp_path / "nchw.npz", x=x.transpose(0, 3, 1, 2))
    nhwc, nchw = (peer.read_images(str(tmp_path / f"{n}.npz"), 3) for n in ("nhwc", "nchw"))
    assert nhwc.shape == (4, 3, 8, 8)
    np.testing.assert_array_equal(nhwc, nchw)
    np.testing.assert_array_equal(nhwc[2, 1], x[2, :, :, 1])


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.zeros((4, 8, 8, 3), np.uint8), "float32"),
        (np.zeros((4, 8, 8), np.float32), "4 dimensions"),
        (np.zeros((1, 8, 8, 3), np.float32), "two or more"),
        (np.full((4, 8, 8, 3), np.nan, np.float32), "finite"),
        (np.zeros((4, 3, 8, 3), np.float32), "Neither NHWC nor NCHW"),
        (np.zeros((4, 8, 8, 7), np.float32), "Neither NHWC nor NCHW"),
        (np.zeros((4, 10, 10, 3), np.float32), "cannot be halved 2 times"),
        (np.array([{}], dtype=object), "Cannot read"),
    ],
)
def test_bad_images_are_refused(tmp_path: Path, x: np.ndarray, said: str):
    np.savez(tmp_path / "x.npz", x=x)
    with pytest.raises(peer.BadInputError, match=said):
        peer.read_images(str(tmp_path / "x.npz"), 3)


@pytest.mark.parametrize("content", [None, b"", b"no zip archive"])
def test_unreadable_files_are_refused(tmp_path: Path, content: bytes | None):
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(peer.BadInputError, match="Cannot read"):
        peer.read_npz(str(path))


def test_serve_answers_every_line(monkeypatch, capsys):
    lines = ['{"arch": 5}', "{", "[]", '{"arc": "x"}', '{"arch": "|none~0|"}']
    monkeypatch.setattr(peer, "load_torch", lambda: None)
    monkeypatch.setattr(sys, "stdin", iter(lines))
    protocol = peer.Protocol(None, (1,), 16, 10, False, True, False, "all", 0, None)
    peer.serve(protocol)
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == len(lines)
    assert all(set(answer) == {"error"} for answer in answers)
    assert "of the form" in answers[-1]["error"]
