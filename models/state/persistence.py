"""What a commit must write, and how all of it comes back: users, items and what is shared, as keys and bytes.

In: the learned state, its flags of what changed. Out: a `Delta`; and the state as it was, out of earlier ones' rows. It
decides nothing and opens nothing: `stream_app.store` writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
import numpy as np

from models.base import I64, U8
from models.online import covisit, covisit_journal, covisit_rows
from models.online.covisit_journal import TURNS, Journal, Plan
from models.state import item_rows, meta_row
from models.state.catalogue import HEAD, NAME, OUTPUT, ROW, Catalogue
from models.state.learned import State
from models.state.users import UserTable
from models.vocabulary import Actions

META = b"recommender"
"""Key of what belongs to no single user or item."""
UNAVAILABLE = b"unavailable"
"""Key of the ids of items that are not available, whether they had events or not."""


@dataclass(slots=True)
class Delta:
    """What one commit must write: (partition, user id, row), item keys and meta keys; None deletes."""

    users: list[tuple[int, str, bytes | None]] = field(default_factory=list)
    items: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    meta: list[tuple[bytes, bytes]] = field(default_factory=list)


@dataclass(slots=True)
class Rows:
    """Rows of items whose ids are back in the catalogue: (kind, item number, bytes), and segments of the journal.

    `tops` are numbers of the most popular items, as of `meta_row.load`; None where nothing was written yet.
    `first_model` is the version of the first re-ranker that was used.
    """

    rest: list[tuple[bytes, int, bytes]] = field(default_factory=list)
    segments: dict[int, bytes] = field(default_factory=dict)
    tops: tuple[I64, I64] | None = None
    first_model: str = ""


class Persistence:
    """The bytes of one recommender's state.

    Attributes:
        journal: what co-visitation learned since the last commit.
        shared_changed: whether what belongs to no single user or item changed since then.
    """

    def __init__(self, users: UserTable, catalogue: Catalogue, actions: Actions) -> None:
        self.journal = Journal()
        self.shared_changed = False
        self._users, self._catalogue, self._actions = users, catalogue, actions
        self._taken: Plan | None = None

    def dirty_bytes(self, state: State) -> int:
        """About what a commit would write."""
        flags = self._catalogue.columns.dirty
        width = 4 * state.amf.x.shape[1]
        rows = _row_bytes(state, flags)
        if self.journal.saves(rows):
            rows = rows // TURNS + 4 * int(self.journal.words.used[0])
        heads = int(np.count_nonzero(flags & HEAD))
        outputs = int(np.count_nonzero(flags & OUTPUT))
        items = rows + heads * (width + 200) + outputs * (width + 16)
        unavailable = 16 * len(self._catalogue.unavailable) if self._catalogue.unavailable_changed else 0
        return self._users.dirty_bytes() + int(items) + unavailable

    def take(self, state: State, first_model: str, *, whole: bool) -> Delta:
        """What changed since `mark_clean`; nothing is marked here.

        Args:
            first_model: version of the first re-ranker that was used, "" for none.
            whole: with every co-visitation row that changed. Else with a part of them and, for the others, what they
                learned, where that is less (`models.online.covisit_journal`); a whole one writes them all.
        """
        delta = Delta(users=list(self._users.dirty()))
        for number in self._catalogue.removed:
            delta.items.extend((item_rows.key(kind, number), None) for kind in item_rows.KINDS)
        flags, numbers = self._catalogue.columns.dirty, state.items.number
        plan = self.journal.plan(flags, numbers, _row_bytes(state, flags), whole=whole)
        delta.items.extend(plan.entries)
        flags = np.where(plan.rows, flags, flags & ~np.uint8(ROW))
        slots = np.flatnonzero(flags)
        slots = slots[numbers[slots] >= 0]
        flags = flags[slots]
        for slot in slots[(flags & NAME) != 0].tolist():
            name = item_rows.key(b"i", int(numbers[slot]))
            delta.items.append((name, item_rows.id_bytes(slot, self._catalogue.id_at(slot) or "")))
        delta.items.extend(item_rows.dump(state, slots, flags))
        if self.shared_changed or delta.users or delta.items:
            delta.meta.append((META, meta_row.dump(state, self._actions, self._catalogue, first_model)))
        if self._catalogue.unavailable_changed:
            delta.meta.append((UNAVAILABLE, msgspec.msgpack.encode(sorted(self._catalogue.unavailable))))
        self._taken = plan
        return delta

    def mark_clean(self, state: State) -> None:
        """What the last `take` gave is as good as written: whoever took it writes it, or ends."""
        plan, self._taken = self._taken, None
        flags = self._catalogue.columns.dirty
        if plan is None:  # what is never written need not be kept for it
            plan = self.journal.plan(flags, state.items.number, 0, whole=True)
        self._users.mark_clean()
        flags &= np.where(plan.rows, 0, ROW).astype(np.uint8)
        self.journal.written(plan)
        self._catalogue.removed.clear()
        self._catalogue.unavailable_changed = False
        self.shared_changed = False

    def read(
        self, items: Iterable[tuple[bytes, bytes]], meta: Iterable[tuple[bytes, bytes]], state: State
    ) -> Rows:
        """Put back what is shared, and the items' ids; `fill` takes the rest once there is room for it.

        Raises:
            ValueError: bytes that these settings did not write.
        """
        rows = Rows()
        found = dict(meta)
        if META in found:
            rows.tops, rows.first_model = meta_row.load(found[META], state, self._actions, self._catalogue)
        if UNAVAILABLE in found:
            for item_id in msgspec.msgpack.decode(found[UNAVAILABLE], type=list[str]):
                self._catalogue.set_item(item_id, available=False)
            self._catalogue.unavailable_changed = False
        for name, data in items:
            kind, number = item_rows.parse_key(name)
            if kind == covisit_journal.KIND:
                rows.segments[number] = data
            elif kind == b"i":
                slot, item_id = item_rows.parse_id(data)
                self._catalogue.restore(item_id, number, slot)
            else:
                rows.rest.append((kind, number, data))
        self._catalogue.restored()
        return rows

    def fill(self, state: State, rows: Rows, rates: covisit.Rates, room: int) -> State:
        """Put the items' rows back; the state with them. `room`: co-visitation entries that one event can need.

        Raises:
            ValueError: bytes that these settings did not write.
        """
        parts = {b"h": item_rows.load_head, b"y": item_rows.load_output, b"s": item_rows.load_here}
        slot_of = self._catalogue.slot_of
        for kind, number, data in rows.rest:
            slot = int(slot_of[number])
            if kind == b"c":
                state = state._replace(
                    covisit=covisit_rows.with_room(state.covisit, 4 * len(data) // 12 + 16)
                )
                item_rows.load_row(state, slot, data, slot_of)
            else:
                parts[kind](state, slot, data)
        dirty = self._catalogue.columns.dirty
        dirty[:] = 0
        whole = self.journal.load(
            rows.segments, state.covisit, rates, state.items.number, slot_of, dirty, room
        )
        return state._replace(covisit=whole)


def _row_bytes(state: State, flags: U8) -> int:
    return item_rows.ENTRY * int(state.covisit.n[(flags & ROW) != 0].sum())
