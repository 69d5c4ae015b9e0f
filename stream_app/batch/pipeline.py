"""A batch's way: decode → load its users → learn → list → records.

In: records of the input topics, the recommender, and a way to load user rows. Out: `Processed`: records
to publish and dead letters; the recommender has learned. Never talks to a broker and never commits.

A batch is cut at each `erase` and at `MAX_BATCH` events. A user gets one list a batch, after their last
accepted event, or one after each (`worker.one_list_per_event`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from models.base import DUPLICATE, LATE, U64, Bool, Lists
from models.state.sequences import MAX_BATCH
from models.state.user_rows import TOPICS
from stream_app.batch.admission import Admission
from stream_app.batch.catalogue_feed import AppliedItems, CatalogueFeed
from stream_app.batch.decode import Decoded, EventDecoder
from stream_app.batch.event_columns import EventColumns, Stretch
from stream_app.batch.records import CATCH_UP, EVENT, NOT_RERANKED, REFRESH, Outgoing, Progress, RecordWriter
from stream_app.batch.refusals import (
    MISROUTED,
    DeadLetter,
    Record,
    RecordError,
    append_time,
    shown,
)
from stream_app.errors import UsageError
from stream_app.settings import Settings

if TYPE_CHECKING:
    from models.pipeline.recommender import Recommender


@dataclass(slots=True)
class Processed:
    """What became of a batch.

    Attributes:
        taken: records that were dealt with, from the first. It is fewer than there were when more users than
            `models.max_cached_users` have changes that no commit has taken: commit, then bring the rest.
        counts: records, events, accepted, late, duplicate, erased, dead_letter, lists.
    """

    taken: int
    recommendations: list[Outgoing] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Work:
    """A batch on its way.

    Attributes:
        marks: events after which a list is wanted, bool [n].
        progress: how far the user of each slot is known.
        waiting: slots of users with accepted events that no list shows yet.
    """

    decoded: Decoded
    event_ids: U64
    marks: Bool
    received_ms: float
    rerank: bool
    reason: str
    lists: bool
    per_event: bool
    out: Processed
    progress: dict[int, Progress] = field(default_factory=dict)
    waiting: dict[int, None] = field(default_factory=dict)


class Pipeline:
    """Takes batches through the recommender.

    Args:
        load_users: (partition, user ids) → their rows in the state, None for those without.
        partitions: how many the input topics have (see `Admission`).
        clock: now, in ms.

    Raises:
        UsageError: more input topics than a user's row has room for.
    """

    def __init__(
        self,
        settings: Settings,
        recommender: Recommender,
        load_users: Callable[[int, list[str]], list[bytes | None]],
        *,
        partitions: int = 1,
        clock: Callable[[], float] = lambda: time.time() * 1000,
    ) -> None:
        topics = settings.topics.events
        if len(topics) > TOPICS:
            raise UsageError(
                f"topics.events names {len(topics)} topics; a user's row holds the offsets of {TOPICS}",
                "Merge topics, or run another worker with a group and a state folder of its own.",
            )
        self.settings = settings
        self.recommender = recommender
        self.clock = clock
        self.decoder = EventDecoder(settings.events, topics)
        self.feed = CatalogueFeed(recommender.catalogue, settings.models.max_items)
        self.admission = Admission(recommender.users, load_users, partitions)
        self.columns = EventColumns(recommender, self.admission, self.feed, settings.events)
        self.writer = RecordWriter(recommender.credits, topics, recommender.catalogue, self.feed.title, clock)

    def apply_items(self, records: Iterable[Record]) -> AppliedItems:
        """Take in records of the `items` topic."""
        return self.feed.apply(records)

    def refresh(self, user_ids: Iterable[str]) -> list[Outgoing]:
        """New lists, without an event, for those of these users who are in memory; to be told once `published`."""
        users = self.recommender.users
        found = (users.slot(user) for user in dict.fromkeys(user_ids))
        slots = [slot for slot in found if slot >= 0]
        progress = {slot: self._progress(slot) for slot in slots}
        before = [users.shown(slot) for slot in slots]
        lists = self._refreshed(slots, progress, REFRESH, self.clock())
        for one, slot, published in zip(lists, slots, before, strict=True):
            one.served = users.shown(slot)
            users.show(slot, published)
        return lists

    def published(self, lists: Iterable[Outgoing]) -> None:
        """These refreshed lists are what their users are shown, but for those who got newer ones since."""
        users = self.recommender.users
        for one in lists:
            slot = users.slot(one.user_id)
            if slot >= 0 and one.served is not None and users.revision(slot) == one.revision:
                users.show(slot, one.served)

    def process(
        self,
        records: Sequence[Record],
        *,
        received_ms: float,
        decoded: Decoded | None = None,
        rerank: bool = True,
        coalesce: bool = False,
        lists: bool = True,
    ) -> Processed:
        """Learn from a batch, and list.

        Args:
            records: of the input topics; those of one partition in the order of their offsets.
            received_ms: the clock when they came.
            decoded: what `decoder` makes of them, where that was done before.
            rerank: False skips the re-ranker, and the records say so.
            coalesce: one list a user even where the settings want one an event; the records say `catch-up`.
            lists: False learns only.
        """
        if decoded is None:
            decoded = self.decoder.decode(records, received_ms)
        fits = self.admission.admit(decoded)
        if fits < len(decoded):
            cut = next(at for at, record in enumerate(records) if record is decoded.record[fits])
            if cut == 0:
                return Processed(0)
            return self.process(
                records[:cut], received_ms=received_ms, rerank=rerank, coalesce=coalesce, lists=lists
            )
        per_event = self.settings.worker.one_list_per_event and not coalesce
        work = _Work(
            decoded=decoded,
            event_ids=decoded.event_ids(),
            marks=_marks(decoded, per_event) if lists else np.zeros(len(decoded), np.bool_),
            received_ms=received_ms,
            rerank=rerank,
            reason=CATCH_UP if coalesce else EVENT,
            lists=lists,
            per_event=per_event,
            out=Processed(len(records), dead_letters=decoded.dead_letters),
        )
        start = 0
        for stop in (*decoded.erases, len(decoded)):
            for at in range(start, stop, MAX_BATCH):
                self._learn(work, at, min(at + MAX_BATCH, stop))
            if stop < len(decoded):
                self._erase(work, stop)
            start = stop + 1
        work.out.recommendations += self._refreshed(
            list(work.waiting), work.progress, work.reason, work.received_ms
        )
        counts = work.out.counts
        counts["records"] = len(records)
        counts["events"] = len(decoded)
        counts["dead_letter"] = len(work.out.dead_letters)
        counts["lists"] = len(work.out.recommendations) - counts["erased"]
        return work.out

    # -- the steps -------------------------------------------------------------------------------------------
    def _learn(self, work: _Work, start: int, stop: int) -> None:
        """Rows `start` to `stop`, none of which erases a user; items are evicted where new ones need their room."""
        while start < stop:
            stretch = self.columns.stretch(work.decoded, work.event_ids, start, stop)
            self._learn_stretch(work, stretch)
            start = stretch.stop
            if start < stop:
                self.recommender.make_room()

    def _learn_stretch(self, work: _Work, stretch: Stretch) -> None:
        work.out.dead_letters += [self._misrouted(work.decoded, row) for row in stretch.misrouted]
        batch = stretch.batch
        if work.lists:
            for slot in set(batch.user.tolist()) - work.progress.keys():
                work.progress[slot] = self._progress(slot)
        outcome = self.recommender.process(
            batch, work.marks[stretch.rows], rerank=work.rerank, because=work.lists
        )
        accepted = outcome.status != DUPLICATE
        n = int(np.count_nonzero(accepted))
        work.out.counts["accepted"] += n
        work.out.counts["duplicate"] += len(batch) - n
        work.out.counts["late"] += int(np.count_nonzero(outcome.status == LATE))
        # Duplicates move no position: the row must not depend on where a batch was cut.
        positions = self.recommender.users.columns.positions
        at = batch.user[accepted], stretch.topic[accepted]
        np.maximum.at(positions, at, batch.offset[accepted])
        if work.lists:
            self._list(work, stretch, accepted, outcome.lists)

    def _list(self, work: _Work, stretch: Stretch, accepted: Bool, lists: Lists) -> None:
        """Follow each user's progress through the stretch, and make the records of its lists."""
        batch, progress = stretch.batch, work.progress
        columns = zip(
            batch.user.tolist(), accepted.tolist(), stretch.topic.tolist(), batch.offset.tolist(),
            batch.ts.tolist(), stretch.rows.tolist(), strict=True,
        )  # fmt: skip
        listed = set(lists.event.tolist()) if work.per_event else set()
        shown = {}
        for event, (slot, was_accepted, topic, offset, ts, row) in enumerate(columns):
            known = progress[slot]
            known.positions[topic] = max(known.positions[topic], offset)
            if was_accepted:
                known.events += 1
                known.event_ts = max(known.event_ts, ts)
                known.append_ms.append(append_time(work.decoded.record[row]))
                work.waiting[slot] = None
            if event in listed:
                shown[event] = known.shown()
        slots = lists.user.tolist()
        if not work.per_event:  # a list stands for all that came from its user, up to the end of the stretch
            shown = {
                event: progress[slot].shown() for event, slot in zip(lists.event.tolist(), slots, strict=True)
            }
        for slot in slots:
            work.waiting.pop(slot, None)
        reranker = self.recommender.reranker
        reason = work.reason if work.rerank or reranker is None else work.reason + NOT_RERANKED
        work.out.recommendations += self.writer.lists(
            lists,
            [self.recommender.users.id_of(slot) for slot in slots],
            [shown[event] for event in lists.event.tolist()],
            reason=reason,
            received_ms=work.received_ms,
            models=self._models() if work.rerank else {},
        )

    def _erase(self, work: _Work, row: int) -> None:
        decoded, users = work.decoded, self.recommender.users
        user, partition = decoded.user[row], decoded.lane[row].partition
        slot = users.slot(user)
        if slot >= 0:  # else they were erased before in this batch
            if users.partition_of(slot) != partition:
                work.out.dead_letters.append(self._misrouted(decoded, row))
                return
            self.admission.erase(user)
            work.progress.pop(slot, None)
            work.waiting.pop(slot, None)
        work.out.counts["erased"] += 1
        work.out.recommendations.append(
            self.writer.tombstone(user, append_time(decoded.record[row]), work.received_ms)
        )

    def _refreshed(
        self, slots: list[int], progress: dict[int, Progress], reason: str, received_ms: float
    ) -> list[Outgoing]:
        if not slots:
            return []
        lists = self.recommender.refresh(np.array(slots, np.int32), counted=reason == REFRESH)
        of = lists.user.tolist()
        return self.writer.lists(
            lists,
            [self.recommender.users.id_of(slot) for slot in of],
            [progress[slot].shown() for slot in of],
            reason=reason,
            received_ms=received_ms,
            models=self._models(),
        )

    def _progress(self, slot: int) -> Progress:
        users = self.recommender.users
        n = int(users.columns.seq_n[slot])
        return Progress(
            partition=users.partition_of(slot),
            positions=users.positions(slot).tolist(),
            events=users.events(slot),
            event_ts=int(users.columns.seq_ts[slot, n - 1]) if n else 0,
        )

    def _models(self) -> dict[str, str]:
        reranker = self.recommender.reranker
        return {} if reranker is None else {self.settings.models.ranker: str(reranker.version)}

    def _misrouted(self, decoded: Decoded, row: int) -> DeadLetter:
        user = decoded.user[row]
        home = self.recommender.users.partition_of(self.recommender.users.slot(user))
        return RecordError(
            MISROUTED,
            self.decoder.careful.names["user_id"],
            f"user {shown(user)} is at home in partition {home}; the record came through "
            f"{decoded.lane[row].name}: do all producers use the same partitioner?",
        ).letter(decoded.record[row])


def _marks(decoded: Decoded, per_event: bool) -> Bool:
    """After which events a list is wanted: all, or each user's last one."""
    if per_event:
        return np.ones(len(decoded), np.bool_)
    marks = np.zeros(len(decoded), np.bool_)
    erases, later = set(decoded.erases), set()
    for row in range(len(decoded) - 1, -1, -1):
        user = decoded.user[row]
        if row in erases:
            later.add(user)  # no list for what is erased in the same batch
        elif user not in later:
            later.add(user)
            marks[row] = True
    return marks
