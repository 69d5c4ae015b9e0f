"""What is read ahead comes once and in order; a whole batch comes decoded; what is not taken leaves no trace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from stream_app.read_ahead import ReadAhead

MOST = 4


class Log:
    """Records that come when they are told to, and how they were asked for."""

    def __init__(self) -> None:
        self.coming: asyncio.Queue[Any] = asyncio.Queue()
        self.asked: list[int] = []
        self.decoded: list[list[Any]] = []

    async def poll(self, limit: int) -> list[Any]:
        self.asked.append(limit)
        records = await self.coming.get()
        if isinstance(records, Exception):
            raise records
        assert len(records) <= limit
        return list(records)

    def decode(self, records: list[Any], received_ms: float) -> Any:
        self.decoded.append(records)
        return SimpleNamespace(records=records, received_ms=received_ms)

    async def comes(self, *batches: Any) -> None:
        """Let these be polled, and whatever follows from it happen."""
        for batch in batches:
            self.coming.put_nowait(batch)
        for _ in range(5 + 5 * len(batches)):
            await asyncio.sleep(0)


def with_ahead(work: Callable[[ReadAhead, Log], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        log = Log()
        ahead = ReadAhead(log.poll, log.decode, lambda: MOST)
        try:
            await work(ahead, log)
        finally:
            await ahead.close()

    asyncio.run(run())


def test_what_comes_while_a_batch_is_worked_on_is_the_next_batch() -> None:
    async def work(ahead: ReadAhead, log: Log) -> None:
        await log.comes([1])
        assert (await ahead.take()).records == [1]
        await log.comes([2], [3])
        assert ahead.waiting == 2
        polled = await ahead.take()
        assert (polled.records, polled.decoded) == ([2, 3], None)
        assert ahead.waiting == 0
        await log.comes([4])
        assert (await ahead.take()).records == [4]

    with_ahead(work)


def test_a_whole_batch_comes_decoded_and_nothing_is_read_beyond_it() -> None:
    async def work(ahead: ReadAhead, log: Log) -> None:
        await log.comes([1])
        await ahead.take()
        await log.comes([2, 3], [4, 5])
        assert ahead.waiting == 4
        asked = len(log.asked)
        await log.comes([6])
        assert len(log.asked) == asked
        polled = await ahead.take()
        assert polled.records == [2, 3, 4, 5]
        assert polled.decoded is not None
        assert polled.decoded.received_ms == polled.received_ms
        assert log.decoded == [[2, 3, 4, 5]]
        assert (await ahead.take()).records == [6]

    with_ahead(work)


def test_no_more_is_asked_for_than_a_batch_lacks() -> None:
    async def work(ahead: ReadAhead, log: Log) -> None:
        await log.comes([1])
        await ahead.take()
        await log.comes([2], [3, 4])
        assert (log.asked[0], log.asked[-1]) == (MOST, MOST - 3)

    with_ahead(work)


def test_an_empty_poll_is_an_empty_batch() -> None:
    async def work(ahead: ReadAhead, log: Log) -> None:
        await log.comes([])
        polled = await ahead.take()
        assert (polled.records, polled.decoded) == ([], None)

    with_ahead(work)


def test_a_poll_that_fails_is_told_after_what_came_before_it() -> None:
    async def work(ahead: ReadAhead, log: Log) -> None:
        await log.comes([1])
        await ahead.take()
        await log.comes([2], OSError("the broker went away"))
        assert (await ahead.take()).records == [2]
        with pytest.raises(OSError, match="went away"):
            await ahead.take()
        await log.comes([3])
        assert (await ahead.take()).records == [3]

    with_ahead(work)


def test_closing_forgets_what_was_not_taken() -> None:
    async def work(ahead: ReadAhead, log: Log) -> None:
        await log.comes([1])
        await ahead.take()
        await log.comes([2])
        assert log.decoded == []

    with_ahead(work)
