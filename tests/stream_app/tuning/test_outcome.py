"""The file of the best settings is one that every command takes, and says how good they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stream_app.commands.settings import load_settings
from stream_app.settings import Settings, load
from stream_app.tuning.outcome import summarise, to_toml, write
from stream_app.tuning.search import Search, Trial


@pytest.fixture(autouse=True)
def settings_of_this_test_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_CONFIG", "headrace.toml")  # `--config` sets it: taken back after the test
    (tmp_path / "headrace.toml").touch()


def trial(number: int, ndcg: float, lr: float, *, pruned: bool = False) -> Trial:
    return Trial(
        number, number == 0, pruned, {"models.blend.lr": lr}, ndcg, 2 * ndcg, 1000, None if pruned else 2.0
    )


READING = {"name": "x", "matrix": 0, "items": 3, "decay": 0.5, "row_power": 1, "column_power": 0}
BETTER = Search([trial(0, 0.10, 0.15), trial(1, 0.11, 0.07), trial(2, 0.5, 0.3, pruned=True)])
NO_BETTER = Search([trial(0, 0.10, 0.15), trial(1, 0.10, 0.07)])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"seed": 3, "models.blend.lr": 0.0731, "models.blend.floor": 1e-7},
        {"models.covisit.decay": [0.85, 0.55], "models.popularity.half_lives": [90, 700, 0]},
        {"trainer.tokens_per_event": 9.5, "models.transformer.d_model": 96},
        {"events.weights": {"click": 2.0, "add to \"cart\"": 1.5}, "topics.events": ["a", "b"]},
        {"models.covisit.readings": [READING]},
    ],
)  # fmt: skip
def test_a_config_file_of_it_gives_the_very_settings(changes: dict[str, object], tmp_path: Path) -> None:
    settings = load(changes)
    path = tmp_path / "best.toml"
    path.write_text(to_toml(settings, ["a comment"]))
    assert load_settings(path, None, None) == settings


def test_a_password_is_not_in_it() -> None:
    settings = load({"broker.security": {"sasl_plain_password": "hunter2"}, "broker.url": "there:1"})
    written = to_toml(settings, [])
    assert "there:1" in written
    assert "hunter2" not in written


def test_the_best_stands_beside_the_settings_as_they_were(tmp_path: Path) -> None:
    best = load({"models.blend.lr": 0.07})
    toml, trials = write(BETTER, best, {"on": "ml-100k"}, tmp_path)
    assert "as they were: NDCG@10 0.1000" in toml.read_text()
    assert "these: NDCG@10 0.1100" in toml.read_text()
    written = json.loads(trials.read_bytes())
    assert (written["start"]["ndcg"], written["best"]["ndcg"], written["better"]) == (0.10, 0.11, True)
    assert [one["pruned"] for one in written["trials"]] == [False, False, True]
    told = "\n".join(summarise(BETTER, 10))
    assert "models.blend.lr = 0.07  (was 0.15)" in told
    assert "NDCG@10 +0.0100" in told
    assert "warning" not in told


def test_figures_name_the_length_of_the_lists(tmp_path: Path) -> None:
    toml, _ = write(BETTER, load({"models.policy.k": 20}), {"on": "ml-100k"}, tmp_path)
    assert "as they were: NDCG@20 0.1000  HR@20 0.2000" in toml.read_text()
    assert "@10" not in "\n".join(summarise(BETTER, 20))


def test_that_nothing_was_better_is_told(tmp_path: Path) -> None:
    toml, _ = write(NO_BETTER, load(), {"on": "ml-100k"}, tmp_path)
    assert "Nothing was better" in toml.read_text()
    assert "warning: nothing was better" in "\n".join(summarise(NO_BETTER, 10))


def test_a_defaults_file_is_empty_but_for_its_comments() -> None:
    assert to_toml(Settings(), ["one", "two"]) == "# one\n# two\n"
