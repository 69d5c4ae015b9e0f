"""Consumers for people: one user's newest list, and the updates as they are published.

In: the topics `recommendations`, `items` and `events`. Out: `recommend` gives an `Answer`; `watch` prints.
Of a user's records the highest revision counts, and of equal ones (a redo after a crash) the first.
Never asks the worker: what is shown is what was published.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

import msgspec
from rich.console import Console

from producers.delivery import partition_of
from stream_app.brokers.topic_reader import TopicReader, open_reader
from stream_app.events import (
    VERSION,
    Because,
    Item,
    Recommendation,
    RecommendedItem,
)
from stream_app.settings import Settings
from stream_app.views import list_view

POPULAR_EVENTS = 5000
"""Events at the end of the log from which it is counted what is popular."""
LINES_PER_S = 10

_recommendation = msgspec.json.Decoder(Recommendation)
_item = msgspec.json.Decoder(Item)


@dataclass(slots=True)
class Answer:
    """What is recommended to a user, and from what: `record` is None for a user who has no list."""

    user: str
    items: list[RecommendedItem]
    titles: dict[str, str]
    record: Recommendation | None
    note: str = ""


@dataclass(slots=True)
class Newest:
    """The newest record of each user among those that were offered, for `limit` users at most."""

    limit: int = 200_000
    records: dict[str, Recommendation] = field(default_factory=dict)
    unreadable: int = 0

    def offer(self, key: bytes | None, value: bytes | None) -> Recommendation | None:
        """Take a record in; gives it back when it is now the user's newest. A tombstone forgets the user."""
        if key is None or value is None:
            self.records.pop((key or b"").decode(errors="replace"), None)
            return None
        try:
            record = _recommendation.decode(value)
        except msgspec.MsgspecError:
            self.unreadable += 1
            return None
        known = self.records.get(record.user_id)
        if record.v > VERSION:
            self.unreadable += 1
            return None
        if known is not None and known.revision >= record.revision:
            return None
        if known is None and len(self.records) >= self.limit:
            del self.records[next(iter(self.records))]
        self.records[record.user_id] = record
        return record


def recommend(settings: Settings, user: str, scenario: str | None = None) -> Answer:
    """The newest list of a user, read from the one partition that holds the user's records.

    Who has none is told what is popular, in this scenario where one is given.
    """
    return asyncio.run(_recommend(settings, user, scenario))


async def _recommend(settings: Settings, user: str, scenario: str | None) -> Answer:
    async with open_reader(settings) as reader:
        record = await newest_of(reader, settings.topics.recommendations, user)
        if record is not None:
            wanted = {item.item_id for item in record.items} | {
                item.because.item_id for item in record.items if item.because.item_id is not None
            }
            return Answer(user, record.items, await titles(reader, settings, wanted), record)
        items, counted = await popular(reader, settings, scenario)
        where = f" in {scenario!r}" if scenario else ""
        if scenario and not items:
            items, counted = await popular(reader, settings)
            where = f" everywhere, since nothing happened{where} lately"
        note = (
            f"User {user!r} has no list yet. This is what is popular{where}, over {counted:,} recent events."
            if items
            else f"User {user!r} has no list yet, and nothing is popular: there are no events."
        )
        return Answer(user, items, await titles(reader, settings, {i.item_id for i in items}), None, note)


async def newest_of(reader: TopicReader, topic: str, user: str) -> Recommendation | None:
    """The user's newest record; where the partition of the key's hash has none, the others are searched too.

    The worker publishes to the partition number that the events came from, and a producer may use another
    hash than Kafka's default.
    """
    partitions = reader.partitions(topic)
    key = user.encode()
    likely = partitions[partition_of(key, len(partitions))]
    for group in ([likely], [at for at in partitions if at != likely]):
        newest = Newest()
        async for record in reader.to_end(group):
            if record.key == key:
                newest.offer(record.key, record.value)
        if user in newest.records:
            return newest.records[user]
    return None


async def titles(reader: TopicReader, settings: Settings, wanted: set[str] | None = None) -> dict[str, str]:
    """Titles by item id out of the catalogue; with `wanted`, of those only (fewer partitions are read)."""
    partitions = reader.partitions(settings.topics.items)
    keys = None if wanted is None else {item.encode() for item in wanted}
    if keys is not None:
        partitions = sorted({partitions[partition_of(key, len(partitions))] for key in keys})
    known: dict[str, str] = {}
    async for record in reader.to_end(partitions):
        if record.key is not None and (keys is None or record.key in keys):
            learn_title(known, record.key, record.value)
    return known


def learn_title(known: dict[str, str], key: bytes, value: bytes | None) -> None:
    """Take a record of `items` in; one that can't be read leaves its item without a title."""
    item_id = key.decode(errors="replace")
    if value is None:
        known.pop(item_id, None)
        return
    try:
        item = _item.decode(value)
    except msgspec.MsgspecError:
        return
    if item.title:
        known[item_id] = item.title


async def popular(
    reader: TopicReader, settings: Settings, scenario: str | None = None, k: int = 10
) -> tuple[list[RecommendedItem], int]:
    """The items with the most weight at the end of the log, and how many events were counted: those of a scenario."""
    # Not at the top: decoding loads the compiled kernels' package, a second that a known user need not wait.
    from models.vocabulary import parted
    from stream_app.batch.decode import EventDecoder

    partitions = [at for topic in settings.topics.events for at in reader.partitions(topic)]
    share = -(-POPULAR_EVENTS // len(partitions))
    records = [record async for record in reader.to_end(partitions, last=share)]
    events = EventDecoder(settings.events, settings.topics.events).decode(records, time.time() * 1000)
    weight: defaultdict[str, float] = defaultdict(float)
    counted = 0
    for item, kind in zip(events.item, events.kind, strict=True):
        if scenario and parted(kind)[1] != scenario:
            continue
        counted += 1
        if item:
            weight[item] += settings.events.weight_of(kind)
    best = sorted(((w, item) for item, w in weight.items() if w > 0), key=lambda pair: (-pair[0], pair[1]))[
        :k
    ]
    because = Because(text="popular now")
    return [
        RecommendedItem(item_id=item, score=w / counted, source="popularity", because=because)
        for w, item in best
    ], counted


def watch(settings: Settings, user: str | None, console: Console) -> None:
    """Print updates as they are published, until interrupted; those of one user in full."""
    asyncio.run(_watch(settings, user, console))


async def _watch(settings: Settings, user: str | None, console: Console) -> None:
    async with open_reader(settings) as reader:
        topic = settings.topics.recommendations
        starts = await reader.ends(reader.partitions(topic))
        starts |= await reader.ends(reader.partitions(settings.topics.items))
        names = await titles(reader, settings)
        printer = Printer(console, names, user)
        if user is not None:
            printer.begin(await newest_of(reader, topic, user))
        console.print(f"waiting for updates on {topic} at {settings.broker.url} (Ctrl-C ends)", style="dim")
        clock = asyncio.get_running_loop()
        async for records in reader.follow(starts):
            printer.tick(clock.time())
            for record in records:
                if record.topic == topic:
                    printer.take(record.key, record.value)
                elif record.key is not None:
                    learn_title(names, record.key, record.value)


class Printer:
    """Prints updates: those of one user in full with what is new on the list, those of all in a line each.

    Of all users at most `LINES_PER_S` lines are printed a second, and it is said how many more there were.
    """

    def __init__(self, console: Console, names: dict[str, str], user: str | None = None) -> None:
        self.console = console
        self.names = names
        self.user = user
        self.newest = Newest()
        self._second = 0.0
        self._printed = self._held_back = 0

    def begin(self, record: Recommendation | None) -> None:
        """Show the list that the user has before the first update."""
        if record is None:
            self.console.print(f"user {self.user} has no list yet", markup=False)
            return
        self.newest.records[record.user_id] = record
        self._show(record, frozenset())

    def take(self, key: bytes | None, value: bytes | None) -> None:
        """Print a record of `recommendations`, if it is its user's newest."""
        if self.user is not None and key != self.user.encode():
            return
        before = self.newest.records.get(self.user or "")
        update = self.newest.offer(key, value)
        if self.user is not None:
            if value is None:
                self.console.print(f"user {self.user} was erased", markup=False)
            elif update is not None:
                had = {item.item_id for item in before.items} if before else set()
                self._show(update, {i.item_id for i in update.items} - had if before else set())
        elif update is not None and self._printed < LINES_PER_S:
            self._printed += 1
            said = list_view.line(update, self.names)
            self.console.print(said, highlight=False, markup=False, no_wrap=True, overflow="ellipsis")
        elif update is not None:
            self._held_back += 1

    def tick(self, now_s: float) -> None:
        """Once a second: say how many updates were not printed, and print again."""
        if now_s - self._second < 1.0:
            return
        if self._held_back:
            self.console.print(f"          … and {self._held_back:,} more", style="dim")
        self._second, self._printed, self._held_back = now_s, 0, 0

    def _show(self, record: Recommendation, fresh: Collection[str]) -> None:
        heading = list_view.headline(record)
        self.console.print(heading, style="bold", markup=False, highlight=False, soft_wrap=True)
        self.console.print(list_view.table(record.items, self.names, fresh=fresh))
        self.console.print()
