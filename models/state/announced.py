"""Items that the catalogue topic has announced: who may be shown before their first event, and by which code.

In: what the topic says of each item. Out: columns that kernels draw from. It learns nothing and is no state: the topic
tells all of it again at every start, so nothing that is learned may depend on it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.base import I32, I64, U8, U64
from models.kernels import kernel
from models.randomness import hash64
from models.state.columns import grown


class AnnouncedColumns(NamedTuple):
    """One row an item, in order of announcement; `order` has the rows in the order of their hashes."""

    hash: U64
    slot: I32  # where the models keep it, -1 for nowhere
    available: U8
    categories: U64
    order: I32  # [n]


@kernel
def code_of(item_hash: np.uint64) -> int:
    """What stands for an item that has no number yet: at most -2, a function of its id alone."""
    return -2 - int(np.int64(item_hash >> np.uint64(34)))


class Announced:
    """The items announced, at most `limit`; those that can't be shown make room for others.

    Of two items with the same code, which are one of 2**30 pairs, the first is kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._columns = AnnouncedColumns(
            np.zeros(0, np.uint64), np.zeros(0, np.int32), np.zeros(0, np.uint8), np.zeros(0, np.uint64),
            np.zeros(0, np.int32),
        )  # fmt: skip
        self._row: dict[str, int] = {}
        self._ids: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._row)

    def tell(self, item_id: str, slot: int, available: bool, categories: int) -> None:
        """What is known of an item, by now in this slot; -1 for none. One that can't be shown is not new here."""
        row = self._row.get(item_id)
        if row is None:
            item_hash = np.uint64(hash64(item_id))
            if not available or code_of(item_hash) in self._ids or not self._has_room():
                return
            row = self._add(item_id, item_hash)
        c = self._columns
        c.slot[row], c.available[row], c.categories[row] = slot, available, categories

    def _has_room(self) -> bool:
        n = len(self._row)
        if n < self.limit:
            return True
        c = self._columns
        kept = np.flatnonzero(c.available[:n])
        if n - len(kept) < max(1, self.limit // 16):  # what moves all of them must be rare
            return False
        ids = list(self._row)
        self._row = {ids[row]: new for new, row in enumerate(kept.tolist())}
        rows = {name: getattr(c, name)[kept] for name in ("hash", "slot", "available", "categories")}
        self._columns = c._replace(order=np.zeros(0, np.int32), **rows)
        self._ids = {code_of(h): i for h, i in zip(rows["hash"], self._row, strict=True)}
        return True

    def _add(self, item_id: str, item_hash: np.uint64) -> int:
        row = self._row[item_id] = len(self._row)
        self._ids[code_of(item_hash)] = item_id
        if row >= len(self._columns.hash):
            order = self._columns.order
            self._columns = grown(self._columns, max(1024, 2 * row))._replace(order=order)
        self._columns.hash[row] = item_hash
        return row

    def moved(self, item_id: str, slot: int) -> None:
        """The models keep the item in this slot from now on; -1 for no more."""
        row = self._row.get(item_id)
        if row is not None:
            self._columns.slot[row] = slot

    def id_of(self, code: int) -> str | None:
        """The item that a code stands for."""
        return self._ids.get(code)

    def columns(self) -> AnnouncedColumns:
        """All that were announced up to now; a view, which `tell` and `moved` change."""
        known, n = len(self._columns.order), len(self._row)
        if known < n:
            hashes, order = self._columns.hash, self._columns.order
            new: I64 = known + np.argsort(hashes[known:n], kind="stable")
            places = np.searchsorted(hashes[order], hashes[new])
            self._columns = self._columns._replace(order=np.insert(order, places, new).astype(np.int32))
        return self._columns
