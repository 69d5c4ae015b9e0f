"""The next batch, fetched and decoded while the one in hand is worked on.

In: how to poll, how to decode. Out: batches in the order of the log. What was read ahead is nothing but read: it is in
no state and behind no offset, and a worker that ends forgets it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from aiokafka import ConsumerRecord

from stream_app.batch.decode import Decoded
from stream_app.store.state import Position


@dataclass(frozen=True, slots=True)
class Polled:
    """Records as they came.

    Attributes:
        received_ms: the clock when they did.
        ends: the offset after the last of each partition.
        decoded: the same records as columns, where there was time for it.
    """

    records: list[ConsumerRecord]
    received_ms: float
    ends: dict[Position, int]
    decoded: Decoded | None = None


def polled(records: list[ConsumerRecord], received_ms: float) -> Polled:
    """Records with their ends, not decoded."""
    return Polled(records, received_ms, ends_of(records))


def ends_of(records: Sequence[ConsumerRecord]) -> dict[Position, int]:
    """The offset after the last record of each partition; those of one partition are in the order of their offsets."""
    return {(record.topic, record.partition): record.offset + 1 for record in records}


class ReadAhead:
    """At most one batch ahead.

    Args:
        poll: the next records; none when nothing comes for a while.
        decode: records and the time of their receipt → columns.
    """

    def __init__(
        self,
        poll: Callable[[], Awaitable[list[ConsumerRecord]]],
        decode: Callable[[list[ConsumerRecord], float], Decoded],
    ) -> None:
        self._poll = poll
        self._decode = decode
        # A thread of its own: kernels release the interpreter, so it decodes while the pipeline's thread learns.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self._task: asyncio.Task[Polled] | None = None

    @property
    def begun(self) -> bool:
        return self._task is not None

    @property
    def waiting(self) -> int:
        """Records that were read ahead and not yet taken."""
        task = self._task
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return 0
        return len(task.result().records)

    def start(self) -> None:
        """Begin with the next batch, if that was not done before."""
        if self._task is None:
            self._task = asyncio.create_task(self._read(), name="read-ahead")

    async def take(self) -> Polled:
        """The next batch, whether or not it was begun before.

        Raises:
            HeadraceError: what polling raised.
        """
        if self._task is None:
            records = await self._poll()
            return polled(records, time.time() * 1000)
        try:
            return await self._task
        finally:
            self._task = None

    async def _read(self) -> Polled:
        records = await self._poll()
        received_ms = time.time() * 1000
        if not records:
            return polled(records, received_ms)
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._decoded, records, received_ms
        )

    def _decoded(self, records: list[ConsumerRecord], received_ms: float) -> Polled:
        return Polled(records, received_ms, ends_of(records), self._decode(records, received_ms))

    async def close(self) -> None:
        """Forget what was read ahead."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown()
