"""The backtest on small streams with a planted structure: what counts, what is listed, what a cut changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.metrics import lists as metrics
from models.pipeline.recommender import Recommender
from models.training.event_log import ERASED
from producers.columns import Dataset, from_frame
from stream_app.backtests import backtest
from stream_app.backtests.backtest import Backtest, every_list
from stream_app.backtests.report import Report
from stream_app.settings import Settings, load

GROUPS, PER_GROUP, USERS = 4, 12, 24


def stream(n: int = 1500, seed: int = 0, **columns: Any) -> Dataset:
    """Users who mostly take items of their own group, in the order of its items; some rate, some click."""
    rng = np.random.default_rng(seed)
    at = rng.integers(0, PER_GROUP, USERS)
    rows = []
    for event in range(n):
        user = int(rng.integers(USERS))
        group = user % GROUPS if rng.random() < 0.9 else int(rng.integers(GROUPS))
        at[user] += 1
        item = group * 1000 + int(at[user])
        kind = "rating" if user % 2 else "click"
        rows.append((f"u{user}", f"i{item}", kind, float(rng.integers(1, 6)), 1_000_000 + 400 * event))
    frame = pl.DataFrame(rows, schema=["user", "item", "type", "value", "ts"], orient="row")
    return from_frame(frame.with_columns(**columns), name="planted", source="test")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return stream()


@pytest.fixture
def settings() -> Settings:
    return load({"models.max_items": 5000})


def run(data: Dataset, settings: Settings, **options: Any) -> Report:
    return backtest.run(data, settings, **{"transformer": False, **options})


def finished(data: Dataset, settings: Settings, **options: Any) -> Backtest:
    """A backtest that ran, to look inside."""
    everything = {"limit": None, "transformer": False, "seed": 0, "window_ms": None} | options
    done = Backtest(data, settings, **everything)
    done.run(None)
    return done


def test_every_event_is_scored_or_says_why_not(data: Dataset, settings: Settings) -> None:
    report = run(data, settings)
    pairs = set(zip(data.user.tolist(), data.item.tolist(), strict=True))
    assert report.events == len(data)
    assert report.unscored["a user's first event"] == USERS
    assert report.unscored["an item that the user already had"] == len(data) - len(pairs)
    assert report.scored + sum(report.unscored.values()) == report.events
    assert report.lists == report.accepted == report.events


def test_the_pipelines_own_counters_agree_with_the_scorer_outside_of_it(
    data: Dataset, settings: Settings
) -> None:
    report = run(data, settings)
    assert report.notes == []
    assert report.pipeline["scored"] == report.scored
    assert report.pipeline["hr@10"] == pytest.approx(report.hr)
    assert report.pipeline["ndcg@10"] == pytest.approx(report.ndcg)
    assert report.pipeline["coverage"] == pytest.approx(report.coverage)


@pytest.mark.parametrize("k", [5, 20])
def test_served_and_single_sources_are_scored_on_lists_of_the_length_that_is_set(
    data: Dataset, k: int
) -> None:
    settings = load({"models.max_items": 5000, "models.policy.k": k})
    done = Backtest(data, settings, None, False, 0, None)
    report = done.run(None)
    scored = done.rank[done.scored]
    assert report.hr == np.mean(scored >= 0)
    assert (scored >= 5).any() == (k == 20)
    assert report.pipeline[f"hr@{k}"] == pytest.approx(report.hr)
    assert report.pipeline[f"ndcg@{k}"] == pytest.approx(report.ndcg)
    assert report.notes == []
    parts = [part.score for part in report.slices[:2]]
    assert sum((part.hr or 0) * part.scored for part in parts) == pytest.approx(report.hr * report.scored)


@pytest.mark.parametrize("k", [5, 20])
def test_the_counters_are_compared_whatever_the_length_of_a_list(
    data: Dataset, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {"scored": 1.0, f"hr@{k}": 0.5, f"ndcg@{k}": 0.5, "novelty": 0.0, "sample_scored": 0.0}
    monkeypatch.setattr(Recommender, "metrics", lambda _: wrong)
    notes = run(data, load({"models.max_items": 5000, "models.policy.k": k}), limit=100).notes
    assert any(f"counter of hr@{k} says 0.5" in note for note in notes)


def test_a_counter_that_disagrees_is_told(
    data: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {"scored": 1.0, "hr@10": 0.5, "ndcg@10": 0.5, "novelty": 0.0, "sample_scored": 0.0}
    monkeypatch.setattr(Recommender, "metrics", lambda _: wrong)
    notes = run(data, settings, limit=100).notes
    assert any("counter of hr@10 says 0.5" in note for note in notes)


def test_without_single_sources_the_figures_are_the_same(
    data: Dataset, settings: Settings, tmp_path: Path
) -> None:
    beside, alone = run(data, settings), run(data, settings, baselines=False, out=tmp_path)
    assert (alone.hr, alone.ndcg, alone.scored) == (beside.hr, beside.ndcg, beside.scored)
    assert beside.baselines
    assert json.loads((tmp_path / "report.json").read_text())["baselines"] == {}
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_the_planted_structure_is_found(data: Dataset, settings: Settings) -> None:
    report = run(data, settings)
    assert report.hr is not None
    assert report.hr > 2 * max(
        score.hr or 0 for name, score in report.baselines.items() if name.startswith("popular")
    )
    assert len({score.scored for score in report.baselines.values()} | {report.scored}) == 1


def state_of(done: Backtest) -> dict[str, list[Any]]:
    delta = done.recommender.take_dirty()
    return {"users": sorted(delta.users), "items": sorted(delta.items), "meta": sorted(delta.meta)}


def test_where_blocks_are_cut_changes_nothing(
    data: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = finished(data, settings)
    monkeypatch.setattr(backtest, "BLOCK", 7)
    cut = finished(data, settings)
    assert np.array_equal(whole.rank, cut.rank)
    assert state_of(whole) == state_of(cut)


def test_users_that_had_no_room_come_back_as_they_were(data: Dataset) -> None:
    roomy = finished(data, load({"models.max_items": 5000}))
    narrow = finished(data, load({"models.max_items": 5000, "models.max_cached_users": 16}))
    assert len(narrow.recommender.users) <= 16 < USERS
    assert np.array_equal(roomy.rank, narrow.rank)


def test_novelty_is_that_of_each_list_at_its_moment(
    data: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backtest, "BLOCK", 1)
    counts = np.zeros(len(data.item_ids), np.int64)
    bits: list[float] = []
    place = backtest.Prequential.place

    def watch(scorer: Any, marks: Any, user: Any, item: Any, event: Any, made_for: Any, lists: Any) -> None:
        counts[item] += 1
        for row in lists:
            bits.extend(metrics.self_information(counts)[row[row >= 0]])
        place(scorer, marks, user, item, event, made_for, lists)

    monkeypatch.setattr(backtest.Prequential, "place", watch)
    report = run(data, settings, limit=300)
    assert report.novelty == pytest.approx(sum(bits) / len(bits), rel=1e-4)


def test_a_repeated_event_id_is_dropped(settings: Settings) -> None:
    ids = [f"e{row // 2}" for row in range(200)]  # each one twice, by different users: not a repetition
    ids[1] = ids[0] = "same"
    once = stream(200, event_id=pl.Series(ids))
    users = once.user.tolist()
    again = sum(1 for row in range(1, 200) if ids[row] == ids[row - 1] and users[row] == users[row - 1])
    assert again > 0
    report = run(once, settings)
    assert report.unscored["a repeated event id"] == again
    assert report.accepted == 200 - again


def test_an_erased_user_is_new_again(settings: Settings) -> None:
    kinds = pl.Series(["click"] * 300)
    kinds[150] = "erase"
    erased = stream(300, type=kinds)
    report = run(erased, settings)
    came_back = erased.user[150] in erased.user[151:]
    assert came_back
    assert report.unscored["an erasure"] == 1
    assert report.unscored["a user's first event"] == len(set(erased.user.tolist())) + 1
    assert report.notes == []


def test_dislikes_teach_but_are_not_scored(settings: Settings) -> None:
    report = run(stream(300, type=pl.Series(["click", "skip"] * 150)), settings)
    assert report.unscored["a type that does not teach positively"] > 0
    assert report.scored + sum(report.unscored.values()) == report.events
    assert report.notes == []


def test_a_limit_is_the_beginning_of_the_stream(data: Dataset, settings: Settings) -> None:
    part = run(data, settings, limit=400)
    assert part.events == 400
    assert np.array_equal(finished(data, settings, limit=400).rank, finished(data, settings).rank[:400])


def test_the_same_seed_gives_the_same_figures_and_another_one_others(
    data: Dataset, settings: Settings
) -> None:
    one, again, other = (finished(data, settings, seed=seed) for seed in (1, 1, 2))
    assert state_of(one) == state_of(again)
    assert state_of(one) != state_of(other)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 700)), max_size=40), st.integers(1, 2000))
def test_a_window_has_one_list_for_each_of_its_users(events: list[tuple[int, int]], window: int) -> None:
    user = np.array([u for u, _ in events], np.int32)
    ts = np.cumsum([wait for _, wait in events]).astype(np.int64)
    wanted = every_list(user, ts, window)
    last: dict[tuple[int, int], int] = {}
    for row, (u, _) in enumerate(events):
        last[u, int(ts[row]) // window] = row
    assert np.flatnonzero(wanted).tolist() == sorted(last.values())


def test_stale_lists_are_fewer_and_no_better(data: Dataset, settings: Settings) -> None:
    fresh, stale = run(data, settings), run(data, settings, window_ms=60_000)
    assert stale.window == "1 m"
    assert stale.lists < fresh.lists
    assert stale.scored == fresh.scored
    assert stale.notes == []
    assert fresh.hr is not None
    assert stale.hr is not None
    assert stale.hr < fresh.hr


def test_the_transformer_is_refreshed_at_fixed_events_and_not_after_the_last(data: Dataset) -> None:
    settings = load(
        {
            "models.max_items": 5000,
            "models.transformer.d_model": 8,
            "trainer.every_events": 500,
            "trainer.warmup_events": 500,
            "trainer.warmup_tokens_per_event": 4.0,
            "trainer.tokens_per_event": 2.0,
        }
    )
    report = run(data, settings, transformer=True, limit=1500)
    assert [refresh.at for refresh in report.refreshes] == [250, 500, 1000]
    assert all(refresh.tokens > 0 and refresh.live for refresh in report.refreshes)
    assert report.lists == 1500 + 3 * USERS  # those of the refreshes count as what was served
    assert report.notes == []
    assert report.baselines["transformer"].hr is not None
    assert report.baselines["transformer"].hr > 0


def test_what_a_user_did_before_their_erasure_is_not_trained_on() -> None:
    kinds = pl.Series(["click"] * 300)
    kinds[150] = "erase"
    data = stream(300, type=kinds)
    settings = load({"models.max_items": 5000, "models.transformer.d_model": 8, "trainer.every_events": 1000})
    done = finished(data, settings, transformer=True)
    assert done.refresher is not None
    held = done.refresher.events
    erased = int(data.user[150])
    before, after = int((data.user[:150] == erased).sum()), int((data.user[151:] == erased).sum())
    assert before > 0
    assert len(held) == 299
    users = [held.users.ids[code] for code in held.column("user")]
    assert users.count(ERASED) == before
    assert users.count(data.user_ids[erased]) == after


def test_progress_goes_up_to_the_end(
    data: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backtest, "BLOCK", 100)
    seen: list[tuple[int, int]] = []
    run(data, settings, limit=250, on_progress=lambda done, total, _: seen.append((done, total)))
    assert seen == [(100, 250), (200, 250), (250, 250)]


def test_the_report_lands_in_its_folder(
    data: Dataset, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backtest, "BLOCK", 500)
    report = run(data, settings, out=tmp_path / "out")
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["hr@10"] == pytest.approx(report.hr)
    assert content["data_sha256"] == data.sha256
    assert content["settings"]["models"]["max_items"] == 5000
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<svg") == 3


def test_curves_and_slices_add_up_to_the_whole(data: Dataset, settings: Settings) -> None:
    report = run(data, settings)
    curves = report.curves
    assert curves is not None
    assert curves.events[-1] == report.events
    lengths = [len(curves.hr), len(curves.ndcg), *map(len, curves.baselines_hr.values())]
    assert set(lengths + [len(cost) for cost in curves.cost_us.values()]) == {len(curves.events)}
    first, rest, early, later = (part.score for part in report.slices)
    assert first.scored + rest.scored == early.scored + later.scored == report.scored
    assert sum(part.score.scored for part in report.by_gap) == report.scored
    weighted = sum((part.score.hr or 0) * part.score.scored for part in report.by_gap)
    assert weighted / report.scored == pytest.approx(report.hr)


def test_an_empty_stream_has_a_report(settings: Settings, tmp_path: Path) -> None:
    report = run(stream(1), settings, limit=0, out=tmp_path)
    assert (report.events, report.scored, report.hr) == (0, 0, None)
