"""Protocols: who is asked when, what is right, what is learned; against slow definitions, whatever the stream is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.family.contract import NOBODY, Interactions
from models.family.protocols import (
    FIRST,
    REPEAT,
    SHORT,
    Plan,
    frequent,
    leave_one_out,
    negatives,
    prequential,
    temporal,
)
from tests.models.family.planted import interactions

streams = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=40)
Asked = dict[tuple[int, int], set[int]]


def events_of(stream: list[tuple[int, int]]) -> Interactions:
    return interactions([u for u, _ in stream], [i for _, i in stream])


def asked(plan: Plan) -> Asked:
    """(user, before) → the items that are right."""
    questions = plan.questions
    starts = questions.relevant.starts
    return {
        (int(user), int(before)): set(questions.relevant.item[starts[n] : starts[n + 1]].tolist())
        for n, (user, before) in enumerate(zip(questions.user, questions.before, strict=True))
    }


def had(stream: list[tuple[int, int]], user: int, before: int) -> set[int]:
    return {i for u, i in stream[:before] if u == user}


class TestLeaveOneOut:
    @given(stream=streams, on=st.sampled_from(["test", "validation"]))
    def test_the_last_item_is_the_test_and_the_one_before_it_the_validation(
        self, stream: list[tuple[int, int]], on: str
    ) -> None:
        expected: Asked = {}
        held_out: set[int] = set()
        for user in range(5):
            rows = [row for row, (u, _) in enumerate(stream) if u == user]
            if len(rows) < 3:
                continue
            held_out |= set(rows[-2:])
            row = rows[-1 if on == "test" else -2]
            if stream[row][1] not in had(stream, user, row):
                expected[user, row] = {stream[row][1]}
        plan = leave_one_out(events_of(stream), on=on)
        assert asked(plan) == expected
        assert plan.stages[0].learn.tolist() == [r for r in range(len(stream)) if r not in held_out]
        assert sum(plan.unscored.values()) + len(expected) == len({u for u, _ in stream})

    def test_short_histories_and_repeats_are_counted_as_not_asked(self) -> None:
        plan = leave_one_out(interactions([0, 0, 1, 1, 1, 2, 2, 2], [1, 2, 1, 2, 1, 1, 2, 3]))
        assert plan.unscored == {SHORT: 1, REPEAT: 1}
        assert asked(plan) == {(2, 7): {3}}

    def test_a_protocol_that_knows_the_test_alone_learns_the_validation(self) -> None:
        plan = leave_one_out(interactions([0, 0, 0], [1, 2, 3]), learn_validation=True)
        assert plan.stages[0].learn.tolist() == [0, 1]

    def test_the_validation_is_never_learned_where_it_is_asked_for(self) -> None:
        plan = leave_one_out(interactions([0, 0, 0], [1, 2, 3]), on="validation", learn_validation=True)
        assert plan.stages[0].learn.tolist() == [0]


class TestTemporal:
    @given(stream=streams, on=st.sampled_from(["test", "validation"]))
    def test_what_a_user_takes_after_the_cut_for_the_first_time_is_right(
        self, stream: list[tuple[int, int]], on: str
    ) -> None:
        n = len(stream)
        first, second = int(n * 0.8), int(n * (0.8 + 0.1))
        begin, end = (second, n) if on == "test" else (first, second)
        expected: Asked = {}
        for user, item in stream[begin:end]:
            if item not in had(stream, user, begin):
                expected.setdefault((user, begin), set()).add(item)
        plan = temporal(events_of(stream), on=on)
        assert asked(plan) == expected
        assert plan.stages[0].learn.tolist() == list(range(first))
        assert len(plan.questions.row) + plan.unscored[REPEAT] == end - begin

    def test_users_without_a_history_are_told_by_it(self) -> None:
        plan = temporal(interactions([0] * 9 + [1], list(range(10))))
        assert plan.questions.user.tolist() == [1]
        assert plan.questions.user_events.tolist() == [0]


class TestPrequential:
    @given(stream=streams, every=st.integers(1, 15))
    def test_every_event_is_asked_for_before_it_is_learned_as_the_backtest_counts(
        self, stream: list[tuple[int, int]], every: int
    ) -> None:
        expected: Asked = {}
        counts = {FIRST: 0, REPEAT: 0}
        for row, (user, item) in enumerate(stream):
            before = had(stream, user, row)
            if not before:
                counts[FIRST] += 1
            elif item in before:
                counts[REPEAT] += 1
            else:
                expected[user, row] = {item}
        plan = prequential(events_of(stream), every=every)
        assert asked(plan) == expected
        assert plan.unscored == counts

        learned: list[int] = []
        last = 0
        for stage in plan.stages:
            learned += stage.learn.tolist()
            assert learned == list(range(len(learned)))
            assert stage.first == last
            last = stage.last
            for row in plan.questions.row[stage.first : stage.last].tolist():
                assert len(learned) <= row < len(learned) + every
        assert last == len(plan.questions)

    @given(streams)
    def test_it_says_how_much_was_known_of_the_user_and_the_item(self, stream: list[tuple[int, int]]) -> None:
        questions = prequential(events_of(stream)).questions
        for n, row in enumerate(questions.row.tolist()):
            user, item = stream[row]
            assert questions.user_events[n] == sum(u == user for u, _ in stream[:row])
            assert questions.item_events[n] == sum(i == item for _, i in stream[:row])


@pytest.mark.parametrize("protocol", [leave_one_out, temporal])
@given(stream=streams)
def test_with_one_learning_an_item_is_known_by_what_was_learned_of_it(
    protocol: Callable[[Interactions], Plan], stream: list[tuple[int, int]]
) -> None:
    plan = protocol(events_of(stream))
    learned = [stream[row][1] for row in plan.stages[0].learn]
    for item, known in zip(plan.questions.relevant.item, plan.questions.item_events, strict=True):
        assert known == learned.count(int(item))
    for n, (user, before) in enumerate(asked(plan)):
        assert plan.questions.user_events[n] == sum(u == user for u, _ in stream[:before])


class TestFrequent:
    @given(stream=streams, least=st.integers(1, 5))
    def test_rare_items_are_gone_and_the_others_are_numbered_without_gaps(
        self, stream: list[tuple[int, int]], least: int
    ) -> None:
        items = [i for _, i in stream]
        kept_events, kept = frequent(events_of(stream), least)
        assert kept.tolist() == sorted({i for i in items if items.count(i) >= least})
        expected = [(u, i) for u, i in stream if items.count(i) >= least]
        assert list(zip(kept_events.user.tolist(), kept[kept_events.item].tolist(), strict=True)) == expected


class TestNegatives:
    @given(stream=streams, count=st.integers(1, 8))
    def test_they_are_items_that_the_user_never_took(self, stream: list[tuple[int, int]], count: int) -> None:
        events = events_of(stream)
        plan = leave_one_out(events)
        drawn = negatives(plan, events, count)
        for user, row in zip(plan.questions.user.tolist(), drawn.tolist(), strict=True):
            there = [item for item in row if item != NOBODY]
            free = set(range(max(i for _, i in stream) + 1)) - had(stream, user, len(stream))
            assert len(set(there)) == len(there) == min(count, len(free))
            assert set(there) <= free

    def test_a_user_gets_the_same_ones_whoever_else_is_asked(self) -> None:
        many = interactions([0, 0, 0, 1, 1, 1], [0, 1, 2, 3, 4, 30])
        one = many.take(slice(3, None))
        both, alone = negatives(leave_one_out(many), many, 5), negatives(leave_one_out(one), one, 5)
        np.testing.assert_array_equal(both[1], alone[0])
