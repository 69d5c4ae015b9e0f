"""Behaviour of the live view, and of the figures that it reads off a worker's page."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from stream_app.views.live_view import History, LiveView, milliseconds, sparkline
from stream_app.views.worker_metrics import Buckets, Sample, parse, read_sample
from stream_app.worker.freshness import APPEND, WORKER, WorkerMetrics


def sample(at_s: float, events: int, **more: object) -> Sample:
    return replace(Sample(at_s, events), **more)  # type: ignore[arg-type]


class TestBuckets:
    def test_a_quantile_is_linear_within_its_bucket(self) -> None:
        buckets = Buckets((10.0, 20.0, math.inf), (10, 20, 20))
        assert buckets.quantile(0.25) == 5.0
        assert buckets.quantile(0.75) == 15.0

    def test_beyond_the_last_bound_the_bound_is_given(self) -> None:
        assert Buckets((10.0, math.inf), (0, 5)).quantile(0.99) == 10.0

    def test_of_nothing_there_is_no_quantile(self) -> None:
        assert math.isnan(Buckets().quantile(0.5))
        assert math.isnan(Buckets((1.0, math.inf), (0, 0)).quantile(0.5))

    def test_since_takes_earlier_observations_out(self) -> None:
        early, late = Buckets((1.0, math.inf), (1, 2)), Buckets((1.0, math.inf), (4, 9))
        assert late.since(early).counts == (3, 7)

    def test_after_a_restart_of_the_worker_all_count(self) -> None:
        early, late = Buckets((1.0, math.inf), (4, 9)), Buckets((1.0, math.inf), (1, 2))
        assert late.since(early) == late

    @given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.floats(0, 1), st.floats(0, 1))
    def test_quantiles_never_fall(self, counts: list[int], a: float, b: float) -> None:
        bounds = (*tuple(float(n + 1) for n in range(len(counts))), math.inf)
        cumulative = (*tuple(float(sum(counts[: n + 1])) for n in range(len(counts))), float(sum(counts)))
        low, high = sorted((a, b))
        below, above = (Buckets(bounds, cumulative).quantile(q) for q in (low, high))
        assert math.isnan(below) or below <= above


class TestParse:
    def page(self) -> WorkerMetrics:
        metrics = WorkerMetrics()
        metrics.set_quality(
            {
                "events": 100,
                "scored": 90,
                "hr@10": 0.2,
                "popularity_hr@10": 0.05,
                "duplicates": 3,
                "lists": 50,
            }
        )
        metrics.acknowledged("event", [12.0, 14.0], WORKER)
        metrics.acknowledged("catch-up", [80.0], WORKER)
        metrics.acknowledged("refresh", [], WORKER)
        metrics.dead_letters.labels("json").inc(2)
        metrics.dead_letters.labels("misrouted").inc()
        metrics.lag.set(7)
        metrics.set_model("000004")
        return metrics

    def test_reads_what_a_worker_shows(self) -> None:
        read = parse(self.page().page().decode(), at_s=5.0)
        assert (read.at_s, read.events, read.scored, read.hr, read.popularity_hr) == (5.0, 100, 90, 0.2, 0.05)
        assert (read.duplicates, read.dead_letters, read.lag, read.model) == (3, 3, 7, "000004")
        assert read.hits == pytest.approx(18.0)

    def test_lists_of_another_length_have_their_figures_too(self) -> None:
        metrics = WorkerMetrics()
        metrics.set_quality({"scored": 90, "hr@20": 0.3, "ndcg@20": 0.1, "popularity_hr@20": 0.2})
        read = parse(metrics.page().decode(), at_s=0.0)
        assert (read.k, read.hr, read.ndcg, read.popularity_hr) == (20, 0.3, 0.1, 0.2)

    def test_refreshes_are_told_apart_from_updates(self) -> None:
        read = parse(self.page().page().decode(), at_s=0.0)
        assert (read.updates, read.refreshes) == (2, 1)

    def test_freshness_has_the_clock_that_it_was_measured_on(self) -> None:
        read = parse(self.page().page().decode(), at_s=0.0)
        assert read.clock == WORKER
        assert read.freshness.total == 3
        assert 10.0 <= read.freshness.quantile(0.5) <= 15.0
        metrics = WorkerMetrics()
        metrics.acknowledged("event", [5.0], APPEND)
        assert "broker" in parse(metrics.page().decode(), at_s=0.0).measured

    def test_before_anything_was_scored_there_are_no_shares(self) -> None:
        metrics = WorkerMetrics()
        metrics.set_quality({"events": 1, "scored": 0, "hr@10": 0.0})
        assert math.isnan(parse(metrics.page().decode(), at_s=0.0).hr)

    def test_an_empty_page_is_a_worker_that_has_done_nothing(self) -> None:
        read = parse("", at_s=1.0)
        assert (read.events, read.model, read.freshness) == (0, "", Buckets())

    def test_where_nobody_answers_there_is_no_sample(self) -> None:
        assert read_sample("http://127.0.0.1:1/metrics", timeout_s=0.2) is None


class TestHistory:
    def history(self, *samples: Sample) -> History:
        history = History()
        for one in samples:
            history.add(one)
        return history

    def test_the_rate_is_that_of_the_last_seconds(self) -> None:
        history = self.history(sample(0, 0), sample(10, 10_000), sample(20, 10_500))
        assert history.rate(seconds=10) == 50.0

    def test_of_one_sample_there_is_no_rate(self) -> None:
        assert self.history(sample(3, 500)).rate() == 0.0

    def test_a_worker_that_starts_anew_has_no_negative_rates(self) -> None:
        assert self.history(sample(0, 500), sample(1, 0), sample(2, 10)).rates(5) == [0.0, 10.0]

    def test_hit_rates_are_of_each_stretch_not_since_the_start(self) -> None:
        history = self.history(
            sample(0, 0), sample(5, 100, scored=100, hr=0.5), sample(10, 200, scored=200, hr=0.3)
        )
        assert history.hit_rates(5) == pytest.approx([0.5, 0.1])

    def test_recent_freshness_leaves_earlier_updates_out(self) -> None:
        slow, then_fast = (
            Buckets((10.0, 100.0, math.inf), (0, 50, 50)),
            Buckets((10.0, 100.0, math.inf), (50, 100, 100)),
        )
        history = self.history(sample(0, 0, freshness=slow), sample(20, 1, freshness=then_fast))
        assert history.freshness(seconds=10)[1] <= 10.0


class TestShown:
    def view(self, *, terminal: bool) -> tuple[LiveView, io.StringIO]:
        out = io.StringIO()
        console = Console(
            file=out, force_terminal=terminal, width=110, color_system=None, legacy_windows=False
        )
        return LiveView(console, target=1000), out

    def full(self, at_s: float = 1.0) -> Sample:
        return sample(
            at_s,
            500,
            scored=400,
            hr=0.21,
            popularity_hr=0.07,
            model="000002",
            dead_letters=3,
            duplicates=4,
            lag=9,
        )

    def test_on_a_terminal_a_panel_says_everything(self) -> None:
        view, out = self.view(terminal=True)
        with view:
            view.note = "2 refreshes judged"
            view.update(self.full(), latest="newest list")
        text = out.getvalue()
        for words in (
            "500",
            "0.2100",
            "0.0700",
            "3.0×",
            "000002",
            "2 refreshes",
            "3 dead letters",
            "lag 9",
            "newest list",
        ):
            assert words in text, words
        rows = [line.strip("│ ") for line in text.splitlines()]
        for label in ("events", "freshness", "HR@10", "NDCG@10", "Transformer", "bad input"):
            assert any(row.startswith(f"{label}  ") for row in rows), label

    def test_elsewhere_a_line_every_few_seconds_says_it(self) -> None:
        view, out = self.view(terminal=False)
        with view:
            for second in range(11):
                view.update(self.full(float(second)))
        lines = out.getvalue().splitlines()
        assert len(lines) == 3
        assert "500 of 1,000 events" in lines[0]
        assert "HR@10 0.2100 popularity 0.0700" in lines[0]
        assert "dead letters 3" in lines[0]

    def test_hit_rates_are_named_by_the_length_of_the_lists(self) -> None:
        view, out = self.view(terminal=True)
        with view:
            view.update(Sample(1.0, events=5, scored=4, k=20, hr=0.5))
        assert "HR@20 0.5000" in view.plain()
        assert "HR@20" in out.getvalue()
        assert "NDCG@20" in out.getvalue()

    def test_what_is_not_known_is_a_dash(self) -> None:
        view, _ = self.view(terminal=False)
        view.history.add(Sample(0.0))
        assert "HR@10 – popularity –, model none yet" in view.plain()

    def test_milliseconds(self) -> None:
        assert [milliseconds(v) for v in (1.25, 12.4, 12_345.0, math.nan)] == [
            "1.2 ms",
            "12 ms",
            "12.3 s",
            "–",
        ]

    @given(st.lists(st.floats(0, 1e9), max_size=40))
    def test_a_sparkline_has_a_block_for_each_value(self, values: list[float]) -> None:
        assert len(sparkline(values)) == len(values)
