"""Where the events of a command come from, and what is said of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream_app.commands.data import load_data
from stream_app.commands.options import TimestampUnit


@pytest.mark.parametrize(("unit", "told"), [(TimestampUnit.ms, True), (TimestampUnit.s, False)])
def test_seconds_that_are_read_as_milliseconds_are_told_on_the_terminal(
    unit: TimestampUnit, told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id,ts\nu,a,978300760\n")
    load_data(str(tmp_path / "events.csv"), None, unit, None, None)
    assert ("events.csv: every timestamp is before 1973" in capsys.readouterr().err) is told
