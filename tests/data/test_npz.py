import zipfile

import numpy as np
import pytest

from jaxnas.data.load import from_arrays, load


@pytest.fixture
def save(tmp_path, pictures):
    """Saves train pictures with whatever else is given (None leaves a key out)."""

    def write(name="images.npz", writer=np.savez, **changed):
        x, y = pictures()
        arrays = {"x_train": x, "y_train": y, **changed}
        path = tmp_path / name
        writer(path, **{key: a for key, a in arrays.items() if a is not None})
        return path

    return write


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
def test_train_alone_is_split(save, pictures, writer):
    data = load(str(save(writer=writer)))
    assert data.name == "images"
    assert data.fingerprint == from_arrays(*pictures()).fingerprint


def test_a_test_set_is_used(save, pictures):
    x, y = pictures(n=9)
    data = load(save(x_test=x, y_test=y[:, None]))
    np.testing.assert_array_equal(data.test.x, x)
    np.testing.assert_array_equal(data.test.y, y)
    assert (len(data.train), len(data.val)) == (24, 6)


def test_validation_and_test_are_both_used(save, pictures):
    x, y = pictures(n=9)
    data = load(save(x_test=x, y_test=y, x_val=x[:6], y_val=y[:6]))
    assert (len(data.train), len(data.val), len(data.test)) == (30, 6, 9)
    np.testing.assert_array_equal(data.train.x, pictures()[0])


def test_validation_alone_is_the_test_set(save, pictures):
    x, y = pictures(n=9)
    data = load(save(x_val=x, y_val=y))
    np.testing.assert_array_equal(data.test.x, x)
    assert (len(data.train), len(data.val)) == (24, 6)


def test_class_names_name_and_count_the_classes(save, refused):
    data = load(save(class_names=np.array(["a", "b", "c", "never seen"])))
    assert data.class_names == ("a", "b", "c", "never seen")
    with refused("label 2 at position 2", "2 classes"):
        load(save(class_names=np.array(["a", "b"])))
    with refused("All 30 values of y_train in"):
        load(save(class_names=np.array(["a", "b"]), y_train=np.zeros(30, int)))
    with refused("class_names", "int64", "string"):
        load(save(class_names=np.arange(3)))
    with refused("class_names", "(1,)"):
        load(save(class_names=np.array(["a"])))


def test_other_keys_are_ignored_unless_nearly_right(save, refused, pictures):
    x, y = pictures(n=9)
    assert len(load(save(mean=np.zeros(3), x_mean=np.zeros(3))).test) == 6
    with refused("unknown key 'x_tset'", "did you mean 'x_test'?"):
        load(save(x_tset=x))
    with refused("unknown key 'X_TEST'", "did you mean 'x_test'?"):
        load(save(X_TEST=x, Y_TEST=y))


def test_missing_keys(save, refused, pictures):
    with refused("no x_train", "it holds xtrain, y_train", "nearest there: xtrain."):
        load(save(x_train=None, xtrain=pictures()[0]))
    with refused("no y_train", "it holds x_train"):
        load(save(y_train=None))
    with refused("x_test but no y_test"):
        load(save(x_test=pictures()[0]))
    with refused("y_val but no x_val"):
        load(save(y_val=pictures()[1]))


def test_arrays_are_named_with_their_file(save, refused):
    with refused("x_train in ", "images.npz", "7 channels", "x_train.transpose"):
        load(save(x_train=np.zeros((30, 3, 6, 7), np.uint8)))


class Payload:
    def __reduce__(self):
        raise AssertionError("pickled objects must never be loaded")


def test_objects_are_not_unpickled(save, refused, pictures):
    with refused("y_train in ", "Python objects", "pickle"):
        load(save(y_train=np.array([{"a": 1}] * 30, dtype=object)))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", ["is empty (0 bytes)"]),
        (b"hello, I am no archive", ["is not an .npz file"]),
        (b"PK\x03\x04 and then no more", ["is truncated"]),
        (b"\x93NUMPY\x01\x00 a single array", ["single array (.npy)", "x_train"]),
        (b"\x80\x04\x95a pickle", ["is not an .npz file"]),
    ],
)
def test_files_that_are_not_archives(tmp_path, refused, content, says):
    path = tmp_path / "images.npz"
    path.write_bytes(content)
    with refused(str(path), *says):
        load(path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_archive(save, refused, kept):
    path = save()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with refused(str(path), "is truncated"):
        load(path)


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
def test_flipped_bytes_are_noticed(save, refused, writer):
    path = save(writer=writer)
    content = bytearray(path.read_bytes())
    content[1000:1010] = bytes(255 - b for b in content[1000:1010])
    path.write_bytes(content)
    with refused("x_train in", "damaged"):
        load(path)


def test_a_broken_table_of_contents(save, refused):
    path = save()
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at : at + 4] = b"XXXX"
    path.write_bytes(content)
    with refused(str(path), "damaged"):
        load(path)


def test_an_array_that_ends_early(tmp_path, refused, save):
    path = save(x_train=None)
    with zipfile.ZipFile(path, "a") as archive, archive.open("x_train.npy", "w") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (30, 6, 6, 3)}
        )
        file.write(b"\0" * 100)
    with refused("x_train in", "damaged"):
        load(path)


def test_a_member_that_is_no_array(tmp_path, refused, save):
    path = save(x_train=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", "text")
    with refused("x_train in", str(path)):
        load(path)


def test_an_archive_without_arrays(tmp_path, refused):
    path = tmp_path / "none.npz"
    with zipfile.ZipFile(path, "w"):
        pass
    with refused("no x_train", "it holds nothing"):
        load(path)


@pytest.mark.parametrize("name", ["cifar10_10k", "fashion_mnist_10k"])
def test_real_files(shared, name):
    data = load(shared / f"{name}.npz")
    assert (len(data.train), len(data.val), len(data.test)) == (8000, 2000, 2000)
    assert data.classes == 10
    assert np.bincount(data.val.y).tolist() == [200] * 10
    assert data.class_names[-1] == {"cifar10_10k": "truck", "fashion_mnist_10k": "Ankle boot"}[name]
    inputs = data.prepare(data.train.x[:500], 16)
    assert inputs.shape == (500, 16, 16, data.channels)
    assert abs(inputs.mean()) < 0.15
    assert 0.7 < inputs.std() < 1.1
