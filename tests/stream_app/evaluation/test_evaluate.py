"""`headrace evaluate` on a small file, and the run behind it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.config import Section
from models.family.classic.popularity import Popularity
from models.family.contract import Content
from models.family.neural.unified import UnifiedSettings
from models.family.registry import MODELS, model_class
from producers.columns import Dataset, from_frame
from stream_app import cli
from stream_app.backtests.backtest import run as backtest
from stream_app.commands.evaluate import models_of, seeds_of
from stream_app.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, UsageError
from stream_app.evaluation import apart, evaluate
from stream_app.evaluation import examine as examining
from stream_app.evaluation.apart import ApartError
from stream_app.evaluation.data import Stream, stream
from stream_app.evaluation.evaluate import EvaluationError, Protocol, plan_of, run, unfit
from stream_app.evaluation.examine import Examination, Findings, examine
from stream_app.settings import EventSettings, load


def rows(n: int = 600, users: int = 30, items: int = 25) -> pl.DataFrame:
    """Users who take popular items more often than others, some twice."""
    rng = np.random.default_rng(0)
    item = np.minimum(rng.geometric(0.12, n), items)
    return pl.DataFrame(
        {
            "who": [f"u{user}" for user in rng.integers(0, users, n)],
            "what": [f"i{number}" for number in item],
            "stars": rng.integers(1, 6, n).astype(float),
            "at": np.arange(n) * 1000 + 1_000_000,
        }
    )


def dataset() -> Dataset:
    named = rows().rename({"who": "user", "what": "item", "stars": "value", "at": "ts"})
    return from_frame(named.with_columns(type=pl.lit("rating")), name="planted", source="test")


@pytest.fixture
def events() -> Stream:
    return stream(dataset(), EventSettings())


def test_a_model_that_fails_is_a_row_that_says_why_and_the_others_go_on(events: Stream) -> None:
    told: list[str] = []
    lengths: list[int] = []
    done = run(
        events,
        {"no-such": {}, "popularity": {"half_life": 100}},
        Protocol("leave-one-out"),
        seeds=(0, 1),
        on_progress=lambda who, *_: told.append(who),
        on_record=lambda so_far: lengths.append(len(so_far.records)),
    )
    assert lengths == [1, 2, 3, 4]
    assert [(r["model"], r["seed"]) for r in done.records] == [
        ("no-such", 0),
        ("no-such", 1),
        ("popularity", 0),
        ("popularity", 1),
    ]
    assert "there is no model 'no-such'" in done.records[0]["error"]
    assert done.records[2]["error"] is None
    assert done.records[2]["hr@10"] == done.records[3]["hr@10"] > 0.0
    assert {"popularity, seed 0", "popularity, seed 1"} <= set(told)


def test_a_prequential_run_counts_as_a_backtest_does(events: Stream) -> None:
    report = backtest(dataset(), load({"models.max_items": 5000}), transformer=False)
    plan = plan_of(events, Protocol("prequential"))
    assert len(plan.questions) == report.scored
    counted = {why: n for why, n in report.unscored.items() if n}
    assert {why: n for why, n in plan.unscored.items() if n} == counted


def test_a_stream_without_a_question_is_told() -> None:
    short = stream(dataset(), EventSettings(), limit=3)
    with pytest.raises(EvaluationError, match="none of its 3 events"):
        plan_of(short, Protocol("leave-one-out"))


def test_a_short_stream_is_learned_from_without_being_told_how_often(events: Stream) -> None:
    done = run(events, {"popularity": {}}, Protocol("prequential"))
    assert done.records[0]["every"] == 30
    assert done.records[0]["hr@10"] > 0.2


def test_what_is_never_asked_after_anything_was_learned_is_refused(events: Stream) -> None:
    with pytest.raises(EvaluationError, match=r"(?s)due before anything is learned.*--every 30"):
        plan_of(events, Protocol("prequential", every=600))


@pytest.mark.parametrize(("every", "told"), [(30, 0), (300, 1)])
def test_lists_that_many_would_be_misses_of_are_told_beforehand(
    events: Stream, every: int, told: int
) -> None:
    said: list[str] = []
    run(events, {"popularity": {}}, Protocol("prequential", every=every), on_note=said.append)
    assert len(said) == told
    assert all(re.search(r"of \d+ lists \(\d\d%\) are due before anything is learned", note) for note in said)


def test_every_model_is_told_the_scale_of_the_ratings(
    events: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Section] = {}

    def note(_: object, task: Examination, **__: object) -> Findings:
        return examine(lambda _: None, task)

    def watched(name: str, settings: dict[str, Any], **_: object) -> Popularity:
        told[name] = model_class(name).Settings(**settings)
        return Popularity()

    monkeypatch.setattr(apart, "call", note)
    monkeypatch.setattr(examining, "make", watched)
    member = {"model": "unified", "settings": {"high": 7}}
    asked: dict[str, dict[str, Any]] = {"unified": {}, "hybrid-cascade": {"ranker": member}}
    done = run(replace(events, scale=(0.5, 10.0)), asked, Protocol("temporal"))
    assert told["unified"] == UnifiedSettings(low=0.5, high=10)
    assert told["hybrid-cascade"].model_dump()["ranker"]["settings"] == {"low": 0.5, "high": 7}
    assert [record["settings"] for record in done.records] == list(asked.values()), "as they were given"


def test_a_model_without_what_it_is_made_of_has_no_figures(events: Stream) -> None:
    silent = replace(
        events, events=replace(events.events, value=np.full(len(events.events), np.nan, np.float32))
    )
    done = run(silent, {"content": {}, "biased-mf": {}, "popularity": {}}, Protocol("temporal"))
    assert [record["error"] for record in done.records] == [
        "nothing is known of the items: the data has no catalogue (see --items)",
        "no ratings: no event that teaches has a value",
        None,
    ]
    words = Content([["word"]] + [[]] * (events.items - 1))
    told = run(replace(events, content=words), {"content": {}, "biased-mf": {}}, Protocol("temporal"))
    assert [record["error"] for record in told.records] == [None, None]


def test_models_that_can_do_without_content_are_not_refused(events: Stream) -> None:
    silent = replace(events, content=None)
    assert {name for name in MODELS if unfit(name, silent)} == {"content"}


def test_without_the_baseline_there_is_no_table(events: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ApartError("its process was ended by SIGKILL")

    monkeypatch.setattr(evaluate.apart, "call", broken)
    with pytest.raises(EvaluationError, match=r"baseline.*SIGKILL"):
        run(events, {"popularity": {}}, Protocol("temporal"))


class TestCommand:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "events.csv"
        rows().write_csv(path)
        return path

    @pytest.mark.parametrize("protocol", ["leave-one-out", "temporal", "prequential"])
    def test_it_prints_a_table_and_writes_it_with_plots(
        self, file: Path, protocol: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = file.parent / "out"
        words = ["--data", str(file), "--map", "user=who,item=what,value=stars,ts=at", "--protocol", protocol]
        words += ["--models", "popularity", "--every", "100", "--out", str(out), "--k", "5"]
        assert cli.run(["evaluate", *words]) == EXIT_OK
        assert "popularity" in capsys.readouterr().out
        (record,) = json.loads((out / "table.json").read_text())
        assert record["model"] == "popularity"
        assert 0.0 < record["ndcg@5"] < record["hr@5"] < 1.0
        assert (out / "hit-rate.svg").exists()
        assert (out / "along-the-stream.svg").exists() == (protocol == "prequential")

    def test_a_folder_that_can_not_be_written_to_is_told_before_anything_is_learned(
        self, file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["--data", str(file), "--protocol", "temporal", "--out", str(file / "out")]
        assert cli.run(["evaluate", *words]) == EXIT_USAGE
        assert "--out" in capsys.readouterr().err

    @pytest.mark.parametrize(("named", "clamped"), [(False, True), (True, False)])
    def test_ratings_of_another_scale_are_told_with_how_to_name_it(
        self, tmp_path: Path, named: bool, clamped: bool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "ten.csv"
        rows().with_columns(pl.col("stars") * 2).write_csv(path)
        words = ["--data", str(path), "--map", "user=who,item=what,value=stars,ts=at", "--type", "rating"]
        words += ["--models", "biased-mf", "--protocol", "temporal", "--out", str(tmp_path / "out")]
        scale = "--set events.rating_low=1 --set events.rating_high=10"
        assert cli.run(["evaluate", *words, *(scale.split() if named else ())]) == EXIT_OK
        printed = capsys.readouterr()
        assert (scale in printed.err) == clamped
        assert ("were clamped" in printed.out) == clamped
        record = json.loads((tmp_path / "out" / "table.json").read_text())[0]
        assert (record["ratings_clamped"] > 0) == clamped
        assert record["rating_scale"] == [1.0, 10.0 if named else 5.0]

    def test_sampled_metrics_are_labelled(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = file.parent / "out"
        words = [
            "--data",
            str(file),
            "--map",
            "user=who,item=what,value=stars,ts=at",
            "--models",
            "popularity",
        ]
        words += ["--protocol", "leave-one-out", "--negatives", "3", "--k", "2", "--out", str(out)]
        assert cli.run(["evaluate", *words]) == EXIT_OK
        assert "3 negatives, not a full ranking" in capsys.readouterr().out
        assert json.loads((out / "table.json").read_text())[0]["ranking"] == "sampled: 3 negatives"

    def test_training_is_gone_on_with_where_its_checkpoint_is(self, file: Path) -> None:
        out, kept = file.parent / "out", file.parent / "kept"
        words = ["--data", str(file), "--map", "user=who,item=what,value=stars,ts=at", "--out", str(out)]
        words += ["--protocol", "leave-one-out", "--learn-validation", "--models", "matrix-factorisation"]
        words += [
            "--set",
            "matrix-factorisation.least_steps=20",
            "--set",
            "matrix-factorisation.epochs=1",
            "--checkpoints",
            str(kept),
        ]
        records = []
        for _ in range(2):
            assert cli.run(["evaluate", *words]) == EXIT_OK
            records.append(json.loads((out / "table.json").read_text())[0])
        first, second = records
        assert first["validation_learned"]
        assert first["resumed_from"] == 0 < second["resumed_from"]
        assert first["hr@10"] == second["hr@10"]

    def test_a_failed_model_makes_the_exit_code_say_so(
        self, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        # known here, so that the command takes it; not in the fresh process, where it then fails
        monkeypatch.setitem(MODELS, "elsewhere", "nowhere:Model")
        words = ["--data", str(file), "--map", "user=who,item=what,ts=at", "--protocol", "temporal"]
        words += ["--models", "popularity,elsewhere", "--out", str(file.parent / "out")]
        assert cli.run(["evaluate", *words]) == EXIT_FAILED
        printed = capsys.readouterr().out
        assert "elsewhere (seed 0) failed: ValueError: there is no model 'elsewhere'" in printed

    @pytest.mark.parametrize(("models", "ends"), [("content,popularity", EXIT_FAILED), ("all", EXIT_OK)])
    def test_what_the_data_is_not_for_fails_the_run_only_where_it_was_named(
        self, file: Path, models: str, ends: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in MODELS.keys() - {"content", "popularity"}:
            monkeypatch.delitem(MODELS, name)
        words = ["--data", str(file), "--map", "user=who,item=what,ts=at", "--protocol", "temporal"]
        words += ["--models", models, "--out", str(file.parent / "out")]
        assert cli.run(["evaluate", *words]) == ends

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--models", "magic"], "there is no such model"),
            (["--seeds", "1,x"], "needs whole numbers"),
            (["--seeds", "1,1"], "needs different numbers"),
            (["--set", "popularity.half_life=-1"], "--set popularity.half_life"),
            (["--set", "magic.depth=3"], "needs MODEL.SETTING"),
            (
                ["--set", "sasrec.heads=5"],
                "--set sasrec: width (64) must be a multiple of the number of heads (5)",
            ),
            (
                ["--set", 'hybrid-weighted.members=[{model="ials",settings={factors=-1}}]'],
                "--set hybrid-weighted.members.0.settings.factors: Input should be greater",
            ),
            (["--negatives", "9"], "is for leave-one-out"),
            (["--on", "validation"], "asks for every event"),
            (["--learn-validation"], "leave-one-out on the test"),
            (["--checkpoints", "somewhere"], "can't be gone on with"),
        ],
    )
    def test_what_can_not_be_is_refused(
        self, file: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked = ["evaluate", "--data", str(file), "--protocol", "prequential", *words]
        assert cli.run(asked) == EXIT_USAGE
        assert said in capsys.readouterr().err


def test_sampled_negatives_differ_by_seed_and_are_the_same_for_all_models(
    events: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int, bytes]] = []

    def note(_: object, task: Examination, **__: object) -> Findings:
        assert task.negatives is not None
        asked.append((task.name, task.seed, task.negatives.tobytes()))
        return examine(lambda _: None, task)

    monkeypatch.setattr(apart, "call", note)
    run(events, {"item-item": {}, "user-user": {}}, Protocol("leave-one-out", negatives=5), seeds=(0, 1))
    drawn = {seed: {negatives for _, of, negatives in asked if of == seed} for seed in (0, 1)}
    assert [len(sets) for sets in drawn.values()] == [1, 1]
    assert drawn[0] != drawn[1]
    assert sorted((name, seed) for name, seed, _ in asked) == [
        (name, seed) for name in ("item-item", "popularity", "user-user") for seed in (0, 1)
    ]


def test_all_models_are_those_of_the_registry_and_settings_are_for_one() -> None:
    chosen = models_of("all", ["popularity.half_life=500"])
    assert chosen.keys() == MODELS.keys()
    assert chosen["popularity"] == {"half_life": "500"}
    with pytest.raises(UsageError):
        models_of("popularity", ["bpr.factors=3"])
    assert seeds_of("3,1") == [3, 1]
