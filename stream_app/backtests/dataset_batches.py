"""A data set's rows as the batches that the recommender takes.

In: a `Dataset`, the recommender whose user table and catalogue number its ids. Out: `EventBatch`es, as the
decoder would make them of the same events on partition 0 of the first input topic, a row's number being its
offset. Users that the table has no room for wait as rows of bytes, as they would in the worker's state.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import numpy as np

from models.base import DUPLICATE, F32, F64, I32, I64, U8, U64, EventBatch
from models.pipeline.recommender import Recommender
from models.vocabulary import kind_of
from producers.columns import Dataset
from stream_app.batch.careful import ERASE, RATING
from stream_app.batch.decode import partition_key
from stream_app.evaluation.item_features import category_features
from stream_app.settings import Settings

PARTITION = 0


class DatasetBatches:
    """Reads a data set from its first row on, in order, each row once."""

    def __init__(self, dataset: Dataset, settings: Settings, recommender: Recommender) -> None:
        self.dataset, self.recommender = dataset, recommender
        self.item_codes: I32 = np.full(len(dataset.item_ids), -1, np.int32)
        """Item number → the data set's code of the item."""
        self.kinds: list[str]
        self.kind: I32
        """What was done and where (`models.vocabulary`), and its code of each row."""
        self._slot = np.full(len(dataset.user_ids), -1, np.int32)
        self._newest = np.full(len(dataset.user_ids), -1, np.int64)
        self._rows: dict[str, bytes] = {}
        events = settings.events
        self.kinds, self.kind = _kinds(dataset)
        self._weight = np.array([events.weight_of(kind) for kind in self.kinds], np.float32)
        self._is_rating = np.array([name == RATING for name in dataset.types], np.bool_)
        self._scale = (events.rating_low, events.rating_high)
        self._erase = dataset.types.index(ERASE) if ERASE in dataset.types else -1
        self._key = partition_key(settings.topics.events[0], PARTITION)
        self.most = max(1, settings.models.max_cached_users // 2)
        """Rows that may be read at once, so that there is room for all of their users."""
        items = dataset.items
        for item_id in items.filter(~items["available"])["item_id"].to_list():
            recommender.catalogue.set_item(item_id, available=False)

    def spans(self, start: int, stop: int) -> Iterator[tuple[int, int, int | None]]:
        """Runs of rows without an erase: (first, after the last, the user to erase then or None)."""
        erases = np.flatnonzero(self.dataset.type[start:stop] == self._erase) + start
        for erase in erases.tolist():
            yield start, erase, int(self.dataset.user[erase])
            start = erase + 1
        yield start, stop, None

    def read(self, start: int, stop: int) -> EventBatch:
        """Rows `start` to `stop`, or as many of them as the catalogue has room for; their users are in memory."""
        data = self.dataset
        numbers = self._number(data.item[start:stop])
        stop = start + len(numbers)
        user, kind = data.user[start:stop], self.kind[start:stop]
        self._admit(np.unique(user))
        slot = self._slot[user]
        names = [self.kinds[code] for code in kind]
        return EventBatch(
            user=slot,
            item=numbers,
            action=np.array([self.recommender.actions.code(name) for name in names], np.uint8),
            weight=self._weight[kind],
            value=self.values(start, stop),
            ts=data.ts[start:stop],
            event_id=self._event_ids(start, stop),
            key=np.full(stop - start, self._key, np.uint64),
            offset=np.arange(start, stop, dtype=np.int64),
        )

    def processed(self, batch: EventBatch, status: U8) -> None:
        """Say how far each user is now. Duplicates move no position, as in the worker (`stream_app.batch.pipeline`)."""
        accepted = status != DUPLICATE
        offset = batch.offset[accepted]
        self._newest[self.dataset.user[offset]] = offset
        self.recommender.users.columns.positions[batch.user[accepted], 0] = offset

    def values(self, start: int, stop: int) -> F32:
        """Ratings clamped to the scale; NaN for every other type of event, whatever value it has."""
        value = np.clip(self.dataset.value[start:stop], *self._scale)
        value = np.where(self._is_rating[self.dataset.type[start:stop]], value, np.nan)
        return value.astype(np.float32)

    def weights(self, start: int, stop: int) -> F32:
        """What each event teaches."""
        return self._weight[self.kind[start:stop]]

    def erase(self, user: int) -> None:
        """Forget a user, wherever they are."""
        slot = int(self._slot[user])
        if slot >= 0:
            self.recommender.users.erase(slot)
        self._slot[user] = self._newest[user] = -1
        self._rows.pop(self.dataset.user_ids[user], None)

    def recent(self, n: int) -> tuple[I32, I32]:
        """Slots and codes of the `n` users in memory whose last event is newest, ordered by slot."""
        here = np.flatnonzero(self._slot >= 0)
        newest = here[np.argsort(-self._newest[here], kind="stable")[:n]]
        newest = newest[np.argsort(self._slot[newest])]
        return self._slot[newest], newest.astype(np.int32)

    def codes(self, numbers: I32) -> I32:
        """The data set's code of each item number; -1 for what has none."""
        return np.where(numbers >= 0, self.item_codes[np.maximum(numbers, 0)], -1)

    def features(self) -> F64 | None:
        """Which categories each item code has, float64 [items, categories]; None where there are none."""
        return category_features(self.dataset)

    def _number(self, item: I32) -> I32:
        ids = self.dataset.item_ids
        numbers = self.recommender.catalogue.intern([ids[code] for code in item])
        missing = int(numbers.max(initial=-1)) + 1 - len(self.item_codes)
        if missing > 0:
            fresh = np.full(max(missing, len(self.item_codes)), -1, np.int32)
            self.item_codes = np.concatenate([self.item_codes, fresh])
        self.item_codes[numbers] = item[: len(numbers)]
        return numbers

    def _admit(self, users: I64 | I32) -> None:
        table = self.recommender.users
        unknown = users[self._slot[users] < 0]
        while table.room() < len(unknown):  # the users unused for longest may be of this very block
            self._make_room(len(unknown) - table.room() + len(table) // 10)
            unknown = users[self._slot[users] < 0]
        for code in unknown.tolist():
            user_id = self.dataset.user_ids[code]
            self._slot[code] = table.admit(user_id, PARTITION, self._rows.get(user_id))

    def _make_room(self, n: int) -> None:
        for _, user_id, row in self.recommender.take_dirty().users:
            if row is not None:
                self._rows[user_id] = row
        self.recommender.mark_clean()
        here = np.flatnonzero(self._slot >= 0)
        self.recommender.users.evict(n)
        for code in here.tolist():
            self._slot[code] = self.recommender.users.slot(self.dataset.user_ids[code])

    def _event_ids(self, start: int, stop: int) -> U64:
        hashes = np.zeros(stop - start, np.uint64)
        if self.dataset.event_id is not None:
            for row, event_id in enumerate(self.dataset.event_id[start:stop]):
                if event_id is not None:
                    digest = blake2b(event_id.encode(), digest_size=8).digest()
                    hashes[row] = int.from_bytes(digest, "little") or 1
        return hashes


def _kinds(data: Dataset) -> tuple[list[str], I32]:
    """Names of the kinds of events by first appearance, and the code of each row."""
    pair = data.type.astype(np.int64) * (1 + len(data.scenarios)) + data.scenario + 1
    _, first, code = np.unique(pair, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order))
    where = [*data.scenarios, None]  # code -1 is the last
    names = [kind_of(data.types[data.type[row]], where[data.scenario[row]]) for row in first[order]]
    return names, rank[code]
