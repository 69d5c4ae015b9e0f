"""Whatever comes, in whatever batches: every record is covered, and nothing depends on the cuts."""

from __future__ import annotations

import json
from collections.abc import Iterator

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.records import Read
from tests.stream_app.batch.workers import Worker, at


def streams(*, erase: bool = True) -> st.SearchStrategy[list[Read]]:
    """Records of one partition, with duplicates, late, broken and misrouted ones."""
    kinds = ["click", "click", "rating", "skip", "broken", "misrouted"] + (["erase"] if erase else [])
    one = st.tuples(
        st.sampled_from("abc"),
        st.sampled_from("vwxyz"),
        st.sampled_from(kinds),
        st.integers(0, 12),
        st.integers(0, 50),
    )
    return st.lists(one, min_size=1, max_size=40).map(lambda rows: list(_records(rows)))


def _records(rows: list[tuple[str, str, str, int, int]]) -> Iterator[Read]:
    for offset, (user, item, kind, event_id, ts) in enumerate(rows):
        if kind == "broken":
            yield Read(b'{"user_id": 1.5}', offset=offset, key=user.encode())
        elif kind == "misrouted":
            yield at(offset, user, item, key=b"someone else")
        else:
            named = {"event_id": event_id} if event_id else {}
            yield at(offset, user, None if kind == "erase" else item, kind, ts=ts, **named)


def cut(records: list[Read], sizes: list[int]) -> Iterator[list[Read]]:
    start = 0
    for size in sizes:
        yield records[start : start + size]
        start += size
    yield records[start:]


cuts = st.lists(st.integers(0, 9), max_size=8)


@given(streams(), cuts)
@hypothesis_settings(max_examples=40, deadline=None)
def test_every_record_is_covered(records: list[Read], sizes: list[int]) -> None:
    worker, published, dead = Worker(), [], set()
    for batch in cut(records, sizes):
        out = worker.process(*batch)
        published += out.recommendations
        dead |= {letter.record.offset for letter in out.dead_letters}
    newest = {one.user_id: json.loads(one.value) if one.value else None for one in published}
    ids: dict[str, set[int]] = {}
    owed: dict[str, list[int]] = {}
    erased = set()
    for record in records:
        sent = json.loads(record.value or b"")
        if sent["user_id"] == 1.5 or record.key == b"someone else":
            assert record.offset in dead
            continue
        user, event_id = sent["user_id"], sent.get("event_id")
        if sent["type"] == "erase":  # the tombstone stands for all that was before
            erased.add(user)
            ids[user], owed[user] = set(), []
        elif event_id is None or event_id not in ids.setdefault(user, set()):
            ids.setdefault(user, set()).add(event_id)
            owed.setdefault(user, []).append(record.offset)
    for user, offsets in owed.items():
        if offsets:
            assert newest[user]["sources"]["events-0"] >= max(offsets)
            assert newest[user]["events"] == len(offsets)
        else:
            assert user in erased
            assert newest[user] is None
    assert newest.keys() == owed.keys()
    assert len(dead) == sum(record.key != _key(record) for record in records)


def _key(record: Read) -> bytes:
    return str(json.loads(record.value or b"")["user_id"]).encode()


@given(streams(), cuts, st.booleans())
@hypothesis_settings(max_examples=30, deadline=None)
def test_with_one_list_per_event_nothing_depends_on_where_batches_are_cut_or_the_worker_restarted(
    records: list[Read], sizes: list[int], restart: bool
) -> None:
    whole, parts = (Worker(worker__one_list_per_event=True) for _ in range(2))
    expected = whole.process(*records)
    whole.commit()
    lists, letters = [], []
    for batch in cut(records, sizes):
        out = parts.process(*batch)
        lists += out.recommendations
        letters += [letter.record.offset for letter in out.dead_letters]
        parts.commit()
        if restart:
            parts.restart()
    assert [(one.user_id, one.value) for one in lists] == [
        (one.user_id, one.value) for one in expected.recommendations
    ]
    assert letters == sorted(letter.record.offset for letter in expected.dead_letters)
    assert parts.state.users == whole.state.users
    assert parts.state.items == whole.state.items
    assert parts.state.meta == whole.state.meta
