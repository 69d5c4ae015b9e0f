from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.store.state_folder import StateError
from stream_app.worker.positions import Expected, Gap, LogFacts, check_unchanged, refuse_gap, start_offsets

DIRECTORY = Path("state")


def facts(begins: list[int], ends: list[int], topic: str = "events", topic_id: str = "id") -> LogFacts:
    return LogFacts(
        {topic: topic_id},
        {(topic, number): begin for number, begin in enumerate(begins)},
        {(topic, number): end for number, end in enumerate(ends)},
    )


def records(*offsets: int) -> Any:
    return [SimpleNamespace(offset=offset) for offset in offsets]


def test_without_a_state_reading_starts_where_the_log_does() -> None:
    assert start_offsets(DIRECTORY, {}, {}, facts([3, 0], [9, 0])) == {("events", 0): 3, ("events", 1): 0}


def test_with_a_state_reading_goes_on_from_the_stored_offsets() -> None:
    stored = {("events", 0): 5, ("events", 1): 9, ("items", 0): 70}
    assert start_offsets(DIRECTORY, stored, {"events": "id"}, facts([0, 0], [9, 9])) == {
        ("events", 0): 5,
        ("events", 1): 9,
    }


def test_an_offset_at_either_end_of_the_log_is_inside() -> None:
    assert start_offsets(DIRECTORY, {("events", 0): 4}, {}, facts([4], [4])) == {("events", 0): 4}


@pytest.mark.parametrize(
    ("stored", "ids", "now", "words"),
    [
        ({("events", 0): 5}, {}, facts([0], [4]), "offset 5, beyond the end of the log at 4"),
        ({("events", 0): 5}, {}, facts([8], [9]), "before the start of the log at 8: 3 records were deleted"),
        ({("events", 0): 5}, {"events": "old"}, facts([0], [9]), "deleted and made anew"),
        ({("events", 0): 5}, {}, facts([0, 0], [9, 9]), "had 1 partitions and now has 2"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_the_ways_out(
    stored: dict[tuple[str, int], int], ids: dict[str, str], now: LogFacts, words: str
) -> None:
    with pytest.raises(StateError, match=words) as refusal:
        start_offsets(DIRECTORY, stored, ids, now)
    assert "--state-dir" in refusal.value.advice


def test_input_topics_must_agree_in_their_partitions() -> None:
    one, two = facts([0], [0], "clicks"), facts([0, 0], [0, 0], "ratings")
    both = LogFacts({**one.ids, **two.ids}, {**one.begins, **two.begins}, {**one.ends, **two.ends})
    with pytest.raises(StateError, match="clicks 1, ratings 2"):
        start_offsets(DIRECTORY, {}, {}, both)


def test_a_topic_made_anew_under_a_running_worker_is_noticed() -> None:
    with pytest.raises(StateError, match="while the worker ran"):
        check_unchanged(facts([0], [5]), facts([0], [5], topic_id="new"))


def test_partitions_added_under_a_running_worker_are_noticed() -> None:
    with pytest.raises(StateError, match="had 1 partitions and now has 2"):
        check_unchanged(facts([0], [5]), facts([0, 0], [5, 0]))


def test_a_longer_log_is_no_change() -> None:
    check_unchanged(facts([0], [5]), facts([3], [50]))


def test_records_below_the_expected_offset_are_dropped() -> None:
    expected = Expected({("events", 0): 5})
    due, gaps = expected.due(("events", 0), records(3, 4, 5, 6))
    assert [record.offset for record in due] == [5, 6]
    assert gaps == []
    assert expected.offsets == {("events", 0): 7}


def test_gaps_are_told_with_their_first_and_last_offset() -> None:
    expected = Expected({("events", 0): 5})
    _, gaps = expected.due(("events", 0), records(7, 8, 12))
    assert gaps == [Gap(("events", 0), 5, 6), Gap(("events", 0), 9, 11)]


def test_a_gap_whose_first_offset_the_broker_still_holds_is_explained() -> None:
    refuse_gap(Gap(("events", 0), 5, 6), begin=5)


def test_a_gap_that_was_deleted_before_it_was_read_is_refused() -> None:
    with pytest.raises(StateError, match="offsets 5 to 6 were deleted before they were read"):
        refuse_gap(Gap(("events", 0), 5, 6), begin=7)


@given(
    start=st.integers(0, 20),
    offsets=st.sets(st.integers(0, 40), max_size=30).map(sorted),
    cuts=st.lists(st.integers(0, 30), max_size=4).map(sorted),
)
def test_however_a_log_is_cut_every_due_record_comes_once_and_gaps_fill_the_rest(
    start: int, offsets: list[int], cuts: list[int]
) -> None:
    expected = Expected({("events", 0): start})
    due: list[int] = []
    missing: list[int] = []
    edges = [0, *cuts, len(offsets)]
    for low, high in itertools.pairwise(edges):
        # a broker may repeat what lies before the position that was asked for
        batch = offsets[max(0, low - 2) : high]
        came, gaps = expected.due(("events", 0), records(*batch))
        due += [record.offset for record in came]
        missing += [offset for gap in gaps for offset in range(gap.first, gap.last + 1)]
    wanted = [offset for offset in offsets if offset >= start]
    assert due == wanted
    assert sorted(due + missing) == list(range(start, wanted[-1] + 1 if wanted else start))
