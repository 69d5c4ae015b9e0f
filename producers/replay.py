"""Events of a data set to a topic, at the speed of event time, a fixed rate, or as fast as it goes.

In: a `Dataset`. Out: its catalogue on `items` (acknowledged first), then its events on `events`, in order,
keyed by user, with their own event time; a `Summary` of what the broker acknowledged. Never waits for the
worker, and never sends an event of a resumed run twice.

An event's id is the data's hash, its row and the run's id (or the source's own id): should a resumed run repeat one,
the worker drops it, since it is among its user's last 64. A new run, or an old one that is not resumed but sent again
from its beginning, counts as new events.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as StopEvent
from typing import Any

import msgspec
import numpy as np

from producers import resume as runs
from producers.columns import I32, I64, Dataset
from producers.delivery import TOO_LARGE, Delivery, DeliveryError, Outcome, partition_of
from producers.pace import Pace
from stream_app.events import Event, Item
from stream_app.settings import BrokerSettings, TopicSettings

SAVE_EVERY_S = 0.5
REPORT_EVERY_S = 0.1
SHOWN_FAILURES = 5


@dataclass(slots=True)
class Progress:
    """How far a run is; `total` counts the rows of this call."""

    total: int
    sent: int = 0
    acknowledged: int = 0
    failed: int = 0
    event_ts: int = 0


@dataclass(slots=True)
class Summary:
    """What became of a run.

    Attributes:
        run_id: what `--resume` names it by.
        events: rows that the run has in all; `before`, of them, were acknowledged in an earlier session.
        acknowledged, failed: rows of this call; `failures` says why the first failed.
        items: catalogue records acknowledged.
        value_bytes: of the acknowledged events.
        behind_s: how late the latest event was sent, against the schedule.
        finished: every row was acknowledged or refused for good.
    """

    run_id: str
    topic: str
    partitions: int
    idempotent: bool
    events: int
    before: int = 0
    acknowledged: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    items: int = 0
    value_bytes: int = 0
    seconds: float = 0.0
    behind_s: float = 0.0
    finished: bool = False

    @property
    def events_per_s(self) -> float:
        return self.acknowledged / self.seconds if self.seconds > 0 else 0.0


def replay(
    dataset: Dataset,
    broker: BrokerSettings,
    topics: TopicSettings,
    *,
    speed: float | None = None,
    rate: float | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
    limit: int | None = None,
    topic: str | None = None,
    run_id: str | None = None,
    resume: bool = False,
    folder: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: StopEvent | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Summary:
    """Send the events with `from_ms` <= ts < `to_ms`, the first `limit` of them.

    `speed` is event time over wall time (100 for 100x), `rate` a fixed number of events a second; with
    neither, as fast as it goes. `resume` goes on with `run_id`, or with the newest run of these data. `stop`
    ends the run early, with what is under way acknowledged; after that, or an exception, it can be resumed.

    Raises DeliveryError, ResumeError, and ValueError for `speed` with `rate`.
    """
    folder = runs.default_folder() if folder is None else folder
    pace = Pace(speed, rate, clock, sleep)
    topic = topics.events[0] if topic is None else topic
    rows = select(dataset, from_ms, to_ms, limit)
    selection = f"{from_ms}..{to_ms}:{limit}"
    needed = [topic, topics.items] if len(dataset.items) else [topic]
    delivery = Delivery(broker, needed, linger_ms=1 if pace.paced else 20)
    try:
        partitions = delivery.partitions[topic]
        if resume:
            state = runs.load(folder, dataset.sha256, run_id)
            _agree(state, topic, partitions, selection)
        else:
            state = runs.RunState(
                sha256=dataset.sha256,
                run_id=run_id or uuid.uuid4().hex[:8],
                topic=topic,
                partitions=partitions,
                selection=selection,
            )
        run = _Run(
            dataset, delivery, state, runs.path_of(folder, state.sha256, state.run_id), len(rows), clock
        )
        if resume:
            rows = run.remaining(rows, runs.written_since(broker, state))
        run.start(len(rows), on_progress)
        try:
            if not state.items_sent:
                run.send_items(topics.items)
            run.send_events(rows, pace, stop)
        finally:
            run.save()
        return run.summary
    finally:
        delivery.close()


def select(dataset: Dataset, from_ms: int | None, to_ms: int | None, limit: int | None) -> I64:
    """Row numbers with `from_ms` <= ts < `to_ms`, the first `limit` of them."""
    start = 0 if from_ms is None else int(np.searchsorted(dataset.ts, from_ms, side="left"))
    stop = len(dataset) if to_ms is None else int(np.searchsorted(dataset.ts, to_ms, side="left"))
    if limit is not None:
        stop = min(stop, start + limit)
    return np.arange(start, max(start, stop), dtype=np.int64)


def _agree(state: runs.RunState, topic: str, partitions: int, selection: str) -> None:
    if (state.topic, state.partitions) != (topic, partitions):
        raise runs.ResumeError(
            f"run {state.run_id} wrote to {state.topic} with {state.partitions} partitions, and this is {topic} "
            f"with {partitions}",
            "Name the same broker and topic, or start a new run (without --resume).",
        )
    if state.selection != selection:
        raise runs.ResumeError(
            f"run {state.run_id} was started with {_flags(state.selection)}, and is gone on with "
            f"{_flags(selection)}",
            "Give the same flags, or start a new run (without --resume).",
        )


def _flags(selection: str) -> str:
    """A selection as flags: `--from 5 --limit 100`."""
    start, _, rest = selection.partition("..")
    end, _, limit = rest.partition(":")
    given = [
        f"--{name} {value}"
        for name, value in (("from", start), ("to", end), ("limit", limit))
        if value != "None"
    ]
    return " ".join(given) or "neither --from, --to nor --limit"


def _upsert(item: dict[str, Any]) -> Item:
    """A row of `Dataset.items` as the wire has it."""
    return Item(
        item_id=item["item_id"],
        title=item["title"],
        text=item["text"],
        categories=item["categories"] or [],
        tags=item["tags"] or [],
        price=item["price"],
        available=item["available"],
        embeddings={one["name"]: one["vector"] for one in item["embeddings"] or ()},
    )


class _Run:
    """One session of a run: its counters, and the file that keeps its place."""

    def __init__(
        self,
        dataset: Dataset,
        delivery: Delivery,
        state: runs.RunState,
        path: Path,
        events: int,
        clock: Callable[[], float],
    ) -> None:
        self._data, self._delivery, self._state, self._path, self._clock = (
            dataset,
            delivery,
            state,
            path,
            clock,
        )
        self._keys = [user.encode() for user in dataset.user_ids]
        numbers = [partition_of(key, state.partitions) for key in self._keys]
        self._partition: I32 = np.array(numbers, dtype=np.int32)
        self._sizes: dict[int, int] = {}
        self._stuck: set[int] = set()
        self.summary = Summary(state.run_id, state.topic, state.partitions, delivery.idempotent, events)

    def remaining(self, rows: I64, written: set[str]) -> I64:
        """The rows that are neither acknowledged nor in the log already."""
        last = np.array([self._state.mark(p).row for p in range(self._state.partitions)], dtype=np.int64)
        left = rows[rows > last[self._partition[self._data.user[rows]]]]
        if written:
            left = left[[self._event_id(row) not in written for row in left.tolist()]]
        self.summary.before = len(rows) - len(left)
        return left

    def start(self, total: int, on_progress: Callable[[Progress], None] | None) -> None:
        self.save()
        self._progress = Progress(total)
        self._on_progress = on_progress
        self._started = self._saved = self._reported = self._clock()

    def send_items(self, topic: str) -> None:
        """The catalogue, acknowledged before the first event."""
        items = self._data.items
        if len(items):
            partitions = self._delivery.partitions[topic]
            encode = msgspec.json.Encoder().encode
            for number, item in enumerate(items.iter_rows(named=True)):
                key = item["item_id"].encode()
                value = encode(_upsert(item))
                self._delivery.send(topic, key, value, partition_of(key, partitions), number)
            outcomes = self._delivery.drain()
            refused = [o.error for o in outcomes if o.error]
            if refused:
                raise DeliveryError(f"{len(refused)} records were not taken by {topic}: {refused[0]}")
            self.summary.items = len(outcomes)
        self._state.items_sent = True

    def send_events(self, rows: I64, pace: Pace, stop: StopEvent | None) -> None:
        """The rows, in order; then waits for the last acknowledgement."""
        data, state, send = self._data, self._state, self._delivery.send
        encode = msgspec.json.Encoder().encode
        topic, user_ids, item_ids, types = state.topic, data.user_ids, data.item_ids, data.types
        scenarios = [*data.scenarios, None]  # code -1 is the last
        self._started = self._clock()
        every = (data.user, data.item, data.type, data.value, data.ts, data.scenario)
        columns = (rows, *(column[rows] for column in every))
        ended_early = False
        try:
            for row, user, item, kind, value, ts, where in zip(*(c.tolist() for c in columns), strict=True):
                if pace.paced:
                    pace.wait(ts, self._settle)
                if not self._progress.sent % 256:
                    self._settle()
                    if stop is not None and stop.is_set():
                        ended_early = True
                        break
                payload = encode(
                    Event(
                        event_id=self._event_id(row),
                        user_id=user_ids[user],
                        item_id=None if item < 0 else item_ids[item],
                        type=types[kind],
                        value=None if value != value else value,
                        ts=ts,
                        scenario=scenarios[where],
                    )
                )
                self._sizes[row] = len(payload)
                send(topic, self._keys[user], payload, int(self._partition[user]), row)
                self._progress.sent += 1
                self._progress.event_ts = ts
        finally:
            self._account(self._delivery.drain())
            self.summary.seconds = self._clock() - self._started
            self.summary.behind_s = pace.behind_s
            self._report()
        self.summary.finished = state.finished = not ended_early

    def save(self) -> None:
        runs.save(self._path, self._state)

    def _event_id(self, row: int) -> str:
        own = self._data.event_id
        return (own[row] if own else None) or f"{self._state.sha256[:12]}-{row}-{self._state.run_id}"

    def _settle(self) -> None:
        """Take in acknowledgements; save and report when it is time."""
        self._account(self._delivery.outcomes())
        now = self._clock()
        if now - self._saved >= SAVE_EVERY_S:
            self._saved = now
            self.save()
        if now - self._reported >= REPORT_EVERY_S:
            self._reported = now
            self._report()

    def _report(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self._progress)

    def _account(self, outcomes: Iterable[Outcome]) -> None:
        """Count; move each partition's mark over what is settled for good."""
        stuck = ""
        for number, partition, offset, error in outcomes:
            size = self._sizes.pop(number)
            mark = self._state.mark(partition)
            if not error:
                self.summary.acknowledged += 1
                self._progress.acknowledged += 1
                self.summary.value_bytes += size
                if partition not in self._stuck:
                    mark.row, mark.offset = number, offset
                continue
            self.summary.failed += 1
            self._progress.failed += 1
            if len(self.summary.failures) < SHOWN_FAILURES:
                self.summary.failures.append(f"row {number}: {error}")
            if error.startswith(TOO_LARGE):
                if partition not in self._stuck:
                    mark.row = number
            else:
                self._stuck.add(partition)
                stuck = stuck or f"row {number}: {error}"
        if stuck:
            raise DeliveryError(
                f"the broker did not take {stuck}; {self.summary.acknowledged} events were acknowledged",
                f"When it is well again, go on with --resume --run {self._state.run_id}.",
            )
