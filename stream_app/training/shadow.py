"""The trainer's own cheap recommender: it follows the events and says what could be shown before each.

In: checked events in log order. Out: which of them were accepted, and, while a gate window is open, the cheap
candidates of its events just before they are learned. Never uses a re-ranker, and keeps nothing on disk:
after a restart it is built again from the trainer's history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from models.base import ACCEPTED, DUPLICATE, F32, I32, I64, U8, U64, Bool, EventBatch
from models.config import ModelSettings
from models.state.arena import block_size
from stream_app.batch.decode import Decoded
from stream_app.settings import EventSettings, Settings
from stream_app.training.gate_window import GateWindow, Sequences
from stream_app.worker.new_recommender import new_recommender

CANDIDATES = 200
BATCH = 1000


@dataclass(slots=True)
class Events:
    """Events that passed the checks, in log order, one row each; `value` is NaN where there is no rating.

    `kind` is type and scenario (`models.vocabulary`).
    """

    user: Sequence[str]
    item: Sequence[str]
    kind: Sequence[str]
    value: F32
    weight: F32
    ts: I64
    partition: I32
    event_id: U64
    key: U64
    offset: I64

    def __len__(self) -> int:
        return len(self.user)

    def slice(self, start: int, stop: int) -> Self:
        """Rows `start` to `stop`."""
        at = slice(start, stop)
        return type(self)(
            self.user[at], self.item[at], self.kind[at], self.value[at], self.weight[at], self.ts[at],
            self.partition[at], self.event_id[at], self.key[at], self.offset[at],
        )  # fmt: skip

    def take(self, rows: I64) -> Self:
        """Some of the rows, in order."""
        return type(self)(
            [self.user[r] for r in rows], [self.item[r] for r in rows], [self.kind[r] for r in rows],
            self.value[rows], self.weight[rows], self.ts[rows],
            self.partition[rows], self.event_id[rows], self.key[rows], self.offset[rows],
        )  # fmt: skip


def events_of(decoded: Decoded, settings: EventSettings) -> Events:
    """Decoded events as columns; an `erase` keeps its row, with the item ""."""
    return Events(
        user=decoded.user,
        item=decoded.item,
        kind=decoded.kind,
        value=np.array(decoded.value, np.float32),
        weight=np.array([settings.weight_of(kind) for kind in decoded.kind], np.float32),
        ts=np.array(decoded.ts, np.int64),
        partition=np.array([lane.partition for lane in decoded.lane], np.int32),
        event_id=decoded.event_ids(),
        key=np.array([lane.key for lane in decoded.lane], np.uint64),
        offset=np.array(decoded.offset, np.int64),
    )


def cheap_settings(settings: ModelSettings) -> ModelSettings:
    """The models as set, with long lists and a blend that keeps its first weights: learning them is dear."""
    blend = settings.blend.model_copy(update={"share": 0.0, "share_all_until": 0})
    policy = settings.policy.model_copy(update={"k": CANDIDATES})
    more = {"blend": blend, "policy": policy, "candidates": max(settings.candidates, CANDIDATES)}
    return settings.model_copy(update=more)


class Shadow:
    """Learns from every event; makes candidates only for the events of an open window."""

    def __init__(self, settings: Settings) -> None:
        self._settings = cheap_settings(settings.models)
        self.recommender = new_recommender(settings.model_copy(update={"models": self._settings}))
        self._batch = max(1, min(BATCH, self._settings.max_cached_users // 2))

    def feed(self, events: Events, window: GateWindow | None = None) -> Bool:
        """Learn from events, none of them an erase; bool [n], False where one was dropped as a duplicate."""
        taken = np.ones(len(events), np.bool_)
        at = 0
        while at < len(events):
            part = events.slice(at, min(at + self._batch, len(events)))
            batch = self._batch_of(part)
            n = len(batch)
            taken[at : at + n] = self._learn(part, batch, window)
            at += n
            if n < len(part):
                self.recommender.make_room()
        return taken

    def erase(self, user: str) -> None:
        """Forget a user."""
        slot = self.recommender.users.slot(user)
        if slot >= 0:
            self.recommender.users.erase(slot)

    def item_ids(self, numbers: I32) -> list[str]:
        """Ids of items by their number here; "" for one that was evicted."""
        return [self.recommender.catalogue.id_of(int(n)) or "" for n in numbers]

    def action_names(self) -> list[str]:
        """Event types by their code here; code 0 stands for those beyond the vocabulary."""
        return ["", *self.recommender.actions.names]

    def _learn(self, events: Events, batch: EventBatch, window: GateWindow | None) -> Bool:
        if not len(batch):
            return np.zeros(0, np.bool_)
        if window is None or window.full:
            return np.not_equal(self._process(batch), DUPLICATE)
        return np.concatenate([self._learn_one(events, batch, row, window) for row in range(len(batch))])

    def _learn_one(self, events: Events, batch: EventBatch, row: int, window: GateWindow) -> Bool:
        users = self.recommender.users
        slot, item = int(batch.user[row]), int(batch.item[row])
        user = events.user[row]
        if not window.knows(user):
            n = int(users.columns.seq_n[slot])
            c = users.columns
            before = Sequences(
                c.seq_item[slot, :n], c.seq_action[slot, :n], c.seq_value[slot, :n], c.seq_ts[slot, :n]
            )
            window.meet(user, before)
        candidates = None
        if not window.full and batch.weight[row] > 0 and users.events(slot) > 0 and self._is_news(slot, item):
            candidates = self._candidates(slot)
        status = self._process(batch.slice(row, row + 1))
        if status[0] == ACCEPTED:
            value, ts = float(batch.value[row]), int(batch.ts[row])
            window.add(user, item, int(batch.action[row]), value, ts, candidates)
        return np.not_equal(status, DUPLICATE)

    def _candidates(self, slot: int) -> I32:
        items = self.recommender.refresh(np.array([slot], np.int32)).items[0]
        found: I32 = items[items >= 0]
        return found

    def _is_news(self, slot: int, item: int) -> bool:
        """Whether this item could have been on the user's list."""
        if self._settings.policy.repeats:
            return True
        users, c = self.recommender.users, self.recommender.users.columns
        if c.seen_class[slot] < 0:
            return True
        n = int(c.seen_n[slot])
        ring = np.arange(max(0, n - self._settings.sequence.seen), n) & (
            block_size(int(c.seen_class[slot])) - 1
        )
        return not (users.seen[int(c.seen_at[slot]) + ring] == item).any()

    def _process(self, batch: EventBatch) -> U8:
        nowhere = np.zeros(len(batch), np.bool_)
        return self.recommender.process(batch, nowhere, rerank=False, because=False).status

    def _batch_of(self, events: Events) -> EventBatch:
        """As many of these events as the catalogue has room for."""
        items = self.recommender.catalogue.intern(events.item)
        events = events.slice(0, len(items))
        users = self.recommender.users
        self._admit(dict(zip(events.user, events.partition.tolist(), strict=True)))
        return EventBatch(
            user=np.array([users.slot(user) for user in events.user], np.int32),
            item=items,
            action=np.array([self.recommender.actions.code(kind) for kind in events.kind], np.uint8),
            weight=events.weight,
            value=events.value,
            ts=events.ts,
            event_id=events.event_id,
            key=events.key,
            offset=events.offset,
        )

    def _admit(self, partitions: dict[str, int]) -> None:
        """Have all of these users in memory, each of a partition; they are half of what there is room for at most."""
        users = self.recommender.users
        unknown = [user for user in partitions if users.slot(user) < 0]
        if users.room() < len(unknown):
            # Nobody keeps the rows of those who are pushed out, so none of this batch may be among them: they count as
            # used last, and are followed by enough others.
            last_used = users.columns.last_used
            last_used[[users.slot(user) for user in partitions if users.slot(user) >= 0]] = (
                last_used.max() + 1
            )
            self.recommender.mark_clean()
            users.evict(len(unknown) - users.room() + len(users) // 10)
        for user in unknown:
            users.admit(user, partitions[user], None)
