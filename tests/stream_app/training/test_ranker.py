"""Any model in the re-ranker's place by a setting: trained, judged, and at work in a backtest."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from stream_app.backtests import backtest
from stream_app.errors import UsageError
from stream_app.settings import load
from stream_app.training import ranker
from stream_app.training.refresher import Refresher
from tests.stream_app.backtests.test_backtest import stream
from tests.stream_app.training.test_refresher import go, judged, observe, settings_in, settled, walks


def test_a_model_of_the_family_goes_through_the_refresh_cycle_and_its_gate(tmp_path: Path) -> None:
    small = {"width": 16, "hidden": 16, "epochs": 1, "least_steps": 150, "batch": 64, "length": 20}
    settings = settings_in(tmp_path, **{"models.ranker": "gru4rec", "models.ranker_settings": small})
    r = Refresher.open(settings, "cpu", now=0.0)
    observe(r, walks(0, 10))
    go(r, "000001", now=0.0)
    settled(r, None)
    observe(r, walks(10, 20))
    go(r, "000002", now=1.0)
    observe(r, walks(20, 26))
    verdict = judged(r, "000001")
    assert verdict.scored == 100
    assert verdict.ndcg is not None
    assert verdict.ndcg > 0.3, "who walks in a circle is easily followed"
    again = Refresher.open(settings, "cpu", now=2.0)
    assert again.trainer.refreshes == r.trainer.refreshes
    assert again.trainer.item_ids == r.trainer.item_ids


def test_a_backtest_re_ranks_with_it_and_names_it() -> None:
    changed = {
        "models.max_items": 5000,
        "models.ranker": "item-item",
        "trainer.every_events": 400,
        "trainer.warmup_events": 0,
    }
    report = backtest.run(stream(), load(changed), transformer=True)
    assert "item-item" in report.baselines
    assert "transformer" not in report.baselines
    assert report.baselines["item-item"].hr > 0.1
    assert report.refreshes[-1].items > 40


def test_an_unknown_model_is_named_with_those_that_there_are() -> None:
    with pytest.raises(ValidationError, match=r"(?s)models\.ranker.*no such model.*gru4rec"):
        load({"models.ranker": "gru5rec"})


def test_a_wrong_setting_of_it_is_named() -> None:
    with pytest.raises(UsageError, match=r"models\.ranker_settings\.width"):
        ranker.make_trainer(
            load({"models.ranker": "sasrec", "models.ranker_settings": {"width": -1}}), 0, "cpu"
        )
