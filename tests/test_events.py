"""TensorBoard event files: what is in them, and how they go on."""

import pytest
from staged import ARCH, run

from jaxnas.events import Events


class Written:
    """A tensorboardX writer that remembers."""

    def __init__(self):
        self.points = []

    def add_scalar(self, *point):
        self.points.append(point)

    def flush(self):
        pass


class TestEvents:
    def test_files_have_the_curves(self, tmp_path):
        pytest.importorskip("tensorboardX")
        run(tmp_path / "run", arch=ARCH, pipeline=["finish"], tensorboard=True)
        files = list((tmp_path / "run" / "tensorboard").iterdir())
        assert len(files) == 1
        written = files[0].read_bytes()
        assert b"finish/train_loss" in written
        assert b"finish/val_accuracy" in written

    def test_a_resumed_run_goes_on_at_its_step_with_what_may_be_missing(self):
        segment = {"stage": "tune", "unit": "segment", "cost": 4}
        entries = [
            {"stage": "rank", "unit": "rows", "score": [1.0]},
            *({**segment, "fitness": [0.5 + k / 10, "nan"]} for k in range(3)),
        ]
        whole, second = Written(), Written()
        heard = Events(whole)
        for entry in entries:
            heard.hear(entry)
        Events(second, entries[:3]).hear(entries[3])
        assert [p for p in whole.points if p[0].startswith("tune/fitness")] == [
            ("tune/fitness/0", 0.5, 1),
            ("tune/fitness/0", 0.6, 2),
            ("tune/fitness/0", 0.7, 3),
        ]
        assert second.points == [p for p in whole.points if p[2] >= 2]

    def test_numbers_are_curves_too(self):
        written = Written()
        Events(written).hear(
            {"stage": "train", "unit": "epoch", "epoch": 7, "loss": 2.5, "arch": "|x|"}
        )
        assert written.points == [("train/loss", 2.5, 7)]
