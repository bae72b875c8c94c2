import json

import numpy as np
import pytest
from PIL import Image

from jaxnas.errors import InputError
from jaxnas.predict import image_files, main, predictions


class Bright:
    """A classifier by brightness: of two classes, the second is the bright one."""

    class_names = ("dark", "bright")
    read = 0

    def decoded(self, path):
        Bright.read += 1
        try:
            with Image.open(path) as image:
                return np.asarray(image.convert("L").resize((4, 4)))
        except OSError:
            raise InputError(f"{path} is not an image that Pillow can read.") from None

    def __call__(self, x):
        bright = x.mean((1, 2)) / 255
        return np.stack([1 - bright, bright], 1).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    for name, grey in (("b/white.png", 255), ("a.jpg", 0), ("c.png", 204)):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), grey).save(path)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    (tmp_path / "photos" / ".hidden").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "photos" / ".hidden" / "d.png")
    return tmp_path / "photos"


@pytest.fixture
def bright(monkeypatch):
    monkeypatch.setattr("jaxnas.classifier.load", lambda directory, space=None: Bright())


def test_folders_are_searched_at_any_depth(folder):
    names = [str(p.relative_to(folder)) for p in image_files([str(folder)])]
    assert names == ["a.jpg", "b/white.png", "c.png"]
    single = image_files([str(folder / "notes.txt")])
    assert [p.name for p in single] == ["notes.txt"]  # what is named is read, whatever its suffix


def test_predictions_by_file(folder):
    rows = predictions(Bright(), image_files([str(folder)]), top=2)
    assert [row["label"] for row in rows] == ["dark", "bright", "bright"]
    assert rows[2]["top"] == [["bright", 0.8], ["dark", 0.2]]
    assert rows[2]["probability"] == 0.8
    assert rows[1]["file"].endswith("b/white.png")


def test_the_table_names_files_once(bright, folder, capsys):
    assert main(["DIR", str(folder), "--top", "2"]) == 0
    out = capsys.readouterr().out
    assert "3 images" in out
    assert out.count("c.png") == 1
    lines = [line.split() for line in out.splitlines()]
    assert [str(folder / "c.png"), "bright", "0.8000"] in lines
    assert ["dark", "0.2000"] in lines


def test_json_is_a_line_an_image(bright, folder, capsys):
    assert main(["DIR", str(folder / "a.jpg"), str(folder / "b"), "--json"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["label"] for row in said] == ["dark", "bright"]


def test_bad_files_are_named_and_skipped_up_to_a_number(bright, folder, capsys):
    for name in ("x.png", "y.png"):
        (folder / name).write_bytes(b"no image")
    assert main(["DIR", str(folder)]) == 2
    assert "x.png is not an image that Pillow can read; --max-bad N" in capsys.readouterr().err
    assert main(["DIR", str(folder), "--max-bad", "1"]) == 2
    err = capsys.readouterr().err
    assert "skipped" in err
    assert "y.png is not an image that Pillow can read; --max-bad 1 allows no more." in err
    assert main(["DIR", str(folder), "--max-bad", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert err.count("skipped") == 2


def test_bad_input_is_one_sentence(bright, folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for words, message in (
        ([str(folder / "c.pgn")], "does not exist; the nearest there: c.png"),
        ([str(tmp_path / "empty")], "holds no images; the suffixes read are .bmp"),
        ([str(folder), "--top", "0"], "--top is 0; it must be at least 1"),
        ([str(folder), "--max-bad", "-1"], "--max-bad is -1; it must be at least 0"),
    ):
        assert main(["DIR", *words]) == 2
        err = capsys.readouterr().err
        assert err.startswith("error:")
        assert message in err
        assert err.count("\n") == 1


def test_a_directory_without_a_model(folder, tmp_path, capsys):
    assert main([str(folder), str(folder)]) == 2
    assert "holds no exported model" in capsys.readouterr().err
