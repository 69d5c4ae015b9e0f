"""Any model in the re-ranker's place by a setting: trained, judged, and at work in a backtest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from models.family.neural.unified import UnifiedSettings
from models.family.serving.trainer import FamilyTrainer
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


def test_the_unified_model_has_the_scale_of_the_events() -> None:
    given: dict[str, Any] = {"events.rating_low": 0, "events.rating_high": 10, "models.ranker": "unified"}
    trainer = ranker.make_trainer(load(given), 0, "cpu")
    assert isinstance(trainer, FamilyTrainer)
    assert isinstance(trainer.model.settings, UnifiedSettings)
    assert (trainer.model.settings.low, trainer.model.settings.high) == (0.0, 10.0)
    member = {"ranker": {"model": "unified", "settings": {"low": 2}}}
    given |= {"models.ranker": "hybrid-cascade", "models.ranker_settings": member}
    hybrid = ranker.make_trainer(load(given), 0, "cpu")
    assert isinstance(hybrid, FamilyTrainer)
    said = hybrid.model.settings.model_dump()["ranker"]["settings"]
    assert said == {"low": 2, "high": 10.0, "device": "cpu"}


def test_an_unknown_model_is_named_with_those_that_there_are() -> None:
    with pytest.raises(ValidationError, match=r"(?s)models\.ranker.*no such model.*gru4rec"):
        load({"models.ranker": "gru5rec"})


IALS = {"model": "ials", "settings": {"factors": -1}}


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("sasrec", {"width": -1}, "ranker_settings.width: Input should be greater than or equal to 2"),
        ("sasrec", {"width": 7, "heads": 2}, "ranker_settings: width (7) must be a multiple of the number of heads"),
        ("unified", {"width": 10}, "ranker_settings: width (10) must be a multiple of twice the number of heads (2)"),
        ("unified", {"width": 4}, "ranker_settings.width: Input should be greater than or equal to 8"),
        ("unified", {"low": 5}, "ranker_settings: low (5) must be below high (5)"),
        ("gru4rec", {"device": "abacus"}, "ranker_settings.device: 'abacus' is no device of torch"),
        ("hybrid-weighted", {"members": [{"model": "nope"}]}, "ranker_settings.members.0.model: there is no model"),
        ("hybrid-weighted", {"members": [IALS]}, "ranker_settings.members.0.settings.factors: Input should be greater"),
        (
            "hybrid-cascade",
            {"retriever": {"model": "hybrid-weighted", "settings": {"members": [IALS]}}},
            "ranker_settings.retriever.settings.members.0.settings.factors: Input should be greater",
        ),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_in_one_line_with_the_model_whose_it_is(
    name: str, given: dict[str, Any], said: str
) -> None:
    wrong = load({"models.ranker": name, "models.ranker_settings": given})
    with pytest.raises(UsageError) as told:
        ranker.make_trainer(wrong, 0, "cpu")
    message, advice = str(told.value).split("\n")
    assert message.startswith(f"models.{said}")
    assert "http" not in message
    owner = "ials" if "factors" in said else name
    assert advice == f"  `headrace settings --model {owner}` lists what there is."
