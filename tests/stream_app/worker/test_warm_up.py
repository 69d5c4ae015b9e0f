"""A start that compiles says so while it does, and leaves nothing to be compiled later."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

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
    monkeypatch.setattr(module, "_whole_way", lambda *_: said.wait(30))
    module.warm_up(load())
    assert caplog.messages[0].startswith("compiling the models")
    assert "were compiled" in caplog.messages[1]


def test_a_short_start_says_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "_whole_way", lambda *_: None)
    module.warm_up(load())
    assert caplog.messages == []


def test_what_comes_after_it_compiles_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.stream_app.worker.after_warm_up", str(tmp_path / "snapshot")],
        cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    known, new = json.loads(done.stdout.splitlines()[-1])
    assert known >= 10
    assert new == {}
