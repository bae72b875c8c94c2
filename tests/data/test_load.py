import os
import subprocess
import sys

import numpy as np
import pytest

from jaxnas.data.load import load


def test_digits():
    data = load("digits")
    assert (data.name, data.classes, data.channels) == ("digits", 10, 1)
    assert data.resolution == (8, 8)
    assert len(data.train) + len(data.val) + len(data.test) == 1797
    assert abs(len(data.test) - 1797 * 0.2) < 5
    everything = np.concatenate([data.train.x, data.val.x, data.test.x])
    assert everything.dtype == np.float32
    assert (everything.min(), everything.max()) == (0, 1)
    assert data.fingerprint == load("digits").fingerprint
    assert data.fingerprint != load("digits", split_seed=1).fingerprint


def test_digits_are_told_apart_by_their_neighbours():
    """The images belong to their labels: the nearest train image has the right one, mostly."""
    data = load("digits")
    train = data.prepare(data.train.x).reshape(len(data.train), -1)
    test = data.prepare(data.test.x).reshape(len(data.test), -1)
    distance = (test**2).sum(1)[:, None] - 2 * test @ train.T + (train**2).sum(1)
    assert (data.train.y[distance.argmin(1)] == data.test.y).mean() > 0.97


def test_fractions_are_passed_on():
    data = load("digits", val_fraction=0.1, test_fraction=0.3)
    assert abs(len(data.val) / 1797 - 0.1) < 0.01
    assert abs(len(data.test) / 1797 - 0.3) < 0.01


def test_loading_needs_no_jax(tmp_path, pictures):
    x, y = pictures()
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y)
    heavy = "{'jax', 'sklearn', 'PIL', 'tensorflow_datasets'}"
    code = f"import sys, jaxnas.data.load as l; l.load('a.npz'); print({heavy} & {{*sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["images.npz", "./images", "sub/images", "~/no such/images.npz"])
def test_files_that_are_missing(tmp_path, monkeypatch, refused, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    with refused(os.path.basename(name), "does not exist"):
        load(name)


def test_the_nearest_files_are_shown(tmp_path, refused):
    for name in ("images_v1.npz", "other.txt", ".images.npz"):
        (tmp_path / name).touch()
    with refused("image_v1.npz does not exist", "nearest there: images_v1.npz."):
        load(tmp_path / "image_v1.npz")


def test_a_missing_folder_is_named(tmp_path, refused):
    with refused("does not exist, and neither does the folder", "nowhere"):
        load(tmp_path / "nowhere" / "images.npz")


def test_an_empty_name(refused):
    with refused("data source is empty"):
        load("")


def test_a_folder_called_digits_needs_its_path(tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert load("digits").classes == 10
    with refused("digits is empty"):
        load("./digits")


@pytest.mark.parametrize("name", ["loop.npz", "x" * 300 + ".npz"])
def test_paths_the_system_refuses(tmp_path, refused, name):
    if name == "loop.npz":
        (tmp_path / name).symlink_to(tmp_path / name)
    with refused(name, "cannot be read"):
        load(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_no_permission(tmp_path, refused, kind):
    path = tmp_path / "locked.npz"
    path.touch() if kind == "file" else path.mkdir()
    path.chmod(0)
    with refused(str(path), "cannot be read: Permission denied"):
        load(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_no_permission_as_another_user(tmp_path, kind):
    """The same for a test run as root, which drops its rights in a child process first."""
    path = tmp_path / "locked.npz"
    path.touch() if kind == "file" else path.mkdir()
    path.chmod(0)
    code = (
        "import os; from jaxnas.data.load import load\n"
        "from jaxnas.errors import InputError\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: load('locked.npz')\n"
        "except InputError as error: print(error)"
    )
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "locked.npz cannot be read: Permission denied.\n"


def test_a_missing_extra_is_named(monkeypatch, refused):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with refused("Unknown data set 'digitz'", "jaxnas[tfds]", "nearest known: digits"):
        load("digitz")
    with refused("Unknown data set 'cifar10'", "jaxnas[tfds]"):
        load("cifar10")


def test_a_file_without_its_suffix_is_near(tmp_path, monkeypatch, refused):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "birds_big.npz").touch()
    with refused("'birds_big'", "nearest known: birds_big.npz"):
        load("birds_big")
