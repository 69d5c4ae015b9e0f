"""`headrace backtest` as it is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream_app import cli
from stream_app.errors import EXIT_FAILED


def test_a_full_disk_is_told_in_a_line_and_does_not_cost_the_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "events.csv", tmp_path / "out"
    rows = [f"u{n % 5},i{n * n % 7},{1_000_000_000_000 + n * 1000}" for n in range(40)]
    data.write_text("\n".join(["user_id,item_id,ts", *rows]))
    out.mkdir()
    (out / "report.html").symlink_to("/dev/full")
    words = ["backtest", str(data), "--no-transformer", "--no-baselines", "--out", str(out)]
    assert cli.run(words) == EXIT_FAILED
    said = capsys.readouterr()
    assert "HR@10 " in said.out
    (first, advice) = said.err.strip().splitlines()[-2:]
    assert first.startswith("headrace: the disk is full")
    assert "another disk" in advice
