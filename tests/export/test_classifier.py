import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from export.conftest import CELL, noisy_images, trained
from PIL import ExifTags, Image

from jaxnas.classifier import Classifier, load
from jaxnas.errors import InputError
from jaxnas.search_spaces import get_space
from jaxnas.search_spaces.nasbench201 import NASBench201
from jaxnas.spaces import Size


@pytest.fixture(scope="module")
def classifier(exported: Path) -> Classifier:
    return load(exported)


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "model"))


def edited(folder: Path, **values: object) -> Path:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


def test_probabilities_are_the_networks(classifier, cell):
    x = noisy_images(7, 12, 12, 3, seed=3)
    found = classifier(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, cell.answers(x), atol=1e-5)
    assert np.ptp(found) > 0.01
    np.testing.assert_array_equal(classifier.predict_proba(x), found)
    names = np.asarray(classifier.class_names)
    np.testing.assert_array_equal(classifier.predict(x), names[cell.answers(x).argmax(axis=1)])
    assert classifier.class_names == ("0", "1", "2")
    assert classifier.arch == cell.space.to_string(cell.arch)


def test_one_image_and_many(classifier):
    x = noisy_images(300, 12, 12, 3)
    found = classifier(x)
    assert found.shape == (300, 3)
    np.testing.assert_allclose(classifier(x[299]), found[299], atol=1e-6)
    assert classifier(x[0]).shape == (3,)
    assert str(classifier.predict(x[0])) in classifier.class_names
    assert classifier(x[:0]).shape == (0, 3)


def test_floats_of_uint8_models_are_on_0_to_1(classifier):
    x = noisy_images(3, 12, 12, 3)
    np.testing.assert_allclose(classifier(x / 255), classifier(x), atol=1e-6)
    with pytest.raises(InputError, match=r"values from 0 to 255; expected 0\.\.1, or uint8"):
        classifier(np.linspace(0, 255, 432, dtype=np.float32).reshape(1, 12, 12, 3))
    with pytest.raises(InputError, match="NaN"):
        classifier(np.full((1, 12, 12, 3), np.nan))


def test_files_and_pillow_images(classifier, tmp_path):
    x = noisy_images(2, 12, 12, 3)
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for path, image in zip(paths, x, strict=True):
        Image.fromarray(image).save(path)
    expected = classifier(x)
    np.testing.assert_array_equal(classifier(paths), expected)
    np.testing.assert_allclose(classifier(str(paths[1])), expected[1], atol=1e-6)
    np.testing.assert_allclose(classifier(Image.open(paths[0])), expected[0], atol=1e-6)
    assert classifier([Image.open(p) for p in paths]).shape == (2, 3)


def test_other_sizes_and_modes_are_converted_and_said_once(exported, tmp_path):
    fresh = load(exported)
    image = Image.fromarray(noisy_images(1, 30, 20, 3)[0])
    with pytest.warns(UserWarning, match="another size than 12x12, such as 30x20, were resized"):
        found = fresh(image)
    small = np.asarray(image.resize((12, 12), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(found, fresh(small), atol=1e-6)
    fresh(image)  # said before: a second warning would be an error here
    grey = Image.fromarray(noisy_images(1, 12, 12)[0])
    with pytest.warns(UserWarning, match="mode L were converted to RGB"):
        found = fresh(grey)
    np.testing.assert_allclose(found, fresh(grey.convert("RGB")), atol=1e-6)


def test_a_photo_on_its_side_has_the_size_it_is_seen_in(tmp_path):
    x = noisy_images(60, 8, 12, 3)
    model = trained("nasbench201", x, size=Size(channels=4, cells=(1,), resolution=8))
    fresh = load(model.write(tmp_path / "model", formats=()))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    upright, lying = (tmp_path / f"{name}.jpg" for name in ("upright", "lying"))
    Image.fromarray(noisy_images(1, 12, 8, 3)[0]).save(upright, exif=exif)
    fresh(upright)  # it is 8x12 when it is turned: a warning would be an error here
    Image.fromarray(noisy_images(1, 8, 12, 3)[0]).save(lying, exif=exif)
    with pytest.warns(UserWarning, match="another size than 8x12, such as 12x8, were resized"):
        fresh(lying)


def test_arrays_of_other_sizes_and_channels(exported, cell):
    fresh = load(exported)
    x = noisy_images(2, 20, 16, 3)
    with pytest.warns(UserWarning, match="20x16 pixels were resized to 8x8"):
        found = fresh(x)
    np.testing.assert_allclose(found, cell.answers(x), atol=1e-5)
    with pytest.warns(UserWarning, match="1 channels were converted to 3"):
        found = fresh(x[:, :12, :12, :1])
    np.testing.assert_allclose(found, fresh(np.repeat(x[:, :12, :12, :1], 3, 3)), atol=1e-6)
    alpha = np.concatenate([x, x[..., :1]], axis=3)[:, :12, :12]
    with pytest.warns(UserWarning, match="4 channels were converted to 3"):
        found = fresh(alpha)
    np.testing.assert_allclose(found, fresh(x[:, :12, :12]), atol=1e-6)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4, 5, 3), (2, 12, 12, 2), (2, 12, 0, 3)])
def test_what_is_no_image_is_refused(classifier, shape):
    with pytest.raises(InputError, match="Images"):
        classifier(np.zeros(shape, np.uint8))


def test_a_grey_model_of_floats(tmp_path):
    x = np.random.default_rng(0).random((60, 8, 8, 1), np.float32)
    model = trained("nasbench201", x, size=Size(channels=4, cells=(1,), resolution=8))
    fresh = load(model.write(tmp_path / "model", formats=()))
    np.testing.assert_allclose(fresh(x[:4]), model.answers(x[:4]), atol=1e-5)
    np.testing.assert_array_equal(fresh(x[:4, ..., 0]), fresh(x[:4]))
    assert fresh(x[0, ..., 0]).shape == (3,)
    assert fresh(x[:4] * 1.5).shape == (4, 3)
    with pytest.raises(
        InputError, match=r"from 0 to 255; the model was trained on [\d.e-]+ to 0\.99"
    ):
        fresh(np.linspace(0, 255, 64, dtype=np.float32).reshape(1, 8, 8, 1))
    with pytest.raises(InputError, match="Images are bool"):
        fresh(x[:4] > 0.5)
    image = noisy_images(1, 8, 8)[0]
    with pytest.warns(UserWarning, match="divided by 255"):
        found = fresh(image)
    np.testing.assert_allclose(found, fresh(image / 255), atol=1e-6)
    colour = noisy_images(1, 8, 8, 3)
    with pytest.warns(UserWarning, match="3 channels were converted to 1"):
        found = fresh(colour)[0]
    luma = colour[0] @ np.array([0.299, 0.587, 0.114]) / 255
    np.testing.assert_allclose(found, fresh(luma), atol=1e-5)


def test_a_missing_directory_is_refused(tmp_path, exported):
    with pytest.raises(InputError, match="does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no exported model: there is no model\.json"):
        load(tmp_path)
    with pytest.raises(InputError, match="is no directory"):
        load(exported / "model.json")


def test_damaged_directories_are_refused(copied):
    weights = copied / "weights.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-5])
    with pytest.raises(InputError, match=r"weights\.safetensors is damaged"):
        load(copied)
    weights.unlink()
    with pytest.raises(InputError, match=r"weights\.safetensors is missing"):
        load(copied)
    (copied / "model.json").write_text("{")
    with pytest.raises(InputError, match=r"model\.json is not JSON"):
        load(copied)
    (copied / "model.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        load(copied)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "other"}, "is no model of jaxnas"),
        ({"space": "nasbench202"}, "Unknown search space 'nasbench202'; did you mean nasbench201"),
        ({"arch": "|none~0|"}, "nodes joined by"),
        ({"arch": 3}, "has 3 as arch"),
        ({"class_names": ["a"]}, "fewer than two"),
        ({"colour": 3}, "Unknown key|Unknown .*colour"),
        ({"size": {"channels": 4, "cells": [1, 1]}}, r"lacks size\.resolution"),
        (
            {"arch": CELL.replace("conv_3x3", "conv_1x1")},
            "has nothing as blocks.0.*kernel, but the network",
        ),
        (
            {"size": {"channels": 6, "cells": [1, 1], "resolution": 8}},
            "the network of its model.json",
        ),
        ({"images": 3}, "has 3 at images"),
    ],
)
def test_models_that_do_not_fit_are_refused(copied, values, message):
    with pytest.raises(InputError, match=message):
        load(edited(copied, **values))


def test_values_that_do_not_fit_each_other_are_refused(copied):
    images = json.loads((copied / "model.json").read_text())["images"]
    for wrong in ({"std": [0.0, 1.0, 1.0]}, {"mean": [0.5]}, {"dtype": "int8"}, {"height": 0}):
        with pytest.raises(InputError, match="do not fit each other"):
            load(edited(copied, images=images | wrong))


def test_code_is_not_run_on_a_directorys_word(copied, tmp_path, monkeypatch):
    (copied / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(copied)
    monkeypatch.syspath_prepend(str(copied))
    for place in ("evil:Evil", "os:abort"):
        with pytest.raises(InputError, match=rf"is not run on a directory's word.*{place}"):
            load(edited(copied, space=place))
    assert "evil" not in sys.modules


def test_the_space_can_be_given(copied, cell):
    x = noisy_images(2, 12, 12, 3)
    edited(copied, space="mine:Mine")
    for space in ("nasbench201", NASBench201(), "jaxnas.search_spaces.nasbench201:NASBench201"):
        np.testing.assert_allclose(load(copied, space=space)(x), cell.answers(x), atol=1e-5)


def test_a_description_goes_with_the_model(tmp_path):
    page = Path(__file__).resolve().parents[2] / "docs" / "own_space.md"
    text = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.S)[0]
    path = tmp_path / "net.yaml"
    path.write_text(text)
    model = trained(get_space(str(path)), noisy_images(60, 8, 8, 3))
    folder = model.write(tmp_path / "model", place=str(path), formats=())
    path.unlink()
    x = noisy_images(3, 8, 8, 3)
    np.testing.assert_allclose(load(folder)(x), model.answers(x), atol=1e-5)
    assert json.loads((folder / "model.json").read_text())["space"] == "space.yaml"
    (folder / "space.yaml").write_text(text + "\n# changed\n")
    with pytest.raises(InputError, match=r"space\.yaml is damaged"):
        load(folder)


def test_a_space_of_ones_own_is_named(cell, tmp_path):
    class Mine(NASBench201):
        name = "mine"

    folder = cell.write(tmp_path / "model", space=Mine(), formats=())
    said = json.loads((folder / "model.json").read_text())
    assert said["space"].endswith("Mine")
    with pytest.raises(InputError, match="code of its own"):
        load(folder)
    assert load(folder, space=Mine())(noisy_images(1, 12, 12, 3)).shape == (1, 3)


def program(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jaxnas.predict", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_fresh_program_predicts(exported, classifier, tmp_path):
    x = noisy_images(1, 12, 12, 3)
    Image.fromarray(x[0]).save(tmp_path / "a.png")
    done = program(exported, tmp_path / "a.png", "--json", "--top", 3)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["label"] == str(classifier.predict(x[0]))
    found = dict(said["top"])
    np.testing.assert_allclose([found[k] for k in ("0", "1", "2")], classifier(x)[0], atol=2e-6)
