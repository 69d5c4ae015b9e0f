"""What is read ahead comes once, in order, decoded; what is not taken leaves no trace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from stream_app.read_ahead import ReadAhead


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
    log = Log([1, 2], [3], [4])

    async def work(ahead: ReadAhead) -> None:
        first = await ahead.take()
        ahead.start()
        ahead.start()  # begun already: no second batch
        second, third = await ahead.take(), await ahead.take()
        assert [first.records, second.records, third.records] == [[1, 2], [3], [4]]
        assert (first.decoded, third.decoded) == (None, None)
        assert second.decoded is not None
        assert second.decoded.received_ms == second.received_ms

    with_ahead(log, work)
    assert log.decoded == [[3]]


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

    with_ahead(Log([1, 2, 3]), work)


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
        assert (await ahead.take()).records == [5]

    with_ahead(Log(["broken"], [5]), work)


def test_closing_forgets_what_was_not_taken() -> None:
    log = Log([1], [2])

    async def work(ahead: ReadAhead) -> None:
        ahead.start()

    with_ahead(log, work)
    assert log.decoded == []
