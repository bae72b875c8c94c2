import numpy as np
import pytest
from PIL import Image

from jaxnas.data.images import physical_memory
from jaxnas.data.load import load


def paint(path, size=(8, 6), mode="RGB", value=None, **options):
    """Saves an image of `size` (width, height); its first pixel is `value` where given."""
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "LA": (2,), "CMYK": (4,)}[mode]
    rng = np.random.default_rng(len(path.name))
    pixels = rng.integers(0, 256, (size[1], size[0], *channels), np.uint8)
    if value is not None:
        pixels[:] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, mode=None).convert(mode).save(path, **options)
    return pixels


@pytest.fixture
def animals(tmp_path):
    """animals/{cat,ant,bee}/0.png ... 5.png, the pixels of class k all 10 k + i."""
    root = tmp_path / "animals"
    for k, name in enumerate(("ant", "bee", "cat")):
        for i in range(6):
            paint(root / name / f"{i}.png", value=10 * k + i)
    return root


def first_pixels(split) -> list[int]:
    return split.x[:, 0, 0, 0].tolist()


def all_first_pixels(data) -> list[int]:
    return [v for split in (data.train, data.val, data.test) for v in first_pixels(split)]


def test_class_folders(animals):
    data = load(animals)
    assert data.name == "animals"
    assert data.class_names == ("ant", "bee", "cat")
    assert data.resolution == (6, 8)
    assert data.channels == 3
    assert (len(data.train), len(data.val), len(data.test)) == (12, 3, 3)
    for split in (data.train, data.val, data.test):
        np.testing.assert_array_equal(split.x[:, 0, 0, 0] // 10, split.y)
    assert sorted(all_first_pixels(data)) == [10 * k + i for k in range(3) for i in range(6)]


def test_pixels_are_those_of_the_files(animals):
    expected = {paint(animals / "ant" / f"{i}.png", size=(8, 6)).tobytes() for i in range(6)}
    data = load(animals)
    everything = [x for s in (data.train, data.val, data.test) for x in s.x[s.y == 0]]
    assert {x.tobytes() for x in everything} == expected


def test_what_is_skipped(animals):
    before = load(animals).fingerprint
    paint(animals / ".hidden" / "0.png")
    paint(animals / "ant" / ".hidden.png")
    (animals / "README.txt").write_text("no image")
    (animals / "ant" / "notes.txt").write_text("no image")
    assert load(animals).fingerprint == before


def test_deeper_folders_and_other_suffixes_count(animals):
    paint(animals / "ant" / "more" / "6.PNG", value=6)
    paint(animals / "ant" / "7.jpeg", value=7)
    paint(animals / "bee" / "8.bmp", value=18)
    paint(animals / "cat" / "9.gif", mode="L", value=29)
    data = load(animals)
    assert len(data.train) + len(data.val) + len(data.test) == 22


def test_the_split_does_not_depend_on_where_the_folder_lies(animals, tmp_path):
    before = load(animals).fingerprint
    assert load(animals.rename(tmp_path / "elsewhere")).fingerprint == before


def test_the_most_common_size_wins(animals):
    paint(animals / "ant" / "6.png", size=(20, 20), value=6)
    paint(animals / "bee" / "6.png", size=(3, 2), value=16)
    data = load(animals)
    assert data.resolution == (6, 8)
    assert {6, 16} <= set(all_first_pixels(data))


def test_the_median_size_where_none_is_common(tmp_path):
    for i, size in enumerate([(4, 10), (5, 30), (9, 20), (20, 40), (30, 21)]):
        paint(tmp_path / "a" / f"{i}.png", size=size)
        paint(tmp_path / "b" / f"{i}.png", size=size)
    assert load(tmp_path).resolution == (21, 9)


def test_resizing_is_antialiased(tmp_path, animals):
    """A board of single black and white pixels, shrunk, is grey and not black or white."""
    board = (np.indices((60, 80)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(animals / "ant" / "0.png")
    data = load(animals)
    every = np.concatenate([s.x for s in (data.train, data.val, data.test)])
    board_image = every[every.max(axis=(1, 2, 3)) > 30]
    assert len(board_image) == 1
    assert np.abs(board_image[0, 1:-1, 1:-1].astype(int) - 128).max() < 4


@pytest.mark.parametrize(
    ("modes", "channels"), [("L L LA RGB", 1), ("RGB RGBA CMYK L", 3), ("L RGB", 3)]
)
def test_the_most_common_mode_wins(tmp_path, modes, channels):
    for name in ("a", "b"):
        for i, mode in enumerate(modes.split()):
            paint(tmp_path / name / f"{i}.tiff", mode=mode)
            paint(tmp_path / name / f"{i}_more.tiff", mode=mode)
    assert load(tmp_path).channels == channels


def test_palettes_with_transparency(animals):
    palette = Image.fromarray(np.full((6, 8, 3), 200, np.uint8)).quantize(4)
    palette.save(animals / "cat" / "6.png", transparency=b"\x80\x00\x00\x00")
    data = load(animals)
    assert 200 in all_first_pixels(data)


def test_orientation_is_applied(tmp_path):
    """Upright is 6x8: stored on its side with the EXIF orientation that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a", "b"):
        for i in range(3):
            paint(tmp_path / name / f"{i}.jpg", size=(8, 6), exif=exif)
    assert load(tmp_path).resolution == (8, 6)


def test_train_and_test_folders(animals, tmp_path):
    root = tmp_path / "split"
    animals.rename(tmp_path / "train")
    root.mkdir()
    (tmp_path / "train").rename(root / "train")
    for i in range(4):
        paint(root / "test" / "cat" / f"{i}.png", size=(16, 12), value=100 + i)
    (root / "annotations").mkdir()
    data = load(root)
    assert data.class_names == ("ant", "bee", "cat")
    assert data.test.y.tolist() == [2] * 4
    assert first_pixels(data.test) == [100, 101, 102, 103]
    assert data.test.x.shape[1:] == (6, 8, 3)
    assert (len(data.train), len(data.val)) == (15, 3)
    for i in range(2):
        paint(root / "valid" / "bee" / f"{i}.png", value=150 + i)
    data = load(root)
    assert first_pixels(data.val) == [150, 151]
    assert data.val.y.tolist() == [1, 1]
    assert (len(data.train), len(data.test)) == (18, 4)


def test_validation_alone_is_the_test_set(animals, tmp_path):
    root = tmp_path / "split"
    root.mkdir()
    animals.rename(root / "train")
    paint(root / "val" / "ant" / "0.png", value=77)
    data = load(root)
    assert first_pixels(data.test) == [77]
    assert (len(data.train), len(data.val)) == (15, 3)


def test_a_class_may_be_called_train(animals):
    (animals / "ant").rename(animals / "train")
    assert load(animals).class_names == ("bee", "cat", "train")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: None, ["is empty", "for each class"]),
        (lambda root: paint(root / "0.png"), ["no class folders", "1 files", "'0.png'"]),
        (lambda root: paint(root / "cat" / "0.png"), ["one class folder only, 'cat'", "two"]),
        (lambda root: paint(root / ".x" / "0.png"), ["is empty"]),
        (
            lambda root: [paint(root / s / "a" / "0.png") for s in ("test", "val")],
            ["has test/, val/ but no train/"],
        ),
        (lambda root: paint(root / "train" / "a" / "0.png"), ["train has one class folder only"]),
    ],
)
def test_folders_without_classes(tmp_path, make, says, refused):
    root = tmp_path / "data"
    root.mkdir()
    make(root)
    with refused(str(root), *says):
        load(root)


def test_a_class_without_images(animals, refused):
    (animals / "dog").mkdir()
    (animals / "dog" / "readme.txt").write_text("soon")
    with refused(str(animals / "dog"), "holds no images", ".png"):
        load(animals)


def test_a_class_with_two_images(animals, refused):
    paint(animals / "dog" / "0.png")
    paint(animals / "dog" / "1.png")
    with refused("'dog' has 2", "at least 3"):
        load(animals)


def test_splits_that_do_not_fit_train(animals, tmp_path, refused):
    root = tmp_path / "split"
    root.mkdir()
    animals.rename(root / "train")
    paint(root / "test" / "Cat" / "0.png")
    with refused("class folder 'Cat' that train/ lacks", "nearest there: cat"):
        load(root)
    (root / "test").rename(root / "val")
    (root / "valid" / "cat").mkdir(parents=True)
    with refused("both val/ and valid/"):
        load(root)


@pytest.mark.parametrize("kept", [0, 0.02, 0.5, 0.9])
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_a_truncated_image_is_named(animals, refused, kept, suffix):
    path = animals / "bee" / f"cut.{suffix}"
    paint(path, size=(64, 64))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with refused(str(path)):
        load(animals)


def test_a_file_that_only_looks_like_an_image(animals, refused):
    path = animals / "bee" / "3.png"
    path.write_text("I am text")
    with refused(str(path), "not an image that Pillow can read"):
        load(animals)


def test_sixteen_bits_are_not_clipped_but_refused(animals, refused):
    path = animals / "ant" / "deep.png"
    Image.fromarray(np.full((6, 8), 40000, np.uint16)).save(path)
    with refused(str(path), "I;16", "8 bits"):
        load(animals)


def test_a_bomb_is_refused(animals, refused, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = animals / "ant" / "big.png"
    paint(path, size=(30, 30))
    with refused(str(path), "too large"):
        load(animals)


def test_images_beyond_the_memory_are_refused_before_decoding(animals, refused, monkeypatch):
    monkeypatch.setattr("jaxnas.data.images.physical_memory", lambda: 5000)
    with refused("GB of memory at 6x8", "make them smaller"):
        load(animals)
    monkeypatch.setattr("jaxnas.data.images.physical_memory", lambda: 6000)
    assert load(animals).classes == 3


def test_the_memory_of_this_machine_is_known():
    assert 2**28 < physical_memory() < 2**48


def test_a_link_to_nothing_is_named(animals, refused):
    path = animals / "cat" / "9.png"
    path.symlink_to(animals / "nowhere.png")
    with refused(str(path), "No such file"):
        load(animals)


class TestBadFiles:
    @pytest.fixture
    def broken(self, animals):
        """Of 18 images two cannot be decoded."""
        (animals / "ant" / "3.png").write_bytes(b"no image")
        whole = (animals / "bee" / "2.png").read_bytes()
        (animals / "bee" / "2.png").write_bytes(whole[: len(whole) // 2])
        return animals

    def test_as_many_as_allowed_are_left_out_and_named(self, broken):
        data = load(broken, max_bad=2)
        assert sorted(all_first_pixels(data)) == sorted(
            10 * k + i for k in range(3) for i in range(6) if (k, i) not in ((0, 3), (1, 2))
        )
        labels = [int(v) for split in (data.train, data.val, data.test) for v in split.y]
        assert labels == [v // 10 for v in all_first_pixels(data)]
        (note,) = data.notes
        assert "2 of 18 image files were left out" in note
        assert "3.png is not an image" in note
        assert "bee/2.png" in note

    def test_one_more_is_an_error(self, broken, refused):
        with refused("2 image files cannot be read, more than data.max_bad 1; the first: "):
            load(broken, max_bad=1)

    @pytest.mark.parametrize("classes", [("ant",), ("ant", "bee", "cat")])
    def test_a_class_of_nothing_else_is_an_error(self, broken, classes, refused):
        for name in classes:
            for path in (broken / name).iterdir():
                path.write_bytes(b"no image")
        with refused("The class folder", str(broken / "ant"), "no image that can be read"):
            load(broken, max_bad=100)

    def test_none_is_allowed_by_default(self, broken, refused):
        with refused("3.png"):
            load(broken)
