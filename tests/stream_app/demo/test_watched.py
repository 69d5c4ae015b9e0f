"""When a demo's replay counts as worked off, and what becomes of one that takes too long."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
from aiokafka import TopicPartition

from stream_app.children import ChildError
from stream_app.demo import watched
from stream_app.demo.watched import DemoError, Run
from stream_app.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from stream_app.settings import load
from stream_app.views.worker_metrics import Sample


class Replay:
    """A child that has ended with `code`, or runs."""

    def __init__(self, code: int | None) -> None:
        self.code = code
        self.asked = False

    def poll(self) -> int | None:
        return self.code

    def ask_to_end(self) -> None:
        self.asked = True

    def check(self) -> None:
        raise ChildError("the replay ended by itself")


class Reader:
    """A reader of topics that end at 700 and 300."""

    def partitions(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, 0), TopicPartition(topic, 1)]

    async def ends(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict(zip(partitions, (700, 300), strict=True))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run of 5,000 events that has just begun, with its disturbances sent; the clock is at 1,000 s."""
    monkeypatch.setattr(watched.time, "monotonic", lambda: 1000.0)
    made = Run(load({}), Path(), cast(Any, None), 5000, broken=3, repeated=4)
    made.samples.append(Sample(0.0, events=4990, duplicates=4, dead_letters=3))
    return made


def worked_off(run: Run, replay: Replay) -> bool:
    return asyncio.run(watched._worked_off(run, cast(Any, Reader()), cast(Any, replay)))


def test_all_is_worked_off_when_every_event_was_handled_in_one_way_or_another(run: Run) -> None:
    assert not worked_off(run, Replay(EXIT_OK))
    run.samples.append(Sample(1.0, events=5000, duplicates=4, dead_letters=3))
    assert worked_off(run, Replay(EXIT_OK))
    assert not worked_off(run, Replay(None))


def test_nothing_is_worked_off_before_the_disturbances_were_sent(run: Run) -> None:
    run.samples.append(Sample(1.0, events=5000, dead_letters=9))
    run.repeated = 0
    assert not worked_off(run, Replay(EXIT_OK))
    run.broken, run.repeated = 0, 4
    assert not worked_off(run, Replay(EXIT_OK))


def test_a_replay_that_takes_too_long_is_asked_to_end(run: Run) -> None:
    replay = Replay(None)
    worked_off(run, replay)
    assert not replay.asked
    run.started_s = 1000.0 - watched.REPLAY_S - 1
    worked_off(run, replay)
    assert replay.asked


def test_a_replay_is_also_asked_to_end_when_the_worker_will_not_be_done_in_time(run: Run) -> None:
    run.started_s = 1000.0 - watched.REPLAY_S + 50
    run.samples += [Sample(10.0, events=1000), Sample(40.0, events=4000, lag=4000)]
    in_time, late = Replay(None), Replay(None)
    worked_off(run, in_time)
    run.samples.append(Sample(41.0, events=4100, lag=6000))
    worked_off(run, late)
    assert (in_time.asked, late.asked) == (False, True)


def test_what_was_sent_by_then_is_the_demo(run: Run) -> None:
    run.samples.append(Sample(1.0, events=993, duplicates=4, dead_letters=3))
    assert worked_off(run, Replay(EXIT_INTERRUPTED))
    assert (run.cut_short, run.events) == (True, 993)


def test_a_replay_that_failed_ends_the_demo(run: Run) -> None:
    with pytest.raises(ChildError):
        worked_off(run, Replay(EXIT_FAILED))


def test_a_worker_that_is_never_done_is_given_up(run: Run) -> None:
    run.started_s = 1000.0 - watched.LONGEST_S - 1
    with pytest.raises(DemoError, match="--events"):
        worked_off(run, Replay(EXIT_OK))
