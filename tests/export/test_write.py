import hashlib
import json
from pathlib import Path

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
from export.conftest import Trained, noisy_images, trained
from jax import export as jax_export
from safetensors.numpy import load_file

from jaxnas.errors import InputError
from jaxnas.export import write
from jaxnas.search_spaces import SPACES
from jaxnas.spaces import Size


@pytest.fixture(scope="module")
def whole(cell: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cell.write(tmp_path_factory.mktemp("whole") / "deep" / "model")


def shown(cell: Trained, n: int) -> np.ndarray:
    """Images as the programs take them: uint8 at the network's resolution."""
    return noisy_images(n, cell.size.resolution, cell.size.resolution, 3, seed=5)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_onnx_answers_as_the_network_whatever_the_batch(whole, cell, n):
    session = onnxruntime.InferenceSession(whole / "model.onnx")
    (given,) = session.get_inputs()
    assert (given.name, given.type) == ("images", "tensor(uint8)")
    assert given.shape[1:] == [8, 8, 3]
    assert isinstance(given.shape[0], str)
    x = shown(cell, n)
    logits, probabilities = session.run(["logits", "probabilities"], {"images": x})
    assert logits.shape == (n, 3)
    np.testing.assert_allclose(probabilities, cell.answers(x), atol=1e-5)


def test_onnx_has_the_taken_branches_alone(whole):
    model = onnx.load(whole / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    operations = [node.op_type for node in model.graph.node]
    # The stem, the 1x1 and the two 3x3 convolutions of each of two cells, and the block between.
    assert operations.count("Conv") == 1 + 2 * 3 + 3
    assert not {"If", "Loop", "Scan", "Sqrt", "Less", "Range"} & set(operations)


@pytest.mark.parametrize("n", [1, 5])
def test_stablehlo_answers_as_the_network(whole, cell, n):
    program = jax_export.deserialize(bytearray((whole / "model.stablehlo").read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert program.in_avals[0].dtype == np.uint8
    text = program.mlir_module()
    assert "stablehlo.while" not in text
    assert text.count("stablehlo.convolution(") == len(program.platforms) * (1 + 2 * 3 + 3)
    x = shown(cell, n)
    np.testing.assert_allclose(program.call(x)[1], cell.answers(x), atol=1e-5)


def test_weights_are_those_of_the_architecture(whole, cell):
    found = load_file(whole / "weights.safetensors")
    sizes = [v.size for k, v in found.items() if not k.endswith((".mean", ".variance"))]
    row = cell.space.rows(cell.arch[None])
    assert sum(sizes) == cell.network.count(row).params[0]
    assert sum(sizes) < sum(a.size for a in jax.tree.leaves(cell.variables.params)) / 1.5


def test_model_json_says_what_it_is(whole, cell):
    said = json.loads((whole / "model.json").read_text())
    assert said["space"] == "nasbench201"
    assert said["arch"] == cell.space.to_string(cell.arch)
    assert said["size"] == {"channels": 4, "cells": [1, 1], "resolution": 8}
    images = said["images"]
    assert (images["height"], images["width"], images["channels"]) == (12, 12, 3)
    assert (images["dtype"], images["resolution"]) == ("uint8", 8)
    assert images["scale"] == pytest.approx(1 / 255)
    np.testing.assert_allclose(images["mean"], cell.data.mean, rtol=1e-6)
    np.testing.assert_allclose(images["std"], cell.data.std, rtol=1e-6)
    assert set(said["sha256"]) == {"weights.safetensors", "model.onnx", "model.stablehlo"}
    for name, digest in said["sha256"].items():
        assert digest == hashlib.sha256((whole / name).read_bytes()).hexdigest()


def test_formats_are_chosen(exported):
    assert {p.name for p in exported.iterdir()} == {"weights.safetensors", "model.json"}


def test_a_directory_in_use_is_refused_and_left(cell, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"model is in use"):
        cell.write(tmp_path / "model", formats=())
    assert [p.name for p in (tmp_path / "model").iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match=r"mine\.txt is in use"):
        cell.write(tmp_path / "model" / "mine.txt", formats=())


def test_an_empty_directory_is_filled(cell, tmp_path):
    (tmp_path / "model").mkdir()
    cell.write(tmp_path / "model", formats=())
    assert (tmp_path / "model" / "model.json").is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["onnx", "stablehlo"])
def test_other_answers_are_refused_and_nothing_is_left(cell, tmp_path, monkeypatch, name):
    file, made, run = write.PROGRAMS[name]

    def wrong(path: Path, images: np.ndarray) -> tuple[np.ndarray, ...]:
        logits, probabilities = run(path, images)
        return logits, probabilities + np.float32(2e-4) * (np.arange(len(logits)) == 3)[:, None]

    monkeypatch.setitem(write.PROGRAMS, name, (file, made, wrong))
    with pytest.raises(InputError, match=rf"Nothing was exported: the probabilities of {file}"):
        cell.write(tmp_path / "model", formats=(name,))
    assert list(tmp_path.iterdir()) == []


def test_nan_is_no_agreement(cell, tmp_path):
    broken = jax.tree.map(lambda a: a * np.nan, cell.variables.params)
    other = cell._replace(variables=cell.variables._replace(params=broken))
    with pytest.raises(InputError, match="differ from the network's by nan"):
        other.write(tmp_path / "model", formats=())


def test_unknown_formats_are_refused(cell, tmp_path):
    with pytest.raises(InputError, match=r"Unknown export format 'onx'; did you mean onnx"):
        cell.write(tmp_path / "model", formats=("onx",))


def test_a_missing_package_is_named(cell, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jax2onnx", None)
    with pytest.raises(InputError, match=r"needs the package jax2onnx; .*jaxnas\[export\]"):
        cell.write(tmp_path / "model", formats=("onnx",))


SMALL = {"mlp": Size(channels=32, cells=(4,), resolution=1)}


@pytest.mark.parametrize("name", ["mlp"])
def test_tables_export(name, tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 1, 1, 6)).astype(np.float32)
    from jaxnas.data.assemble import Options, Part, assemble

    features = Part(x, np.arange(60) % 3, "x", "y", any_channels=True)
    model = trained("mlp", x[..., :4], size=SMALL["mlp"])
    data = assemble("table", features, options=Options())
    network = model.space.network(model.size, classes=3, image_channels=6)
    variables = network.init(jax.random.key(0))
    model._replace(data=data, network=network, variables=variables).write(tmp_path / "model")
    session = onnxruntime.InferenceSession(tmp_path / "model" / "model.onnx")
    assert session.get_inputs()[0].type == "tensor(float)"
    assert session.get_inputs()[0].shape[1:] == [1, 1, 6]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", SPACES)
def test_every_space_exports(name, seed, tmp_path):
    resolution = 32 if name == "autoformer" else 16
    model = trained(name, noisy_images(90, resolution, resolution, 3), seed=seed)
    model.write(tmp_path / "model")
    x = noisy_images(4, resolution, resolution, 3, seed=9)
    session = onnxruntime.InferenceSession(tmp_path / "model" / "model.onnx")
    if model.network.resolution == resolution:
        np.testing.assert_allclose(
            session.run(["probabilities"], {"images": x})[0], model.answers(x), atol=1e-4
        )
