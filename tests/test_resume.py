"""Killed at any moment and resumed, a search finds what it would have found undisturbed."""

import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from searching import (
    FLAGS,
    TINY,
    Killed,
    fewer,
    finished_run,
    images,
    journal_of,
    kill_at,
    result_of,
    snapshot,
)

from jaxnas.errors import InputError
from jaxnas.runs import Run
from jaxnas.scoring import per_architecture, shared_prefix
from jaxnas.search import main, search

ROWS = 300


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run of the first rows of the space, ranked in several units of work."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        search(out=folder, quiet=True, **TINY)
    return folder


def small(patch):
    fewer(patch, ROWS)
    patch.setattr(shared_prefix, "GROUP_BYTES", 1e6)


def die(out, method, what, nth=1, *, after=False, resume=False, **options):
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, method, what, nth, after=after)
        with pytest.raises(Killed):
            search(out=out, resume=resume, quiet=True, **TINY | options)


def assert_same(folder, undisturbed):
    assert result_of(folder) == result_of(undisturbed)
    for name in ("ranking.parquet", "config.yaml"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes()
    done, expected = journal_of(folder), journal_of(undisturbed)
    for entry in (*done, *expected):
        entry.pop("seconds", None)
    if [e["unit"] for e in expected].count("rows") == 1:
        assert done == expected
    else:  # what was left of the ranking may have been cut up otherwise
        assert [e for e in done if e["unit"] != "rows"] == [
            e for e in expected if e["unit"] != "rows"
        ]
    kept = {str(p.relative_to(folder)) for p in folder.glob("checkpoints/*/*")}
    assert kept == {"checkpoints/finish/2"}
    assert "</html>" in (folder / "report.html").read_text()


def test_the_ranking_is_several_units(undisturbed):
    units = [(e["stage"], e["unit"]) for e in journal_of(undisturbed)]
    rows = units.count(("rank", "rows"))
    assert rows > 2
    batch = [("train", "ask"), *2 * [("train", "epoch")]]
    rest = [("data", "loaded"), ("rank", "done"), *2 * batch]
    rest += [*2 * [("finish", "epoch")], ("finish", "test")]
    assert [unit for unit in units if unit[1] != "rows"] == rest


@pytest.mark.parametrize(
    ("method", "what", "nth", "after"),
    [
        ("record", "data loaded", 1, False),
        ("record", "rank rows", 2, False),
        ("write", "ranking.parquet", 1, False),
        ("record", "rank done", 1, False),
        ("record", "rank done", 1, True),
        ("record", "train ask", 1, False),
        ("record", "train ask", 1, True),
        ("save_state", "train-1 1", 1, True),
        ("drop_states", "train-1 1", 1, False),
        ("record", "train epoch", 2, False),
        ("record", "train epoch", 2, True),
        ("record", "train ask", 2, True),
        ("record", "train epoch", 3, True),
        ("drop_states", "train-2 0", 1, False),
        ("save_state", "finish 1", 1, False),
        ("record", "finish epoch", 1, True),
        ("record", "finish test", 1, False),
        ("write", "result.json", 1, False),
        ("write", "result.json", 1, True),
        ("write", "report.html", 1, True),
    ],
)
def test_dead_at_any_moment_then_resumed(
    method, what, nth, after, undisturbed, tmp_path, monkeypatch
):
    small(monkeypatch)
    out = tmp_path / "run"
    die(out, method, what, nth, after=after)
    found = search(out=out, resume=True, quiet=True)
    assert found.values["arch"] == result_of(undisturbed)["arch"]
    assert_same(out, undisturbed)


def test_dead_again_and_again(undisturbed, tmp_path, monkeypatch):
    small(monkeypatch)
    out = tmp_path / "run"
    for _ in range(2):  # one unit further each time
        die(out, "record", "rank rows", 2, resume=out.exists())
    die(out, "record", "rank done", resume=True)
    die(out, "save_state", "train-1 1", resume=True, after=True)
    die(out, "record", "train epoch", 2, resume=True)
    die(out, "record", "train epoch", resume=True)
    search(out=out, resume=True, quiet=True, **TINY)
    assert_same(out, undisturbed)


def test_a_finished_run_gives_its_result_again_to_the_second(undisturbed, tmp_path, monkeypatch):
    small(monkeypatch)
    before = (undisturbed / "result.json").read_bytes()
    journal = (undisturbed / "journal.jsonl").read_bytes()
    search(out=undisturbed, resume=True, quiet=True)
    assert (undisturbed / "result.json").read_bytes() == before
    assert (undisturbed / "journal.jsonl").read_bytes() == journal


def test_a_lost_ranking_is_made_from_the_journal_and_a_damaged_one_is_said(
    undisturbed, tmp_path, monkeypatch
):
    small(monkeypatch)
    out = tmp_path / "run"
    die(out, "save_state", "train-1 1")
    (out / "ranking.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"ranking\.parquet is damaged; without it, it is made"):
        search(out=out, resume=True, quiet=True)
    (out / "ranking.parquet").unlink()
    monkeypatch.setattr(shared_prefix, "_finish", None)  # nothing is scored again
    search(out=out, resume=True, quiet=True)
    assert (out / "ranking.parquet").read_bytes() == (undisturbed / "ranking.parquet").read_bytes()


def test_a_proxy_with_gradients_resumes_within_the_ranking(tmp_path, monkeypatch):
    fewer(monkeypatch, 60)
    monkeypatch.setattr(per_architecture, "ARCHS_PER_CALL", 16)
    options = {"stages": "rank", "proxies": ["grad_norm", "params"]}
    whole = search(out=tmp_path / "whole", quiet=True, **TINY | options)
    rows = [e for e in journal_of(tmp_path / "whole") if e["unit"] == "rows"]
    assert len(rows) > 2
    die(tmp_path / "run", "record", "rank rows", 3, **options)
    again = search(out=tmp_path / "run", resume=True, quiet=True)
    assert again.ranking.equals(whole.ranking)
    assert np.isfinite(again.ranking["grad_norm"]).sum() > 40


@pytest.mark.parametrize("nth", [2, 5, 7])
def test_a_ranking_resumes_in_any_of_its_repeats(nth, tmp_path, monkeypatch):
    fewer(monkeypatch, 60)
    monkeypatch.setattr(per_architecture, "ARCHS_PER_CALL", 16)
    options = {"stages": "rank", "proxies": ["grad_norm", "params"], "repeats": 2}
    whole = search(out=tmp_path / "whole", quiet=True, **TINY | options)
    rows = [e for e in journal_of(tmp_path / "whole") if e["unit"] == "rows"]
    assert len(rows) > 7
    die(tmp_path / "run", "record", "rank rows", nth, **options)
    again = search(out=tmp_path / "run", resume=True, quiet=True)
    pd.testing.assert_frame_equal(again.ranking, whole.ranking)
    assert whole.ranking["grad_norm_std"].max() > 0


def test_a_torn_line_is_done_again(undisturbed, tmp_path, monkeypatch):
    small(monkeypatch)
    out = tmp_path / "run"
    die(out, "drop_states", "train-1 2")
    journal = out / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    search(out=out, resume=True, quiet=True)
    assert_same(out, undisturbed)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seed": 1}, "--resume: seed is 1, but the run in .* has 0"),
        ({"epochs": 3}, "--resume: train.epochs is 3, but the run in .* has 2"),
        ({"data": "cifar10"}, "--resume: data.source is 'cifar10', but the run in .* has 'digits'"),
        ({"stages": ["rank"]}, r"--resume: pipeline is \['rank'\], but the run in .* has None"),
        ({"data": images(60, 8, 8)}, "--resume: data.source is 'arrays', but the run"),
    ],
)
def test_resuming_otherwise_is_refused(options, says, undisturbed, monkeypatch):
    small(monkeypatch)
    before = snapshot(undisturbed)
    with pytest.raises(InputError, match=says):
        search(out=undisturbed, resume=True, quiet=True, **options)
    assert snapshot(undisturbed) == before


def test_other_contents_of_the_same_file_are_refused(tmp_path, monkeypatch):
    fewer(monkeypatch, 60)
    x, y = images(60, 8, 8)
    path = tmp_path / "images.npz"
    np.savez(path, x_train=x, y_train=y)
    options = TINY | {"stages": "rank", "batch_size": 16, "quiet": True}
    search(data=path, out=tmp_path / "run", **options)
    before = snapshot(tmp_path / "run")
    x[0, 0, 0] += 1
    np.savez(path, x_train=x, y_train=y)
    with pytest.raises(InputError, match="began with other data than images holds now"):
        search(data=path, out=tmp_path / "run", resume=True, **options)
    assert snapshot(tmp_path / "run") == before


def test_two_processes_do_not_share_a_directory(undisturbed, capfd):
    held = Run.open(undisturbed)
    try:
        assert main(["--resume", "--out", str(undisturbed)]) == 2
    finally:
        held.close()
    assert capfd.readouterr().err == f"error: Another process is working in {undisturbed}.\n"


AS_IN_A_TERMINAL = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # or it is ignored as whoever ran the tests did
runpy.run_module("jaxnas.search", run_name="__main__")
"""


def started(folder, *flags):
    command = [sys.executable, "-c", AS_IN_A_TERMINAL, *flags]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, **pipes)


def wait_for(process, folder, stage):
    """Until the journal holds something of a stage."""
    journal = folder / "run" / "journal.jsonl"
    while process.poll() is None:
        if journal.exists() and f'"stage": "{stage}"' in journal.read_text():
            return
        time.sleep(0.02)
    pytest.fail(f"the program ended before it came to {stage}: {process.communicate()[1]}")


def test_ctrl_c_then_kill_9_then_resumed(tmp_path, tmp_path_factory):
    expected = finished_run(tmp_path_factory)
    process = started(tmp_path, *FLAGS, "--out", "run")
    wait_for(process, tmp_path, "rank")
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1].splitlines()
    assert process.returncode == 1
    assert said[-1].startswith("Interrupted; a run directory named above continues with")
    assert "Traceback" not in "\n".join(said)
    process = started(tmp_path, "--resume", "--out", "run")
    wait_for(process, tmp_path, "train")
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "result.json").exists()
    assert main(["--resume", "--out", str(tmp_path / "run"), *FLAGS]) == 0
    assert_same(tmp_path / "run", expected)


DIES_WHILE_ORBAX_WRITES = """
import os, sys
import orbax.checkpoint as ocp
from jaxnas.search import main

save = ocp.StandardCheckpointer.save

def dying(self, path, *args, **kwargs):
    save(self, path, *args, **kwargs)
    if path.name == "2":
        os._exit(9)

ocp.StandardCheckpointer.save = dying
sys.exit(main(sys.argv[1:]))
"""


def test_dead_while_a_checkpoint_is_written(tmp_path, tmp_path_factory):
    expected = finished_run(tmp_path_factory)
    command = [sys.executable, "-c", DIES_WHILE_ORBAX_WRITES, *FLAGS, "--out", "run"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 9
    assert [e["unit"] for e in journal_of(tmp_path / "run")][-1] == "epoch"
    states = [p.name for p in (tmp_path / "run" / "checkpoints" / "train-1").iterdir()]
    assert "1" in states
    assert len(states) == 2
    assert main(["--resume", "--out", str(tmp_path / "run")]) == 0
    assert_same(tmp_path / "run", expected)


ALMOST_FULL = """
import resource, runpy
# A limit on the size of files stands for a disk; only what a training's state needs is larger.
resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, 900_000))
runpy.run_module("jaxnas.search", run_name="__main__")
"""


def test_a_full_disk_is_one_sentence_and_with_room_the_run_goes_on(tmp_path, tmp_path_factory):
    expected = finished_run(tmp_path_factory)
    command = [sys.executable, "-c", ALMOST_FULL, *FLAGS, "--out", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last == f"error: Cannot write {tmp_path}/run/checkpoints/train-1: File too large."
    assert journal_of(tmp_path / "run")[-1]["unit"] == "ask"
    assert main(["--resume", "--out", str(tmp_path / "run")]) == 0
    assert_same(tmp_path / "run", expected)
