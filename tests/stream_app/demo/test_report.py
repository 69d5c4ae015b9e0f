"""Behaviour of what the demo makes of its samples and of the trainer's decisions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stream_app.demo.report import curves, items_of
from stream_app.demo.summary import gate_figures, lists_in_words, refreshes, verdict
from stream_app.views.coverage import Coverage
from stream_app.views.worker_metrics import Sample


def test_each_point_of_a_curve_is_of_its_own_stretch() -> None:
    made = curves(
        [
            Sample(0.0),
            Sample(1.0, events=3000, scored=2000, hr=0.9, ndcg=0.9, popularity_hr=0.9),
            Sample(2.0, events=5000, scored=4000, hr=0.5, ndcg=0.3, popularity_hr=0.1),
            Sample(3.0, events=10_000, scored=8000, hr=0.4, ndcg=0.25, popularity_hr=0.2),
        ]
    )
    assert made.events == [5000, 10_000]
    assert made.hr == pytest.approx([0.5, 0.3])
    assert made.ndcg == pytest.approx([0.3, 0.2])
    assert made.baselines_hr["popularity"] == pytest.approx([0.1, 0.3])


def test_a_stretch_without_a_scored_event_has_no_score() -> None:
    assert curves([Sample(0.0), Sample(1.0, events=9000)]).hr == [None]


def test_a_snapshot_that_was_deleted_has_no_items(tmp_path: Path) -> None:
    assert items_of(tmp_path / "manifest.json") == 0
    (tmp_path / "manifest.json").write_text('{"item_ids": ["a", "b"]}')
    assert items_of(tmp_path / "manifest.json") == 2


def test_decisions_are_read_in_their_order(tmp_path: Path) -> None:
    assert refreshes(tmp_path) == []
    (tmp_path / "trainer").mkdir()
    lines = [json.dumps({"version": "1", "live": True}), json.dumps({"version": "2", "live": False})]
    (tmp_path / "trainer" / "decisions.jsonl").write_text("\n".join(lines) + "\n")
    assert [decision["version"] for decision in refreshes(tmp_path)] == ["1", "2"]
    assert gate_figures(refreshes(tmp_path)) == "2 refreshes judged, 1 went live"


def test_what_is_not_covered_or_not_counted_once_is_said() -> None:
    assert verdict(Coverage(accepted=5, counted=5)) == "every event is covered"
    assert verdict(Coverage(accepted=5, counted=6)) == "every event is covered, but NOT counted once"
    assert verdict(Coverage(accepted=5, counted=2, erased=1)) == "every event is covered"
    assert verdict(Coverage(accepted=5, counted=4, uncovered=1)) == "1 NOT covered"


def test_it_is_said_when_lists_stood_for_several_events() -> None:
    assert lists_in_words(Sample(0.0, events=10, updates=10)) == "a list after every event"
    assert "7 lists for 10 events" in lists_in_words(Sample(0.0, events=10, updates=7))
