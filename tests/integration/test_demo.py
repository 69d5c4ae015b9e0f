"""The demo as a newcomer runs it: what it says, what it leaves, and that it takes everything down with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from stream_app.demo import run as demo
from stream_app.settings import load

ROOT = Path(str(demo.__file__)).parents[2]
LIMIT_S = 590


def command(directory: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "stream_app.cli", "demo", "--dir", str(directory), *more]


def still_running(directory: Path) -> list[str]:
    """Processes that have this run's folder in their command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if str(directory) in " ".join(words) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(" ".join(words))
    return found


@pytest.mark.slow
def test_the_demo_covers_every_event_and_leaves_nothing_running(tmp_path: Path) -> None:
    directory = tmp_path / "run" / "demo"
    done = subprocess.run(
        command(directory, "--events", "3000", "--rate", "300", "--set", "trainer.every_events=2000"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    said = " ".join(done.stdout.split())
    assert done.returncode == 0, said + done.stderr
    assert "3,008 on the topic: 3,001 accepted, 4 duplicates dropped, 3 dead letters" in said
    assert "every event is covered; the lists count 3,001 events" in said
    for words in (
        "freshness",
        "worker's clock",
        "HR@10",
        "of popularity",
        "before (revision",
        "after (revision",
    ):
        assert words in said, words
    assert still_running(directory) == []
    figures = json.loads((directory / "report.json").read_bytes())
    assert (figures["accepted"], figures["counts"]["uncovered"]) == (3001, 0)
    assert 0 < figures["hr@10"] < 1
    assert (directory / "report.html").read_text().startswith("<!doctype html>")


@pytest.mark.slow
def test_a_demo_that_is_told_to_end_takes_its_children_with_it(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    with subprocess.Popen(
        command(directory, "--rate", "50"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "replay  " in line:
                os.kill(process.pid, signal.SIGTERM)
        assert process.wait(timeout=LIMIT_S) == 130, "".join(said)
    assert still_running(directory) == []


def test_a_folder_that_no_demo_has_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(demo.DemoError, match="left alone"):
        demo.prepare(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_the_folder_of_an_earlier_demo_is_replaced(tmp_path: Path) -> None:
    demo.prepare(tmp_path / "demo")
    (tmp_path / "demo" / "state").mkdir()
    demo.prepare(tmp_path / "demo")
    assert [path.name for path in (tmp_path / "demo").iterdir()] == [demo.MARKER]


def test_what_the_demo_chooses_are_settings_that_there_are() -> None:
    assert load(dict(demo.CHOSEN)).worker.one_list_per_event
