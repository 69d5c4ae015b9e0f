"""The refresh cycle on a stream with a planted order, with the clock in the test's hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from models.sequence import snapshot
from models.training.train import Trainer
from stream_app.settings import Settings, load
from stream_app.training.judging import MIN_SCORED, Cut, Verdict
from stream_app.training.refresher import MOST_INTERVALS, Refresher, budget, interval
from stream_app.training.shadow import Events

ITEMS = 60


def settings_in(folder: Path, **more: object) -> Settings:
    return load(
        {
            "trainer.state_dir": folder / "trainer",
            "trainer.snapshots": folder / "snapshots",
            "trainer.every_events": 300,
            "trainer.every_s": 600.0,
            "trainer.warmup_events": 0,
            "trainer.tokens_per_event": 4.0,
            "trainer.gate_events": 100,
            "trainer.gate_wait_s": 120.0,
            "models.max_items": 500,
            "models.transformer.d_model": 16,
            "models.transformer.layers": 1,
            "models.transformer.batch_tokens": 64,
            **more,
        }
    )


def walks(start: int, stop: int, users: int = 30, ids: bool = True) -> Events:
    """Every user goes through the items in a circle, each from another place; steps `start` to `stop`."""
    rows = [(user, step) for step in range(start, stop) for user in range(users)]
    n = len(rows)
    return Events(
        user=[f"u{user}" for user, _ in rows],
        item=[f"i{(7 * user + step) % ITEMS}" for user, step in rows],
        kind=["click"] * n,
        value=np.full(n, np.nan, np.float32),
        weight=np.ones(n, np.float32),
        ts=np.array([60_000 * step + user for user, step in rows], np.int64),
        partition=np.zeros(n, np.int32),
        event_id=np.array([1000 * user + step + 1 if ids else 0 for user, step in rows], np.uint64),
        key=np.zeros(n, np.uint64),
        offset=np.array([30 * step + user for user, step in rows], np.int64),
    )


def observe(r: Refresher, events: Events) -> None:
    r.observe(events, {"events-0": int(events.offset[-1]) + 1})


def go(r: Refresher, version: str, now: float) -> Cut:
    """One training, begun and finished at `now`."""
    job = r.begin(version, now)
    cut = r.train(job, created_ts=5, stop=lambda: False)
    r.finish(job, cut, now)
    assert cut is not None
    return cut


def judged(r: Refresher, live: str | None) -> Verdict:
    r.close_window()
    return r.judge(live)


def settled(r: Refresher, live: str | None) -> Verdict:
    verdict = judged(r, live)
    r.settle(verdict, live=verdict.go, pinned=False, at_ms=9)
    return verdict


@pytest.fixture
def first_live(tmp_path: Path) -> Refresher:
    """A refresher whose snapshot 000001 went live at 0 s after ten steps of every user."""
    r = Refresher.open(settings_in(tmp_path), "cpu", now=0.0)
    observe(r, walks(0, 10))
    go(r, "000001", now=0.0)
    settled(r, None)
    return r


def test_a_refresh_is_due_after_enough_events(tmp_path: Path) -> None:
    r = Refresher.open(settings_in(tmp_path), "cpu", now=0.0)
    observe(r, walks(0, 9))
    assert not r.due(now=1.0)
    observe(r, walks(9, 10))
    assert r.due(now=1.0)


def test_a_refresh_is_due_after_enough_time_if_there_is_a_batch_to_train(tmp_path: Path) -> None:
    r = Refresher.open(settings_in(tmp_path), "cpu", now=0.0)
    assert not r.due(now=601.0), "nothing came"
    observe(r, walks(0, 1, users=15))
    assert not r.due(now=601.0), "too little for one batch"
    observe(r, walks(1, 2, users=15))
    assert not r.due(now=599.0)
    assert r.due(now=600.0)


def test_nothing_is_due_while_a_candidate_waits(first_live: Refresher) -> None:
    observe(first_live, walks(10, 20))
    go(first_live, "000002", now=1.0)
    observe(first_live, walks(20, 40))
    assert not first_live.due(now=9999.0)


def test_the_first_snapshot_goes_live_without_a_comparison(tmp_path: Path) -> None:
    r = Refresher.open(settings_in(tmp_path), "cpu", now=0.0)
    observe(r, walks(0, 10))
    cut = go(r, "000001", now=0.0)
    assert (cut.at, cut.offsets, cut.new_events) == (300, {"events-0": 300}, 300)
    assert r.ready(now=0.0, live=None)
    verdict = settled(r, None)
    assert (verdict.go, verdict.against) == (True, None)
    read = snapshot.read(r.settings.trainer.snapshots / "000001")
    assert read.manifest.cut == {"events-0": 300}
    assert r.pending is None


def test_where_there_is_nothing_to_learn_no_snapshot_is_made(tmp_path: Path) -> None:
    r = Refresher.open(settings_in(tmp_path), "cpu", now=0.0)
    observe(r, walks(0, 1, users=300))
    job = r.begin("000001", 0.0)
    assert r.train(job, created_ts=5, stop=lambda: False) is None
    r.finish(job, None, 0.0)
    assert r.pending is None
    assert not r.due(now=1.0), "it is not tried again before there is more"


def test_a_candidate_is_judged_on_the_events_after_its_cut(first_live: Refresher) -> None:
    observe(first_live, walks(10, 20))
    job = first_live.begin("000002", 1.0)
    observe(first_live, walks(20, 22))  # while it is trained
    first_live.finish(job, first_live.train(job, created_ts=5, stop=lambda: False), 2.0)
    assert not first_live.ready(now=2.0, live="000001")
    observe(first_live, walks(22, 24))
    assert first_live.ready(now=2.0, live="000001")
    verdict = settled(first_live, "000001")
    assert (verdict.scored, verdict.against) == (100, "000001")
    assert verdict.ndcg is not None
    assert verdict.ndcg_live is not None
    assert verdict.ndcg > 0.1
    assert verdict.difference == pytest.approx(verdict.ndcg - verdict.ndcg_live)
    assert verdict.go is (verdict.lower is not None and verdict.lower >= -0.001)


def test_a_candidate_that_ranks_worse_stays_aside(first_live: Refresher) -> None:
    r = first_live
    for _ in range(3):  # the live one has learned enough to have something to lose
        r.trainer.refresh(r.log, 0, 3000)
    snapshot.write(r.settings.trainer.snapshots / "000002", r.trainer, "000002")
    turn_around(r.trainer)
    sha256 = snapshot.write(r.settings.trainer.snapshots / "000003", r.trainer, "000003")
    job = r.begin("000003", 1.0)
    worse = Cut(
        version="000003",
        at=300,
        offsets={},
        created_ts=5,
        new_events=0,
        tokens=64,
        steps=1,
        loss=1.0,
        sha256=sha256,
    )
    r.finish(job, worse, 1.0)
    observe(r, walks(10, 14))
    verdict = judged(r, "000002")
    assert not verdict.go
    assert verdict.lower is not None
    assert verdict.lower < -0.001
    assert verdict.ndcg_live is not None
    assert verdict.ndcg is not None
    assert verdict.ndcg_live > 2 * verdict.ndcg


def turn_around(trainer: Trainer) -> None:
    """Let the model like what it disliked."""
    with torch.no_grad():
        trainer.average.norm.weight.neg_()
        trainer.average.norm.bias.neg_()


def test_on_a_quiet_topic_it_is_judged_on_what_there_is(first_live: Refresher) -> None:
    observe(first_live, walks(10, 20))
    go(first_live, "000002", now=10.0)
    observe(first_live, walks(20, 21))
    assert not first_live.ready(now=129.0, live="000001")
    observe(first_live, walks(21, 22, users=10))
    assert first_live.ready(now=130.0, live="000001")
    assert judged(first_live, "000001").scored == 40


def test_too_few_events_to_judge_wait_until_the_next_refresh_is_due_and_then_reject(
    first_live: Refresher,
) -> None:
    observe(first_live, walks(10, 20))
    go(first_live, "000002", now=10.0)
    observe(first_live, walks(20, 21, users=MIN_SCORED - 1))
    assert not first_live.ready(now=200.0, live="000001")
    assert first_live.ready(now=610.0, live="000001")
    verdict = settled(first_live, "000001")
    assert (verdict.go, verdict.scored) == (False, MIN_SCORED - 1)
    assert first_live.due(now=610.0)


def test_a_live_snapshot_that_cannot_be_read_is_replaced(first_live: Refresher) -> None:
    (first_live.settings.trainer.snapshots / "000001" / "manifest.json").write_text("{")
    observe(first_live, walks(10, 20))
    go(first_live, "000002", now=1.0)
    observe(first_live, walks(20, 24))
    verdict = judged(first_live, "000001")
    assert verdict.go
    assert "can't be read" in verdict.reason


def test_a_decision_is_a_line_with_its_figures(first_live: Refresher) -> None:
    observe(first_live, walks(10, 20))
    go(first_live, "000002", now=1.0)
    observe(first_live, walks(20, 24))
    verdict = settled(first_live, "000001")
    path = first_live.settings.trainer.state_dir / "decisions.jsonl"
    lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    assert [line["version"] for line in lines] == ["000001", "000002"]
    expected = {**verdict.figures(), "live": verdict.go, "pinned": False, "decided_ts": 9, "at": 600}
    assert expected.items() <= lines[1].items()


def test_duplicates_enter_neither_the_history_nor_the_gate(first_live: Refresher) -> None:
    observe(first_live, walks(8, 12))
    assert first_live.log.end == 360
    assert first_live.counts["duplicates"] == 60


def test_an_erased_user_is_gone_from_the_history(first_live: Refresher) -> None:
    rows = walks(10, 11, users=2)
    rows.kind = ["erase", "click"]
    rows.weight = np.array([first_live.settings.events.weight_of(kind) for kind in rows.kind], np.float32)
    rows.item = ["", "i3"]
    observe(first_live, rows)
    assert first_live.log.offsets == {"events-0": 302}
    assert "u0" not in first_live.log.users.codes
    assert "u1" in first_live.log.users.codes
    assert first_live.counts["erased"] == 1


def reopened(r: Refresher, now: float = 50.0) -> Refresher:
    """What a new process finds after this one was killed; the history was saved."""
    r.save()
    return Refresher.open(r.settings, "cpu", now)


def test_a_waiting_candidate_gets_the_same_verdict_after_a_kill(first_live: Refresher) -> None:
    observe(first_live, walks(10, 20))
    go(first_live, "000002", now=1.0)
    observe(first_live, walks(20, 22))
    again = reopened(first_live)
    assert again.pending == first_live.pending
    for r in (first_live, again):
        observe(r, walks(22, 24))
    assert judged(again, "000001") == judged(first_live, "000001")


def test_training_goes_on_after_a_kill_as_if_there_was_none(first_live: Refresher) -> None:
    again = reopened(first_live)
    cuts = []
    for r in (first_live, again):
        observe(r, walks(10, 20))
        cuts.append(go(r, "000002", now=60.0))
    assert cuts[0] == cuts[1]


def test_a_kill_during_training_repeats_it_from_the_last_checkpoint(first_live: Refresher) -> None:
    observe(first_live, walks(10, 20))
    job = first_live.begin("000002", 1.0)
    steps = iter(range(1000))
    interrupted: Callable[[], bool] = lambda: next(steps) >= 3  # noqa: E731
    with pytest.raises(Exception, match="stopped after 3 steps"):
        first_live.train(job, created_ts=5, stop=interrupted)
    again = Refresher.open(first_live.settings, "cpu", now=50.0)
    assert again.pending is None
    assert again.due(now=51.0)
    assert again.begin("000002", 51.0).new_events == 300


def test_offsets_and_events_are_kept_together(first_live: Refresher) -> None:
    first_live.save()
    observe(first_live, walks(10, 11))
    again = Refresher.open(first_live.settings, "cpu", now=50.0)
    assert (again.log.end, again.offsets) == (300, {"events-0": 300})
    first_live.save()
    again = Refresher.open(first_live.settings, "cpu", now=50.0)
    assert (again.log.end, again.offsets) == (330, {"events-0": 330})


def test_the_offsets_of_a_topic_made_anew_are_forgotten(first_live: Refresher) -> None:
    first_live.observe(walks(10, 11), {"events-0": 330, "events-extra-0": 4})
    assert first_live.meet_topics({"events": "id-1", "events-extra": "id-2"}) == []
    again = reopened(first_live)
    assert again.meet_topics({"events": "id-3", "events-extra": "id-2"}) == ["events"]
    assert again.offsets == {"events-extra-0": 4}
    again = Refresher.open(first_live.settings, "cpu", 50.0)
    assert again.offsets == {"events-extra-0": 4}
    assert again.meet_topics({"events": "id-3", "events-extra": "id-2"}) == []


def test_the_warm_up_refreshes_twice_as_often_on_more_tokens(tmp_path: Path) -> None:
    settings = settings_in(
        tmp_path, **{"trainer.warmup_events": 1000, "trainer.warmup_tokens_per_event": 30.0}
    )
    assert [interval(settings, n) for n in (0, 999, 1000)] == [150, 150, 300]
    assert [budget(settings, 150, n) for n in (150, 1000, 1001)] == [4500, 4500, 600]
    assert budget(settings, 10**6, 10**6) == 4 * 300 * MOST_INTERVALS
