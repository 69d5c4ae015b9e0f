"""`headrace simulate` and `headrace replay` as they are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stream_app import cli
from stream_app.brokers.broker import EmbeddedBroker
from stream_app.brokers.topics import create
from stream_app.errors import EXIT_OK
from stream_app.settings import BrokerSettings, TopicSettings


@pytest.fixture
def where(
    embedded_broker: EmbeddedBroker,
    topics_of: Callable[..., TopicSettings],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> list[str]:
    """Flags that name the broker and topics of the test."""
    monkeypatch.chdir(tmp_path)
    topics = topics_of()
    create(BrokerSettings(url=embedded_broker.address), topics, 2)
    return [
        *("--broker", embedded_broker.address),
        *("--set", f'topics.events=["{topics.events[0]}"]'),
        *("--set", f"topics.items={topics.items}"),
    ]


def test_records_of_the_largest_size_are_taken(where: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--users", "5", "--items", "5", "--events", "60", "--broken", "0.5", "--largest"]
    assert cli.run(["simulate", *flags, *where]) == EXIT_OK
    assert "acknowledged 60 of 60 records" in capsys.readouterr().out


def test_a_catalogue_of_ones_own_goes_to_the_items_topic(
    where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id,ts\nu,a,1\nu,b,2\n")
    (tmp_path / "items.csv").write_text("item_id,title,categories\na,A,Drama|War\nc,C,\n")
    assert cli.run(["replay", "events.csv", "--items", "items.csv", *where]) == EXIT_OK
    told = capsys.readouterr()
    assert "acknowledged 2 catalogue records" in told.out
    assert "items.csv: 2 items, 1 of the 2 with events" in told.err
