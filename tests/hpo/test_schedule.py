"""What is kept of a run: the best member's line, JSON, replay."""

import numpy as np
import pytest
from populations import MIXED, PLAIN, Climbers

from jaxnas.errors import InputError
from jaxnas.hpo import Replay, Schedule, Space, get_tuner, run, uniform
from jaxnas.hpo.schedule import Event


def event(copy, x, which, units, fitness):
    hyper = np.stack([np.array(x), np.array(x)], axis=1)
    return Event(
        np.array(copy, np.int32), hyper, np.array(which, bool), units, np.array(fitness, float)
    )


HAND = Schedule(
    PLAIN,
    (
        event([-1, -1, -1], [0.1, 0.2, 0.3], [1, 1, 1], 2, [1, 2, 3]),
        event([2, 1, 2], [0.4, 0.2, 0.3], [1, 1, 0], 1, [4, 3, np.nan]),
        event([0, 0, -1], [0.4, 0.5, 0.6], [1, 1, 1], 3, [5, 6, np.nan]),
    ),
)
"""Member 1's line at the end: member 2, then 0, then 1."""


def test_the_best_line_is_followed_back_through_copies():
    assert HAND.best == (2, 1)
    line = HAND.lineage()
    assert [(s.event, s.member, s.units, s.hyper[0], s.fitness) for s in line] == [
        (0, 2, 2, 0.3, 3),
        (1, 0, 1, 0.4, 4),
        (2, 1, 3, 0.5, 6),
    ]
    np.testing.assert_allclose(HAND.values()["x"], [0.3, 0.3, 0.4, 0.5, 0.5, 0.5])
    assert HAND.copies() == [(1, 0, 2), (2, 1, 0)]
    assert HAND.spent == 6 + 2 + 9
    # Who began anew has no past; who was not trained in between only waited.
    assert [s.event for s in HAND.lineage(2, 2)] == [2]
    assert [s.event for s in HAND.lineage(1, 2)] == [0]


def test_json_is_exact(tmp_path):
    result = run(get_tuner("pbt"), Climbers(failing=[2]), MIXED, n=4, units=20, budget=80)
    path = tmp_path / "schedule.json"
    result.schedule.save(path)
    again = Schedule.load(path, MIXED)
    for a, b in zip(again.events, result.schedule.events, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)
            assert np.asarray(x).dtype == np.asarray(y).dtype
    other = Space.of({"x": uniform(0.0, 2.0), "y": uniform(0.0, 1.0)})
    text = HAND.to_json()
    for space, document, said in (
        (other, text, "of another space"),
        (PLAIN, "{}", "not a schedule"),
        (PLAIN, "nonsense", "not a schedule"),
    ):
        with pytest.raises(InputError, match=said):
            Schedule.from_json(document, space)
    with pytest.raises(InputError, match="Cannot read"):
        Schedule.load(tmp_path / "absent.json", PLAIN)


def test_a_line_replays():
    """Members trained by a replay gain what the best one gained after its first height."""
    result = run(get_tuner("pbt"), Climbers(), PLAIN, n=4, units=20, budget=80, seed=3)
    rows = result.schedule.rows()
    assert len(rows) == 20
    assert (rows[1:] != rows[:-1]).any()
    replay = Replay(result.schedule.lineage())
    again = run(replay, Climbers(), PLAIN, n=2, units=20, budget=1000, seed=9)
    assert again.spent == 40
    np.testing.assert_array_equal(again.schedule.rows(), rows)
    values = PLAIN.values(rows)
    gain = (1 - np.abs(values["x"] - 0.7) - np.abs(values["y"] - 0.2)).sum()
    for height, behind in again.population:
        assert behind == 20
        assert height == pytest.approx(gain, abs=0.07)
    longer = run(replay, Climbers(), PLAIN, n=1, units=40, budget=1000)
    np.testing.assert_array_equal(longer.schedule.rows(), np.repeat(rows, 2, axis=0))
    shorter = run(replay, Climbers(), PLAIN, n=1, units=10, budget=1000)
    np.testing.assert_array_equal(shorter.schedule.rows(), rows[::2])


def test_nothing_to_follow_or_replay():
    empty = Schedule(PLAIN, (event([-1], [0.1], [1], 1, [np.nan]),))
    with pytest.raises(InputError, match="everything diverged"):
        empty.lineage()
    with pytest.raises(InputError, match="no line to replay"):
        run(Replay(), Climbers(), PLAIN, n=1, units=1, budget=1)
