"""What comes next, fetched while the batch in hand is worked on, and decoded when it is a whole batch already.

In: how to poll, how to decode. Out: batches in the order of the log. What was read ahead is nothing but read: it is in
no state and behind no offset, and a worker that ends forgets it.

aiokafka asks a broker for nothing more while records of any partition lie undelivered (for up to 100 ms). A worker that
polls between its batches therefore gets the few records that came first, and the rest a whole batch later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from aiokafka import ConsumerRecord

from stream_app.decode import Decoded


@dataclass(frozen=True, slots=True)
class Polled:
    """Records as they came.

    Attributes:
        received_ms: the clock when the first of them did.
        decoded: the same records as columns, where there was time for it.
    """

    records: list[ConsumerRecord]
    received_ms: float
    decoded: Decoded | None = None


class ReadAhead:
    """At most one batch ahead.

    Args:
        poll: the next records, at most so many; none when nothing comes for a while.
        decode: records and the time of their receipt → columns.
        most: how many records are a whole batch at present.
    """

    def __init__(
        self,
        poll: Callable[[int], Awaitable[list[ConsumerRecord]]],
        decode: Callable[[list[ConsumerRecord], float], Decoded],
        most: Callable[[], int],
    ) -> None:
        self._poll, self._decode, self._most = poll, decode, most
        # A thread of its own: kernels release the interpreter, so it decodes while the pipeline's thread learns.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self._task: asyncio.Task[Polled] | None = None
        self._news = asyncio.Event()
        self._records: list[ConsumerRecord] = []
        self._received_ms = 0.0
        self._decoding = 0

    @property
    def waiting(self) -> int:
        """Records that were read and not yet taken."""
        return len(self._records) + self._decoding

    async def take(self) -> Polled:
        """What has come, or else the outcome of the poll that is under way; reading goes on.

        Raises:
            HeadraceError: what polling raised, once all that came before is taken.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._gather(), name="read-ahead")
            self._task.add_done_callback(lambda _: self._news.set())
        while not self._records:
            if self._task.done():
                task, self._task, self._decoding = self._task, None, 0
                return task.result()
            self._news.clear()
            await self._news.wait()
            if not (self._records or self._decoding or self._task.done()):
                break
        records, self._records = self._records, []
        return Polled(records, self._received_ms)

    async def _gather(self) -> Polled:
        """Poll until a batch is whole, and decode it."""
        while (room := self._most() - len(self._records)) > 0:
            records = await self._poll(room)
            if not self._records:
                self._received_ms = time.time() * 1000
            self._records += records
            self._news.set()
            await asyncio.sleep(0)  # a poll need not have waited for anything
        records, self._records = self._records, []
        received_ms, self._decoding = self._received_ms, len(records)
        loop = asyncio.get_running_loop()
        decoded = await loop.run_in_executor(self._thread, self._decode, records, received_ms)
        return Polled(records, received_ms, decoded)

    async def close(self) -> None:
        """Forget what was read ahead."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown()
