"""Seconds compiling are counted once, and apart from the rest."""

import jax
import jax.numpy as jnp
import pytest

from jaxnas import timing
from jaxnas.timing import CompileClock, Stopwatch

COMPILE = "/jax/core/compile/backend_compile_duration"
TRACE = "/jax/core/compile/jaxpr_trace_duration"


@pytest.fixture
def time(monkeypatch):
    """A clock that a test sets by hand."""

    class Time:
        now = 100.0

        def perf_counter(self):
            return self.now

    time = Time()
    monkeypatch.setattr(timing, "time", time)
    return time


def heard(clock, time, events):
    for at, event, duration in events:
        time.now = at
        clock._hear(event, duration, fun_name="f")


def test_nested_phases_count_once(time):
    clock = CompileClock()
    heard(clock, time, [(103, TRACE, 1), (105, TRACE, 4), (106, COMPILE, 0.5), (110, COMPILE, 2)])
    assert clock.seconds == pytest.approx(4 + 0.5 + 2)
    assert clock.seconds == pytest.approx(6.5)
    heard(clock, time, [(112, COMPILE, 1)])
    assert clock.seconds == pytest.approx(7.5)


def test_other_events_are_no_time_spent(time):
    clock = CompileClock()
    heard(
        clock,
        time,
        [
            (101, "/jax/compilation_cache/compile_time_saved_sec", 50),
            (102, "/somebody/else", 1),
        ],
    )
    assert clock.seconds == 0


def test_a_lap_splits_wall_time(time):
    clock = CompileClock()
    watch = Stopwatch(clock)
    heard(clock, time, [(104, COMPILE, 3)])
    time.now = 110
    assert watch.lap() == {"run": 7, "compile": 3}
    time.now = 112
    assert watch.lap() == {"run": 2, "compile": 0}


def test_compiling_is_never_more_than_all(time):
    clock = CompileClock()
    heard(clock, time, [(104, COMPILE, 3)])  # before the watch began
    watch = Stopwatch(clock)
    heard(clock, time, [(105, COMPILE, 2.5)])  # as phases of two threads may add up to
    assert watch.lap() == {"run": 0, "compile": 1}


def test_jax_is_heard():
    clock = CompileClock().start()
    try:
        jax.jit(lambda x: x * 17.25 + 1)(jnp.ones(3)).block_until_ready()
        assert clock.seconds > 0
    finally:
        jax.monitoring.unregister_event_duration_listener(clock._hear)
