"""What becomes of a batch: lists, tombstones, dead letters, and what they promise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from models.base import Bool, EventBatch
from models.state.sequences import MAX_BATCH
from stream_app.batch import refusals
from stream_app.errors import UsageError
from tests.records import APPENDED, Read
from tests.stream_app.batch.workers import Worker, at, brief, read_lists


@pytest.fixture
def worker() -> Worker:
    return Worker()


class TestLists:
    def test_each_touched_user_gets_one_list_after_their_last_event(self, worker: Worker) -> None:
        out = worker.process(at(0, "a", "x"), at(1, "b", "y"), at(2, "a", "z"))
        assert brief(out) == [("b", 1, 1, {"events-0": 1}), ("a", 2, 2, {"events-0": 2})]
        assert out.counts["accepted"] == 3
        assert out.counts["lists"] == 2
        assert out.taken == 3

    def test_a_record_says_what_it_rests_on(self, worker: Worker) -> None:
        worker.process(at(0, "b", "y"), at(1, "b", "z"))
        (record,) = read_lists(worker.process(at(2, "a", "x", ts=77)))
        assert record["v"] == 1
        assert {i["item_id"] for i in record["items"]} == {"y", "z"}
        assert [i["score"] for i in record["items"]] == sorted(
            (i["score"] for i in record["items"]), reverse=True
        )
        assert record["event_ts"] == 77
        assert (record["published_ts"], record["latency_ms"]) == (50, 10.0)
        assert (record["models"], record["arm"], record["reason"]) == ({}, "default", "event")

    def test_a_list_counts_the_freshness_of_every_event_that_it_is_first_to_show(
        self, worker: Worker
    ) -> None:
        (first,) = worker.process(at(0, "a", "x"), at(1, "a", "y")).recommendations
        (second,) = worker.process(at(2, "a", "z")).recommendations
        assert first.append_ms == [APPENDED, APPENDED + 1]
        assert second.append_ms == [APPENDED + 2]
        assert first.received_ms == 40.0

    def test_only_the_events_of_topics_that_stamp_on_append_have_an_append_time(self) -> None:
        worker = Worker(topics__events=["web", "app"])
        records = [at(0, "a", "x", topic="web"), at(0, "a", "y", topic="app"), at(1, "b", "y", topic="web")]
        records[1].timestamp_type = 0
        erasure = at(1, "c", kind="erase", topic="app")
        erasure.timestamp_type = 0
        a, b, gone = sorted(worker.process(*records, erasure).recommendations, key=lambda one: one.user_id)
        assert a.append_ms == [APPENDED, None]
        assert b.append_ms == [APPENDED + 1]
        assert gone.append_ms == [None]

    def test_sources_cover_the_duplicates_at_the_end(self, worker: Worker) -> None:
        out = worker.process(
            at(0, "a", "x", event_id="1"), at(1, "a", "y", event_id="2"), at(2, "a", "x", event_id="1")
        )
        assert brief(out) == [("a", 2, 2, {"events-0": 2})]
        assert out.counts["duplicate"] == 1

    def test_a_user_with_nothing_but_duplicates_gets_no_list(self, worker: Worker) -> None:
        worker.process(at(0, "a", "x", event_id="1"))
        out = worker.process(at(1, "a", "x", event_id="1"))
        assert out.recommendations == []
        assert out.counts["duplicate"] == 1

    @pytest.mark.parametrize("together", [True, False], ids=["in one batch", "in the next batch"])
    def test_the_event_time_of_a_list_never_goes_back(self, worker: Worker, together: bool) -> None:
        events = [at(0, "a", "x", ts=100), at(1, "a", "y", ts=7)]
        outs = [worker.process(*events)] if together else [worker.process(one) for one in events]
        (refreshed,) = worker.pipeline.refresh(["a"])
        assert {record["event_ts"] for out in outs for record in read_lists(out)} == {100}
        assert json.loads(refreshed.value or b"")["event_ts"] == 100

    def test_a_late_event_gets_a_list(self) -> None:
        worker = Worker(models__sequence__length=4)
        worker.process(*(at(n, "a", f"i{n}", ts=100 + n) for n in range(4)))
        out = worker.process(at(4, "a", "old", ts=5))
        assert out.counts["late"] == 1
        assert brief(out) == [("a", 5, 5, {"events-0": 4})]

    def test_one_list_per_event_where_the_settings_say_so(self) -> None:
        worker = Worker(worker__one_list_per_event=True)
        out = worker.process(at(0, "a", "x"), at(1, "a", "y"), at(2, "b", "z"), at(3, "a", "z"))
        assert brief(out) == [
            ("a", 1, 1, {"events-0": 0}),
            ("a", 2, 2, {"events-0": 1}),
            ("b", 1, 1, {"events-0": 2}),
            ("a", 3, 3, {"events-0": 3}),
        ]

    def test_coalescing_makes_one_list_a_user_and_says_so(self) -> None:
        worker = Worker(worker__one_list_per_event=True)
        out = worker.process(at(0, "a", "x"), at(1, "a", "y"), coalesce=True)
        assert [(r["reason"], r["events"]) for r in read_lists(out)] == [("catch-up", 2)]

    def test_learning_alone_makes_no_lists_and_learns_the_same(self) -> None:
        events = [at(n, f"u{n % 3}", f"i{n % 5}", event_id=n) for n in range(30)]
        silent, other = Worker(), Worker()
        assert silent.process(*events, lists=False).recommendations == []
        assert other.process(*events).recommendations != []
        silent.commit(), other.commit()
        assert silent.recommender.users.events(silent.recommender.users.slot("u1")) == 10
        assert {key: row for key, row in silent.state.items.items() if key[:1] == b"c"} == {
            key: row for key, row in other.state.items.items() if key[:1] == b"c"
        }

    def test_more_events_than_the_recommender_takes_at_once(self, worker: Worker) -> None:
        events = [at(n, f"u{n % 7}", f"i{n % 50}") for n in range(MAX_BATCH + 11)]
        out = worker.process(*events)
        assert out.counts["accepted"] == MAX_BATCH + 11
        assert sorted(one[2] for one in brief(out)) == sorted(
            len(range(u, MAX_BATCH + 11, 7)) for u in range(7)
        )

    def test_an_empty_batch_is_nothing(self, worker: Worker) -> None:
        out = worker.process()
        assert (out.taken, out.recommendations, out.dead_letters) == (0, [], [])

    def test_types_beyond_the_end_of_the_vocabulary_teach_too(self, worker: Worker) -> None:
        out = worker.process(*(at(n, "a", f"i{n}", f"type {n}") for n in range(300)))
        assert out.counts["accepted"] == 300


class TestReasons:
    def test_an_item_is_explained_by_the_title_of_another(self, worker: Worker) -> None:
        worker.pipeline.apply_items(
            [Read(json.dumps({"v": 1, "item_id": "x", "title": 'The "X"'}).encode(), key=b"x")]
        )
        worker.process(*(at(2 * n + i, f"u{n}", item) for n in range(4) for i, item in enumerate("xy")))
        (record,) = read_lists(worker.process(at(99, "new", "x")))
        (item,) = record["items"]
        assert item["because"] == {"item_id": "x", "text": 'because of "The "X""'}

    def test_without_a_title_the_id_stands_for_it(self, worker: Worker) -> None:
        worker.process(*(at(2 * n + i, f"u{n}", item) for n in range(4) for i, item in enumerate("xy")))
        (record,) = read_lists(worker.process(at(99, "new", "x")))
        assert record["items"][0]["because"]["text"] == "because of item x"

    def test_a_retired_item_is_not_listed(self, worker: Worker) -> None:
        worker.process(at(0, "a", "x"), at(1, "a", "y"))
        worker.pipeline.apply_items([Read(None, key=b"x")])
        (record,) = read_lists(worker.process(at(2, "b", "z")))
        assert [i["item_id"] for i in record["items"]] == ["y"]

    def test_what_the_catalogue_said_before_an_item_s_first_event_counts(self, worker: Worker) -> None:
        worker.pipeline.apply_items(
            [Read(json.dumps({"item_id": "x", "available": False}).encode(), key=b"x")]
        )
        worker.process(at(0, "a", "x"), at(1, "a", "y"))
        (record,) = read_lists(worker.process(at(2, "b", "z")))
        assert [i["item_id"] for i in record["items"]] == ["y"]

    def test_what_is_only_announced_is_listed_by_lot_until_it_is_retired(self) -> None:
        worker = Worker(models__policy__exploration=1)
        worker.pipeline.apply_items([Read(b'{"item_id": "not seen"}', key=b"not seen")])
        worker.process(at(0, "a", "x"))
        (record,) = read_lists(worker.process(at(1, "b", "y")))
        listed, drawn = record["items"]
        assert (listed["item_id"], drawn["item_id"]) == ("x", "not seen")
        assert (drawn["source"], drawn["propensity"]) == ("exploration", 1.0)
        worker.pipeline.apply_items([Read(None, key=b"not seen")])
        (record,) = read_lists(worker.process(at(2, "c", "z")))
        assert "not seen" not in {i["item_id"] for i in record["items"]}


class TestErase:
    def test_publishes_a_tombstone_and_starts_the_user_anew(self, worker: Worker) -> None:
        out = worker.process(at(0, "a", "x"), at(1, "a", kind="erase"), at(2, "a", "y"), at(3, "b", "z"))
        assert brief(out) == [("a",), ("a", 1, 1, {"events-0": 2}), ("b", 1, 1, {"events-0": 3})]
        assert out.counts["erased"] == 1

    def test_deletes_the_row_with_the_next_commit(self, worker: Worker) -> None:
        worker.process(at(0, "a", "x"))
        worker.commit()
        worker.process(at(1, "a", kind="erase"))
        worker.commit()
        assert worker.state.users == {}

    def test_of_a_user_whom_nobody_knows_publishes_a_tombstone(self, worker: Worker) -> None:
        assert brief(worker.process(at(0, "ghost", kind="erase"))) == [("ghost",)]

    def test_of_a_user_who_is_not_in_memory_deletes_the_row(self, worker: Worker) -> None:
        worker.process(at(0, "a", "x"))
        worker.commit()
        worker.restart()
        assert brief(worker.process(at(1, "a", kind="erase"))) == [("a",)]
        worker.commit()
        assert worker.state.users == {}

    def test_counts_before_the_commit_has_taken_it(self, worker: Worker) -> None:
        worker.process(at(0, "a", "x"))
        worker.commit()
        worker.process(at(1, "a", kind="erase"))
        assert brief(worker.process(at(2, "a", "y"))) == [("a", 1, 1, {"events-0": 2})]
        worker.commit()
        worker.restart()
        assert brief(worker.process(at(3, "a", "z"))) == [("a", 2, 2, {"events-0": 3})]

    def test_twice_in_a_batch(self, worker: Worker) -> None:
        out = worker.process(
            at(0, "a", kind="erase"), at(1, "a", "x"), at(2, "a", kind="erase"), at(3, "a", kind="erase")
        )
        assert brief(out) == [("a",), ("a",), ("a",)]

    def test_of_one_user_leaves_the_others_with_one_list(self, worker: Worker) -> None:
        out = worker.process(at(0, "b", "x"), at(1, "a", kind="erase"), at(2, "b", "y"))
        assert brief(out) == [("a",), ("b", 2, 2, {"events-0": 2})]

    def test_before_duplicates_of_another_leaves_them_their_list(self, worker: Worker) -> None:
        out = worker.process(
            at(0, "b", "x", event_id="1"), at(1, "a", kind="erase"), at(2, "b", "x", event_id="1")
        )
        assert brief(out) == [("a",), ("b", 1, 1, {"events-0": 2})]


class TestSeveralTopics:
    def test_sources_name_each_topic_also_after_a_restart(self) -> None:
        worker = Worker(topics__events=("clicks", "ratings"), partitions=4)
        worker.process(
            at(7, "a", "x", topic="clicks", partition=3), at(2, "a", "y", topic="ratings", partition=3)
        )
        worker.commit()
        worker.restart()
        out = worker.process(at(3, "a", "z", topic="ratings", partition=3))
        assert brief(out) == [("a", 3, 3, {"clicks-3": 7, "ratings-3": 3})]
        (again,) = worker.pipeline.refresh(["a"])
        assert json.loads(again.value or b"")["sources"] == {"clicks-3": 7, "ratings-3": 3}

    def test_a_duplicate_moves_no_position_of_the_row(self) -> None:
        together, apart = Worker(), Worker()
        events = [at(0, "a", "x", event_id="1"), at(1, "a", "x", event_id="1")]
        together.process(*events)
        for one in events:
            apart.process(one)
        together.commit(), apart.commit()
        assert together.state.users == apart.state.users

    def test_more_topics_than_a_row_has_room_for_are_refused(self) -> None:
        with pytest.raises(UsageError, match="5 topics"):
            Worker(topics__events=("a", "b", "c", "d", "e"))


class TestMisrouted:
    def test_a_record_through_another_partition_than_the_user_s_is_dead(self) -> None:
        worker = Worker(partitions=2)
        out = worker.process(at(0, "a", "x", partition=0), at(0, "a", "y", partition=1))
        assert [(d.reason, d.field, d.record.partition) for d in out.dead_letters] == [
            (refusals.MISROUTED, "user_id", 1)
        ]
        assert "partition 0" in out.dead_letters[0].detail
        assert brief(out) == [("a", 1, 1, {"events-0": 0})]

    def test_also_when_the_user_is_not_in_memory(self) -> None:
        worker = Worker(partitions=3)
        worker.process(at(0, "a", "x", partition=2))
        worker.commit()
        worker.restart()
        out = worker.process(at(0, "a", "y", partition=0))
        assert [d.reason for d in out.dead_letters] == [refusals.MISROUTED]
        assert out.recommendations == []

    def test_an_erase_through_another_partition_is_dead_and_the_list_stays_due(self) -> None:
        worker = Worker(partitions=2)
        out = worker.process(at(0, "a", "x", partition=0), at(0, "a", kind="erase", partition=1))
        assert [d.reason for d in out.dead_letters] == [refusals.MISROUTED]
        assert brief(out) == [("a", 1, 1, {"events-0": 0})]

    def test_bad_records_are_counted_and_kept(self, worker: Worker) -> None:
        bad = Read(b"{", offset=1)
        out = worker.process(at(0, "a", "x"), bad)
        assert [letter.record for letter in out.dead_letters] == [bad]
        assert (out.counts["records"], out.counts["events"], out.counts["dead_letter"]) == (2, 1, 1)


class TestRoom:
    def test_a_batch_is_taken_as_far_as_its_users_fit(self) -> None:
        worker = Worker(models__max_cached_users=16)
        events = [at(n, f"u{n}", "x") for n in range(20)]
        out = worker.process(*events)
        assert out.taken == 16
        assert out.counts["accepted"] == 16
        assert worker.process(*events[16:]).taken == 0
        worker.commit()
        assert worker.process(*events[16:]).taken == 4

    def test_users_of_the_batch_are_not_evicted_for_others(self) -> None:
        worker = Worker(models__max_cached_users=16)
        worker.process(*(at(n, f"u{n}", "x") for n in range(16)))
        worker.commit()
        worker.state.loaded.clear()
        worker.process(at(16, "new", "x"), at(17, "u0", "y"))
        assert worker.state.loaded == ["new"]

    def test_a_small_cache_gives_the_same_state_as_a_large_one(self) -> None:
        small = Worker(models__max_cached_users=16, worker__one_list_per_event=True)
        large = Worker(worker__one_list_per_event=True)
        rng = np.random.default_rng(3)
        events = [at(n, f"u{rng.integers(60)}", f"i{rng.integers(30)}", event_id=n) for n in range(300)]
        for worker in (small, large):
            left = events
            while left:
                left = left[worker.process(*left[:25]).taken :]
                worker.commit()
        assert small.state.users == large.state.users
        assert small.state.items == large.state.items

    def test_dead_letters_beyond_the_cut_come_with_their_own_batch(self) -> None:
        worker = Worker(models__max_cached_users=16)
        events = [at(n, f"u{n}", "x") for n in range(17)]
        out = worker.process(*events, Read(b"junk", offset=17))
        assert (out.taken, out.dead_letters) == (16, [])


class TestRefresh:
    def test_lists_users_in_memory_anew_with_the_next_revision(self, worker: Worker) -> None:
        worker.process(at(0, "a", "x"), at(1, "b", "y", ts=9))
        out = worker.pipeline.refresh(["b", "nobody", "b"])
        record = json.loads(out[0].value or b"")
        assert [(one.user_id, one.revision, one.append_ms) for one in out] == [("b", 2, [])]
        assert (record["reason"], record["events"], record["event_ts"]) == ("refresh", 1, 9)
        assert record["sources"] == {"events-0": 1}

    def test_a_list_counts_from_its_publication_on(self, worker: Worker) -> None:
        """Until then, and where its user got another one meanwhile, the user is shown what was published before."""
        table = worker.recommender.users
        worker.process(at(0, "a", "x"), at(1, "b", "y"), at(2, "c", "z"))
        before = {user: table.last_list(table.slot(user)).tolist() for user in "ab"}
        out = worker.pipeline.refresh(["a", "b"])
        assert {user: table.last_list(table.slot(user)).tolist() for user in "ab"} == before
        worker.process(at(3, "b", "w"))
        newer = table.last_list(table.slot("b")).tolist()
        worker.pipeline.published(out)
        for user, expected in (("a", out[0]), ("b", None)):
            shown = [
                worker.recommender.catalogue.id_of(n) for n in table.last_list(table.slot(user)) if n >= 0
            ]
            if expected is None:
                assert table.last_list(table.slot(user)).tolist() == newer
            else:
                assert shown == [i["item_id"] for i in json.loads(expected.value or b"")["items"]]
                assert table.last_list(table.slot(user)).tolist() != before[user]

    def test_of_nobody_is_nothing(self, worker: Worker) -> None:
        assert worker.pipeline.refresh(["nobody"]) == []


class Reranker:
    """One that has nothing to say: its vectors are all zero."""

    version = "7"
    item_vectors = np.zeros((1, 2), np.float32)
    item_bias = np.zeros(1, np.float32)

    def rows(self, item_ids: Sequence[str]) -> Any:
        return np.full(len(item_ids), -1, np.int32)

    def plan(self, _users: Any, batch: EventBatch, *_: Any) -> Any:
        self.zeros = np.zeros((len(batch), 2), np.float32)
        return self

    def finish(self, _accepted: Bool) -> Any:
        return self.zeros, self.zeros

    def current(self, _users: Any, slots: Any, *_: Any) -> Any:
        return np.zeros((len(slots), 2), np.float32)


class TestReranker:
    def test_records_name_the_version_that_had_a_say(self, worker: Worker) -> None:
        worker.recommender.set_reranker(Reranker())
        (record,) = read_lists(worker.process(at(0, "a", "x")))
        assert (record["models"], record["reason"]) == ({"transformer": "7"}, "event")

    def test_records_say_when_it_was_skipped(self, worker: Worker) -> None:
        worker.recommender.set_reranker(Reranker())
        (record,) = read_lists(worker.process(at(0, "a", "x"), rerank=False, coalesce=True))
        assert (record["models"], record["reason"]) == ({}, "catch-up, re-ranker skipped")
