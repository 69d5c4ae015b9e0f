"""The unified sequence model: content before clicks, three tasks, scenarios."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.base import I32
from models.family.contract import Content, Interactions, Queries
from models.family.histories import Histories
from models.family.neural.unified import Unified, UnifiedNetwork, UnifiedSettings
from tests.models.family import planted

SMALL: dict[str, Any] = {
    "width": 16, "epochs": 1, "least_steps": 150, "batch": 64, "lr": 0.02, "length": 20, "dropout": 0.0,
}  # fmt: skip


def taught(events: Interactions, content: Content | None = None, **settings: Any) -> Unified:
    model = Unified(UnifiedSettings(**SMALL | {"buckets": 64} | settings), content=content)
    model.fit(events)
    return model


def as_they_stand(events: Interactions, users: I32) -> Queries:
    histories = Histories(20)
    histories.add(events)
    return histories.queries(users)


@pytest.mark.parametrize("modality", ["words", "vectors"])
def test_an_item_without_an_event_is_scored_by_its_content(modality: str) -> None:
    events = planted.checkerboard(items=18)  # of 20 described items, 18 and 19 were never taken
    content = planted.halves(20)
    content = Content(content.tokens) if modality == "words" else Content([], content.vectors)
    scores = taught(events, content, weight_decay=0.1).score(
        as_they_stand(events, np.arange(40, dtype=np.int32))
    )
    even = np.arange(40) % 2 == 0
    assert (scores[even, 18] > scores[even, 19]).mean() > 0.9
    assert (scores[~even, 19] > scores[~even, 18]).mean() > 0.9


@pytest.mark.parametrize("modality", ["words", "vectors"])
@pytest.mark.parametrize(("opened", "share"), [(-30.0, 0.0), (0.0, 0.5), (30.0, 1.0)])
def test_the_gate_decides_how_much_of_the_content_counts(modality: str, opened: float, share: float) -> None:
    content = planted.halves(6)
    content = Content(content.tokens) if modality == "words" else Content([], content.vectors)
    network = UnifiedNetwork(UnifiedSettings(**SMALL | {"buckets": 64}), 0, content)
    network.grow(0, 6)
    gate = network.gate_tokens if modality == "words" else network.gate_vectors
    rows = np.arange(1, 7)
    with torch.no_grad():
        gate.weight.zero_()
        gate.bias.fill_(30.0)
        ids = network.item(torch.from_numpy(rows))
        whole = network.item_vectors(rows) - ids
        gate.bias.fill_(opened)
        part = network.item_vectors(rows) - ids
    assert float(whole.abs().max()) > 0.01
    torch.testing.assert_close(part, share * whole, atol=1e-6, rtol=1e-4)


def test_how_much_time_has_passed_says_what_comes_next() -> None:
    """After a minute the next item of the ring follows, after a day the one before."""
    rng = np.random.default_rng(0)
    users, each, items = 80, 8, 12
    late = rng.random((users, each)) < 0.5
    taken = np.zeros((users, each), np.int64)
    taken[:, 0] = rng.integers(0, items, users)
    for at in range(1, each):
        # the gap before an event is known when the one after it is asked for
        taken[:, at] = (taken[:, at - 1] + np.where(late[:, at - 1], -1, 1)) % items
    ts = np.cumsum(np.where(late, 86_400_000, 60_000), axis=1)
    events = Interactions(
        np.repeat(np.arange(users, dtype=np.int32), each),
        taken.ravel().astype(np.int32),
        np.full(users * each, np.nan, np.float32),
        ts.ravel(),
    )
    model = taught(events, least_steps=250)
    one = np.arange(items, dtype=np.int32)
    nothing = np.full((items, 2), np.nan, np.float32)
    for gap, step in ((60_000, 1), (86_400_000, -1)):
        # the gap of the newest event decides; the event before it leads there by the minute
        history = np.stack(((one - 1) % items, one), axis=1).astype(np.int32)
        queries = Queries(one, history, nothing, np.tile([1_000, 1_000 + gap], (items, 1)))
        assert (model.score(queries).argmax(1) == (one + step) % items).mean() > 0.9


def test_what_comes_next_is_told_with_its_action_and_its_value() -> None:
    events = planted.checkerboard()
    # A user's third event, and each third after it, is action 1; even items are liked, odd ones are not.
    order = np.argsort(events.user, kind="stable")
    place = np.empty(len(events), np.int64)
    place[order] = np.arange(len(events)) % 8
    action = (place % 3 == 2).astype(np.int32)
    value = np.where(events.item % 2 == 0, 5.0, 1.0).astype(np.float32)
    events = replace(events, action=action, value=value)
    model = taught(events, action_share=1.0, value_share=1.0)
    first_two = events.take(place < 2)
    users = np.arange(40, dtype=np.int32)
    assert (model.actions(as_they_stand(first_two, users)).argmax(1) == 1).all()
    first = events.take(place < 1)
    assert (model.actions(as_they_stand(first, users)).argmax(1) == 0).all()
    asked = as_they_stand(events.take(place < 7), users)
    last = events.take(place == 7)
    said = model.rating(asked, np.arange(40), last.item[np.argsort(last.user)])
    assert said[users % 2 == 0].min() > 4.0
    assert said[users % 2 == 1].max() < 2.0


def test_an_expected_rating_is_the_one_that_was_always_given() -> None:
    """On a scale of five none of the ten levels lies at 3: what a level stands for is what was given in it."""
    events = replace(planted.checkerboard(), value=np.full(320, 3.0, np.float32))
    model = taught(events, value_share=1.0)
    users = as_they_stand(events, np.arange(40, dtype=np.int32))
    said = model.rating(users, np.arange(40), np.zeros(40, np.int32))
    np.testing.assert_allclose(said, 3.0, atol=0.1)
    unknown = model.rating(users, np.array([3, 3]), np.array([0, 999], np.int32))
    assert np.isfinite(unknown).all()


def test_what_no_event_told_is_not_answered() -> None:
    events = planted.ring()
    users = as_they_stand(events, np.arange(3, dtype=np.int32))
    model = taught(events, least_steps=2, action_share=0.0)
    assert np.isnan(model.rating(users, np.arange(3), np.zeros(3, np.int32))).all()
    assert np.isnan(model.actions(users)).all()
    rated = replace(events, value=np.full(len(events), 4.0, np.float32))
    untaught = taught(rated, least_steps=2, value_share=0.0)
    assert np.isnan(untaught.rating(users, np.arange(3), np.zeros(3, np.int32))).all()


def test_one_set_of_weights_serves_scenarios_that_contradict_each_other() -> None:
    forward, items = planted.ring(), 12
    backward = replace(forward, user=forward.user + 60, item=(items - 1 - forward.item).astype(np.int32))
    n = len(forward)
    both = Interactions(
        *(
            np.concatenate((getattr(forward, name), getattr(backward, name)))
            for name in ("user", "item", "value")
        ),
        np.concatenate((forward.ts, backward.ts)),
        np.zeros(2 * n, np.int32),
        np.repeat(np.arange(2, dtype=np.int32), n),
    )
    model = taught(both, least_steps=250)
    one = np.arange(items, dtype=np.int32)
    asked = [
        Queries(one, one[:, None], np.full((items, 1), np.nan, np.float32), np.ones((items, 1), np.int64),
                scenarios=np.full((items, 1), scenario, np.int32))
        for scenario in (0, 1)
    ]  # fmt: skip
    assert (model.score(asked[0]).argmax(1) == (one + 1) % items).mean() > 0.9
    assert (model.score(asked[1]).argmax(1) == (one - 1) % items).mean() > 0.9


def test_a_window_may_be_longer_than_the_history_that_is_read_at_once() -> None:
    """Events beyond the reach of the attention change nothing."""
    events = planted.ring(each=8)
    model = taught(events, least_steps=20, length=4)
    reach = model.network.encoder.reach
    rng = np.random.default_rng(0)
    items = rng.integers(0, 12, (3, reach + 5)).astype(np.int32)
    ts = np.arange(items.size, dtype=np.int64).reshape(items.shape) * 1000
    nothing = np.full(items.shape, np.nan, np.float32)
    long = model.score(Queries(np.arange(3, dtype=np.int32), items, nothing, ts))
    other = items.copy()
    other[:, :4] = (other[:, :4] + 1) % 12
    same = model.score(Queries(np.arange(3, dtype=np.int32), other, nothing, ts))
    np.testing.assert_allclose(long, same, rtol=1e-5, atol=1e-5)
