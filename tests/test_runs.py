"""The run directory: whole files or none, one process at a time, and a journal that survives."""

import errno
import json
import math
import os

import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from searching import Killed, snapshot

from jaxnas.errors import InputError
from jaxnas.runs import Run, numbers

CONFIG = {"space": "nasbench201", "train": {"top": 8}}
STATE = {"weights": jnp.arange(6.0).reshape(2, 3), "seeds": jnp.array([1, 2], jnp.uint32)}


def no_space(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def run(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    yield run
    run.close()


def reopened(run):
    run.close()
    again = Run.open(run.directory)
    run._lock = os.dup(again._lock)  # for the fixture to close
    return again


def test_a_new_run_has_its_configuration_and_an_empty_journal(run):
    assert yaml.safe_load((run.directory / "config.yaml").read_text()) == CONFIG
    assert run.entries == []


def test_it_may_be_an_empty_directory_and_folders_above_are_made(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "a" / "b" / "c"):
        Run.create(path, CONFIG).close()
        assert (path / "config.yaml").is_file()


def test_what_an_early_death_left_behind_is_no_run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".lock").touch()
    (folder / ".config.yaml.part").write_text("spa")
    Run.create(folder, CONFIG).close()
    assert not (folder / ".config.yaml.part").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [("config.yaml", "holds another run; .* --resume"), ("notes", "holds 'notes' and more")],
)
def test_nothing_is_overwritten(name, says, tmp_path):
    (tmp_path / name).write_text("precious")
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=says):
        Run.create(tmp_path, CONFIG)
    assert snapshot(tmp_path) == before


def test_a_directory_is_held_by_one_until_closed(run):
    with pytest.raises(InputError, match="Another process is working in"):
        Run.open(run.directory)
    again = reopened(run)
    assert again.entries == []


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(InputError, match=r"Cannot write .*config\.yaml: No space left on device\."):
        Run.create(tmp_path / "run", CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_there_must_be_a_run_to_open(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=r"there is no run in .* \(no config\.yaml\)"):
            Run.open(path)
    assert list(tmp_path.iterdir()) == []


def test_entries_come_back_with_what_json_has_no_numbers_for(run):
    values = np.array([1.5, np.nan, -np.inf, np.inf, 0.1], np.float32)
    run.record(stage="rank", unit="rows", scores={"a": values, "b": (1, np.int64(2))})
    text = (run.directory / "journal.jsonl").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    (entry,) = reopened(run).of_stage("rank", "rows")
    np.testing.assert_array_equal(numbers(entry["scores"]["a"]).astype(np.float32), values)
    assert entry["scores"]["b"] == [1, 2]
    assert entry == run.entries[0]
    assert run.of_stage("rank", "done") == run.of_stage("train", "rows") == []


def test_seconds_are_summed_by_stage_over_interruptions(run):
    for run_seconds, compiling in ((1.0, 0.5), (2.0, 0.25)):
        seconds = {"run": run_seconds, "compile": compiling}
        run.record(stage="train", unit="epoch", seconds=seconds)
    run.record(stage="data", unit="loaded")
    again = reopened(run)
    again.record(stage="train", unit="epoch", seconds={"run": 4.0, "compile": 0.0})
    assert again.seconds() == {"train": {"run": 7.0, "compile": 0.75}}


@pytest.mark.parametrize("torn", [b'{"stage": "tr', b"", b'{"stage": "train", "unit": "epoch"}'])
def test_a_line_without_its_end_is_a_unit_not_done(torn, run):
    run.record(stage="rank", unit="done")
    journal = run.directory / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + torn)
    again = reopened(run)
    assert [e["unit"] for e in again.entries] == ["done"]
    assert journal.read_bytes() == whole
    again.record(stage="train", unit="epoch")
    assert [json.loads(line)["unit"] for line in journal.read_text().splitlines()] == [
        "done",
        "epoch",
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("not json", "is not JSON"),
        ("5", "is no unit of work"),
        ('{"stage": "rank"}', "is no unit of work"),
        ("\udcff", "is not JSON"),
    ],
)
def test_a_spoilt_journal_is_named_with_its_line_and_let_go(line, says, run):
    run.record(stage="rank", unit="done")
    journal = run.directory / "journal.jsonl"
    with journal.open("a", errors="surrogateescape") as file:
        file.write(line + "\n")
    run.close()
    for _ in range(2):  # the second would find the directory held if the first had kept it
        with pytest.raises(InputError, match=f"Line 2 of .*journal.jsonl {says}"):
            Run.open(run.directory)
    run._lock = os.open(run.directory, os.O_RDONLY)  # for the fixture to close


def test_a_full_disk_leaves_the_journal_as_it_was(run, monkeypatch):
    run.record(stage="rank", unit="done")
    before = (run.directory / "journal.jsonl").read_bytes()
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(InputError, match=r"Cannot write .*journal\.jsonl: No space left"):
        run.record(stage="train", unit="epoch")
    assert (run.directory / "journal.jsonl").read_bytes() == before
    assert len(run.entries) == 1
    monkeypatch.undo()
    run.record(stage="train", unit="epoch")
    assert [e["unit"] for e in reopened(run).entries] == ["done", "epoch"]


@pytest.mark.parametrize("failure", [no_space, None], ids=["full disk", "death"])
def test_a_file_is_replaced_whole_or_not_at_all(failure, run):
    def write(path):
        path.write_text("half")
        if failure:
            failure()
        raise Killed

    run.write_text("result.json", "old")
    with pytest.raises(InputError if failure else Killed):
        run.write("result.json", write)
    assert (run.directory / "result.json").read_text() == "old"
    run.write_text("result.json", "new")
    assert (run.directory / "result.json").read_text() == "new"
    assert sorted(p.name for p in run.directory.iterdir()) == [
        ".lock",
        "config.yaml",
        "result.json",
    ]


def test_states_come_back_bit_for_bit_and_old_ones_go(run):
    like = {name: jnp.zeros_like(value) for name, value in STATE.items()}
    for epoch in (1, 2, 2):
        run.save_state("train", epoch, {**STATE, "weights": STATE["weights"] * epoch})
    run.save_state("finish", 1, STATE)
    run.drop_states("train", keep=2)
    assert [p.name for p in (run.directory / "checkpoints" / "train").iterdir()] == ["2"]
    back = reopened(run).restore_state("train", 2, like)
    np.testing.assert_array_equal(back["weights"], STATE["weights"] * 2)
    np.testing.assert_array_equal(back["seeds"], STATE["seeds"])
    assert back["seeds"].dtype == np.uint32
    np.testing.assert_array_equal(run.restore_state("finish", 1, like)["weights"], STATE["weights"])


def test_a_state_that_is_missing_or_damaged_is_said(run):
    with pytest.raises(InputError, match=r"the checkpoint .*train/1 is missing"):
        run.restore_state("train", 1, STATE)
    run.save_state("train", 1, STATE)
    for path in (run.directory / "checkpoints" / "train" / "1").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(InputError, match=r"the checkpoint .*train/1 is damaged"):
        run.restore_state("train", 1, STATE)


@pytest.mark.parametrize("portable", [False, True])
def test_a_disk_without_room_for_a_state_is_one_sentence(portable, run, monkeypatch):
    run.save_state("train", 1, STATE)
    if portable:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
        monkeypatch.setattr("shutil.disk_usage", lambda path: Full())
    else:
        monkeypatch.setattr(os, "posix_fallocate", no_space, raising=False)
    with pytest.raises(InputError, match=r"Cannot write .*train: No space left on device\.$"):
        run.save_state("train", 2, STATE)
    assert [p.name for p in (run.directory / "checkpoints" / "train").iterdir()] == ["1"]


class Full:
    free = 1


def test_what_tensorstore_says_of_a_full_disk_is_one_sentence(run, monkeypatch):
    def fail(*_args, **_kwargs):
        raise ValueError("RESOURCE_EXHAUSTED: Failed to write\n [os_error_code='28']")

    monkeypatch.setattr("orbax.checkpoint.StandardCheckpointer.save", fail)
    with pytest.raises(InputError, match=r"Cannot write .*train: No space left on device\.$"):
        run.save_state("train", 1, STATE)


def test_numbers_reads_back_every_float():
    assert numbers(["-inf", 0.1, "nan", 3])[1] == 0.1
    assert math.isnan(numbers(["nan"])[0])
