"""`headrace evaluate` as it is called, on files of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stream_app import cli
from stream_app.errors import EXIT_FAILED, EXIT_OK

USERS, KINDS, ITEMS = 12, 3, 24


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`events.csv` of users who each stay with one kind of items, in no order, and `items.jsonl` with the kinds."""
    monkeypatch.chdir(tmp_path)
    rows = [
        (
            f"u{user}",
            f"i{(7 * user + 5 * step) * KINDS % ITEMS + user % KINDS}",
            1_000_000_000_000 + step * 1000 + user,
        )
        for step in range(6)
        for user in range(USERS)
    ]
    lines = [",".join(map(str, row)) for row in rows]
    (tmp_path / "events.csv").write_text("\n".join(["user_id,item_id,ts", *lines]))
    items = [{"item_id": f"i{n}", "categories": [f"kind {n % KINDS}"]} for n in range(ITEMS + 1)]
    (tmp_path / "items.jsonl").write_text("\n".join(json.dumps(item) for item in items))
    return tmp_path


def evaluate(*flags: str) -> int:
    words = ["evaluate", "--data", "events.csv", "--protocol", "leave-one-out", "--models", "content"]
    return cli.run([*words, "--k", "8", "--out", "out", *flags])


def test_a_catalogue_of_ones_own_tells_models_what_items_are(files: Path) -> None:
    assert evaluate() == EXIT_FAILED
    assert evaluate("--items", "items.jsonl") == EXIT_OK
    (record,) = json.loads((files / "out" / "table.json").read_bytes())
    assert record["hr@8"] > 0.9
    assert record["diversity_by"] == "categories"


def test_a_line_that_is_no_item_is_told_with_its_number(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "items.jsonl").write_text('{"item_id": "a"}\n{"title": "b"}\n')
    assert evaluate("--items", "items.jsonl") == EXIT_FAILED
    assert "items.jsonl: line 2: item_id is missing" in capsys.readouterr().err
