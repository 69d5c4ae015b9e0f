"""A start that compiles says so while it does."""

from __future__ import annotations

import logging
import threading

import pytest

from stream_app.settings import load
from stream_app.worker import warm_up as module


def test_a_long_start_says_why_while_it_lasts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    said = threading.Event()

    def told(message: str, *_: object) -> None:
        logging.getLogger("test").info(message)
        said.set()

    monkeypatch.setattr(module, "WORTH_TELLING_S", 0.0)
    monkeypatch.setattr(module.log, "info", told)
    monkeypatch.setattr(module, "_whole_way", lambda _settings: said.wait(30))
    module.warm_up(load())
    assert caplog.messages[0].startswith("compiling the models")
    assert "were compiled" in caplog.messages[1]


def test_a_short_start_says_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "_whole_way", lambda _settings: None)
    module.warm_up(load())
    assert caplog.messages == []
