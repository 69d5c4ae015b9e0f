"""What the whole promises: right lists, exact state wherever a batch is cut, nothing shown that may not be."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from models.config import ModelSettings, PolicySettings, SequenceSettings
from models.online.covisit import rates
from models.pipeline.recommender import Recommender
from models.state.sequences import MAX_BATCH
from tests.batches import SETTINGS, WEIGHTS, Event, Store, clicks, feed, named, new, slots_of, traffic


class TestLists:
    def test_come_from_the_group_that_the_user_s_items_belong_to(self) -> None:
        rng = random.Random(5)
        events = [
            Event(f"u{u}", f"{'ab'[u % 2]}{rng.randrange(30)}", ts=n, offset=n, event_id=n + 1)
            for n, u in enumerate(rng.randrange(60) for _ in range(1500))
        ]
        recommender = new()
        feed(recommender, events, lists=False)
        users = [f"u{u}" for u in range(60)]
        lists = named(recommender, recommender.refresh(slots_of(recommender.users, users)))
        assert [user for user, _, _ in lists] == users
        for user, _, items in lists:
            assert len(items) == 10
            assert {item[0] for item in items[:5]} == {"ab"[int(user[1:]) % 2]}

    def test_an_item_that_is_only_popular_has_no_reason_out_of_the_history(self) -> None:
        recommender = new()
        feed(recommender, traffic(600, users=20), lists=False)
        slots = slots_of(recommender.users, [f"u{u}" for u in range(20)])
        lists = recommender.refresh(slots)
        popular = [s for s, name in enumerate(recommender.sources) if name.startswith("popularity")]
        of_popularity = np.isin(lists.source, popular) & (lists.items >= 0)
        assert (lists.because[of_popularity] == -1).all()
        of_covisitation = (lists.source < popular[0]) & (lists.items >= 0)
        assert (lists.because[of_covisitation] >= 0).mean() > 0.9
        assert of_popularity.any()
        assert of_covisitation.any()

    def test_hold_every_item_that_may_be_shown_when_there_are_few(self) -> None:
        events = [e for e in traffic(400, items=25) if e.weight > 0]
        recommender = new()
        had: dict[str, set[str]] = defaultdict(set)
        known: set[str] = set()
        for event in events:
            lists = feed(recommender, [event])
            had[event.user].add(event.item)
            known.add(event.item)
            for user, _, items in lists:
                assert len(set(items)) == len(items) == min(10, len(known - had[user]))
                assert set(items) <= known - had[user]

    def test_repeat_items_where_the_settings_allow_it(self) -> None:
        recommender = new(ModelSettings(policy=PolicySettings(repeats=True)))
        lists = feed(recommender, clicks(("a", "x"), ("a", "x")))
        assert lists[-1][2] == ["x"]

    def test_of_a_new_user_are_filled_as_soon_as_anything_is_known(self) -> None:
        recommender = new()
        feed(recommender, clicks(*((f"u{n}", f"i{n}") for n in range(20))))
        ((_, revision, items),) = feed(recommender, clicks(("new", "never seen"), start=50))
        assert (revision, len(items)) == (1, 10)

    def test_never_hold_an_item_that_is_not_available(self) -> None:
        recommender = new()
        feed(recommender, clicks(*((f"u{n % 5}", f"i{n}") for n in range(30))))
        recommender.catalogue.retire("i3")
        recommender.catalogue.set_item("later", available=False)
        lists = feed(recommender, clicks(("a", "later"), *((f"v{n}", f"i{n}") for n in range(30)), start=60))
        assert len(lists) == 31
        assert not {"i3", "later"} & {item for _, _, items in lists for item in items}

    def test_hold_an_item_again_that_came_back(self) -> None:
        recommender = new(ModelSettings(policy=PolicySettings(k=40)))
        feed(recommender, clicks(*((f"u{n % 5}", f"i{n}") for n in range(30))))
        recommender.catalogue.retire("i3")
        ((_, _, items),) = feed(recommender, clicks(("b", "i4"), start=200))
        assert "i3" not in items
        recommender.catalogue.set_item("i3", available=True)
        ((_, _, items),) = feed(recommender, clicks(("b", "i5"), start=201))
        assert "i3" in items

    def test_have_falling_scores_and_a_source_for_each_item(self) -> None:
        recommender = new()
        feed(recommender, traffic(300))
        lists = recommender.refresh(slots_of(recommender.users, ["u1", "u2"]))
        assert (lists.items >= 0).any(axis=1).all()
        for m in range(len(lists)):
            filled = lists.items[m] >= 0
            assert (np.diff(lists.scores[m][filled]) <= 0).all()
            assert (lists.scores[m][filled] > 0).all()
            assert lists.scores[m].sum() <= 1 + 1e-5
            assert (lists.source[m] < len(recommender.sources)).all()

    def test_only_those_asked_for_are_made(self) -> None:
        assert feed(new(), traffic(50), lists=False) == []


class TestCutting:
    """Where a batch is cut changes nothing: not a byte of the state, not a list."""

    EVENTS = traffic(420)

    def outcome(self, size: int) -> tuple[Store, list[Any]]:
        recommender, store = new(), Store()
        lists = feed(recommender, self.EVENTS, size=size)
        store.commit(recommender)
        return store, lists

    @pytest.mark.parametrize("size", [1, 7])
    def test_gives_the_same_bytes_and_lists(self, size: int) -> None:
        assert self.outcome(size) == self.outcome(len(self.EVENTS))

    @pytest.mark.parametrize("policy", [{}, {"repeats": True}, {"exploration": 3}])
    def test_a_user_s_events_in_a_row_teach_what_they_teach_one_by_one(self, policy: dict[str, Any]) -> None:
        """In a row, the candidates of the list before an event serve its lesson, too."""
        events, settings = traffic(300, users=2, items=200), ModelSettings(policy=PolicySettings(**policy))
        stores, lists = (Store(), Store()), []
        for store, size in zip(stores, (1, len(events)), strict=True):
            recommender = Recommender(settings, weights=WEIGHTS, seed=1)
            lists.append(feed(recommender, events, size=size))
            assert recommender.metrics()["blend_steps"] > 20
            store.commit(recommender)
        assert stores[0] == stores[1]
        assert lists[0] == lists[1]

    def test_making_no_lists_leaves_the_item_rows_as_they_are(self) -> None:
        recommender, store = new(), Store()
        feed(recommender, self.EVENTS, lists=False)
        store.commit(recommender)
        other = self.outcome(50)[0]
        for kind in (b"i", b"c", b"y"):
            assert {k: v for k, v in store.items.items() if k[:1] == kind} == {
                k: v for k, v in other.items.items() if k[:1] == kind
            }

    def test_another_seed_learns_something_else(self) -> None:
        a, b = Store(), Store()
        for seed, store in ((1, a), (2, b)):
            recommender = Recommender(SETTINGS, weights=WEIGHTS, seed=seed)
            feed(recommender, self.EVENTS)
            store.commit(recommender)
        assert a != b


class TestEvents:
    def test_with_the_id_of_an_earlier_one_are_dropped(self) -> None:
        recommender, store, once = new(), Store(), Store()
        events = clicks(("a", "x"), ("a", "y"))
        feed(recommender, events)
        once.commit(recommender)
        assert feed(recommender, events) == []
        assert recommender.metrics()["duplicates"] == 2
        assert recommender.metrics()["events"] == 2
        store.commit(recommender)
        assert (store.users, store.items) == ({}, {})

    def test_without_an_id_are_never_taken_for_duplicates(self) -> None:
        recommender = new()
        feed(recommender, [Event("a", "x", ts=1, offset=1), Event("a", "x", ts=1, offset=2)])
        assert recommender.metrics()["duplicates"] == 0

    def test_older_than_a_full_sequence_are_late_and_still_teach(self) -> None:
        recommender = new(ModelSettings(sequence=SequenceSettings(length=4)))
        feed(recommender, clicks(*(("a", f"i{n}") for n in range(4)), start=100))
        feed(recommender, [Event("a", "old", ts=5, offset=200, event_id=999)])
        figures = recommender.metrics()
        assert (figures["late"], figures["events"], figures["popularity_mass"]) == (1, 5, 5)
        slot = recommender.users.slot("a")
        old = recommender.catalogue.number("old")
        assert old not in recommender.users.columns.seq_item[slot]

    def test_more_than_a_batch_takes_are_an_error(self) -> None:
        with pytest.raises(ValueError, match="5001 events"):
            feed(new(), clicks(*[("a", "x")] * (MAX_BATCH + 1)), size=MAX_BATCH + 1)

    def test_a_whole_batch_is_taken(self) -> None:
        recommender = new()
        feed(
            recommender,
            clicks(*((f"u{n % 50}", f"i{n % 90}") for n in range(MAX_BATCH))),
            size=MAX_BATCH,
            lists=False,
        )
        assert recommender.metrics()["events"] == MAX_BATCH

    def test_no_event_is_no_change(self) -> None:
        recommender = new()
        assert feed(recommender, []) == []
        assert recommender.metrics()["events"] == 0


class TestFigures:
    def test_count_what_a_plain_loop_counts(self) -> None:
        events = traffic(500)
        recommender = new()
        served: dict[str, list[str]] = {}
        had: dict[str, set[str]] = defaultdict(set)
        ids: dict[str, list[int]] = defaultdict(list)
        scored = hits = repeats = duplicates = ratings = 0
        ndcg = 0.0
        for event in events:
            lists = feed(recommender, [event])
            if event.event_id in ids[event.user][-64:]:
                duplicates += 1
                assert lists == []
                continue
            ids[event.user].append(event.event_id)
            repeats += event.item in had[event.user]
            ratings += event.value == event.value
            if event.weight > 0 and event.item not in had[event.user] and had[event.user]:
                scored += 1
                if event.item in served[event.user]:
                    hits += 1
                    ndcg += 1 / np.log2(served[event.user].index(event.item) + 2)
            had[event.user].add(event.item)
            ((_, _, served[event.user]),) = lists
        figures = recommender.metrics()
        assert figures["events"] == len(events) - duplicates
        assert figures["lists"] == len(events) - duplicates
        assert figures["duplicates"] == duplicates > 0
        assert figures["repeats"] == repeats > 0
        assert figures["ratings"] == ratings > 0
        assert figures["scored"] == scored > 0
        assert figures["hr@10"] == hits / scored > 0
        assert figures["ndcg@10"] == pytest.approx(ndcg / scored)
        assert figures["items"] == len({e.item for e in events})

    def test_masses_are_those_of_the_accepted_positive_events(self) -> None:
        events = traffic(400)
        recommender = new()
        feed(recommender, events)
        r = rates(SETTINGS.covisit)
        history: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
        ids: set[int] = set()
        popularity = covisit = 0.0
        for n, e in enumerate(events):
            if e.event_id in ids:
                continue
            ids.add(e.event_id)
            if e.weight > 0:
                popularity += e.weight
                for g, (_, _, item) in enumerate(sorted(history[e.user], reverse=True)[:50]):
                    if item != e.item:
                        covisit += sum(e.weight * r.gain[m, g] * (1 + r.back[m]) for m in range(2))
                history[e.user].append((e.ts, n, e.item))
        figures = recommender.metrics()
        assert figures["popularity_mass"] == pytest.approx(popularity)
        assert figures["covisit_mass"] == pytest.approx(covisit, rel=1e-9)

    def test_ratings_give_the_error_of_the_explicit_model(self) -> None:
        rng = random.Random(2)
        events = [
            Event(f"u{rng.randrange(8)}", f"i{n % 9}", n, n, "rating", value=float(n % 9 > 4) * 4 + 1)
            for n in range(800)
        ]
        recommender = new()
        feed(recommender, events, lists=False)
        figures = recommender.metrics()
        assert figures["ratings"] == 800
        assert 0 < figures["mae"] < 0.5 < 2.0  # a constant guess is 2 off

    def test_baselines_have_to_be_asked_for(self) -> None:
        with pytest.raises(RuntimeError, match="without baselines"):
            new().baseline_counts()

    def test_the_baselines_of_a_user_who_lost_their_slot_are_not_the_next_one_s(self) -> None:
        recommender = new(ModelSettings(max_cached_users=16), baselines=True)
        feed(recommender, clicks(*((f"u{n}", f"i{n % 3}") for n in range(16))))
        hits = recommender.baseline_counts()
        recommender.mark_clean()
        recommender.users.evict(16)
        # the first event of each is not scored; the second would be a hit of the lists that lay in the slots
        feed(recommender, clicks(*((f"v{n}", "i0") for n in range(16)), start=100), lists=False)
        feed(recommender, clicks(*((f"v{n}", "i1") for n in range(16)), start=200), lists=False)
        assert recommender.metrics()["scored"] == 16
        assert recommender.baseline_counts() == hits

    def test_ratings_alone_put_the_item_that_is_rated_best_on_top(self) -> None:
        recommender = new(ModelSettings(policy=PolicySettings(k=1)), baselines=True)
        rated = [
            Event(
                f"u{n % 50}",
                f"i{n // 50}",
                value=5.0 if n // 50 == 3 else 2.0,
                ts=n,
                offset=n,
                event_id=n + 1,
            )
            for n in range(200)
        ]
        feed(recommender, rated)
        before = recommender.baseline_counts()["biased-mf"][0]
        # one that every new user rates first, and then the one that all others rate best
        for start, item in ((500, "i0"), (600, "i3")):
            feed(
                recommender,
                [
                    Event(f"v{n}", item, value=2.0, ts=start + n, offset=start + n, event_id=start + n + 1)
                    for n in range(20)
                ],
            )
        assert recommender.baseline_counts()["biased-mf"][0] - before == 20

    def test_baselines_change_nothing_that_is_learned(self) -> None:
        with_them, without = Store(), Store()
        for store, on in ((with_them, True), (without, False)):
            recommender = new(baselines=on)
            feed(recommender, traffic(200))
            store.commit(recommender)
            if on:
                counts = recommender.baseline_counts()
                assert max(hits for hits, _ in counts.values()) > 0
        assert with_them == without


class TestReading:
    def test_reading_creates_nothing(self) -> None:
        recommender = new()
        feed(recommender, clicks(("a", "x"), ("b", "y")))
        recommender.mark_clean()
        assert recommender.users.slot("nobody") == -1
        assert recommender.catalogue.number("nothing") == -1
        assert recommender.catalogue.id_of(10_000) is None
        recommender.metrics(), recommender.blend_weights()
        delta = recommender.take_dirty()
        assert (delta.users, delta.items, delta.meta) == ([], [], [])
        assert (len(recommender.users), len(recommender.catalogue)) == (2, 2)

    def test_a_refresh_learns_nothing(self) -> None:
        recommender, store = new(), Store()
        feed(recommender, traffic(100))
        store.commit(recommender)
        slots = slots_of(recommender.users, ["u1"])
        before = int(recommender.users.columns.revision[slots[0]])
        uncounted = recommender.refresh(slots, counted=False)
        assert int(uncounted.revision[0]) == before
        counted = recommender.refresh(slots)
        assert int(counted.revision[0]) == before + 1
        assert (counted.items == uncounted.items).all()
        delta = recommender.take_dirty()
        assert {key[:1] for key, _ in delta.items} <= {b"i", b"h"}
        assert [user for _, user, _ in delta.users] == ["u1"]
