"""A state folder that the version before wrote: 121 ratings of seven users, two items retired at the end."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from stream_app.batch.pipeline import Pipeline
from stream_app.settings import load
from stream_app.store import state_identity, state_tools
from stream_app.store.state import StateStore
from stream_app.worker.new_recommender import new_recommender
from tests.records import Read, event

SETTINGS = load({})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with tarfile.open(Path(__file__).with_name("state_of_schema_5.tar.gz")) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "state"


def test_what_it_holds_of_a_user_is_read(folder: Path) -> None:
    with StateStore.read(folder) as store:
        shown = state_tools.show(store, "u1")
        assert state_tools.offsets(store) == {"events-0": 121}
    assert (shown["events"], shown["revision"], shown["seen"], shown["ratings"]) == (18, 18, 10, 18)
    assert shown["last_list"] == ["i6", "i28", "i18", "i0", "i8", "i21"]
    assert [e["item_id"] for e in shown["sequence"][:3]] == ["i30", "i26", "i22"]
    assert shown["sequence"][3]["scenario"] == "home"


def test_a_worker_goes_on_with_it_and_writes_its_own(folder: Path) -> None:
    with StateStore.open(folder, SETTINGS) as store:
        recommender = new_recommender(SETTINGS)
        recommender.load(store.items(), store.model_meta())
        assert recommender.metrics()["events"] == 121
        assert recommender.catalogue.unavailable == {"i4", "never seen"}
        assert recommender.rerankers.first == ""
        pipeline = Pipeline(SETTINGS, recommender, store.load_users)
        done = pipeline.process(
            [Read(event("u1", "i11", "rating", value=4, ts=121_000), offset=121)], received_ms=0.0
        )
        (listed,) = done.recommendations
        assert listed.revision == 19
        assert b'"i4"' not in (listed.value or b"")
        store.commit(recommender.take_dirty(), {("events", 0): 122})
    with StateStore.open(folder, SETTINGS) as store:
        assert store.identity is not None
        assert store.identity.schema == state_identity.SCHEMA
        again = new_recommender(SETTINGS)
        again.load(store.items(), store.model_meta())
    assert again.metrics() == recommender.metrics()
    assert again.catalogue.unavailable == {"i4", "never seen"}
