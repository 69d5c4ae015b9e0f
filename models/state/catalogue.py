"""Items: id ↔ number ↔ slot, availability and categories.

An item's *number* is given at first sight and never used again: histories and neighbours refer to it. Its *slot* is
where the models keep its row, the lowest that is free; an item that is evicted loses its slot and its statistics, and
gets a new number if it ever comes back. In: ids. Out: numbers. Never reads the catalogue topic itself.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from models.base import I32, I64, U8, U64
from models.randomness import hash64
from models.state.announced import Announced
from models.state.columns import grown

HEAD, ROW, OUTPUT, NAME = 1, 2, 4, 8
"""Bits of `ItemColumns.dirty`: the head, the co-visitation row, the output vector, the id and where it lies."""


class ItemColumns(NamedTuple):
    """One row a slot."""

    number: I32
    available: U8
    order: U64  # the id's first 8 bytes, big-endian: breaks ties
    hash: U64
    born: I64  # clock of the first event, -1 before it
    last: I64  # clock of the newest event
    events: I64
    shown: U8  # was on a published list
    dirty: U8
    categories: U64  # as a set of bits, 0 where none are known; told again at every start


def category_bits(categories: Iterable[str]) -> int:
    """A set of categories in 64 bits; two categories fall on the same bit once in 64 pairs.

    >>> category_bits(["drama", "war"]) & category_bits(["war"]) == category_bits(["war"])
    True
    """
    bits = 0
    for category in categories:
        bits |= 1 << (hash64(category) % 64)
    return bits


class Catalogue:
    """The items known, at most `max_items`.

    Args:
        announce: keep what is said of items without events, so that they can be shown.
    """

    def __init__(self, max_items: int, *, announce: bool = False) -> None:
        self.max_items = max_items
        self.announced = Announced(max_items if announce else 0)
        self.columns = ItemColumns(
            number=np.empty(0, np.int32), available=np.empty(0, np.uint8), order=np.empty(0, np.uint64),
            hash=np.empty(0, np.uint64), born=np.empty(0, np.int64), last=np.empty(0, np.int64),
            events=np.empty(0, np.int64), shown=np.empty(0, np.uint8), dirty=np.empty(0, np.uint8),
            categories=np.empty(0, np.uint64),
        )  # fmt: skip
        self.columns = grown(self.columns, 1024, {"born": -1, "number": -1})
        self.slot_of: I32 = np.full(1024, -1, np.int32)
        self.numbers: dict[str, int] = {}
        """Item id → number, of every item with a slot (read only: the decoder looks items up in it)."""
        self.next_number = 0
        self.slots = 0
        """Slots in use are below this; a free one has number -1."""
        self._ids: list[str | None] = []
        self._free: list[int] = []
        self._off: set[str] = set()
        self.unavailable_changed = False
        """Whether other items are unavailable than at the last commit."""
        self.admitted: list[int] = []
        """Slots given since the models last made room for them."""
        self.removed: list[int] = []
        """Numbers evicted since the last commit."""

    def __len__(self) -> int:
        return len(self.numbers)

    def intern(self, ids: Sequence[str]) -> I32:
        """Numbers of these items; unknown ones are admitted.

        Returns:
            int32 [n], for as many of the ids, from the first, as there is room for. Where it is not all of them, take
            the events of those in, `evict`, and come again with the rest: then what is evicted does not depend on
            where a batch was cut.
        """
        numbers = self.numbers
        found = [numbers.get(i, -1) for i in ids]
        for at, number in enumerate(found):
            if number < 0:
                known = numbers.get(ids[at], -1)  # an id can be new twice
                if known < 0 and len(numbers) >= self.max_items:
                    return np.array(found[:at], np.int32)
                found[at] = known if known >= 0 else self.admit(ids[at])
        return np.array(found, np.int32)

    def number(self, item_id: str) -> int:
        return self.numbers.get(item_id, -1)

    def id_of(self, number: int) -> str | None:
        """The id of an item with this number, or with this code (`announced`); None for one that was evicted."""
        if number < -1:
            return self.announced.id_of(number)
        if not 0 <= number < self.next_number:
            return None
        slot = self.slot_of[number]
        return self._ids[slot] if slot >= 0 else None

    def id_at(self, slot: int) -> str | None:
        return self._ids[slot]

    def admit(self, item_id: str) -> int:
        """Give an unknown item a number and a slot."""
        slot = heapq.heappop(self._free) if self._free else self.slots
        number = self.next_number
        self._take(item_id, number, slot)
        self.columns.dirty[slot] = HEAD | NAME
        return number

    def restore(self, item_id: str, number: int, slot: int) -> None:
        """Give an item the number and the slot that the state has for it; `restored` ends a series of these."""
        self._take(item_id, number, slot)

    def restored(self) -> None:
        """All items of the state are back: what lies between them is free."""
        self._free = np.flatnonzero(self.columns.number[: self.slots] < 0).tolist()

    def _take(self, item_id: str, number: int, slot: int) -> None:
        if slot >= self.slots:
            self._ids.extend([None] * (slot + 1 - self.slots))
            self.slots = slot + 1
            if slot >= len(self.columns.number):
                self.columns = grown(
                    self.columns, max(2 * len(self.columns.number), slot + 1), {"born": -1, "number": -1}
                )
        self._ids[slot] = item_id
        self.next_number = max(self.next_number, number + 1)
        if self.next_number > len(self.slot_of):
            bigger = np.full(max(2 * len(self.slot_of), self.next_number), -1, np.int32)
            bigger[: len(self.slot_of)] = self.slot_of
            self.slot_of = bigger
        self.slot_of[number] = slot
        self.numbers[item_id] = number
        c = self.columns
        c.number[slot] = number
        c.order[slot] = int.from_bytes(item_id.encode()[:8].ljust(8, b"\0"), "big")
        c.hash[slot] = hash64(item_id)
        c.born[slot], c.last[slot], c.events[slot], c.shown[slot] = -1, 0, 0, 0
        c.available[slot], c.dirty[slot], c.categories[slot] = item_id not in self._off, 0, 0
        self.announced.moved(item_id, slot)
        self.admitted.append(slot)

    def evict(self, keep: int) -> list[int]:
        """Free the slots of the items longest without an event until `keep` items are left; which."""
        c = self.columns
        live = np.flatnonzero(c.number[: self.slots] >= 0)
        order = np.lexsort((c.number[live], c.last[live]))
        slots = [int(s) for s in live[order[: max(0, len(live) - keep)]]]
        for slot in slots:
            number = int(c.number[slot])
            item_id = self._ids[slot]
            assert item_id is not None
            del self.numbers[item_id]
            self._ids[slot] = None
            self.slot_of[number] = -1
            self.announced.moved(item_id, -1)
            c.number[slot], c.dirty[slot], c.available[slot] = -1, 0, 0
            heapq.heappush(self._free, slot)
            self.removed.append(number)
        return slots

    def set_item(self, item_id: str, *, available: bool, categories: Iterable[str] = ()) -> bool:
        """What the catalogue says of an item; of one without events, that it is not available, or may be explored.

        Returns:
            False where it is one unavailable item too many: as many as `max_items` are remembered.
        """
        known = True
        if available == (item_id in self._off):
            known = available or len(self._off) < self.max_items
            if known:
                self._off ^= {item_id}
                self.unavailable_changed = True
        number, bits, slot = self.numbers.get(item_id), category_bits(categories), -1
        if number is not None:
            slot = int(self.slot_of[number])
            self.columns.available[slot] = available
            self.columns.categories[slot] = bits
        self.announced.tell(item_id, slot, available, bits)
        return known

    def retire(self, item_id: str) -> bool:
        """The item is no longer offered; as `set_item`."""
        return self.set_item(item_id, available=False)

    @property
    def unavailable(self) -> frozenset[str]:
        """Items that may not be shown, whether they had events or not."""
        return frozenset(self._off)
