from __future__ import annotations

import os
import signal

import pytest

from stream_app.errors import UsageError
from stream_app.worker.failpoints import POINTS, Failpoints


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append(number) if pid == os.getpid() else None)
    return sent


def test_without_a_wish_nothing_happens(kills: list[int]) -> None:
    for point in POINTS:
        Failpoints().reach(point)
    assert kills == []


def test_the_process_dies_where_it_was_asked_to(kills: list[int]) -> None:
    failpoints = Failpoints("6-before")
    failpoints.reach("5-after")
    assert kills == []
    failpoints.reach("6-before")
    assert kills == [signal.SIGKILL]


def test_a_count_is_the_time_at_which_it_dies(kills: list[int]) -> None:
    failpoints = Failpoints("6-after:3")
    for _ in range(2):
        failpoints.reach("6-after")
    assert kills == []
    failpoints.reach("6-after")
    assert kills == [signal.SIGKILL]


@pytest.mark.parametrize("wish", ["6", "6-after:x", "nothing:1"])
def test_a_name_that_is_none_is_refused_with_those_there_are(wish: str) -> None:
    with pytest.raises(UsageError, match="names no failpoint") as refusal:
        Failpoints(wish)
    assert "6-after" in refusal.value.advice
