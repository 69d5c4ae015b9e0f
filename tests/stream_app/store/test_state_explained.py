"""Why a user of a stopped worker would be shown what they would be shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.compression.snapshots import compress
from models.config import TransformerSettings
from models.pipeline.recommender import Recommender
from models.sequence import snapshot
from models.training.train import Trainer
from stream_app.batch.pipeline import Pipeline
from stream_app.settings import Settings, load
from stream_app.store.state import StateStore
from stream_app.store.state_explained import NothingToExplainError, explain_user, readable
from stream_app.store.state_tools import UnknownUserError
from tests.event_logs import log_of
from tests.models.family.serving.test_serving import trained
from tests.records import Read, event

ITEMS, USERS = 30, 12


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load({"worker.state_dir": tmp_path_factory.mktemp("worker") / "state"})


@pytest.fixture(scope="module")
def state(settings: Settings) -> Path:
    """The state after users who go through the items in a circle."""
    with StateStore.open(settings.worker.state_dir, settings) as store:
        store.add_partitions(1)
        recommender = Recommender(settings.models, weights=settings.events.weights)
        pipeline = Pipeline(settings, recommender, store.load_users, partitions=1, clock=lambda: 1.0)
        steps = [(user, step) for step in range(12) for user in range(USERS)]
        records = [
            Read(event(f"u{user}", f"i{(5 * user + step) % ITEMS}", ts=60_000 * step + user), offset=n)
            for n, (user, step) in enumerate(steps)
        ]
        pipeline.process(records, received_ms=0)
        store.commit(recommender.take_dirty(), {("events", 0): len(records)})
    return settings.worker.state_dir


def test_the_sources_add_up_to_the_score_of_each_listed_item(state: Path, settings: Settings) -> None:
    with StateStore.read(state) as store:
        found = explain_user(store, settings, "u3", None, None)
    assert found["history"][0] == "i26"
    assert found["items"][0]["item_id"] == "i27", "what comes next in the circle"
    for item in found["items"]:
        assert sum(item["parts"].values()) == pytest.approx(item["score"], abs=1e-4)
        assert item["item_id"] not in found["history"]
    assert any(cause["item_id"] == "i26" for cause in found["items"][0]["causes"])
    json.dumps(found, allow_nan=False)
    assert "i27" in readable(found)


def test_an_item_that_the_user_had_is_said_to_be_held_back(state: Path, settings: Settings) -> None:
    with StateStore.read(state) as store:
        found = explain_user(store, settings, "u3", "i26", None)
    assert [item["item_id"] for item in found["items"]] == ["i26"]
    assert found["items"][0]["place"] is None


def test_what_is_not_there_is_named(state: Path, settings: Settings, tmp_path: Path) -> None:
    trained("item-item").write(tmp_path / "000001", "000001", {})
    with StateStore.read(state) as store:
        with pytest.raises(UnknownUserError):
            explain_user(store, settings, "nobody", None, None)
        with pytest.raises(NothingToExplainError, match="no item 'i99'"):
            explain_user(store, settings, "u3", "i99", None)
        with pytest.raises(NothingToExplainError, match="000001 is a snapshot of item-item"):
            explain_user(store, settings, "u3", None, tmp_path)
        with pytest.raises(NothingToExplainError, match="can't be read"):
            explain_user(store, settings, "u3", None, tmp_path / "nothing")


def snapshot_in(folder: Path, version: str) -> Path:
    trainer = Trainer(TransformerSettings(d_model=16, heads=2), band=8, seed=0)
    trainer.refresh(log_of(120, lambda i: f"u{i % 5}", lambda i: f"i{i % 17}"), 0, 600)
    snapshot.write(folder / version, trainer, version)
    return folder / version


def test_one_of_several_snapshots_has_to_be_named(state: Path, settings: Settings, tmp_path: Path) -> None:
    first = snapshot_in(tmp_path, "000001")
    with StateStore.read(state) as store:
        assert explain_user(store, settings, "u3", None, tmp_path)["snapshot"] == "000001", (
            "there is no other"
        )
        compress(snapshot.read(first), "int8", tmp_path / "000002", "000002")
        with pytest.raises(NothingToExplainError, match=r"holds 2 snapshots, .*: 000001, 000002\n.*/000002"):
            explain_user(store, settings, "u3", None, tmp_path)
        found = explain_user(store, settings, "u3", None, tmp_path / "000002")
    assert found["snapshot"] == "000002"
    assert "transformer 000002" in readable(found)


def test_a_transformer_in_the_place_of_another_model_is_refused(
    state: Path, settings: Settings, tmp_path: Path
) -> None:
    snapshot_in(tmp_path, "000001")
    models = settings.models.model_copy(update={"ranker": "unified"})
    with StateStore.read(state) as store:
        given = settings.model_copy(update={"models": models})
        with pytest.raises(NothingToExplainError, match=r"of the Transformer, but models\.ranker is unified"):
            explain_user(store, given, "u3", None, tmp_path)
        assert "unified left out" in readable(explain_user(store, given, "u3", None, None))


def test_the_places_that_are_given_by_lot_are_told(state: Path, settings: Settings) -> None:
    policy = settings.models.policy.model_copy(update={"exploration": 3, "new_below": 1000})
    models = settings.models.model_copy(update={"policy": policy})
    with StateStore.read(state) as store:
        found = explain_user(store, settings.model_copy(update={"models": models}), "u3", None, None)
        blended = [item["item_id"] for item in explain_user(store, settings, "u3", None, None)["items"]]
    assert [item["item_id"] for item in found["items"]] == blended[:7]
    assert found["by_lot"] == {
        "places": [8, 10], "among": ITEMS - 12 - 7, "at_most": False,  # all that are not had, nor listed
    }  # fmt: skip
    assert "places 8–10: by lot among 11 new items" in readable(found)
    lost = [w for w in found["withheld"] if "by lot" in w["reason"]]
    assert [(w["item_id"], w["place"]) for w in lost] == list(zip(blended[7:], (8, 9, 10), strict=True))
