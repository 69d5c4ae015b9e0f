"""Which row of the model's table belongs to which item.

In: the ids of the items in the history. Out: a row for each, from 1 on; row 0 stands for every item without
one. Never holds more than `limit` rows: items that left the history give theirs up when it is full.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.base import I32


class Rows:
    """Ids in row order; `ids[0]` belongs to row 1, and a row that was given up has None."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.ids: list[str | None] = []
        self._row: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def restore(self, ids: Sequence[str | None]) -> None:
        """Hold exactly these rows."""
        self.ids = list(ids)
        self._row = {name: at + 1 for at, name in enumerate(self.ids) if name is not None}

    def of(self, ids: Sequence[str | None]) -> I32:
        """The row of each id, int32 [n]; 0 where it has none."""
        row = self._row
        return np.array([row.get(i, 0) if i is not None else 0 for i in ids], np.int32)

    def admit(self, present: Sequence[str]) -> list[int]:
        """Give rows to the items of the history; the rows that now mean another item, in ascending order.

        >>> rows = Rows(limit=2)
        >>> rows.admit(["a", "b"]), rows.admit(["b", "c"]), rows.ids
        ([1, 2], [1], ['c', 'b'])
        """
        wanted = [name for name in present if name not in self._row]
        free = [at for at, name in enumerate(self.ids) if name is None]
        if len(wanted) > len(free) + self.limit - len(self.ids):
            held = set(present)
            gone = [at for at, name in enumerate(self.ids) if name is not None and name not in held]
            for at in gone:
                name = self.ids[at]
                assert name is not None
                del self._row[name]
                self.ids[at] = None
            free = sorted(free + gone)
        fresh = []
        for name in wanted:
            if free:
                at = free.pop(0)
                self.ids[at] = name
            elif len(self.ids) < self.limit:
                at = len(self.ids)
                self.ids.append(name)
            else:
                break
            self._row[name] = at + 1
            fresh.append(at + 1)
        return sorted(fresh)
