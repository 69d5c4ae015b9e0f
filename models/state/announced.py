"""Items that the catalogue topic has announced: who may be shown before their first event, and by which code.

In: what the topic says of each item. Out: columns that kernels draw from. It learns nothing and is no state: the topic
tells all of it again at every start, so nothing that is learned may depend on it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.base import I32, U64
from models.kernels import kernel
from models.randomness import hash64
from models.state.columns import grown


class AnnouncedColumns(NamedTuple):
    """One row an item; `order` has the rows in the order of their hashes."""

    hash: U64
    slot: I32  # where the models keep it, -1 for nowhere
    categories: U64
    order: I32  # [n]


@kernel
def code_of(item_hash: np.uint64) -> int:
    """What stands for an item that has no number yet: at most -2, a function of its id alone."""
    return -2 - int(np.int64(item_hash >> np.uint64(34)))


class Announced:
    """The items announced that can be had, at most `limit`.

    Of two items with the same code, which are one of 2**30 pairs, the first is kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._columns = AnnouncedColumns(
            np.zeros(0, np.uint64), np.zeros(0, np.int32), np.zeros(0, np.uint64), np.zeros(0, np.int32)
        )
        self._row: dict[str, int] = {}
        self._ids: dict[int, str] = {}
        self._free: list[int] = []
        self._moved = False

    def __len__(self) -> int:
        return len(self._row)

    def tell(self, item_id: str, slot: int, available: bool, categories: int) -> None:
        """What is known of an item, by now in this slot; -1 for none. One that can't be had is taken away."""
        row = self._row.get(item_id)
        if not available:
            if row is not None:
                del self._row[item_id], self._ids[code_of(self._columns.hash[row])]
                self._free.append(row)
                self._moved = True
            return
        if row is None:
            item_hash = np.uint64(hash64(item_id))
            if len(self._row) >= self.limit or code_of(item_hash) in self._ids:
                return
            row = self._add(item_id, item_hash)
        self._columns.slot[row], self._columns.categories[row] = slot, categories

    def _add(self, item_id: str, item_hash: np.uint64) -> int:
        row = self._row[item_id] = self._free.pop() if self._free else len(self._row)
        self._ids[code_of(item_hash)] = item_id
        if row >= len(self._columns.hash):
            order = self._columns.order
            self._columns = grown(self._columns, max(1024, 2 * row))._replace(order=order)
        self._columns.hash[row] = item_hash
        self._moved = True
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
        """All that are announced now; a view, which `tell` and `moved` change."""
        if self._moved:
            rows = np.fromiter(self._row.values(), np.int32, len(self._row))
            order = rows[np.argsort(self._columns.hash[rows], kind="stable")]
            self._columns, self._moved = self._columns._replace(order=order), False
        return self._columns
