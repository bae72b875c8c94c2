"""Milliseconds of an image: the median of several runs, one program for all architectures."""

from functools import partial
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import compilations

from jaxnas import latency
from jaxnas.latency import TIMES, milliseconds

ROWS = np.array([[3, 3, 3, 3, 3, 3], [0, 0, 0, 1, 0, 0], [2, 1, 4, 0, 2, 3]], np.int32)


def test_another_architecture_compiles_nothing(tiny, variables):
    images = jnp.ones((2, 8, 8, 3))
    found = list(milliseconds(tiny, variables, ROWS[:1], images))
    with compilations() as compiled:
        found += milliseconds(tiny, variables, ROWS, images)
    assert compiled == []
    assert len(found) == 4
    assert all(np.isfinite(ms) and ms > 0 for ms in found)


def test_the_median_of_the_runs_after_the_first_by_image(tiny, variables, monkeypatch):
    laps = [
        50.0,
        3.0,
        1.0,
        9.0,
        2.0,
        7.0,
    ]  # the first is left out, and 3 is the median of the others
    assert len(laps) == TIMES + 1
    begun_and_ended = np.cumsum([t for lap in 2 * laps for t in (1.0, lap)]).tolist()
    clock = SimpleNamespace(perf_counter=partial(next, iter(begun_and_ended)))
    monkeypatch.setattr(latency, "time", clock)
    found = list(milliseconds(tiny, variables, ROWS[:2], jnp.ones((4, 8, 8, 3))))
    assert found == pytest.approx([1000 * 3.0 / 4] * 2)
