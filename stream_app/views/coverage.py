"""Is every event *covered*, and counted once? Judged from the topics alone, as a consumer on the outside would.

In: the topics `events.dlq`, `recommendations` and the input topics, each read once from beginning to end.
Out: a `Coverage` with every kind counted and the first uncovered events by position. An event is covered
when it was dead-lettered, dropped as a duplicate, or the user's newest record has `sources[topic-partition]`
at or above its offset; an `erase`, when a tombstone of the user was published. Never asks the worker.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from aiokafka import ConsumerRecord

from stream_app.batch.decode import EventDecoder
from stream_app.brokers.topic_reader import TopicReader
from stream_app.settings import Settings
from stream_app.views.watch import Newest

SHOWN = 10
Position = tuple[str, int]
"""topic-partition, offset"""


@dataclass(slots=True)
class Coverage:
    """What became of the events.

    Attributes:
        events: records on the input topics.
        accepted: those that had to be covered by a list.
        counted: the sum over users of `events` in their newest record: equal to `accepted` unless users were
            erased.
        uncovered: how many are not covered, and the first of them as (topic-partition, offset, user).
    """

    events: int = 0
    accepted: int = 0
    counted: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    erased: int = 0
    users: int = 0
    uncovered: int = 0
    examples: list[tuple[str, int, str]] = field(default_factory=list)

    @property
    def counted_once(self) -> bool:
        """Whether the lists count each accepted event once; of erased users there is no list to tell."""
        return self.erased > 0 or self.counted == self.accepted

    @property
    def complete(self) -> bool:
        """Whether every event is accounted for: covered, and counted once."""
        return self.uncovered == 0 and self.counted_once


def source_of(record: ConsumerRecord) -> Position | None:
    """Where a dead letter came from, as its `source` header says: topic-partition-offset."""
    for name, value in record.headers:
        if name == "source":
            lane, _, offset = value.decode(errors="replace").rpartition("-")
            return (lane, int(offset)) if offset.isdigit() else None
    return None


@dataclass(slots=True)
class Ledger:
    """Holds what was published and judges events against it, in the order of each partition."""

    settings: Settings
    newest: Newest = field(default_factory=lambda: Newest(limit=1 << 40))
    dead: set[Position] = field(default_factory=set)
    tombstones: set[str] = field(default_factory=set)
    result: Coverage = field(default_factory=Coverage)
    _missed: defaultdict[str, list[Position]] = field(default_factory=lambda: defaultdict(list))
    _recent: defaultdict[str, deque[int]] = field(init=False)
    _decoder: EventDecoder = field(init=False)

    def __post_init__(self) -> None:
        window = self.settings.models.sequence.recent_ids
        self._recent = defaultdict(lambda: deque(maxlen=window))
        self._decoder = EventDecoder(self.settings.events, self.settings.topics.events)

    def publish(self, record: ConsumerRecord) -> None:
        """Take in a record of `recommendations`."""
        if record.value is None and record.key is not None:
            self.tombstones.add(record.key.decode(errors="replace"))
        self.newest.offer(record.key, record.value)

    def bury(self, record: ConsumerRecord) -> None:
        """Take in a record of `events.dlq`."""
        source = source_of(record)
        if source is not None:
            self.dead.add(source)

    def judge(self, records: Iterable[ConsumerRecord]) -> None:
        """Take in records of the input topics, after all that was published and dead-lettered."""
        alive = []
        for record in records:
            self.result.events += 1
            if (f"{record.topic}-{record.partition}", record.offset) in self.dead:
                self.result.dead_letters += 1
            else:
                alive.append(record)
        decoded = self._decoder.decode(alive, received_ms=0.0)
        for letter in decoded.dead_letters:
            lane = f"{letter.record.topic}-{letter.record.partition}"
            self._missed[f"(refused: {letter.reason})"].append((lane, letter.record.offset))
        erases, event_ids = set(decoded.erases), decoded.event_ids().tolist()
        for row, user in enumerate(decoded.user):
            position = decoded.lane[row].name, decoded.offset[row]
            event_id, recent = event_ids[row], self._recent[user]
            if row in erases:
                self._erase(user, position)
            elif event_id and event_id in recent:
                self.result.duplicates += 1
            else:
                if event_id:
                    recent.append(event_id)
                self.result.accepted += 1
                newest = self.newest.records.get(user)
                if newest is None or newest.sources.get(position[0], -1) < position[1]:
                    self._missed[user].append(position)

    def _erase(self, user: str, at: Position) -> None:
        """A tombstone covers the erasure and all that the user had done before it."""
        self.result.erased += 1
        self._recent.pop(user, None)
        if user in self.tombstones:
            self._missed.pop(user, None)
        else:
            self._missed[user].append(at)

    def conclude(self) -> Coverage:
        """The result, when all records were taken in."""
        missed = sorted((at, user) for user, positions in self._missed.items() for at in positions)
        self.result.uncovered = len(missed)
        self.result.examples = [(lane, offset, user) for (lane, offset), user in missed[:SHOWN]]
        self.result.users = len(self.newest.records)
        self.result.counted = sum(record.events for record in self.newest.records.values())
        return self.result


async def check(reader: TopicReader, settings: Settings) -> Coverage:
    """Read the topics and judge every event that is on them now."""
    ledger = Ledger(settings)
    inputs = [at for topic in settings.topics.events for at in reader.partitions(topic)]
    # The events first: what is published while we read can only cover more of them.
    events = [record async for record in reader.to_end(inputs)]
    async for record in reader.to_end(reader.partitions(settings.topics.dead_letters)):
        ledger.bury(record)
    async for record in reader.to_end(reader.partitions(settings.topics.recommendations)):
        ledger.publish(record)
    ledger.judge(sorted(events, key=lambda record: (record.topic, record.partition, record.offset)))
    return ledger.conclude()
