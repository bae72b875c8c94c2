"""The command line as its users meet it: spellings, help, and bad input that costs nothing."""

import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from searching import images, program, snapshot

from jaxnas.command_line import help_text, parse
from jaxnas.config import SHORT, SearchConfig, build, flatten, keys, to_dict
from jaxnas.errors import InputError
from jaxnas.search import main

ISSUE = (
    *("space", "preset", "data", "data-dir", "proxies", "top", "epochs", "batch-size", "channels"),
    *("cells", "resolution", "rank.channels", "train.channels", "finish.channels", "seed"),
    *("data.split-seed", "out", "resume", "stages", "config"),
)


def test_the_promised_flags_exist_in_both_spellings(tmp_path):
    (tmp_path / "f.yaml").write_text("seed: 1\n")
    value = {"config": str(tmp_path / "f.yaml"), "resume": "true"}
    for name in ISSUE:
        for spelling in (name, name.replace("-", "_")):
            given = parse([f"--{spelling}", value.get(name, "2")])
            assert given == parse([f"--{spelling}={value.get(name, '2')}"])
            assert given


def test_every_key_is_a_flag_with_hyphens_or_underscores():
    for key in keys():
        assert parse([f"--{key}", "true"]) == parse([f"--{key.replace('_', '-')}", "true"])
        assert parse([f"--{key}=true"]) == {key: "true"}


def test_short_flags_set_all_stages_and_a_stages_own_goes_before():
    given = parse(["--train.epochs", "7", "--epochs", "3", "--cells", "1,1,1"])
    assert given == {
        "finish.epochs": "3",
        "train.epochs": "7",
        **dict.fromkeys(SHORT["cells"], "1,1,1"),
    }
    assert parse(["--top", "3", "--top", "4"]) == {"train.top": "4"}


def test_resume_needs_no_value():
    assert parse(["--resume", "--out", "a"]) == {"resume": "true", "out": "a"}
    assert parse(["--resume", "false"]) == {"resume": "false"}


def test_flags_go_before_files_and_later_files_before_earlier(tmp_path):
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    a.write_text("train: {epochs: 5, batch-size: 9}\nseed: 1\n")
    b.write_text("seed: 2\nrank.cells: [2]\n")
    given = parse(["--epochs", "3", "--config", str(a), "--config", str(b)])
    assert given == {
        "train.epochs": "3",
        "finish.epochs": "3",
        "train.batch_size": 9,
        "seed": 2,
        "rank.cells": [2],
    }


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("--epoch 3", "Unknown flag '--epoch'; did you mean --epochs"),
        ("--batchsize=3", "Unknown flag '--batchsize'; did you mean --batch-size"),
        ("--train.epoch 3", "Unknown flag '--train.epoch'; did you mean --train.epochs"),
        ("--seed", "--seed needs a value."),
        ("--seed --top 3", "--seed needs a value."),
        ("word", "'word' belongs to no flag"),
        ("-x 3", "'-x' belongs to no flag"),
        ("--resume maybe", "'maybe' belongs to no flag"),
    ],
)
def test_a_bad_flag_is_one_sentence(argv, says):
    with pytest.raises(InputError, match=f"^{re.escape(says)}"):
        parse(argv.split())


def test_help_explains_every_flag_with_its_default():
    text = help_text()
    options = {o.split()[0]: " ".join(o.split()) for o in re.split(r"\n  (?=--)", text)}
    defaults = flatten(to_dict(SearchConfig()))
    for key in keys():
        explanation = options[f"--{key.replace('_', '-')}"]
        default = defaults[key]
        shown = ",".join(default) if isinstance(default, list) else str(default)
        shown = "null" if default is None else shown
        assert re.match(rf"\S+ \S+ .{{12,}} \(default: {shown}\)", explanation), key
    for name in (*SHORT, "config"):
        assert re.search(rf"--{name.replace('_', '-')}\s", text)
    assert "Exit codes: 0, 2 for bad input, 1 otherwise." in text


def test_help_is_printed_without_importing_what_is_slow(tmp_path):
    code = (
        "import sys; from jaxnas.search import main; code = main(['--seed', 'x', '--help']);"
        "print([m for m in ('jax', 'flax', 'pandas', 'numpy', 'rich') if m in sys.modules]);"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{help_text()}\n[]\n"


def test_help_into_a_pipe_that_nobody_reads(tmp_path):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        command = [sys.executable, "-m", "jaxnas.search", "--help"]
        done = subprocess.run(command, cwd=tmp_path, stdout=closed, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a disk without room")
def test_help_onto_a_full_disk(tmp_path):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "jaxnas.search", "--help"]
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "error: A disk is full: No space left on device.\n",
    )


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory):
    """A folder of files that must be refused, and of one run that must not be overwritten."""
    folder = tmp_path_factory.mktemp("bad")
    x, y = images(60, 8, 8, 1)

    def save(name, **changes):
        arrays = {"x_train": x, "y_train": y} | changes
        np.savez(folder / name, **{k: v for k, v in arrays.items() if v is not None})

    for name, value in (("nan", np.nan), ("inf", np.inf)):
        spoilt = x.astype(np.float32)
        spoilt[3, 2, 1, 0] = value
        save(name, x_train=spoilt)
    save("one_class", y_train=np.zeros(60, int))
    save("range", y_train=y + 5)
    save("negative", y_train=y - 1)
    save("length", y_train=y[:-1])
    save("rows", x_train=x.reshape(60, 64))
    save("seven", x_train=np.repeat(x, 7, axis=3))
    save("objects", y_train=y.astype(object))
    save("no_images", x_train=None)
    save("good")
    whole = (folder / "good.npz").read_bytes()
    (folder / "truncated.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.npz").touch()
    (folder / "garbage.npz").write_bytes(b"not an archive" * 9)
    (folder / "empty").mkdir()
    (folder / "file").write_text("x")
    (folder / "unknown.yaml").write_text("train: {epoch: 3}\n")
    (folder / "top.yaml").write_text("top: 0\n")
    (folder / "run").mkdir()
    (folder / "run" / "config.yaml").write_text("seed: 3\n")
    (folder / "run" / "result.json").write_text("{}")
    (folder / "other").mkdir()
    (folder / "other" / "thesis.tex").write_text("the only copy")
    return folder


BAD = {
    "--space nasbench2001": "Unknown search space 'nasbench2001'; did you mean nasbench201?",
    "--proxies naswott": "Unknown proxy 'naswott'; did you mean naswot?",
    "--proxies naswot,": "Unknown proxy ''",
    "--data digit": "Unknown data set 'digit'.*did you mean digits",
    "--data gone.npz": "gone.npz does not exist; the nearest there: .*one_class.npz",
    "--data good.npz --batch-size 37": "rank.batch_size is 37, but there are only 36 training images",
    "--data good.npz --train.batch-size 37 --rank.batch-size 8": "train.batch_size is 37, but",
    "--finish.batch-size 4000": "finish.batch_size is 4000, but there are only 1079",
    "--data nan.npz": r"x_train .*has 1 value that is NaN or infinite.* \(3, 2, 1, 0\)",
    "--data inf.npz": r"x_train .*has 1 value that is NaN or infinite.* \(3, 2, 1, 0\)",
    "--data one_class.npz": "All 60 values of y_train .* are 0; at least two classes are needed",
    "--data range.npz": "y_train .* has label 5 at position 0",
    "--data negative.npz": "y_train .* has label -1 at position 0",
    "--data length.npz": "y_train .* has 59 labels for 60 images",
    "--data rows.npz": r"x_train .* has shape \(60, 64\); expected \[n, H, W, C\] or \[n, H, W\]",
    "--data seven.npz": "x_train .* has 7 channels .* expected 1 to 4",
    "--data objects.npz": "y_train .* holds Python objects",
    "--data no_images.npz": "no_images.npz has no x_train",
    "--data truncated.npz": "truncated.npz is truncated",
    "--data empty.npz": "empty.npz is empty",
    "--data garbage.npz": "garbage.npz is not an .npz file",
    "--data empty": "empty is empty; expected one folder of images for each class",
    "--top 0": "train.top is '0', expected a whole number of at least 1",
    "--top 15626": "train.top is 15626, but nasbench201 has only 15625 architectures",
    "--seed 4294967296": r"seed is 4294967296, expected a whole number below 2\^32",
    "--data.split-seed 4294967296": "The split seed is 4294967296",
    "--stages train": "each stage needs those before it",
    "--rank.executor shared_prefix --proxies grad_norm": "shared_prefix has no gradients; grad_norm",
    "--epoch 3": "Unknown flag '--epoch'; did you mean --epochs",
    "--config gone.yaml": "Cannot read the configuration gone.yaml: No such file",
    "--config unknown.yaml": "In unknown.yaml: Unknown key 'train.epoch'; did you mean train.epochs",
    "--config top.yaml": "train.top is 0, expected a whole number of at least 1",
    "--out run": "--out run holds another run; name another directory, or continue with --resume",
    "--out other": "--out other holds 'thesis.tex' and more",
    "--out file": "--out file is a file, expected a directory",
    "--out file/below": "Cannot write file/below: Not a directory",
    "--out /proc/nowhere/run": "Cannot write /proc/nowhere/run: No such file",
    "--resume": "--resume needs --out DIR, the run to continue",
    "--resume --out empty": r"there is no run in empty \(no config.yaml\)",
    "--resume --out run --seed 4": "--resume: seed is 4, but the run in run has 3",
    "--resume --out run --train.top 9": "--resume: train.top is 9, but the run in run has 8",
}


@pytest.mark.parametrize("flags", BAD)
def test_bad_input_ends_with_2_and_one_line_and_costs_nothing(flags, bad_files, monkeypatch, capfd):
    monkeypatch.chdir(bad_files)
    before = snapshot(bad_files)
    assert main(shlex.split(flags)) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(f"error: .*{BAD[flags]}.*\n", err), err
    assert snapshot(bad_files) == before


def test_a_bad_file_name_of_two_lines_is_still_one_line(bad_files, monkeypatch, capfd):
    monkeypatch.chdir(bad_files)
    assert main(["--data", "two\nlines.npz"]) == 2
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_the_program_itself_exits_with_2_and_no_traceback(bad_files):
    done = program("--data", "nan.npz", "--out", "never", cwd=bad_files)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch("error: x_train .* NaN or infinite .*\n", done.stderr)
    assert not (bad_files / "never").exists()


def test_an_unwritable_directory_is_refused(bad_files, monkeypatch, capfd):
    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.chdir(bad_files)
    monkeypatch.setattr(os, "mkdir", refuse)
    for out in ([], ["--out", "never"]):
        assert main(out) == 2
        err = capfd.readouterr().err
        assert re.fullmatch("error: Cannot write .*: Permission denied.\n", err), err


def test_the_parsed_flags_make_the_configuration():
    given = parse(shlex.split("--space nasbench201 --proxies params --cells 2 --resume --out a"))
    assert given is not None
    config = build(given)
    assert config == SearchConfig(
        out="a",
        resume=True,
        rank=type(config.rank)(proxies=("params",), cells=(2,)),
        train=type(config.train)(cells=(2,)),
        tune=type(config.tune)(cells=(2,)),
        augment=type(config.augment)(cells=(2,)),
        finish=type(config.finish)(cells=(2,)),
    )
