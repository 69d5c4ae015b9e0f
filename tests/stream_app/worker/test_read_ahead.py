"""What is read ahead comes once, in order, decoded; what is not taken leaves no trace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from stream_app.worker.read_ahead import ReadAhead, ends_of


def at(*offsets: int, partition: int = 0) -> list[Any]:
    return [SimpleNamespace(topic="events", partition=partition, offset=offset) for offset in offsets]


class Log:
    """Batches to poll; the calls that were made."""

    def __init__(self, *batches: list[Any]) -> None:
        self.batches = list(batches)
        self.decoded: list[list[Any]] = []

    async def poll(self) -> list[Any]:
        await asyncio.sleep(0)
        batch = self.batches.pop(0) if self.batches else []
        if batch == ["broken"]:
            raise OSError("the broker went away")
        return batch

    def decode(self, records: list[Any], received_ms: float) -> Any:
        self.decoded.append(records)
        return SimpleNamespace(records=records, received_ms=received_ms)


def with_ahead(log: Log, work: Callable[[ReadAhead], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        ahead = ReadAhead(log.poll, log.decode)
        try:
            await work(ahead)
        finally:
            await ahead.close()

    asyncio.run(run())


def test_batches_come_in_order_and_those_read_ahead_are_decoded() -> None:
    batches = [at(1, 2), at(3), at(4)]
    log = Log(*batches)

    async def work(ahead: ReadAhead) -> None:
        first = await ahead.take()
        ahead.start()
        ahead.start()  # begun already: no second batch
        second, third = await ahead.take(), await ahead.take()
        assert [first.records, second.records, third.records] == batches
        assert [batch.ends for batch in (first, second, third)] == [{("events", 0): n} for n in (3, 4, 5)]
        assert (first.decoded, third.decoded) == (None, None)
        assert second.decoded is not None
        assert second.decoded.received_ms == second.received_ms

    with_ahead(log, work)
    assert log.decoded == [batches[1]]


def test_each_partition_ends_after_its_last_record() -> None:
    records = at(4, 6) + at(9, partition=1) + at(7)
    assert ends_of(records) == {("events", 0): 8, ("events", 1): 10}
    assert ends_of([]) == {}


def test_what_waits_is_counted_until_it_is_taken() -> None:
    async def work(ahead: ReadAhead) -> None:
        assert (ahead.begun, ahead.waiting) == (False, 0)
        ahead.start()
        assert (ahead.begun, ahead.waiting) == (True, 0)
        assert ahead._task is not None
        await asyncio.wait({ahead._task})
        assert ahead.waiting == 3
        await ahead.take()
        assert (ahead.begun, ahead.waiting) == (False, 0)

    with_ahead(Log(at(1, 2, 3)), work)


def test_an_empty_poll_is_an_empty_batch() -> None:
    async def work(ahead: ReadAhead) -> None:
        ahead.start()
        polled = await ahead.take()
        assert (polled.records, polled.decoded) == ([], None)

    with_ahead(Log(), work)


def test_a_poll_that_fails_is_told_where_the_batch_is_taken() -> None:
    async def work(ahead: ReadAhead) -> None:
        ahead.start()
        await asyncio.sleep(0.01)
        assert ahead.waiting == 0
        with pytest.raises(OSError, match="went away"):
            await ahead.take()
        assert (await ahead.take()).ends == {("events", 0): 6}

    with_ahead(Log(["broken"], at(5)), work)


def test_closing_forgets_what_was_not_taken() -> None:
    log = Log(at(1), at(2))

    async def work(ahead: ReadAhead) -> None:
        ahead.start()

    with_ahead(log, work)
    assert log.decoded == []
