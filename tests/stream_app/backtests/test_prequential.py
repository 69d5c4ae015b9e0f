"""The vectorised scorer against a slow one that goes event by event, on random streams cut at random."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.base import ACCEPTED, DUPLICATE, LATE
from stream_app.backtests.prequential import GAPS, NO_GAP, Marks, Prequential, gap_slices, slice_of

USERS, ITEMS, K = 4, 9, 3

events = st.lists(
    st.tuples(
        st.integers(0, USERS - 1),
        st.integers(0, ITEMS - 1),
        st.sampled_from([0, 1, 1_000, 30_000, 600_000, 10**8]),  # ms since the event before
        st.sampled_from([ACCEPTED, ACCEPTED, ACCEPTED, LATE, DUPLICATE]),
        st.lists(st.integers(0, ITEMS - 1), min_size=K, max_size=K, unique=True) | st.none(),
        st.sampled_from([True, True, True, False]),  # whether it teaches positively
    ),
    max_size=40,
)
Event = tuple[int, int, int, int, list[int] | None, bool]


def slow(stream: list[Event]) -> list[tuple[bool, int, int]]:
    """(scored, rank, gap) of each event: the definition."""
    lists: dict[int, list[int]] = {}
    had: dict[int, set[int]] = {user: set() for user in range(USERS)}
    last: dict[int, int] = {}
    out = []
    now = 0
    for user, item, wait, status, made, liked in stream:
        now += wait
        if status == DUPLICATE:
            out.append((False, -1, NO_GAP))
            continue
        scored = user in last and item not in had[user] and liked
        listed = lists.get(user, [])
        gap = NO_GAP
        if user in last:
            gap = next((i for i, (limit, _) in enumerate(GAPS) if now - last[user] <= limit), len(GAPS))
        out.append((scored, listed.index(item) if scored and item in listed else -1, gap))
        had[user].add(item)
        last[user] = now
        if made is not None:
            lists[user] = made
    return out


def feed(scorer: Prequential, stream: list[Event], cuts: list[int]) -> list[Marks]:
    now = np.cumsum([event[2] for event in stream])
    marks = []
    for start, stop in itertools.pairwise([0, *cuts, len(stream)]):
        block = stream[start:stop]
        user = np.array([event[0] for event in block], np.int32)
        item = np.array([event[1] for event in block], np.int32)
        liked = np.array([event[5] for event in block], np.bool_)
        made = [row for row, event in enumerate(block) if event[4] is not None and event[3] != DUPLICATE]
        mark = scorer.mark(
            user, item, now[start:stop], np.array([event[3] for event in block], np.uint8), liked
        )
        lists = np.array([block[row][4] for row in made], np.int32).reshape(-1, K)
        scorer.place(mark, user, item, np.array(made, np.int64), user[made], lists)
        marks.append(mark)
    return marks


@given(events, st.lists(st.integers(0, 40)))
def test_every_event_is_judged_as_by_the_definition(stream: list[Event], cuts: list[int]) -> None:
    cuts = sorted(min(cut, len(stream)) for cut in cuts)
    marks = feed(Prequential(USERS, 1, K), stream, cuts)
    got = [
        (bool(scored), int(rank), int(gap))
        for mark in marks
        for scored, rank, gap in zip(mark.scored, mark.rank, mark.gap, strict=True)
    ]
    assert got == slow(stream)


@given(events)
def test_what_was_listed_is_measured_list_by_list(stream: list[Event]) -> None:
    scorer = Prequential(USERS, ITEMS, K, features=np.eye(ITEMS))
    feed(scorer, stream, list(range(1, len(stream))))

    shown: set[int] = set()
    occurred: dict[int, int] = {}
    for _, item, _, status, made, _ in stream:
        if status == DUPLICATE:
            continue
        shown |= set(made or [])
        occurred[item] = occurred.get(item, 0) + 1

    known = shown | set(occurred)
    assert scorer.coverage() == pytest.approx(len(shown) / len(known) if known else 0)
    if shown:
        assert scorer.diversity() == pytest.approx(1.0)  # no two items share a feature
    else:
        assert math.isnan(scorer.diversity())


def test_items_of_the_same_users_are_alike_and_of_others_are_not() -> None:
    scorer = Prequential(users=400, items=4, k=2)
    user = np.repeat(np.arange(400, dtype=np.int32), 2)
    item = np.where(user < 200, 0, 2).astype(np.int32) + np.tile([0, 1], 400).astype(np.int32)
    marks = scorer.mark(user, item, np.zeros(800, np.int64), np.zeros(800, np.uint8), np.ones(800, np.bool_))
    nothing = np.zeros(0, np.int64)
    scorer.place(marks, user, item, nothing, nothing.astype(np.int32), np.zeros((0, 2), np.int32))

    scorer.publish(np.array([0], np.int32), np.array([[0, 1]], np.int32))
    assert scorer.diversity() == pytest.approx(0.0, abs=1e-9)
    apart = Prequential(users=400, items=4, k=2)
    marks = apart.mark(user, item, np.zeros(800, np.int64), np.zeros(800, np.uint8), np.ones(800, np.bool_))
    apart.place(marks, user, item, nothing, nothing.astype(np.int32), np.zeros((0, 2), np.int32))
    apart.publish(np.array([0], np.int32), np.array([[0, 2]], np.int32))
    assert apart.diversity() == pytest.approx(1.0, abs=0.4)  # a sketch of 64 signs


def test_an_erased_user_starts_anew() -> None:
    scorer = Prequential(USERS, ITEMS, K)
    stream: list[Event] = [(0, 1, 0, ACCEPTED, [2, 3, 4], True), (1, 1, 0, ACCEPTED, [2, 3, 4], True)]
    feed(scorer, stream, [])
    scorer.forget(0)
    (mark,) = feed(scorer, [(0, 1, 0, ACCEPTED, [5, 6, 7], True), (1, 2, 0, ACCEPTED, None, True)], [])
    assert mark.first.tolist() == [True, False]
    assert mark.repeat.tolist() == [False, False]
    assert mark.rank.tolist() == [-1, 0]


def test_a_refreshed_list_counts_from_the_next_event_on() -> None:
    scorer = Prequential(USERS, ITEMS, K)
    feed(scorer, [(0, 1, 0, ACCEPTED, [2, 3, 4], True)], [])
    scorer.publish(np.array([0], np.int32), np.array([[7, 8, 5]], np.int32))
    (mark,) = feed(scorer, [(0, 8, 0, ACCEPTED, None, True)], [])
    assert mark.rank.tolist() == [1]


def test_slices_score_the_chosen_events_alone() -> None:
    rank = np.array([0, -1, 2, -1], np.int32)
    scored = np.array([True, True, True, False])
    half = slice_of("some", rank, scored, np.array([True, True, False, True]), 10)
    assert (half.score.scored, half.score.hr, half.score.ndcg) == (2, 0.5, 0.5)
    by_gap = gap_slices(rank, scored, np.array([0, 0, len(GAPS), NO_GAP], np.uint8), 10)
    assert [(part.name, part.score.scored) for part in by_gap] == [
        ("within a second", 2),
        ("up to a minute", 0),
        ("up to an hour", 0),
        ("up to a day", 0),
        ("above a day", 1),
    ]
