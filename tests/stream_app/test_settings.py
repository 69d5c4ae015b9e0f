"""What the settings refuse, and what of them is filled up from the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from models.vocabulary import kind_of
from stream_app.commands.settings import load_settings
from stream_app.errors import UsageError
from stream_app.settings import DEFAULT_WEIGHTS, load


@pytest.fixture(autouse=True)
def an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"topics.events": []}, "at least 1 item"),
        ({"topics.events": ["clicks", "clicks"]}, "clicks is named twice"),
        ({"topics.items": "events"}, "events is named twice"),
        ({"topics.recommendations": "events.dlq"}, "events.dlq is named twice"),
        ({"events.rating_low": 6}, "rating_low 6 should be below rating_high 5"),
        ({"events.weights": {"click": "nan"}}, "finite number"),
        ({"events.default_weight": "-inf"}, "finite number"),
        ({"models.blend.lr": "inf"}, "finite number"),
        ({"broker.security": {"sasl_username": "me"}}, "no entry sasl_username; there are security_protocol"),
    ],
)
def test_what_no_worker_could_work_with_is_refused(overrides: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        load(overrides)


def test_a_weight_of_ones_own_leaves_the_other_types_theirs() -> None:
    weights = load({"events.weights": {"click": 3, "booked": 2}}).events.weights
    assert weights == DEFAULT_WEIGHTS | {"click": 3.0, "booked": 2.0}
    assert weights["skip"] < 0


def test_a_type_weighs_the_same_wherever_an_event_took_place() -> None:
    events = load().events
    assert [
        events.weight_of(kind) for kind in ("skip", kind_of("skip", "home"), kind_of("purchase", "home"))
    ] == [
        -1.0,
        -1.0,
        2.0,
    ]
    assert events.weight_of(kind_of("unheard-of", "home")) == events.default_weight


def test_a_wrong_log_in_is_told_without_its_password() -> None:
    assignments = ["broker.security.sasl_plain_password=hunter2", "broker.security.sasl_username=me"]
    with pytest.raises(UsageError, match="no entry sasl_username") as caught:
        load_settings(None, None, assignments)
    assert "hunter2" not in str(caught.value)


def test_a_variable_of_a_section_that_there_is_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_WORKR__POLL_MS", "4")
    with pytest.raises(
        UsageError, match=r"workr\.poll_ms: no such setting .*HEADRACE_WORKR__POLL_MS.*worker\.poll_ms"
    ):
        load_settings(None, None, None)


def test_variables_that_are_no_settings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_DEBUG", "1")
    monkeypatch.setenv("HEADRACE_TEST_EVENTS", "7")
    assert load_settings(None, None, None) == load()
