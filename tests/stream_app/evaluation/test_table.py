"""Records of an evaluation: names, intervals, who is best, who differs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from models.base import F64
from models.metrics.rankings import RANKING
from stream_app.evaluation import figures as evaluation_figures
from stream_app.evaluation import table as evaluation_table
from stream_app.evaluation.examine import Findings, Group
from stream_app.evaluation.table import Entry, Record, Table
from stream_app.evaluation.view import render

USERS = 200
FACTS: Record = {
    "data": "planted",
    "protocol": "prequential",
    "on": "all events",
    "ranking": "full",
    "k": 10,
    "events": 500,
    "users": USERS,
    "items": 30,
    "left_out": {"an erasure": 3},
    "not_asked": {},
    "diversity_by": "categories",
    "described_items": 12,
    "rating_scale": [1.0, 5.0],
    "ratings_clamped": 0,
}


def group(values: F64) -> Group:
    return Group(
        np.arange(len(values), dtype=np.int32),
        np.ones(len(values)),
        dict.fromkeys([*RANKING, "serendipity"], values),
    )


def findings(values: F64) -> Findings:
    nobody = group(np.zeros(0))
    groups = {"all": group(values), "cold users": group(values[:4])}
    figures = dict.fromkeys(["coverage", "novelty", "diversity", "arp", "gini"], 0.5)
    figures |= {"rmse": float("nan"), "mae": float("nan"), "rating_accuracy": float("nan")}
    figures |= dict.fromkeys(
        ["train_s", "score_s", "score_p50_ms", "score_p99_ms", "memory_mb", "peak_mb"], 2.0
    )
    return Findings(
        groups | {"cold items": nobody, "new users": nobody},
        figures,
        7,
        ([250, 500], [0.1, float("nan")]),
        None,
    )


def table(entries: list[Entry], facts: Record) -> Table:
    filled = Table(facts, 10)
    for entry in entries:
        filled.add(entry)
    filled.compare()
    return filled


@pytest.fixture
def done() -> Table:
    rng = np.random.default_rng(0)
    good = rng.random(USERS)
    entries = [
        Entry("bad", 0, {}, findings(good / 3), None),
        Entry("good", 0, {"depth": 2}, findings(good), None),
        Entry("alike", 0, {}, findings(good + 0.001 * rng.choice([-1.0, 1.0], USERS) - 0.00001), None),
        Entry("broken", 0, {}, None, "ValueError: no ratings"),
        Entry("good", 1, {"depth": 2}, findings(good + 0.1), None),
    ]
    return table(entries, FACTS)


def test_a_record_has_its_metrics_by_their_usual_names_with_intervals(done: Table) -> None:
    record = done.records[1]
    assert (record["model"], record["seed"], record["settings"]) == ("good", 0, {"depth": 2})
    low, high = record["ci"]["ndcg@10"]
    assert low < record["ndcg@10"] < high
    assert record["hr@10"] == pytest.approx(record["ndcg@10"])
    assert record["coverage@10"] == 0.5
    assert record["cold"]["cold_users"]["lists"] == 4
    assert record["cold"]["new_users"]["hr@10"] is None


def test_every_other_model_is_compared_with_the_best_of_its_seed(done: Table) -> None:
    bad, good, alike = (record["vs_best"] for record in done.records[:3])
    assert good is None
    assert done.records[4]["vs_best"] is None
    assert bad["best"] == alike["best"] == "good"
    assert bad["difference"] == pytest.approx(done.records[0]["ndcg@10"] - done.records[1]["ndcg@10"])
    assert bad["ci"][1] < 0.0
    assert bad["p_holm"] < 0.001
    assert alike["p_holm"] > 0.05


def test_a_failed_model_has_a_record_that_says_why(done: Table) -> None:
    assert [record["model"] for record in done.failed] == ["broken"]
    assert done.failed[0]["error"] == "ValueError: no ratings"
    assert "hr@10" not in done.failed[0]


def test_what_does_not_exist_is_null_in_the_file(done: Table, tmp_path: Path) -> None:
    records = json.loads(evaluation_table.write(done, tmp_path / "out").read_text())
    assert len(records) == 5
    assert records[0]["rmse"] is None
    assert records[0]["curve"] == {"events": [250, 500], "hr@10": [0.1, None]}


def test_people_see_the_best_first_and_the_failed_with_why(done: Table) -> None:
    console = Console(width=600)
    with console.capture() as captured:
        console.print(render(done))
    text = captured.get()
    assert text.index("good (2 seeds)") < text.index("alike") < text.index("bad")
    assert "broken (seed 0) failed: ValueError: no ratings" in text
    alike = next(line for line in text.splitlines() if "alike" in line)
    assert "~" in alike
    assert "sampled" not in text


def test_every_column_is_explained_in_the_docs(done: Table) -> None:
    text = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    explained = [name for row in rows for name in re.findall("`(.+?)`", row)]
    for record in done.records:
        record["action_accuracy"] = 0.5
    shown = [str(column.header).replace("@10", "@k") for column in render(done).columns]
    assert "action" in shown
    assert set(shown) <= set(explained)
    assert [name for name in explained if name in shown] == list(dict.fromkeys(shown))


def row_of(name: str, shown: Table) -> str:
    console = Console(width=600)
    with console.capture() as captured:
        console.print(render(shown))
    return next(line for line in captured.get().splitlines() if name in line)


def test_the_caption_says_whether_anything_is_known_of_the_items() -> None:
    for facts, said in ((FACTS, "content of 12 items"), (FACTS | {"described_items": 0}, "no content:")):
        shown = table([Entry("good", 0, {}, findings(np.ones(9)), None)], facts)
        assert said in str(render(shown).caption)


def test_a_column_of_actions_is_there_where_any_model_was_asked() -> None:
    asked = findings(np.ones(9))
    asked.figures["action_accuracy"] = 0.7654
    for found, there in ((findings(np.ones(9)), False), (asked, True)):
        shown = render(table([Entry("good", 0, {}, found, None)], FACTS))
        assert ("action" in [column.header for column in shown.columns]) == there


def test_only_the_best_is_called_so_where_it_failed_with_a_seed() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(USERS)
    shown = table(
        [
            Entry("good", 0, {}, findings(values), None),
            Entry("good", 1, {}, None, "ValueError: chance"),
            Entry("other", 1, {}, findings(values / 2), None),
            Entry("third", 0, {}, findings(values / 3), None),
            Entry("third", 1, {}, findings(values / 3), None),
        ],
        FACTS,
    )
    assert "best" in row_of("good (1 of 2 seeds)", shown)
    assert "best" not in row_of("other (1 of 2 seeds)", shown)
    assert shown.records[2]["vs_best"] is None
    difference = shown.records[3]["vs_best"]["difference"]
    assert f"{difference:+.4f}" in row_of("third (2 seeds)", shown), "of the seed that both have"


def test_sampled_metrics_are_labelled_and_say_nothing_of_the_catalogue() -> None:
    entries = [Entry("good", 0, {}, findings(np.ones(9)), None)]
    sampled = table(entries, FACTS | {"ranking": "sampled: 99 negatives"})
    assert sampled.records[0]["ranking"] == "sampled: 99 negatives"
    assert sampled.records[0]["coverage@10"] is None
    console = Console(width=600)
    with console.capture() as captured:
        console.print(render(sampled))
    assert "HR@10*" in captured.get()
    assert "99 negatives" in captured.get()


def test_the_plots_name_every_model(done: Table, tmp_path: Path) -> None:
    written = evaluation_figures.write(done, tmp_path)
    assert [path.name for path in written] == [
        "hit-rate.svg",
        "accuracy-and-time.svg",
        "along-the-stream.svg",
    ]
    for path in written:
        text = path.read_text()
        assert all(name in text for name in ("good", "alike", "bad"))
