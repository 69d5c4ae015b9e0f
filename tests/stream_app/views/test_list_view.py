"""Behaviour of what people read of a list."""

from __future__ import annotations

import io

from rich.console import Console

from stream_app.events import Because, Recommendation, RecommendedItem
from stream_app.views import list_view

TITLES = {"1": "Fargo (1996)", "2": "Heat [1995]"}


def record(reason: str = "event", models: dict[str, str] | None = None) -> Recommendation:
    items = [
        RecommendedItem(item_id="2", score=0.5, source="covisit-profile", because=Because(item_id="1")),
        RecommendedItem(item_id="9", score=0.4, source="popularity-500", because=Because(text="popular now")),
    ]
    return Recommendation(
        user_id="u7",
        revision=12,
        items=items,
        sources={},
        events=1234,
        event_ts=0,
        published_ts=0,
        latency_ms=3.14,
        models=models or {},
        arm="",
        reason=reason,
    )


def shown(*, fresh: set[str]) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(list_view.table(record().items, TITLES, fresh=fresh))
    return out.getvalue()


def test_items_have_their_titles_reasons_and_models_in_words() -> None:
    first, second = shown(fresh={"9"}).splitlines()[1:3]
    assert first.split("  ")[0].strip().startswith("1")
    assert "Heat [1995]" in first
    assert 'because of "Fargo (1996)"' in first
    assert "co-visits" in first
    assert "item 9 new" in second
    assert "popular now" in second
    assert "popularity" in second
    assert "-500" not in second


def test_only_what_is_new_is_marked() -> None:
    assert "new" not in shown(fresh=set())


def test_a_known_title_is_better_than_the_id_in_the_records_own_words() -> None:
    because = Because(item_id="1", text="because of item 1")
    assert list_view.reason_of(because, TITLES) == 'because of "Fargo (1996)"'
    assert list_view.reason_of(because, {}) == "because of item 1"


def test_the_headline_says_whose_list_it_is_and_how_fresh() -> None:
    line = list_view.headline(record(models={"transformer": "000003"}))
    for words in (
        "user u7",
        "revision 12",
        "after 1,234 events",
        "3.1 ms after the event",
        "transformer 000003",
    ):
        assert words in line


def test_a_refresh_has_no_latency_and_shedding_is_said() -> None:
    assert "refreshed" in list_view.headline(record("refresh"))
    assert "catch-up, re-ranker skipped" in list_view.headline(record("catch-up, re-ranker skipped"))


def test_a_model_that_is_not_known_is_called_by_its_name() -> None:
    assert list_view.source_in_words("content") == "content"
