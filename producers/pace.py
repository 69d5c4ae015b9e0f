"""When each event is due: as fast as it goes, by event time, or on a fixed schedule.

In: event times, and a clock that is passed in. Out: waiting, in steps that leave time for other work. Never
shifts the schedule: an event that is late is sent at once, and how late the latest was is kept.
"""

from __future__ import annotations

from collections.abc import Callable

STEP_S = 0.05


class Pace:
    """The schedule of one run.

    Args:
        speed: event time over wall time, such as 100; None for no pacing by event time.
        rate: events a second on a fixed (open-loop) schedule; None for none. Not both.
        clock, sleep: seconds, monotonic; injected by tests.
    """

    def __init__(
        self,
        speed: float | None,
        rate: float | None,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        if speed is not None and rate is not None:
            raise ValueError("speed and rate exclude each other")
        if (speed is not None and not speed > 0) or (rate is not None and not rate > 0):
            raise ValueError("speed and rate must be above 0")
        self._speed, self._rate = speed, rate
        self._clock, self._sleep = clock, sleep
        self._start: float | None = None
        self._first_ts = 0
        self._count = 0
        self.behind_s = 0.0
        """How late the latest event was sent, in seconds; 0 where nothing is paced."""

    @property
    def paced(self) -> bool:
        return self._speed is not None or self._rate is not None

    def wait(self, ts: int, meanwhile: Callable[[], None]) -> None:
        """Return when the next event, of event time `ts` ms, is due; calls `meanwhile` before each sleep."""
        if not self.paced:
            return
        now = self._clock()
        if self._start is None:
            self._start, self._first_ts = now, ts
        if self._rate is not None:
            due = self._start + self._count / self._rate
        else:
            assert self._speed is not None
            due = self._start + (ts - self._first_ts) / 1000 / self._speed
        self._count += 1
        waited = False
        while now < due:
            meanwhile()
            now = self._clock()
            if now < due:
                self._sleep(min(due - now, STEP_S))
                now = self._clock()
            waited = True
        if not waited:
            self.behind_s = max(self.behind_s, now - due)
