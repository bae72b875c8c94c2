"""A search whose candidates and winner are trained on streamed images."""

import json
import re
import sys

import pytest
from searching import TINY, Killed, images, journal_of, kill_at

from jaxnas.errors import InputError
from jaxnas.search import search
from jaxnas.stages import job as job_module

pytest.importorskip("grain", reason="the extra stream (grain) is not installed")

SETTINGS = {
    **TINY,
    "quiet": True,
    "rank": {"sample": 30, "proxies": "params"},
    "data": images(120, 12, 12, 1),
}
"""Images of 12x12 pixels, which are made smaller as they are read."""


def streaming(mode):
    return {"data.stream": mode}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same search with images on the device and streamed."""
    return {
        mode: search(
            "nasbench201", out=tmp_path_factory.mktemp(mode) / "run", **SETTINGS, **streaming(mode)
        )
        for mode in ("never", "always")
    }


def test_finds_what_it_finds_with_images_on_the_device(runs):
    resident, streamed = runs["never"], runs["always"]
    assert streamed.arch == resident.arch
    assert streamed.test_accuracy == pytest.approx(resident.test_accuracy, abs=0.05)
    for one, other in zip(resident.trained, streamed.trained, strict=True):
        assert one.arch == other.arch
        assert other.train_loss == pytest.approx(one.train_loss, rel=1e-3)
        assert other.val_accuracy == pytest.approx(one.val_accuracy, abs=0.05)


def test_says_so(runs):
    said = "Images were streamed from the host (data.stream always): prepared they take 0.02 MB."
    for mode, times in (("always", 1), ("never", 0)):
        directory = runs[mode].directory
        assert (directory / "report.html").read_text().count(said) == times
        assert (
            json.loads((directory / "result.json").read_text())["config"]["data"]["stream"] == mode
        )


def test_killed_and_resumed_as_undisturbed(runs, tmp_path, monkeypatch):
    kill_at(monkeypatch, "record", "train epoch", after=True)
    with pytest.raises(Killed):
        search("nasbench201", out=tmp_path / "run", **SETTINGS, **streaming("always"))
    monkeypatch.undo()
    kept = {k: v for k, v in SETTINGS.items() if k in ("data", "quiet")}
    again = search(out=tmp_path / "run", resume=True, **kept)
    whole = runs["always"]
    assert [c.train_loss for c in again.trained] == [c.train_loss for c in whole.trained]
    assert again.test_accuracy == whole.test_accuracy
    epochs = [e for e in journal_of(again.directory) if e["unit"] == "epoch"]
    assert [e["epoch"] for e in epochs] == [1, 2] * 3  # two batches and the winner


def test_by_itself_only_what_does_not_fit(tmp_path, monkeypatch):
    asked = []

    def fits(size):
        asked.append(size)
        return False

    options = {**SETTINGS, "stages": "rank,train", "epochs": 1}
    monkeypatch.setattr(job_module, "fits", fits)
    found = search("nasbench201", out=tmp_path / "run", **options)
    assert "(data.stream auto)" in (found.directory / "report.html").read_text()
    # 72 images to train on and 24 to validate by, of 8x8 float32.
    assert set(asked) == {(72 + 24) * 8 * 8 * 4}
    monkeypatch.undo()
    found = search("nasbench201", out=tmp_path / "small", **options)
    assert "streamed" not in (found.directory / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"data.stream": "sometimes"}, "Unknown stream 'sometimes'; "),
        (
            {"data.stream": "always", "trainer": "spos"},
            "data.stream is always, but trainer spos has its images on the device; expected auto",
        ),
    ],
)
def test_what_is_refused(options, said, tmp_path):
    with pytest.raises(InputError, match=re.escape(said)):
        search("nasbench201", out=tmp_path / "run", **SETTINGS, **options)
    assert not (tmp_path / "run").exists()


def test_without_the_package_a_search_does_not_begin(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(InputError, match=r"pip install 'jaxnas\[stream\]'.*--data.stream never"):
        search("nasbench201", out=tmp_path / "run", **SETTINGS, **streaming("always"))
    assert not (tmp_path / "run").exists()
