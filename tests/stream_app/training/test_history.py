"""Reading the trainer's history again."""

from __future__ import annotations

import numpy as np
import pytest

from stream_app.settings import load
from stream_app.training import history
from stream_app.training.history import replay
from stream_app.training.shadow import Shadow
from tests.event_logs import log_of


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_events_come_back_in_their_order_with_their_numbers(
    batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "BATCH", batch)
    log = log_of(9, lambda i: f"u{i % 3}", lambda i: f"i{i}")
    parts = list(replay(log, start=2, stop=8))
    assert [user for part in parts for user in part.user] == [f"u{i % 3}" for i in range(2, 8)]
    assert [item for part in parts for item in part.item] == [f"i{i}" for i in range(2, 8)]
    assert np.concatenate([part.offset for part in parts]).tolist() == list(range(2, 8))
    assert np.concatenate([part.ts for part in parts]).tolist() == [1000 * i for i in range(2, 8)]


def test_what_erased_users_did_is_left_out_and_the_others_keep_their_numbers() -> None:
    log = log_of(12, lambda i: f"u{i % 4}", lambda i: f"i{i}")
    log.erase("u1")
    log.erase("u2")
    (part,) = replay(log)
    assert part.user == ["u0", "u3"] * 3
    assert part.offset.tolist() == [0, 3, 4, 7, 8, 11]
    assert len(part.value) == len(part.weight) == len(part.partition) == len(part) == 6


def test_erased_users_are_no_user_of_the_shadow_that_is_rebuilt() -> None:
    log = log_of(12, lambda i: f"u{i % 4}", lambda i: f"i{i}")
    log.erase("u1")
    log.erase("u2")
    shadow = Shadow(load({"models.max_items": 200}))
    for events in replay(log):
        shadow.feed(events)
    assert shadow.recommender.users.slot("") == -1
    assert len(shadow.recommender.users) == 2
