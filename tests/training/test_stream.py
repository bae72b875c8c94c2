"""Populations on streamed images against the same ones with all images on the device."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from candidates import ARCHS, CLOSE, HYPER, SEEDS, pick, train
from helpers import assert_trees_close, assert_trees_equal, compilations

from jaxnas.backend import enable_compilation_cache
from jaxnas.errors import InputError
from jaxnas.search_spaces.nasbench201 import NASBench201
from jaxnas.spaces import Size
from jaxnas.training import stream
from jaxnas.training.evaluation import evaluate_population
from jaxnas.training.fidelity import Rung, survivors
from jaxnas.training.hyper import Hyper
from jaxnas.training.layout import Layout
from jaxnas.training.population import TrainingData, init_population
from jaxnas.training.stream import Streamed, StreamedData, evaluate_streamed

pytest.importorskip("grain", reason="the extra stream (grain) is not installed")

N, N_VAL, BATCH = 22, 150, 4
EPOCHS = 3
IMAGE_BYTES = 8 * 8 * 3 * 4


def stored(n, seed):
    """uint8 images of three classes, each bright in a channel of its own, and their labels."""
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % 3).astype(np.int32)
    return (rng.integers(0, 128, (n, 8, 8, 3)) + 127 * np.eye(3)[y][:, None, None]).astype(
        np.uint8
    ), y


def prepare(x):
    return (x.astype(np.float32) / 255 - 0.5) / 0.25


TRAIN, VAL = stored(N, 0), stored(N_VAL, 1)
RESIDENT = TrainingData(
    *(jnp.asarray(a) for a in (prepare(TRAIN[0]), TRAIN[1], prepare(VAL[0]), VAL[1]))
)


class Watched:
    """Stored images that remember which of them were asked for."""

    def __init__(self, x):
        self.x, self.asked = x, []

    def __len__(self):
        return len(self.x)

    def __getitem__(self, indices):
        self.asked.append(indices.copy())
        return self.x[indices]


def streamed(x=TRAIN[0], x_val=VAL[0]):
    return StreamedData(Streamed(x, TRAIN[1], prepare), Streamed(x_val, VAL[1], prepare))


ALL = HYPER._replace(
    flip=np.array([0.5, 0.0, 0.5]),
    shift=np.array([0.0, 1.0, 2.0]),
    cutout=np.array([2.0, 0.0, 3.0]),
    dropout=np.array([0.1, 0.0, 0.3]),
    drop_path=np.array([0.0, 0.2, 0.1]),
    # Batches of 4, 2 and 1: 5, 11 and 22 steps an epoch.
    batch_share=np.array([1.0, 0.5, 0.25]),
)
"""Noise, augmentation and batches of three sizes."""


@pytest.fixture(autouse=True)
def _short_windows(monkeypatch):
    """Two batches long where each of 4 places has its own, so that an epoch has several."""
    monkeypatch.setattr(stream, "WINDOW_BYTES", 4 * 2 * BATCH * IMAGE_BYTES)


@pytest.fixture(scope="module")
def resident(tiny):
    return train(tiny, ALL, epochs=EPOCHS, images=RESIDENT)


def test_windows_are_as_short_as_this_file_means():
    images = streamed().train
    assert images.window(BATCH, N, rows=4) == 8
    assert images.window(BATCH, N) == 24  # 8 batches would be, of which an epoch has 6
    assert images.window(BATCH, 2 * N) == 32
    assert images.window(1000, N) == 1000


class TestTraining:
    def test_as_with_all_images_on_the_device(self, tiny, resident):
        found = train(tiny, ALL, epochs=EPOCHS, images=streamed())
        assert_trees_close(found, resident, **CLOSE)
        assert len({float(m) for m in found[-1][1].train_loss}) == 3

    def test_candidates_of_one_seed_read_the_same_windows(self, tiny, monkeypatch):
        seeds = np.full(4, 7, np.uint32)
        monkeypatch.setattr(stream, "WINDOW_BYTES", 2 * BATCH * IMAGE_BYTES)
        source = Watched(TRAIN[0])
        expected = train(tiny, ALL, seeds=seeds, epochs=2, images=RESIDENT)
        found = train(tiny, ALL, seeds=seeds, epochs=2, images=streamed(source))
        assert_trees_close(found, expected, **CLOSE)
        sizes = [len(a) for a in source.asked[1:]]  # the first is asked for its shape
        assert sorted(sizes) == [6, 6, 8, 8, 8, 8]

    def test_an_epoch_reads_each_image_once_for_each_order(self, tiny):
        source = Watched(TRAIN[0])
        hyper = ALL._replace(batch_share=np.full(3, 0.25))
        train(tiny, hyper, archs=ARCHS[:1], epochs=1, images=streamed(source))
        windows = source.asked[1:]
        assert sorted(np.concatenate(windows)) == list(range(N))
        assert all((np.diff(w) > 0).all() for w in windows)

    def test_in_chunks_too(self, tiny, resident):
        layout = Layout(2, tuple(jax.devices()[:1]))
        found = train(tiny, ALL, epochs=EPOCHS, images=streamed(), layout=layout)
        rows = (0, 1, 2)
        # Another order of additions, which steps of single images soon make more of.
        assert_trees_close(pick(found[:1], *rows), pick(resident[:1], *rows), **CLOSE)

    def test_from_a_memory_mapped_file(self, tiny, resident, tmp_path):
        np.save(tmp_path / "x.npy", TRAIN[0])
        x = np.load(tmp_path / "x.npy", mmap_mode="r")
        assert isinstance(x, np.memmap)
        found = train(tiny, ALL, epochs=1, images=streamed(x))
        expected = train(tiny, ALL, epochs=1, images=RESIDENT)
        assert_trees_close(found, expected, **CLOSE)

    def test_images_that_are_prepared_already(self, tiny):
        data = StreamedData(
            Streamed(prepare(TRAIN[0]), TRAIN[1]), Streamed(prepare(VAL[0]), VAL[1])
        )
        found = train(tiny, epochs=1, images=data)
        assert_trees_close(found, train(tiny, epochs=1, images=RESIDENT), **CLOSE)

    def test_resumed_as_undisturbed(self, tiny):
        whole = train(tiny, ALL, epochs=EPOCHS, images=streamed())
        after_first = jax.tree.map(jnp.asarray, whole[0][0])
        resumed = train(
            tiny, ALL, epochs=EPOCHS, images=streamed(), population=after_first, start_epoch=1
        )
        assert_trees_equal(resumed, whole[1:])

    def test_begun_on_the_device_and_resumed_from_a_stream(self, tiny, resident):
        after_first = jax.tree.map(jnp.asarray, resident[0][0])
        resumed = train(
            tiny, ALL, epochs=EPOCHS, images=streamed(), population=after_first, start_epoch=1
        )
        assert_trees_close(resumed, resident[1:], **CLOSE)

    def test_a_diverging_candidate_is_not_noticed(self, tiny, resident):
        rates = np.array([0.05, np.nan, 0.2])
        found = train(tiny, ALL._replace(learning_rate=rates), epochs=EPOCHS, images=streamed())
        assert_trees_close(pick(found, 0, 2), pick(resident, 0, 2), **CLOSE)
        for _, metrics in found:
            assert all(np.isnan(m[1]) for m in metrics)

    def test_with_nobody_alive_nothing_happens(self, tiny):
        source = Watched(TRAIN[0])
        fresh = init_population(tiny, SEEDS, ARCHS)
        before = jax.tree.map(np.array, fresh)
        found = train(
            tiny, ALL, epochs=1, images=streamed(source), population=fresh, alive=np.zeros(3, bool)
        )
        assert_trees_equal(found[0][0], before)
        assert all(np.isnan(m).all() for m in found[0][1])
        assert len(source.asked) == 1  # for the shape


class TestHalving:
    RUNGS = (Rung(1, 2), Rung(2, 1))

    def judge(self, curves):
        def judge(number, metrics):
            curves.append(metrics)
            return survivors(self.RUNGS, "sotl", curves)

        return judge

    def test_as_with_all_images_on_the_device(self, tiny):
        expected, found, source = [], [], Watched(TRAIN[0])
        settings = {"epochs": EPOCHS, "survivors": self.judge(expected)}
        resident = train(tiny, ALL, images=RESIDENT, **settings)
        settings["survivors"] = self.judge(found)
        assert_trees_close(train(tiny, ALL, images=streamed(source), **settings), resident, **CLOSE)
        assert np.isfinite(found[-1].train_loss).sum() == 1
        # Only what is trained on is read: of the last epoch one order, 22 images at most.
        assert sum(map(len, source.asked[-3:])) <= N

    def test_resumed_as_undisturbed(self, tiny):
        curves = []
        whole = train(tiny, ALL, images=streamed(), epochs=EPOCHS, survivors=self.judge(curves))
        curves = curves[:1]
        resumed = train(
            tiny,
            ALL,
            images=streamed(),
            epochs=EPOCHS,
            population=jax.tree.map(jnp.asarray, whole[0][0]),
            start_epoch=1,
            alive=survivors(self.RUNGS, "sotl", curves),
            survivors=self.judge(curves),
        )
        assert_trees_equal(resumed, whole[1:])


class TestCompilations:
    def test_all_windows_are_one_program_and_another_population_compiles_nothing(self, tiny):
        jax.clear_caches()
        population = init_population(tiny, SEEDS, ARCHS)
        with compilations() as compiled:
            train(tiny, ALL, epochs=EPOCHS, images=streamed(), population=population)
        programs = sorted(name for name in compiled if name.startswith("jit(") and "_" in name)
        assert programs == ["jit(_evaluate)", "jit(_order)", "jit(train_window)"]
        other = Hyper(*(np.asarray(v)[::-1][:2] if np.ndim(v) else v for v in ALL))
        seeds = np.array([3, 4, 5, 6], np.uint32)
        population = init_population(tiny, seeds, ARCHS[:2])
        with compilations() as compiled:
            train(tiny, other, archs=ARCHS[1:], images=streamed(), epochs=2, population=population)
        assert compiled == []


class TestEvaluation:
    @pytest.mark.parametrize("batches", [1, 100])
    def test_as_with_all_images_on_the_device(self, tiny, resident, monkeypatch, batches):
        variables = jax.tree.map(jnp.asarray, resident[-1][0].variables)
        size = batches * stream.EVALUATION_BATCH * IMAGE_BYTES
        monkeypatch.setattr(stream, "WINDOW_BYTES", size)
        which = np.array([True, False, True])
        x, y = stored(300, 2)
        arrays = jnp.asarray(prepare(x)), jnp.asarray(y)
        expected = evaluate_population(tiny, variables, ARCHS, *arrays, which=which)
        found = evaluate_streamed(tiny, variables, ARCHS, Streamed(x, y, prepare), which=which)
        for got, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-5)
            assert np.isnan(got).tolist() == [False, True, False]


TWO_DEVICES = """
import json, sys
sys.path[:0] = sys.argv[1:3]
from test_stream import on_two_devices
print(json.dumps(on_two_devices()))
"""


def on_two_devices():
    """The metrics of each epoch, with windows of two batches."""
    network = NASBench201().network(Size(channels=4, cells=(1,), resolution=8), classes=3)
    assert len(jax.devices()) == 2
    enable_compilation_cache()
    stream.WINDOW_BYTES = 4 * 2 * BATCH * IMAGE_BYTES
    return [np.stack(m).tolist() for _, m in train(network, ALL, epochs=EPOCHS, images=streamed())]


def test_over_two_devices(resident):
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TWO_DEVICES, str(here), str(here.parent)],
        env=os.environ
        | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    dealt = np.array(json.loads(done.stdout.splitlines()[-1]))
    alone = np.array([np.stack(m) for _, m in resident])
    np.testing.assert_allclose(dealt[0], alone[0], **CLOSE)
    # Of the first candidate, whose steps are few, to the end.
    np.testing.assert_allclose(dealt[:, :, 0], alone[:, :, 0], **CLOSE)


class TestRefused:
    def test_without_the_package(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "grain", None)
        with pytest.raises(InputError, match=r"pip install 'jaxnas\[stream\]'"):
            streamed()

    @pytest.mark.parametrize("y", [TRAIN[1][:-1], np.zeros(0, np.int32)])
    def test_another_number_of_labels(self, y):
        with pytest.raises(InputError, match=f"has {N} images and {len(y)} labels; expected as"):
            Streamed(TRAIN[0], y)

    def test_labels_that_are_no_integers(self):
        with pytest.raises(InputError, match="are float32, expected integers"):
            Streamed(TRAIN[0], TRAIN[1].astype(np.float32))

    def test_images_of_three_axes(self, tiny):
        flat = Streamed(TRAIN[0][..., 0], TRAIN[1])
        with pytest.raises(InputError, match=r"to shape \(1, 8, 8\); expected \[1, R, R, C\]"):
            train(tiny, images=StreamedData(flat, flat))

    def test_a_batch_larger_than_the_data(self, tiny):
        with pytest.raises(InputError, match=f"exceeds the {N} training images"):
            train(tiny, images=streamed(), batch_size=N + 1)


def test_what_fits_is_a_quarter_of_the_memory(monkeypatch):
    class Device:
        def __init__(self, limit):
            self.limit = limit

        def memory_stats(self):
            return {"bytes_limit": self.limit}

    monkeypatch.setattr(jax, "local_devices", lambda: [Device(4000), Device(8000)])
    assert stream.fits(1000)
    assert not stream.fits(1001)
    monkeypatch.undo()
    assert stream.fits(1000)
    assert stream.prepared_bytes(10, (8, 8, 3)) == 10 * IMAGE_BYTES
