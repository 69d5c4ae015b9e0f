"""The user table against a plain list of events."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.base import ACCEPTED, DUPLICATE, LATE, EventBatch
from models.config import ModelSettings, SequenceSettings
from models.state.arena import block_size
from models.state.sequences import HISTORY, Histories
from models.state.user_rows import unpack_row
from models.state.users import UserTable

LENGTH, IDS = 6, 4
SETTINGS = ModelSettings(
    max_cached_users=16, sequence=SequenceSettings(length=LENGTH, recent_ids=IDS, seen=100)
)
WEIGHTS = np.ones(256, np.float32)
WEIGHTS[2] = -1.0
SCENARIOS = np.zeros(256, np.uint8)
SCENARIOS[3:6] = 1, 2, 3

Row = tuple[int, int, int, int, int]
"""(user, item, action, ts, event id)."""


def histories(n: int) -> Histories:
    items = np.full((n, HISTORY), -9, np.int32)
    return Histories(
        status=np.full(n, 99, np.uint8), repeat=np.zeros(n, np.uint8), events=np.zeros(n, np.int64),
        b_items=items, b_n=np.zeros(n, np.int32), b_gap=np.zeros(n, np.uint8),
        b_scenario=np.zeros(n, np.uint8), b_seen=np.zeros(n, np.int64),
        a_items=items.copy(), a_n=np.zeros(n, np.int32), a_gap=np.zeros(n, np.uint8),
        a_scenario=np.zeros(n, np.uint8), a_seen=np.zeros(n, np.int64),
    )  # fmt: skip


def advance(table: UserTable, rows: list[Row], weights: Any = WEIGHTS) -> Histories:
    n = len(rows)
    column = np.array(rows, np.int64).reshape(n, 5).T
    batch = EventBatch(
        user=column[0].astype(np.int32), item=column[1].astype(np.int32), action=column[2].astype(np.uint8),
        weight=np.ones(n, np.float32), value=column[1].astype(np.float32) / 2, ts=column[3].copy(),
        event_id=column[4].astype(np.uint64), key=np.zeros(n, np.uint64), offset=np.arange(n),
    )  # fmt: skip
    out = histories(n)
    table.advance(batch, np.ones(n, np.bool_), weights, SCENARIOS, out)
    return out


def table_of(*users: str, given_settings: ModelSettings = SETTINGS) -> UserTable:
    table = UserTable(given_settings)
    for user in users:
        table.admit(user, 0, None)
    return table


class Plain:
    """One user, by the definitions."""

    def __init__(self) -> None:
        self.sequence: list[tuple[int, int, int, int]] = []  # (ts, arrival, item, action)
        self.ids: list[int] = []
        self.seen: list[int] = []
        self.events = 0

    def history(self) -> list[int]:
        return [item for _, _, item, action in reversed(self.sequence) if action != 2]

    def apply(self, item: int, action: int, ts: int, event_id: int) -> int:
        if event_id:
            if event_id in self.ids[-IDS:]:
                return DUPLICATE
            self.ids.append(event_id)
        if item not in self.seen:
            self.seen.append(item)
        self.events += 1
        me = (ts, self.events, item, action)
        self.sequence = sorted([*self.sequence, me])[-LENGTH:]
        return ACCEPTED if me in self.sequence else LATE


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 9),
        st.sampled_from([1, 1, 2]),
        st.integers(0, 15),
        st.integers(0, 12),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(rows=EVENTS, size=st.integers(1, 60))
def test_each_event_s_history_and_status_are_those_of_a_plain_list(rows: list[Row], size: int) -> None:
    table, plain = table_of("a", "b", "c"), [Plain(), Plain(), Plain()]
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        out = advance(table, some)
        for e, (user, item, action, ts, event_id) in enumerate(some):
            them = plain[user]
            before, events, repeat = them.history(), them.events, item in them.seen
            had = len(them.seen)
            status = them.apply(item, action, ts, event_id)
            assert out.status[e] == status
            if status == DUPLICATE:
                assert (out.b_n[e], out.a_n[e]) == (0, 0)
                continue
            assert out.b_items[e, : out.b_n[e]].tolist() == before
            assert out.a_items[e, : out.a_n[e]].tolist() == them.history()
            assert (out.events[e], out.repeat[e]) == (events, repeat)
            assert (out.b_seen[e], out.a_seen[e]) == (had, len(them.seen))
    for slot, them in enumerate(plain):
        assert table.events(slot) == them.events
        n = int(table.columns.seq_n[slot])
        assert table.columns.seq_item[slot, :n].tolist() == [item for _, _, item, _ in them.sequence]
        assert table.columns.seq_value[slot, :n].tolist() == [item / 2 for _, _, item, _ in them.sequence]


@settings(deadline=None)
@given(rows=EVENTS, more=EVENTS)
def test_a_user_who_left_memory_goes_on_from_the_row(rows: list[Row], more: list[Row]) -> None:
    stayed, went = table_of("a", "b", "c"), table_of("a", "b", "c")
    advance(stayed, rows), advance(went, rows)
    saved = {user: row for _, user, row in went.dirty()}
    went.mark_clean()
    assert went.evict(3) == 3
    for user in ("c", "a", "b"):  # into other slots than before
        went.admit(user, 0, saved.get(user))
    slot = [went.slot(user) for user in "abc"]
    advance(stayed, more), advance(went, [(slot[u], i, a, t, e) for u, i, a, t, e in more])
    assert [went.row(slot[u]) for u in range(3)] == [stayed.row(u) for u in range(3)]


@pytest.mark.parametrize("count", [0, 7, 100, 110, 130, 300])
def test_a_row_has_the_items_seen_last_wherever_they_lie_in_their_block(count: int) -> None:
    stayed, went = table_of("a"), table_of("a")
    for table in (stayed, went):
        advance(table, [(0, item, 1, item, 0) for item in range(count)])
    saved = went.row(0)
    assert unpack_row(saved).seen.tolist() == list(range(max(0, count - 100), count))
    went.mark_clean()
    assert went.evict(1) == 1
    slot = went.admit("a", 0, saved)
    more = [(item, 1, item, 0) for item in range(count, count + 40)]
    advance(stayed, [(0, *event) for event in more]), advance(went, [(slot, *event) for event in more])
    assert went.row(slot) == stayed.row(0)


def test_the_scenario_is_that_of_the_newest_event_before_and_after() -> None:
    out = advance(table_of("a"), [(0, 1, 3, 10, 0), (0, 2, 5, 20, 0), (0, 3, 4, 5, 0), (0, 4, 1, 30, 0)])
    assert out.b_scenario.tolist() == [0, 1, 3, 3]
    assert out.a_scenario.tolist() == [1, 3, 3, 0], "a late event is not the newest, and a type may have none"


@pytest.mark.parametrize(("gap", "expected"), [(0, 0), (1000, 0), (1001, 1), (3_600_000, 1), (3_600_001, 2)])
def test_the_gap_of_the_newest_two_events_has_a_class(gap: int, expected: int) -> None:
    table = table_of("a")
    out = advance(table, [(0, 1, 1, 50, 0), (0, 2, 1, 50 + gap, 0)])
    assert out.a_gap.tolist() == [2, expected]
    items = np.zeros(HISTORY, np.int32)
    assert table.history(0, WEIGHTS, items) == (2, expected)
    assert items[:2].tolist() == [2, 1]


class TestSeen:
    def test_many_items_are_remembered_exactly(self) -> None:
        many = ModelSettings(sequence=SequenceSettings(seen=10_000))
        table = table_of("a", "b", given_settings=many)
        for start in range(0, 12_000, 4000):
            out = advance(table, [(n % 2, n // 2, 1, n, 0) for n in range(start, start + 4000)])
            assert not out.repeat.any()
        again = advance(table, [(n % 2, n // 2, 1, n, 0) for n in range(0, 12_000, 3)])
        assert again.repeat.all()
        assert (table.columns.seen_n[:2] == 6000).all()

    def test_what_lies_further_back_than_the_setting_is_new_again(self) -> None:
        table = table_of("a")
        advance(table, [(0, n, 1, n, 0) for n in range(101)])
        out = advance(table, [(0, 1, 1, 500, 0), (0, 0, 1, 501, 0), (0, 1, 1, 502, 0)])
        assert out.repeat.tolist() == [1, 0, 0]

    @pytest.mark.parametrize("remembered", [100, 1000, 10_000])
    def test_users_who_had_more_than_is_remembered_come_back_into_rings_of_their_own(
        self, remembered: int
    ) -> None:
        """Their rings grow again, all in one batch: there must be room for it."""
        many = ModelSettings(max_cached_users=64, sequence=SequenceSettings(seen=remembered))
        had, comes = 6000, 40
        table = table_of("a", given_settings=many)
        for start in range(0, had, 3000):
            advance(table, [(0, n, 1, n, 0) for n in range(start, start + 3000)])
        row = table.row(0)
        table = table_of(given_settings=many)
        slots = [table.admit(f"u{n}", 0, row) for n in range(comes)]
        advance(table, [(slot, had + n, 1, had + n, 0) for n in range(8) for slot in slots])
        kept = list(range(max(0, had + 8 - remembered), had + 8))
        assert all(unpack_row(table.row(slot)).seen.tolist() == kept for slot in slots)
        at = np.sort(table.columns.seen_at[slots])
        sizes = block_size(table.columns.seen_class[slots].max())
        assert (np.diff(at) >= sizes).all()
        assert at[-1] + sizes <= len(table.seen)


class TestMemory:
    def test_asking_creates_nobody(self) -> None:
        table = table_of("a")
        assert table.slot("b") == -1
        assert (len(table), list(table.slots), list(table.dirty())) == (1, ["a"], [])

    def test_no_more_users_than_the_setting_allows(self) -> None:
        table = table_of(*(f"u{n}" for n in range(16)))
        assert table.room() == 0
        with pytest.raises(MemoryError, match=r"16 users are in memory.*models\.max_cached_users"):
            table.admit("one more", 0, None)

    def test_more_users_than_the_columns_had_room_for(self) -> None:
        table = UserTable(ModelSettings(max_cached_users=5000))
        for n in range(3000):
            table.admit(f"u{n}", n % 7, None)
        assert all(table.id_of(n) == f"u{n}" and table.partition_of(n) == n % 7 for n in range(3000))
        advance(table, [(2999, 5, 1, 1, 0)])
        assert (table.events(2999), table.events(0)) == (1, 0)
        assert table.last_list(2999).tolist() == [-1] * 10
        assert table.positions(2999).tolist() == [-1] * 4

    def test_those_unused_for_longest_leave_first(self) -> None:
        table = table_of("a", "b", "c", "d")
        for slot in (2, 0, 3, 1):
            advance(table, [(slot, 1, 1, 1, 0)])
        table.mark_clean()
        assert table.evict(2) == 2
        assert set(table.slots) == {"d", "b"}

    def test_whoever_changed_since_the_last_commit_stays(self) -> None:
        table = table_of("a", "b")
        advance(table, [(0, 1, 1, 1, 0)])
        assert table.evict(2) == 1
        assert set(table.slots) == {"a"}

    def test_a_slot_that_is_used_again_holds_nothing_of_the_one_before(self) -> None:
        table = table_of("a")
        advance(table, [(0, 5, 1, 9, 77)])
        table.mark_clean()
        table.evict(1)
        assert table.admit("b", 3, None) == 0
        fresh = table_of("b")
        assert table.row(0) == fresh.row(0)
        assert table.partition_of(0) == 3
        assert advance(table, [(0, 5, 1, 9, 77)]).repeat.tolist() == [0]


class TestDirty:
    def test_says_who_changed_until_it_is_marked_clean(self) -> None:
        table = table_of("a", "b", "c")
        advance(table, [(1, 5, 1, 9, 0)])
        assert [(p, user, row) for p, user, row in table.dirty()] == [(0, "b", table.row(1))]
        assert list(table.dirty()) == list(table.dirty())
        assert table.dirty_bytes() > 0
        table.mark_clean()
        assert list(table.dirty()) == []
        assert table.dirty_bytes() == 0

    def test_a_duplicate_changes_nothing(self) -> None:
        table = table_of("a")
        advance(table, [(0, 5, 1, 9, 77)])
        table.mark_clean()
        assert advance(table, [(0, 6, 1, 10, 77)]).status.tolist() == [DUPLICATE]
        assert list(table.dirty()) == []

    def test_an_erased_user_s_row_is_deleted_once(self) -> None:
        table = table_of("a")
        advance(table, [(0, 5, 1, 9, 0)])
        table.erase(0)
        assert list(table.dirty()) == [(0, "a", None)]
        assert table.slot("a") == -1
        table.mark_clean()
        assert list(table.dirty()) == []

    def test_an_erased_user_who_came_back_has_the_new_row_written(self) -> None:
        table = table_of("a")
        advance(table, [(0, 5, 1, 9, 0)])
        table.erase(0)
        slot = table.admit("a", 0, None)
        advance(table, [(slot, 6, 1, 10, 0)])
        ((_, user, row),) = table.dirty()
        assert (user, row) == ("a", table.row(slot))
        assert table.events(slot) == 1

    def test_an_erased_user_who_came_back_elsewhere_has_the_old_row_deleted(self) -> None:
        table = table_of("a")
        advance(table, [(0, 5, 1, 9, 0)])
        table.erase(0)
        slot = table.admit("a", 1, None)
        advance(table, [(slot, 6, 1, 10, 0)])
        assert list(table.dirty()) == [(0, "a", None), (1, "a", table.row(slot))]
