"""Decoded events → the columns that the models take: ids interned, types as codes, users as slots.

In: a stretch of a decoded batch without an erase, its users in memory. Out: a `Stretch`. Interns items
and kinds of events in log order, so that their numbers do not depend on where a batch was cut. Never looks at
a record's bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from models.base import I32, I64, U64, EventBatch
from stream_app.batch.admission import Admission
from stream_app.batch.catalogue_feed import CatalogueFeed
from stream_app.batch.decode import Decoded
from stream_app.settings import EventSettings

T = TypeVar("T")


@dataclass(slots=True)
class Stretch:
    """Events in log order, one row each.

    Attributes:
        rows: where they stand in the decoded batch, int64 [n].
        stop: the first row that was not looked at: the catalogue has no room for its item.
        topic: index of the input topic, int32 [n].
        misrouted: rows of the decoded batch that came through another partition than the one that holds their
            user; they are not among the events.
    """

    rows: I64
    stop: int
    batch: EventBatch
    topic: I32
    misrouted: list[int]


class EventColumns:
    """Makes the columns, and tells the catalogue what is known of items that it meets for the first time."""

    def __init__(
        self, recommender: Any, admission: Admission, feed: CatalogueFeed, settings: EventSettings
    ) -> None:
        self.recommender = recommender
        self.admission = admission
        self.feed = feed
        self.settings = settings
        self._actions: dict[str, tuple[int, float]] = {}

    def stretch(self, decoded: Decoded, event_ids: U64, start: int, stop: int) -> Stretch:
        """Rows `start` to `stop` of a decoded batch, or as many of them as the catalogue has room for."""
        lanes = decoded.lane[start:stop]
        slot = self._slots(decoded, start, stop)
        partition = np.array([lane.partition for lane in lanes], np.int32)
        home = self.recommender.users.columns.partition[slot] == partition
        rows = np.arange(start, stop)[home]
        misrouted: list[int] = [] if len(rows) == len(home) else (np.flatnonzero(~home) + start).tolist()

        def kept(column: list[T]) -> list[T]:
            return [column[row] for row in rows] if misrouted else column[start:stop]

        items = self._items(kept(decoded.item))
        if len(items) < len(rows):
            return self.stretch(decoded, event_ids, start, int(rows[len(items)]))
        actions = [self._action(kind) for kind in kept(decoded.kind)]
        lanes = kept(decoded.lane)
        batch = EventBatch(
            user=slot[home],
            item=items,
            action=np.array([code for code, _ in actions], np.uint8),
            weight=np.array([weight for _, weight in actions], np.float32),
            value=np.array(kept(decoded.value), np.float32),
            ts=np.array(kept(decoded.ts), np.int64),
            event_id=event_ids[rows],
            key=np.array([lane.key for lane in lanes], np.uint64),
            offset=np.array(kept(decoded.offset), np.int64),
        )
        topic = np.array([lane.topic_index for lane in lanes], np.int32)
        return Stretch(rows, stop, batch, topic, misrouted)

    def _slots(self, decoded: Decoded, start: int, stop: int) -> I32:
        slots = self.recommender.users.slots
        found = [slots.get(user, -1) for user in decoded.user[start:stop]]
        if -1 in found:  # they come back within the batch that erased them
            for row in range(start, stop):
                user = decoded.user[row]
                if user not in slots:
                    self.admission.readmit(user, decoded.lane[row].partition)
            found = [slots[user] for user in decoded.user[start:stop]]
        return np.array(found, np.int32)

    def _items(self, ids: list[str]) -> I32:
        catalogue = self.recommender.catalogue
        before = catalogue.next_number
        numbers: I32 = catalogue.intern(ids)
        if catalogue.next_number > before:
            news = (catalogue.id_of(number) for number in range(before, catalogue.next_number))
            self.feed.admitted(item_id for item_id in news if item_id is not None)
        return numbers

    def _action(self, kind: str) -> tuple[int, float]:
        """Code and teaching weight of a kind of event."""
        known = self._actions.get(kind)
        if known is None:
            actions = self.recommender.actions
            known = actions.code(kind), self.settings.weight_of(kind)
            if kind in actions.codes:  # not one beyond the vocabulary's end, of which there is no end
                self._actions[kind] = known
        return known
