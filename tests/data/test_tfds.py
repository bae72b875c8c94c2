"""Data sets of tfds, prepared here in miniature without TensorFlow and then loaded by name."""

import json
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnas.data.load import load

tfds = pytest.importorskip("tensorflow_datasets", reason="the extra jaxnas[tfds] is absent")

NAMES = ["disc", "square", "star"]


def pixels(n: int, seed: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 6, channels), np.uint8)


def pillow(array: np.ndarray) -> Image.Image:
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # pyright: ignore
    """Not registered, so that what it prepared is found by its files alone."""

    VERSION = tfds.core.Version("1.0.0")
    SPLITS = {"train": 30, "test": 6}  # noqa: RUF012
    CHANNELS = 3
    LABEL = "label"
    HIDDEN: tuple[str, ...] = ()

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, self.CHANNELS)),
            self.LABEL: tfds.features.ClassLabel(names=NAMES),
            "id": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", self.LABEL),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split, n) for split, n in self.SPLITS.items()}

    def _generate_examples(self, split, n):
        for i, image in enumerate(pixels(n, len(split), self.CHANNELS)):
            label = -1 if split in self.HIDDEN else i % 3
            yield i, {"image": pillow(image), self.LABEL: label, "id": f"{split}{i}"}


def prepared(folder: Path, name: str, **attributes: object) -> Path:
    """Prepares a variant of `Tiny` called `name` below `folder`."""
    cls = type(name, (Tiny,), attributes, skip_registration=True)
    builder = cls(data_dir=folder, file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_path)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tfds")
    prepared(folder, "tiny_shapes")
    return folder


def same_images(images: np.ndarray, expected: np.ndarray) -> bool:
    return {x.tobytes() for x in images} == {x.tobytes() for x in expected}


def test_prepared_data_is_found_by_name(tiny):
    data = load("tiny_shapes", data_dir=str(tiny))
    assert (data.name, data.class_names) == ("tiny_shapes", tuple(NAMES))
    assert (len(data.train), len(data.val), len(data.test)) == (24, 6, 6)
    assert (data.resolution, data.channels) == ((8, 6), 3)
    train = pixels(30, len("train"))
    assert same_images(np.concatenate([data.train.x, data.val.x]), train)
    assert same_images(data.test.x, pixels(6, len("test")))
    labels = {x.tobytes(): i % 3 for i, x in enumerate(train)}
    assert [labels[x.tobytes()] for x in data.train.x] == data.train.y.tolist()
    assert "tensorflow" not in sys.modules


def test_nothing_is_printed(tiny, tmp_path, capfd, refused):
    load("tiny_shapes", data_dir=str(tiny))
    with refused("Unknown data set"):
        load("tiny_shape", data_dir=str(tiny))
    assert capfd.readouterr() == ("", "")


def test_a_version_may_be_named(tiny, refused):
    assert load("tiny_shapes:1.0.0", data_dir=str(tiny)).classes == 3
    with refused("'tiny_shapes:2.0.0'"):
        load("tiny_shapes:2.0.0", data_dir=str(tiny))


def test_grey_images_and_other_names(tmp_path):
    prepared(tmp_path, "tiny_grey", CHANNELS=1, LABEL="kind")
    data = load("tiny_grey", data_dir=str(tmp_path))
    assert data.channels == 1
    assert same_images(data.test.x, pixels(6, len("test"), 1))


def test_train_alone_is_split(tmp_path):
    prepared(tmp_path, "tiny_alone", SPLITS={"train": 30})
    data = load("tiny_alone", data_dir=str(tmp_path))
    assert (len(data.train), len(data.val), len(data.test)) == (18, 6, 6)


def test_validation_is_the_test_set_where_there_is_none(tmp_path):
    prepared(tmp_path, "tiny_val", SPLITS={"train": 30, "validation": 9, "extra": 12})
    data = load("tiny_val", data_dir=str(tmp_path))
    assert (len(data.train), len(data.val), len(data.test)) == (24, 6, 9)
    assert same_images(data.test.x, pixels(9, len("validation")))


def test_validation_and_test_are_both_used(tmp_path):
    prepared(tmp_path, "tiny_three", SPLITS={"train": 30, "validation": 9, "test": 6})
    data = load("tiny_three", data_dir=str(tmp_path))
    assert (len(data.train), len(data.val), len(data.test)) == (30, 9, 6)
    assert same_images(data.val.x, pixels(9, len("validation")))


def test_a_test_set_without_labels_is_none(tmp_path):
    splits = {"train": 30, "validation": 9, "test": 6}
    prepared(tmp_path, "tiny_hidden", SPLITS=splits, HIDDEN=("test",))
    data = load("tiny_hidden", data_dir=str(tmp_path))
    assert same_images(data.test.x, pixels(9, len("validation")))


def test_no_train_split(tmp_path, refused):
    prepared(tmp_path, "tiny_test", SPLITS={"test": 30})
    with refused("'tiny_test' has no train split", "test."):
        load("tiny_test", data_dir=str(tmp_path))


def test_data_that_is_not_for_classification(tmp_path, refused):
    features = {"image": tfds.features.Image(), "text": tfds.features.Text()}

    def info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def generate(self, split, n):
        yield 0, {"image": pillow(pixels(1, 0)[0]), "text": split}

    prepared(tmp_path, "tiny_text", _info=info, _generate_examples=generate)
    with refused("'tiny_text' is not for image classification", "its features are image, text."):
        load("tiny_text", data_dir=str(tmp_path))


@pytest.fixture
def own_copy(tiny, tmp_path) -> Path:
    shutil.copytree(tiny, tmp_path / "copy")
    return tmp_path / "copy"


def test_data_in_another_format(own_copy, refused):
    info = own_copy / "tiny_shapes" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with refused("'tiny_shapes' is prepared in", "as tfrecord, not array_record", "tfds build"):
        load("tiny_shapes", data_dir=str(own_copy))


@pytest.mark.parametrize("kept", [0, 1000, 50_000, None])
def test_damaged_records(own_copy, refused, kept):
    (path,) = own_copy.glob("tiny_shapes/1.0.0/*train*")
    if kept is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:kept])
    with refused("The train split in", "is damaged"):
        load("tiny_shapes", data_dir=str(own_copy))


@pytest.mark.parametrize("content", ["", "{", json.dumps({"name": "x"})])
@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_damaged_descriptions(own_copy, refused, name, content):
    (own_copy / "tiny_shapes" / "1.0.0" / name).write_text(content)
    with refused("'tiny_shapes'"):
        load("tiny_shapes", data_dir=str(own_copy))


def test_names_near_an_unknown_one(tiny, refused):
    with refused("Unknown data set 'digitss'", "no such file or folder", "did you mean digits"):
        load("digitss")
    with refused("Unknown data set 'cifar_10'", "cifar10"):
        load("cifar_10")
    with refused("Unknown data set 'tiny_shape'", "did you mean tiny_shapes"):
        load("tiny_shape", data_dir=str(tiny))
    with refused("Unknown data set 'qqqqqqqq'"):
        load("qqqqqqqq")


@pytest.mark.parametrize("name", ["a b", "emnist/letters/x", "kaggle:x", "mnist:9.9.9", "mnist/"])
def test_names_of_the_wrong_form(tmp_path, refused, name):
    with refused(name.removeprefix("emnist/")):
        load(name, data_dir=str(tmp_path))


def test_unknown_configurations(tmp_path, refused):
    with refused("configuration of the tfds data set 'emnist'", "'leters'", "letters"):
        load("emnist/leters", data_dir=str(tmp_path))


def closed_port() -> int:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return closed.getsockname()[1]


@pytest.fixture
def register(monkeypatch):
    """Registers a variant of `Tiny` that is not prepared yet, for this test only."""
    from tensorflow_datasets.core import registered

    monkeypatch.setenv("no_proxy", "*")

    def add(name: str, **attributes: object) -> None:
        cls = type(name, (Tiny,), attributes, skip_registration=True)
        monkeypatch.setitem(registered._DATASET_REGISTRY, name, cls)

    return add


def test_arrays_are_prepared_without_tensorflow(register, tmp_path):
    """Builders that generate arrays make tfds encode them, which it does with TensorFlow."""

    def generate(self, split, n):
        for i, image in enumerate(pixels(n, len(split), self.CHANNELS)):
            yield i, {"image": image, "label": i % 3, "id": "x"}

    for channels in (1, 3):
        name = f"tiny_arrays{channels}"
        register(name, _generate_examples=generate, CHANNELS=channels)
        data = load(name, data_dir=str(tmp_path))
        assert same_images(data.test.x, pixels(6, len("test"), channels))
        again = load(name, data_dir=str(tmp_path))  # from the files, this time
        assert again.fingerprint == data.fingerprint
    assert "tensorflow" not in sys.modules


def test_offline_is_said_at_once(register, tmp_path, refused):
    ports = [closed_port(), closed_port()]
    urls = {f"http://127.0.0.1:{port}/images{i}.zip": None for port in ports for i in range(2)}
    register("tiny_remote", url_infos=urls)
    with refused("'tiny_remote' is not prepared in", f"127.0.0.1:{ports[0]}", "cannot be reached"):
        load("tiny_remote", data_dir=str(tmp_path))
    assert not list(tmp_path.rglob("*.array_record*"))


def test_one_server_that_answers_is_enough(register, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "jaxnas.data.tfds_prepare.unreachable",
        lambda url: asked.append(url) or (None if "new" in url else "gone"),
    )
    register("tiny_moved", url_infos={"http://old/a": None, "http://new/b": None})
    assert load("tiny_moved", data_dir=str(tmp_path)).classes == 3
    assert asked == ["http://old/a", "http://new/b"]


@pytest.mark.parametrize(
    "error",
    [
        tfds.download.DownloadError("404:\nnot here"),
        OSError(28, "No space left"),
        ValueError("?\n"),
    ],
)
def test_a_download_that_fails(register, tmp_path, refused, error):
    def splits(self, dl_manager):
        raise error

    register("tiny_broken", _split_generators=splits)
    with refused("'tiny_broken' is not prepared in", "preparing it failed"):
        load("tiny_broken", data_dir=str(tmp_path))


def test_files_to_download_by_hand(register, tmp_path, refused):
    def splits(self, dl_manager):
        return {
            "train": self._generate_examples("train", len(list(dl_manager.manual_dir.iterdir())))
        }

    register(
        "tiny_manual",
        _split_generators=splits,
        MANUAL_DOWNLOAD_INSTRUCTIONS="Ask for them.\nThen wait.",
    )
    with refused(
        "'tiny_manual' is not prepared in", "not downloaded automatically: Manual directory"
    ):
        load("tiny_manual", data_dir=str(tmp_path))


def test_a_package_that_is_missing(register, tmp_path, refused):
    def generate(self, split, n):
        raise ModuleNotFoundError("No module named 'beam'", name="beam")
        yield

    register("tiny_beam", _generate_examples=generate)
    with refused("'tiny_beam' is not prepared in", "needs the Python package beam"):
        load("tiny_beam", data_dir=str(tmp_path))


def test_a_data_directory_that_cannot_be_written(register, tmp_path, refused):
    (tmp_path / "file").touch()
    register("tiny_stuck")
    with refused("'tiny_stuck'"):
        load("tiny_stuck", data_dir=str(tmp_path / "file"))
