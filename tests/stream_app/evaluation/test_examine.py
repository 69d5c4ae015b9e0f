"""One model's examination against a slow one in plain Python, with popularity, whose lists anyone can make."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.base import F32, I32, I64
from models.family.classic.popularity import Popularity
from models.family.contract import ActionModel, Interactions, Queries, RatingModel
from models.family.protocols import Plan, leave_one_out, negatives, prequential, temporal
from stream_app.evaluation import examine as examining
from stream_app.evaluation.examine import Examination, Findings, examine
from tests.models.family import planted
from tests.models.family.planted import interactions

K = 3
streams = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 8)), min_size=4, max_size=40)


def examined(events: Interactions, plan: Plan, **options: Any) -> Findings:
    items = int(events.item.max(initial=-1)) + 1
    task = Examination("popularity", {}, 0, events, None, plan, np.eye(items), K, **options)
    return examine(lambda _: None, task)


def popular(learned: list[int], had: set[int]) -> list[int]:
    counts = Counter(learned)
    known = range(max(learned) + 1) if learned else ()
    return sorted((i for i in known if i not in had), key=lambda i: (-counts[i], i))[:K]


@settings(deadline=None)
@given(stream=streams, every=st.integers(1, 9))
def test_a_prequential_run_lists_what_was_popular_at_the_last_learning(
    stream: list[tuple[int, int]], every: int
) -> None:
    hits, gain, scored = 0, 0.0, 0
    for row, (user, item) in enumerate(stream):
        had = {i for u, i in stream[:row] if u == user}
        if had and item not in had:
            best = popular([i for _, i in stream[: row // every * every]], had)
            scored += 1
            hits += item in best
            gain += 1 / math.log2(best.index(item) + 2) if item in best else 0.0
    events = interactions([u for u, _ in stream], [i for _, i in stream])
    group = examined(events, prequential(events, every=every)).groups["all"]
    assert group.lists.sum() == scored
    assert group.sums["hr"].sum() == hits
    assert group.sums["ndcg"].sum() == pytest.approx(gain)
    assert group.sums["serendipity"].sum() == 0.0


@settings(deadline=None)
@given(stream=streams)
def test_users_and_items_with_few_events_are_groups_of_their_own(stream: list[tuple[int, int]]) -> None:
    events = interactions([u for u, _ in stream], [i for _, i in stream])
    plan = temporal(events)
    cut, learned = int(len(stream) * (0.8 + 0.1)), [i for _, i in stream[: int(len(stream) * 0.8)]]
    expected: dict[str, dict[int, set[int]]] = {
        "all": {},
        "cold users": {},
        "cold items": {},
        "new users": {},
    }
    for user, item in stream[cut:]:
        had = [i for u, i in stream[:cut] if u == user]
        if item in had:
            continue
        names = ["all" if had else "new users"]
        names += ["cold users"] if 0 < len(had) < 5 else []
        names += ["cold items"] if had and learned.count(item) < 5 else []
        for name in names:
            expected[name].setdefault(user, set()).add(item)
    groups = examined(events, plan).groups
    for name, users in expected.items():
        assert groups[name].users.tolist() == sorted(users)
        for at, user in enumerate(groups[name].users.tolist()):
            had = {i for u, i in stream[:cut] if u == user}
            found = set(popular(learned, had)) & users[user]
            assert groups[name].sums["recall"][at] == pytest.approx(len(found) / len(users[user]))


def test_what_lists_are_like_is_measured_on_all_of_them() -> None:
    events = interactions([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2], [0, 1, 2, 3, 0, 1, 4, 5, 0, 6, 7])
    plan = leave_one_out(events)
    figures = examined(events, plan).figures
    # learned are item 0 with three events and item 1 with two
    assert plan.stages[0].learn.tolist() == [0, 1, 4, 5, 8]
    # so user 2 is given item 1, and the others, who had all that is known, nothing
    assert figures["coverage"] == pytest.approx(1 / 8)
    assert figures["arp"] == pytest.approx(2.0)
    assert figures["novelty"] == pytest.approx(math.log2(5 / 2))
    assert figures["gini"] == pytest.approx(7 / 8)
    assert math.isnan(figures["diversity"])
    assert math.isnan(figures["rmse"])


def test_with_negatives_only_they_compete_and_a_tie_goes_against_the_target() -> None:
    user = [u for u in range(6) for _ in range(3)]
    item = [0, 1, 2, 0, 1, 2, 0, 1, 3, 0, 1, 3, 0, 1, 4, 0, 1, 5]
    events = interactions(user, item)
    plan = leave_one_out(events)
    drawn = negatives(plan, events, 2)
    group = examined(events, plan, negatives=drawn).groups["all"]
    # tests were never learned: all candidates are unknown, so the target can't be listed
    assert group.sums["hr"].sum() == 0.0
    known = interactions([*user, 7, 7, 8], [*item, 2, 3, 2])
    plan = leave_one_out(known)
    drawn = np.tile(np.array([[3, 4]], np.int32), (6, 1))
    found = examined(known, plan, negatives=drawn, keep_lists=True)
    assert found.lists is not None
    # item 2 has two events, item 3 one, and 4 is beyond the items that were learned
    assert found.lists[0].tolist() == [2, 3, -1]


class Said(Popularity, RatingModel, ActionModel):
    """Expects the item's code and the number of events in the history as a rating, and the newest action again."""

    def rating(self, queries: Queries, of: I64, item: I32) -> F32:
        return ((queries.items >= 0).sum(1)[of] + item).astype(np.float32)

    def actions(self, queries: Queries) -> F32:
        return np.eye(9, dtype=np.float32)[queries.actions[:, -1]]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "make", lambda *_, **__: Said())


@pytest.mark.usefixtures("said")
def test_expected_ratings_of_users_with_their_history_are_compared_with_those_that_were_given() -> None:
    events = interactions([0, 0, 0, 1, 1, 1], [1, 2, 3, 1, 2, 5], [1.0, 2.0, 6.0, 5.0, 3.0, 7.0])
    figures = examined(events, leave_one_out(events)).figures
    # both histories are of two events: 5 is expected where 6 was given, 7 where 7 was
    assert figures["rmse"] == pytest.approx(math.sqrt(0.5))
    assert figures["mae"] == pytest.approx(0.5)
    assert figures["rating_accuracy"] == pytest.approx(0.5)


@pytest.mark.usefixtures("said")
def test_each_rating_of_a_user_who_is_asked_for_once_is_expected() -> None:
    stream = [(u, i) for i in range(8) for u in (0, 1)] + [(0, 8), (0, 9), (1, 9), (0, 10)]
    value = [1.0] * 16 + [16.0, 18.0, 20.0, 18.0]
    events = interactions([u for u, _ in stream], [i for _, i in stream], value)
    figures = examined(events, temporal(events, learn=0.6, validation=0.2)).figures
    # eight events each: 16, 17, 17 and 18 are expected
    assert figures["mae"] == pytest.approx((0 + 1 + 3 + 0) / 4)


@pytest.mark.usefixtures("said")
def test_the_expected_action_is_compared_with_the_one_that_was_taken() -> None:
    events = interactions([0, 0, 0, 1, 1, 1, 2, 2, 2], [0, 1, 2, 0, 1, 3, 1, 0, 4])
    told = replace(events, action=np.array([0, 3, 3, 0, 3, 0, 2, 2, 2], np.int32))
    assert examined(told, leave_one_out(told)).figures["action_accuracy"] == pytest.approx(2 / 3)
    assert math.isnan(examined(events, leave_one_out(events)).figures["action_accuracy"])


def test_the_unified_model_is_asked_for_ratings_and_actions() -> None:
    """Even items are rated 5 and bought, odd ones rated 1 and looked at."""
    events = planted.checkerboard()
    even = events.item % 2 == 0
    events = replace(events, value=np.where(even, 5.0, 1.0).astype(np.float32), action=even.astype(np.int32))
    plan = leave_one_out(events)
    settings = {"width": 16, "epochs": 1, "least_steps": 150, "batch": 64, "lr": 0.02, "value_share": 1.0}
    task = Examination(
        "unified", settings | {"action_share": 1.0}, 0, events, None, plan, np.eye(20), K
    )  # fmt: skip
    figures = examine(lambda _: None, task).figures
    assert figures["rmse"] < 1.0
    assert figures["rating_accuracy"] > 0.9
    assert figures["action_accuracy"] > 0.9


class Busy(Popularity):
    """Whose lessons take 7 seconds, a list 20 ms and each further one of a batch as much, of a clock of its own."""

    now = 0.0

    def fit(self, events: Interactions) -> None:
        Busy.now += 7.0
        super().fit(events)

    def partial_fit(self, events: Interactions) -> None:
        Busy.now += 0.5 * bool(self.n_items)  # popularity's fit is one, too
        super().partial_fit(events)

    def score(self, queries: Queries, items: I32 | None = None) -> F32:
        Busy.now += 0.02 * len(queries)
        return super().score(queries, items)


def test_learning_and_listing_take_what_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "make", lambda *_, **__: Busy())
    events = interactions([0] * 10, list(range(10)))
    plan = prequential(events, every=4)
    task = Examination("popularity", {}, 0, events, None, plan, np.eye(10), K)
    figures = examine(lambda _: None, task, clock=lambda: Busy.now).figures
    # two lessons (the last events are asked for, not learned); events 4 to 9 have a list
    assert figures["train_s"] == pytest.approx(7.0 + 0.5)
    assert figures["score_s"] == pytest.approx(6 * 0.02)
    assert figures["score_p50_ms"] == pytest.approx(20.0)
    assert figures["score_p99_ms"] == pytest.approx(20.0)


def test_the_slowest_lists_are_in_the_99th_percentile(monkeypatch: pytest.MonkeyPatch) -> None:
    class Moody(Busy):
        """A list that is asked for alone takes as many ms as the user had events."""

        def score(self, queries: Queries, items: I32 | None = None) -> F32:
            Busy.now += 0.001 * int((queries.items >= 0).sum())
            return super(Busy, self).score(queries, items)

    monkeypatch.setattr(examining, "make", lambda *_, **__: Moody())
    events = interactions([0] * 103, list(range(103)))
    plan = prequential(events, every=1)
    task = Examination("popularity", {}, 0, events, None, plan, np.eye(103), K)
    figures = examine(lambda _: None, task, clock=lambda: Busy.now).figures
    # histories of 1 to 102 events; the first list is not counted, as it may compile
    assert figures["score_p50_ms"] == pytest.approx(52.0)
    assert figures["score_p99_ms"] == pytest.approx(101.0)


def test_lists_that_were_due_before_anything_was_learned_are_counted() -> None:
    events = interactions([0] * 10, list(range(10)))
    found = examined(events, prequential(events, every=4))
    assert found.unlearned == 3
    assert found.curve[0] == list(range(1, 11))


def test_who_is_asked_for_once_shows_a_whole_history_and_who_often_the_newest_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: set[int] = set()

    class Watching(Popularity):
        def score(self, queries: Queries, items: I32 | None = None) -> F32:
            shown.update((queries.items >= 0).sum(1).tolist())
            return super().score(queries, items)

    monkeypatch.setattr(examining, "make", lambda *_, **__: Watching())
    monkeypatch.setattr(examining, "HISTORY", 20)
    events = interactions([0] * 300 + [1] * 4, [*range(300), 0, 1, 2, 3])
    examined(events, leave_one_out(events))
    assert shown == {299, 3}
    shown.clear()
    examined(events, prequential(events, every=100))
    assert max(shown) == 20
