"""Lists and dead letters out, each awaited until the broker has acknowledged it.

In: `Outgoing` and `DeadLetter`. Out: records on `recommendations` and on the dead-letter topic, and how fresh
they were. Never drops one: what a broker that went away did not take is sent again. It never decides what is
sent.

Lists go out a batch for each partition, made here: thousands of futures and callbacks a second, one a record, would
take a tenth of the interpreter's time. What can't be sent so is sent one by one.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError, RecordListTooLargeError
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import RecordMetadata

from stream_app.batch.records import Outgoing
from stream_app.batch.refusals import LOG_APPEND_TIME, MISROUTED, DeadLetter
from stream_app.brokers.connection import client_options, start_client
from stream_app.errors import HeadraceError
from stream_app.settings import Settings
from stream_app.worker.freshness import APPEND, WORKER, WorkerMetrics

log = logging.getLogger(__name__)

KEPT_BYTES = 64 << 10
HEADER_BYTES = 64 << 10
RETRY_S = 0.5
MAX_PENDING = 20_000
BATCH_BYTES = 256 << 10
MAX_KNOWN_KEYS = 200_000

Header = tuple[str, bytes]


class PublishError(HeadraceError):
    """A record can't be published, and never will be as things are."""


@dataclass(slots=True)
class _Sent:
    """A record on its way. `number` is its place in the order of sending."""

    number: int
    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[Header]
    outgoing: Outgoing | None


def letter_headers(letter: DeadLetter) -> list[Header]:
    """Why a record is a dead letter, and where it came from."""
    record = letter.record
    return [
        ("reason", letter.reason.encode()),
        ("field", letter.field.encode()),
        ("detail", letter.detail.encode()[: KEPT_BYTES // 4]),
        ("source", f"{record.topic}-{record.partition}-{record.offset}".encode()),
    ]


def cut_letter(value: bytes, headers: list[Header]) -> tuple[bytes, list[Header]]:
    """The first 64 KB of a value that the topic does not take whole, with its length and sha256."""
    marks = [
        ("truncated", b"true"),
        ("length", str(len(value)).encode()),
        ("sha256", hashlib.sha256(value).hexdigest().encode()),
    ]
    return value[:KEPT_BYTES], headers + marks


class Publisher:
    """Sends in the order of the calls. `acknowledged()` returns once everything sent so far has arrived.

    A record that failed is sent again, unless a newer one with its key has gone out since: a compacted topic
    keeps what was written last, and that must be the newest list.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: WorkerMetrics,
        *,
        clock: Callable[[], float] = lambda: time.time() * 1000,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._producer = AIOKafkaProducer(
            acks="all",
            linger_ms=0,
            max_batch_size=BATCH_BYTES,
            max_request_size=2 * settings.topics.max_message_bytes + HEADER_BYTES,
            **client_options(settings.broker),
        )
        self._number = 0
        self._pending = 0
        self._failed: list[tuple[_Sent, BaseException | None]] = []
        self._newest: dict[tuple[str, bytes | None], int] = {}
        self._done = asyncio.Event()
        self._done.set()
        self._queue: deque[_Sent] = deque()
        self._queued = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None
        self._partitions = _Partitions()
        self._said_misrouted = False

    async def start(self) -> None:
        """Connect.

        Raises:
            BrokerUnreachableError: nobody answers.
        """
        await start_client(self._producer, self._settings.broker)

    async def recommendations(self, outgoing: Iterable[Outgoing]) -> None:
        """Send lists.

        Returns when they are on their way; waits only where MAX_PENDING records are.
        """
        topic = self._settings.topics.recommendations
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_queued(), name="publisher")
            self._sending.add_done_callback(lambda _: self._done.set())
        if self._sending.done():
            self._sending.result()  # what ended it: nothing that is queued now would ever arrive
        for one in outgoing:
            if self._pending >= MAX_PENDING:
                await self._done.wait()
            self._number += 1
            self._started(sent := _Sent(self._number, topic, one.key, one.value, [], one))
            self._queue.append(sent)
            self._queued.set()

    async def dead_letters(self, letters: Iterable[DeadLetter]) -> None:
        """Send dead letters, their bytes untouched."""
        topic = self._settings.topics.dead_letters
        for letter in letters:
            self._metrics.dead_letters.labels(letter.reason).inc()
            if letter.reason == MISROUTED and not self._said_misrouted:
                self._said_misrouted = True
                log.error("%s. More of them are only counted: see topic %s", letter, topic)
            self._number += 1
            key, value, headers = letter.record.key, letter.record.value, letter_headers(letter)
            if key is None and value is None:  # the client takes no such record
                value = b""
                headers.append(("value", b"null"))
            await self._send(_Sent(self._number, topic, key, value, headers, None))

    @property
    def quiet(self) -> bool:
        """Whether all that was sent has arrived, so that `acknowledged` needs no wait."""
        return self._done.is_set() and not self._failed

    async def acknowledged(self) -> None:
        """Until all that was sent has arrived, however long the broker is away.

        Raises:
            PublishError: a record is refused for good.
        """
        while True:
            await self._done.wait()
            if self._sending is not None and self._sending.done():
                self._sending.result()
            if not self._failed:
                self._newest.clear()
                return
            failed, self._failed = self._failed, []
            await asyncio.sleep(RETRY_S)
            for sent, error in sorted(failed, key=lambda pair: pair[0].number):
                if sent.outgoing is not None and self._newest[sent.topic, sent.key] > sent.number:
                    continue
                await self._send(self._again(sent, error))

    async def stop(self) -> None:
        """Close the connection; what is under way is waited for briefly."""
        if self._sending is not None:
            self._sending.cancel()
            with suppress(asyncio.CancelledError):
                await self._sending
        await self._producer.stop()

    # -- lists, a batch for each partition -----------------------------------------------------------------------
    async def _send_queued(self) -> None:
        topic = self._settings.topics.recommendations
        while True:
            await self._queued.wait()
            self._queued.clear()
            queued, self._queue = self._queue, deque()
            try:
                by_partition = self._partitions.split(queued, await self._producer.partitions_for(topic))
            except KafkaError as error:
                self._fail(queued, error)
                continue
            for partition, records in by_partition.items():
                await self._send_batches(topic, partition, records)

    async def _send_batches(self, topic: str, partition: int, records: deque[_Sent]) -> None:
        """Send records of one partition, in order, in as few batches as they fit in."""
        while records:
            batch, group = self._producer.create_batch(), []
            now = int(self._clock())
            while records and batch.append(timestamp=now, key=records[0].key, value=records[0].value):
                group.append(records.popleft())
            batch.close()
            try:
                if not group:  # larger than a batch may be: whether the broker takes it is for it to say
                    one = records.popleft()
                    group.append(one)
                    future = await self._producer.send(one.topic, one.value, key=one.key, headers=one.headers)
                else:
                    future = await self._producer.send_batch(batch, topic, partition=partition)
            except KafkaError as error:
                self._fail(group, error)
            else:
                future.add_done_callback(lambda done, group=group: self._on_done(group, done))

    # -- records one by one --------------------------------------------------------------------------------------
    async def _send(self, sent: _Sent) -> None:
        if self._pending >= MAX_PENDING:
            await self._done.wait()
        self._started(sent)
        try:
            future = await self._producer.send(sent.topic, sent.value, key=sent.key, headers=sent.headers)
        except KafkaError as error:
            self._fail([sent], error)
        except BaseException:
            self._finished(1)
            raise
        else:
            future.add_done_callback(lambda done: self._on_done([sent], done))

    def _started(self, sent: _Sent) -> None:
        self._newest[sent.topic, sent.key] = sent.number
        self._pending += 1
        self._done.clear()

    def _on_done(self, group: Sequence[_Sent], done: asyncio.Future[RecordMetadata]) -> None:
        if done.cancelled():
            self._fail(group, asyncio.CancelledError())
        elif (error := done.exception()) is not None:
            self._fail(group, error)
        else:
            self._finished(len(group))
            self._observe(group, done.result())

    def _fail(self, group: Iterable[_Sent], error: BaseException) -> None:
        """These are to be sent again, one by one."""
        failed = list(group)
        alone = len(failed) == 1
        self._failed += [(sent, error if alone else None) for sent in failed]
        self._finished(len(failed))

    def _finished(self, count: int) -> None:
        self._pending -= count
        if self._pending == 0:
            self._done.set()

    def _observe(self, group: Iterable[_Sent], at: RecordMetadata) -> None:
        stamped = at.timestamp_type == LOG_APPEND_TIME
        for sent in group:
            one = sent.outgoing
            if one is None:
                continue
            appended = [then for then in one.append_ms if then is not None] if stamped else []
            self._metrics.acknowledged(one.reason, [float(at.timestamp - then) for then in appended], APPEND)
            others = len(one.append_ms) - len(appended)
            self._metrics.fresh([self._clock() - one.received_ms] * others, WORKER)

    def _again(self, sent: _Sent, error: BaseException | None) -> _Sent:
        """What to send after this failure; PublishError when nothing would help.

        `error` is None where a whole batch failed: that may have been another record's fault, or its size.
        """
        if error is None:
            return sent
        if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
            if sent.outgoing is None and sent.value is not None and len(sent.value) > KEPT_BYTES:
                sent.value, sent.headers = cut_letter(sent.value, sent.headers)
                return sent
        elif getattr(error, "retriable", False) or isinstance(
            error, KafkaTimeoutError | asyncio.CancelledError
        ):
            return sent
        raise PublishError(
            f"a record of {len(sent.value or b'')} bytes for topic {sent.topic!r} is refused: {error}",
            "See the topic's max.message.bytes and this user's rights (`headrace topics describe`). Nothing "
            "was committed since; the worker redoes it from the log.",
        ) from error


class _Partitions:
    """Which partition a key goes to, as every Kafka client's default has it; what was asked before is remembered."""

    def __init__(self) -> None:
        self._of = DefaultPartitioner()
        self._all: list[int] = []
        self._known: dict[bytes | None, int] = {}

    def split(self, records: Iterable[_Sent], partitions: Iterable[int]) -> dict[int, deque[_Sent]]:
        """Records by partition, in their order."""
        every = sorted(partitions)
        if every != self._all or len(self._known) > MAX_KNOWN_KEYS:
            self._all = every
            self._known.clear()
        found: dict[int, deque[_Sent]] = {}
        for sent in records:
            at = self._known.get(sent.key)
            if at is None:
                at = self._known[sent.key] = self._of(sent.key, every, every)
            found.setdefault(at, deque()).append(sent)
        return found
