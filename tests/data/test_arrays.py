import numpy as np
import pytest

from jaxnas.data.load import from_arrays


def test_channels_from_one_to_four(pictures):
    for channels in (1, 2, 3, 4):
        x, y = pictures(channels=channels)
        data = from_arrays(x, y)
        assert data.channels == channels
        assert data.mean.shape == (channels,)


def test_images_without_a_channel_axis_get_one(pictures):
    x, y = pictures(channels=1)
    assert from_arrays(x[..., 0], y).fingerprint == from_arrays(x, y).fingerprint


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.int16, ">i4"])
def test_integers_within_a_byte_become_bytes(pictures, dtype):
    x, y = pictures()
    assert from_arrays(x.astype(dtype), y).fingerprint == from_arrays(x, y).fingerprint


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f8"])
def test_floats_keep_their_scale(pictures, dtype):
    x, y = pictures()
    data = from_arrays((x * 0.25).astype(dtype), y)
    assert data.train.x.dtype == np.float32
    assert data.mean.max() > 1
    assert data.fingerprint == from_arrays((x * 0.25).astype(np.float32), y).fingerprint


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.int8])
def test_labels_of_any_integer_type_or_a_column(pictures, dtype):
    x, y = pictures()
    data = from_arrays(x, y.astype(dtype)[:, None])
    assert data.train.y.dtype == np.int32
    assert data.fingerprint == from_arrays(x, y).fingerprint


def test_lists_are_arrays_too(pictures):
    x, y = pictures(n=9)
    assert from_arrays(x.tolist(), y.tolist()).fingerprint == from_arrays(x, y).fingerprint


def test_images_keep_their_labels(pictures):
    x, y = pictures()
    x[:, 0, 0, 0] = np.arange(30)
    data = from_arrays(x, y)
    seen = []
    for split in (data.train, data.val, data.test):
        np.testing.assert_array_equal(split.y, y[split.x[:, 0, 0, 0]])
        seen += split.x[:, 0, 0, 0].tolist()
    assert sorted(seen) == list(range(30))


def test_a_given_test_set_is_used_as_it_is(pictures):
    x, y = pictures()
    x_test, y_test = x[:7] // 2, y[:7]
    data = from_arrays(x, y, x_test, y_test, val_fraction=0.3)
    np.testing.assert_array_equal(data.test.x, x_test)
    np.testing.assert_array_equal(data.test.y, y_test)
    assert (len(data.train), len(data.val)) == (21, 9)


def test_a_test_set_may_lack_classes(pictures):
    x, y = pictures()
    data = from_arrays(x, y, x[:2], [1, 1])
    assert data.test.y.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((30, 108), ["(30, 108)", "[n, H, W, C]"]),
        ((30,), ["(30,)", "[n, H, W, C]"]),
        ((30, 1, 6, 6, 3), ["(30, 1, 6, 6, 3)"]),
        ((30, 6, 6, 7), ["7 channels", "1 to 4"]),
        ((30, 3, 6, 6), ["6 channels", "channels first", "transpose(0, 2, 3, 1)"]),
        ((0, 6, 6, 3), ["no images"]),
        ((30, 0, 6, 3), ["without pixels"]),
    ],
)
def test_shapes_that_are_refused(shape, says, refused):
    with refused(*says):
        from_arrays(np.zeros(shape, np.uint8), np.arange(30) % 2)


def test_an_array_of_many_channels_last_is_not_called_channels_first(refused):
    with refused("7 channels", "last axis"):
        from_arrays(np.zeros((30, 6, 6, 7), np.uint8), np.arange(30) % 2)


@pytest.mark.parametrize(
    ("dtype", "says"),
    [
        (bool, ["bool", "255"]),
        (np.complex64, ["complex64", "floating"]),
        (object, ["Python objects"]),
        ("U3", ["<U3", "floating"]),
    ],
)
def test_types_that_are_refused(dtype, says, refused):
    with refused(*says):
        from_arrays(np.zeros((30, 6, 6, 3), dtype), np.arange(30) % 2)


def test_integers_beyond_a_byte(refused, pictures):
    x, y = pictures()
    x = x.astype(np.int64)
    x[0] = 4095
    x[1] = -3
    with refused("int64", "from -3 to 4095", "0..255"):
        from_arrays(x, y)


def test_rows_of_different_shapes(refused):
    with refused("x is not one array", "shape"):
        from_arrays([[[1, 2]], [[1, 2, 3]]], [0, 1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted(value, refused, pictures):
    x, y = pictures()
    x = x.astype(np.float32)
    x[20, 1, 2, 0] = x[20, 1, 2, 2] = x[21] = value
    with refused("110 values", "NaN or infinite", "(20, 1, 2, 0)"):
        from_arrays(x, y)


def test_one_bad_value_beyond_the_first_piece(refused, pictures, monkeypatch):
    monkeypatch.setattr("jaxnas.data.dataset.CHUNK_VALUES", 1)
    x, y = pictures()
    x = x.astype(np.float64)
    x[29, 5, 5, 2] = 1e300  # infinite once it is float32
    with refused("1 value that is", "(29, 5, 5, 2)"):
        from_arrays(x, y)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.arange(29) % 3, ["y has 29 labels for 30 images"]),
        (np.arange(30) % 3 * 1.0, ["float64", "integers"]),
        (np.arange(30) % 3 == 0, ["bool", "integers"]),
        (np.eye(3)[np.arange(30) % 3], ["(30, 3)", "argmax"]),
        (np.zeros((30, 2, 2), int), ["(30, 2, 2)"]),
        (np.zeros(30, int), ["All 30 values of y are 0", "two classes"]),
        (np.where(np.arange(30) == 17, -2, np.arange(30) % 3), ["label -2 at position 17"]),
        (np.where(np.arange(30) == 17, 9, np.arange(30) % 3), ["label 9 at position 17", "0..3"]),
        (np.arange(30) % 3 + 1, ["label 3 at position 2", "0..2", "subtract 1"]),
        (["a"] * 30, ["<U1", "integers"]),
    ],
)
def test_labels_that_are_refused(labels, says, refused, pictures):
    with refused(*says):
        from_arrays(pictures()[0], labels)


def test_a_gap_in_the_labels_is_out_of_range(refused, pictures):
    x, y = pictures()
    with refused("label 4 at position 2", "3 distinct labels", "0..2"):
        from_arrays(x, np.where(y == 2, 4, y))


def test_one_class_of_ones_is_refused(refused, pictures):
    with refused("All 30 values of y are 1", "two classes"):
        from_arrays(pictures()[0], np.ones(30, int))


def test_a_class_too_small_to_split(refused, pictures):
    x, y = pictures()
    with refused("'3' has 2", "at least 3"):
        from_arrays(x, np.where(np.arange(30) < 2, 3, y))


def test_test_sets_that_are_refused(refused, pictures):
    x, y = pictures()
    with refused("x_test and y_test belong together"):
        from_arrays(x, y, x)
    with refused("x_test has images of shape (5, 6, 3)", "x of (6, 6, 3)"):
        from_arrays(x, y, x[:, :5], y)
    with refused("x_test is of type float32", "x of uint8"):
        from_arrays(x, y, x.astype(np.float32), y)
    with refused("y_test has label 3 at position 1", "3 classes", "0..2"):
        from_arrays(x, y, x[:2], [0, 3])
    with refused("x_test holds no images"):
        from_arrays(x, y, x[:0], y[:0])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"split_seed": -1}, "split seed is -1"),
        ({"split_seed": 2**32}, "0..4294967295"),
        ({"val_fraction": 0.0}, "validation fraction is 0.0"),
        ({"test_fraction": 1.0}, "test fraction is 1.0"),
        ({"val_fraction": float("nan")}, "validation fraction is nan"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave nothing to train on"),
    ],
)
def test_options_that_are_refused(options, says, refused, pictures):
    with refused(says):
        from_arrays(*pictures(), **options)
