"""How long things take, with the time that goes into compiling apart."""

import time
from dataclasses import dataclass, field

# Tracing, lowering and compiling (or fetching from the cache). Others, such as the time that the cache
# is said to have saved, are no time spent.
_PHASES = "/jax/core/compile/"


@dataclass
class CompileClock:
    """Adds up the seconds that JAX traces and compiles; nested phases count once."""

    _intervals: list[tuple[float, float]] = field(default_factory=list)
    _settled: float = 0.0

    def start(self) -> "CompileClock":
        """Listen from now on, for as long as the process lives."""
        from jax import monitoring

        monitoring.register_event_duration_secs_listener(self._hear)
        return self

    def _hear(self, event: str, duration_secs: float, **_: object) -> None:
        if event.startswith(_PHASES):
            now = time.perf_counter()
            self._intervals.append((now - duration_secs, now))

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        end = 0.0
        for start, stop in sorted(self._intervals):
            self._settled += max(0.0, stop - max(start, end))
            end = max(end, stop)
        self._intervals.clear()
        return self._settled


class Stopwatch:
    """Seconds since the last reading: all of them, and those spent compiling."""

    def __init__(self, clock: CompileClock) -> None:
        self._clock = clock
        self._last = (time.perf_counter(), clock.seconds)

    def lap(self) -> dict[str, float]:
        """`{"run": ..., "compile": ...}` since the last lap; their sum is wall time."""
        now = (time.perf_counter(), self._clock.seconds)
        wall, compiling = (b - a for a, b in zip(self._last, now, strict=True))
        self._last = now
        compiling = min(compiling, wall)
        return {"run": wall - compiling, "compile": compiling}
