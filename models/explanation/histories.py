"""A user as they would be without one of the items of their history.

In: the user table, a user. Out: a table of the same user, whole and with all events of one item taken out of the stored
sequence at a time. The items that they had stay known: what is taken away is what an item says, not that it was had.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.base import I32
from models.state.user_rows import UserRow, pack_row, unpack_row
from models.state.users import UserTable

MOST_USERS = 1024


def leave_one_out(users: UserTable, slot: int) -> tuple[UserTable, I32]:
    """A table whose slot 0 is the user and whose slot 1 + m is the user without item m; the items, newest first."""
    whole = users.row(slot)
    row = unpack_row(whole)
    newest_first = row.items[::-1]
    _, first = np.unique(newest_first, return_index=True)
    items = newest_first[np.sort(first)].astype(np.int32)
    table = UserTable(users.settings.model_copy(update={"max_cached_users": MOST_USERS}))
    name = users.id_of(slot)
    table.admit(name, 0, whole)
    for item in items.tolist():
        table.admit(f"{name} without {item}", 0, pack_row(_without(row, item)))
    return table, items


def _without(row: UserRow, item: int) -> UserRow:
    kept = row.items != item
    return replace(
        row, items=row.items[kept], actions=row.actions[kept], values=row.values[kept], ts=row.ts[kept]
    )
