"""Looking into a stopped state, with rows that the recommender itself wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.config import ModelSettings
from models.pipeline.recommender import Recommender
from stream_app.batch.pipeline import Pipeline
from stream_app.settings import Settings, load
from stream_app.store.state import StateStore
from stream_app.store.state_folder import StateError
from stream_app.store.state_tools import UnknownUserError, dump, offsets, show
from tests.records import Read, event


def settings_in(directory: Path) -> Settings:
    return load({"worker.state_dir": directory, "topics.events": ("clicks", "ratings")})


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state after a few events of two users in two partitions."""
    directory = tmp_path_factory.mktemp("worker") / "state"
    settings = settings_in(directory)
    with StateStore.open(directory, settings) as store:
        store.add_partitions(2)
        recommender = Recommender(settings.models, weights=settings.events.weights)
        pipeline = Pipeline(settings, recommender, store.load_users, partitions=2, clock=lambda: 1.0)
        pipeline.process(
            [
                Read(event("ann", "x", ts=5), topic="clicks", offset=3),
                Read(event("bob", "y", ts=6), topic="clicks", partition=1, offset=8),
                Read(event("ann", "y", "rating", value=4.5, ts=9), topic="ratings", offset=1),
                Read(event("ann", "z", ts=7, scenario="home"), topic="clicks", offset=4),
            ],
            received_ms=0,
        )
        store.commit(recommender.take_dirty(), {("clicks", 0): 5, ("clicks", 1): 9, ("ratings", 0): 2})
    return directory


def test_show_tells_a_user_s_events_newest_first(state: Path) -> None:
    with StateStore.read(state) as store:
        ann = show(store, "ann")
    assert ann["sequence"] == [
        {"item_id": "y", "type": "rating", "value": 4.5, "ts": 9},
        {"item_id": "z", "type": "click", "scenario": "home", "ts": 7},
        {"item_id": "x", "type": "click", "ts": 5},
    ]
    assert (ann["events"], ann["seen"], ann["ratings"]) == (3, 3, 1)
    assert ann["sources"] == {"clicks-0": 4, "ratings-0": 1}
    assert ann["bytes"] > 0
    json.dumps(ann, allow_nan=False)


def test_show_finds_a_user_in_any_partition(state: Path) -> None:
    with StateStore.read(state) as store:
        bob = show(store, "bob")
    assert (bob["partition"], bob["sources"]) == (1, {"clicks-1": 8})
    assert set(bob["last_list"]) <= {"x", "z"}


def test_show_says_so_when_there_is_no_such_user(state: Path) -> None:
    with StateStore.read(state) as store, pytest.raises(UnknownUserError, match="holds no user 'Ann'"):
        show(store, "Ann")


def test_dump_has_every_user_with_their_accepted_events_and_last_items(state: Path) -> None:
    with StateStore.read(state) as store:
        users = {user["user_id"]: user for user in dump(store)}
    assert {name: user["events"] for name, user in users.items()} == {"ann": 3, "bob": 1}
    assert users["ann"]["last_items"] == ["y", "z", "x"]


def test_offsets_are_the_next_ones_to_read(state: Path) -> None:
    with StateStore.read(state) as store:
        assert offsets(store) == {"clicks-0": 5, "clicks-1": 9, "ratings-0": 2}


def test_a_row_that_is_none_names_its_user(tmp_path: Path) -> None:
    with StateStore.open(tmp_path / "s", load()) as store:
        store.add_partitions(1)
        recommender = Recommender(ModelSettings())
        delta = recommender.take_dirty()
        delta.users.append((0, "eve", b"\x09nonsense"))
        store.commit(delta, {("events", 0): 1})
        with pytest.raises(StateError, match="row of user 'eve' can't be read"):
            list(dump(store))
