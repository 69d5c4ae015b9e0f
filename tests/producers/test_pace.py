from __future__ import annotations

import pytest

from producers.pace import Pace


class Clock:
    """A clock that moves when someone sleeps, or when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def nothing() -> None:
    """No other work."""


def times(pace: Pace, clock: Clock, event_times: list[int]) -> list[float]:
    """When each event was let through, in seconds after the first."""
    out = []
    for ts in event_times:
        pace.wait(ts, nothing)
        out.append(round(clock.now - 100.0, 6))
    return out


def test_without_a_pace_nothing_waits() -> None:
    clock = Clock()
    assert times(Pace(None, None, clock, clock.sleep), clock, [0, 10**12]) == [0.0, 0.0]


def test_events_come_in_the_rhythm_of_their_time_divided_by_the_speed() -> None:
    clock = Clock()
    pace = Pace(100.0, None, clock, clock.sleep)
    assert times(pace, clock, [5000, 5000, 65_000, 605_000]) == [0.0, 0.0, 0.6, 6.0]
    assert pace.behind_s == 0


def test_a_fixed_rate_ignores_event_time() -> None:
    clock = Clock()
    assert times(Pace(None, 10.0, clock, clock.sleep), clock, [9, 5, 7, 0]) == [0.0, 0.1, 0.2, 0.3]


def test_a_schedule_is_not_moved_by_an_event_that_was_late() -> None:
    clock = Clock()
    pace = Pace(None, 10.0, clock, clock.sleep)
    pace.wait(0, nothing)
    clock.now += 0.25
    assert times(pace, clock, [0, 0, 0]) == [0.25, 0.25, 0.3]
    assert pace.behind_s == pytest.approx(0.15)


def test_other_work_is_done_while_waiting_and_its_time_is_not_slept_again() -> None:
    clock = Clock()
    pace = Pace(None, 1.0, clock, clock.sleep)
    calls: list[float] = []

    def work() -> None:
        calls.append(clock.now)
        clock.now += 0.01

    pace.wait(0, work)
    pace.wait(0, work)
    assert len(calls) > 5
    assert clock.now == pytest.approx(101.0, abs=0.0101)


@pytest.mark.parametrize(("speed", "rate"), [(1.0, 1.0), (0.0, None), (-1.0, None), (None, 0.0)])
def test_a_pace_that_is_none_is_refused(speed: float | None, rate: float | None) -> None:
    clock = Clock()
    with pytest.raises(ValueError, match=r"exclude|above 0"):
        Pace(speed, rate, clock, clock.sleep)
