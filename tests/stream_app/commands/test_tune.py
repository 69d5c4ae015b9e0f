"""`headrace tune` as it is called, on a small stream with a planted structure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from producers import tables
from producers.planted import Shape
from producers.simulate import Simulation
from stream_app import cli
from stream_app.backtests import backtest
from stream_app.commands.settings import load_settings
from stream_app.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from stream_app.settings import Settings

EVENTS = 1200
SMALL = ("--set", "models.max_items=500", "--set", "models.max_cached_users=200")
MAP = "user=user_id,item=item_id"


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of simulated events, in a folder without settings of anybody."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_CONFIG", "headrace.toml")  # `--config` sets it: taken back after the test
    (tmp_path / "headrace.toml").touch()
    simulation = Simulation(users=40, items=120, events=EVENTS, seed=5, shape=Shape(groups=4))
    made = [record.value for record in simulation.records() if record.kind == "valid"]
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(value for value in made if value is not None))
    return path


def tune(stream: Path, *flags: str) -> int:
    return cli.run(["tune", "--data", str(stream), "--map", MAP, "--no-transformer", *SMALL, *flags])


def trials(out: Path) -> list[dict[str, Any]]:
    content = json.loads((out / "tune.json").read_bytes())
    return [{k: v for k, v in trial.items() if k != "seconds"} for trial in content["trials"]]


def test_the_best_settings_serve_and_score_as_was_said(
    stream: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = stream.parent / "tuned"
    assert tune(stream, "--trials", "4", "--out", str(out)) == EXIT_OK
    told = capsys.readouterr().out
    assert "as they are" in told
    assert "4 trials" in told
    settings = load_settings(out / "best.toml", None, None)
    assert isinstance(settings, Settings)
    data = tables.read(stream, {"user": "user_id", "item": "item_id"})
    report = backtest.run(data, settings, transformer=False, seed=settings.seed)
    best = json.loads((out / "tune.json").read_bytes())["best"]
    assert report.ndcg == pytest.approx(best["ndcg"], abs=1e-12)
    assert report.hr == pytest.approx(best["hr"], abs=1e-12)


def test_one_seed_finds_the_same_in_one_go_and_in_two(stream: Path) -> None:
    whole, parts = stream.parent / "whole", stream.parent / "parts"
    assert tune(stream, "--trials", "4", "--seed", "7", "--out", str(whole)) == EXIT_OK
    for number in ("2", "4"):
        assert tune(stream, "--trials", number, "--seed", "7", "--out", str(parts)) == EXIT_OK
    assert trials(whole) == trials(parts)
    assert (whole / "best.toml").read_text().split("\n\n")[1:] == (parts / "best.toml").read_text().split(
        "\n\n"
    )[1:]


def test_what_set_gives_stays_as_it_is(stream: Path) -> None:
    out = stream.parent / "tuned"
    fixed = ("--set", "models.blend.lr=0.2")
    assert tune(stream, "--trials", "2", "--out", str(out), *fixed) == EXIT_OK
    assert all("models.blend.lr" not in trial["values"] for trial in trials(out))
    assert load_settings(out / "best.toml", None, None).models.blend.lr == 0.2


def test_a_search_of_another_stream_in_the_folder_is_refused(
    stream: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = stream.parent / "tuned"
    assert tune(stream, "--trials", "1", "--limit", "200", "--out", str(out)) == EXIT_OK
    assert tune(stream, "--trials", "1", "--limit", "300", "--out", str(out)) == EXIT_FAILED
    assert "another kind: events differ" in capsys.readouterr().err


def test_too_little_time_is_told(stream: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune(stream, "--minutes", "0") == EXIT_FAILED
    assert "--minutes" in capsys.readouterr().err


def test_no_such_file_is_told(tmp_path: Path) -> None:
    assert cli.run(["tune", "--data", str(tmp_path / "none.csv")]) == EXIT_USAGE


def test_single_sources_that_are_not_scored_change_no_list(stream: Path) -> None:
    data = tables.read(stream, {"user": "user_id", "item": "item_id"})
    settings = Settings()
    with_them = backtest.Backtest(data, settings, None, False, 0, None)
    without = backtest.Backtest(data, settings, None, False, 0, None, baselines=False)
    reports = [with_them.run(None), without.run(None)]
    assert (with_them.rank == without.rank).all()
    assert reports[0].baselines
    assert not reports[1].baselines
